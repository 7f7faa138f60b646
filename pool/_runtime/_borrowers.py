"""Borrowers: tasks and actors that use the runtime. What they ask of it, and what they hold."""

from __future__ import annotations

from collections import Counter
from functools import partial

from pool._objects import _protocol as protocol
from pool._objects._failures import dumps_failure
from pool._objects._outcomes import mark_handled
from pool._objects._parcels import Lent, Sealed
from pool._objects._refs import FAILED, READY, ActorRef, ObjectRef
from pool._pickling import dumps_exception, loads
from pool._runtime._actor_calls import ActorCall, bind
from pool._runtime._families import RECURSIVELY
from pool._runtime._processes import Link
from pool._runtime._tasks import TaskCall
from pool._transport._messages import BLOCKED, UNBLOCKED
from pool._unraisable import report
from store._codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._objects._refs import Ref
    from pool._runtime._actors import Actor
    from pool._runtime._runtime import Runtime
    from pool._transport._channel import Channel


class _Request:
    """Something that a borrower has asked for and waits for.

    Attributes
    ----------
    missing : int
        How many answers are still to be given.
    watched : list of (ObjectRef, callable)
        Objects that are not there, with the watcher to remove if the request is over before.
    """

    __slots__ = ("missing", "watched")

    def __init__(self) -> None:
        self.missing = 1
        self.watched: list[tuple[ObjectRef, Callable[[ObjectRef], None]]] = []

    def unwatch(self) -> None:
        """Remove its watchers from objects that are not there yet."""
        for ref, watcher in self.watched:
            ref._unwatch(watcher)


class Borrower:
    """One borrower of the runtime. Everything here runs under the driver's lock.

    Parameters
    ----------
    runtime : Runtime
    channel : Channel
    worker_id : int
        The engine's worker; 0 if it is an actor, or the worker of a Pool.
    actor : Actor, optional
    """

    def __init__(
        self, runtime: Runtime, channel: Channel, worker_id: int, actor: Actor | None = None
    ) -> None:
        self._runtime = runtime
        self._worker_id = worker_id
        self.actor = actor
        #: By name, the references that it holds, and how often each was lent.
        self._loans: dict[bytes, tuple[Ref, int]] = {}
        #: References in results of its own that have not been read yet.
        self._handed: Counter[Ref] = Counter()
        self._requests: dict[int, _Request] = {}
        #: By number, the functions and classes that it has sent.
        self._codes: dict[int, Any] = {}
        #: By name, the streams that it reads.
        self._streams: dict[bytes, Any] = {}
        self.link = Link(runtime.driver, channel, self._on_message, self._gone, _refused)
        self._verbs: dict[str, Callable[..., None]] = {
            "put": self._put,
            "borrow": self._borrow,
            "return": self._return,
            "hand over": self._hand_over,
            "submit": self._submit,
            "stream submit": self._stream_submit,
            "call": self._call,
            "stream call": self._stream_call,
            "stream over": self._stream_over,
            "yield": self._yield,
            "forget": self._forget,
            "forget codes": self._forget_codes,
            "kill": self._kill,
        }
        self._questions: dict[str, Callable[..., None]] = {
            "get": self._get,
            "wait": self._wait,
            "are ready": self._are_ready,
            "create": self._create,
            "find": self._find,
            "facts": self._facts,
            "next": self._next,
            "when known": self._when_known,
            "is over": self._is_over,
            "cancel": self._cancel,
            "cancel stream": self._cancel_stream,
        }

    # ------------------------------------------------------------------ messages

    def _on_message(self, link: Link, head: Any, blobs: list[Any], fds: list[int]) -> bool:
        kind = head[0]
        if kind == protocol.DO:
            self._do(head[1], head[2], blobs)
        elif kind == protocol.ASK:
            self._ask(head[1], head[2], blobs)
        elif kind == BLOCKED:
            if self.actor is None:
                self._runtime.worker_blocked(self._worker_id)
            else:
                self.actor.waits(1)
        elif kind == UNBLOCKED:
            if self.actor is None:
                self._runtime.worker_unblocked(self._worker_id)
            else:
                self.actor.waits(-1)
        return False

    # An error in the next two methods concerns one message. It must not reach the driver, which
    # would take its records for half written and give up everything.

    def _do(self, verb: str, promised: Sequence[bytes], blobs: list[Any]) -> None:
        try:
            self._verbs[verb](*loads(blobs[0], blobs[1:]))
        except Exception as error:
            if promised:
                error.add_note(f"raised by the runtime, which was to {verb}")
                self._break(verb, promised, error)
            else:
                report(error, f"raised by the runtime, which a worker had told to {verb}")

    def _break(self, verb: str, promised: Sequence[bytes], error: Exception) -> None:
        """Fail the objects, or the stream, that a verb was to make or to go on with."""
        if verb == "yield":
            going_on = self._runtime.streams.get(promised[0])
            if going_on is not None:
                going_on.end(error=error)
            return
        if verb.startswith("stream"):
            (name,) = promised
            stream = self._streams.get(name)
            if stream is None:
                stream = self._streams[name] = self._runtime.new_stream(name)
            stream.end(error=error)
            return
        # Those that are lent were made before the error.
        made = self._own([name for name in promised if name not in self._loans])
        for ref in {*made, *self._refs(promised)}:
            ref._seal(FAILED, error)

    def _ask(self, request: int, verb: str, blobs: list[Any]) -> None:
        self._requests[request] = _Request()
        try:
            self._questions[verb](request, *loads(blobs[0], blobs[1:]))
        except Exception as error:
            error.add_note(f"raised by the runtime, which was asked to {verb}")
            self._answer(request, protocol.ALL, FAILED, error)
            self._forget(request)

    def _gone(self) -> None:
        """Let go of all that it held: its worker has ended."""
        self._runtime.lending.gone(self, self._worker_id, list(self._handed))
        for request in list(self._requests):
            self._forget(request)
        self._loans.clear()
        self._handed.clear()
        for name in list(self._streams):
            self._stream_over(name)

    def _answer(self, request: int, index: int, state: int, content: Any) -> None:
        asked = self._requests.get(request)
        if asked is None:
            return  # given up
        head = protocol.ANSWER, request, index, state
        try:
            if state == FAILED:
                mark_handled(content)
                encoded = dumps_failure(content, self._lend_all)
            else:
                encoded = encode(content)
                if content.__class__ is Sealed:
                    self._lend_all(content.refs)
        except MemoryError as error:
            self.link.send(*_refused(head, error))
        else:
            self.link.send(head, encoded.packet)
        asked.missing -= 1
        if not asked.missing:
            self._requests.pop(request, None)

    # ------------------------------------------------------------------ loans

    def _lend(self, ref: Ref) -> Lent:
        name = ref.binary()
        _, loans = self._loans.get(name, (ref, 0))
        self._loans[name] = (ref, loans + 1)
        return Lent(ref)

    def _lend_all(self, refs: Sequence[Ref]) -> None:
        for ref in refs:
            self._lend(ref)

    def _borrow(self, kind: str, name: bytes, facts: Any) -> None:
        # An actor may ask for itself when there is no handle left.
        self._lend(self._runtime.arrived(kind, name, facts))

    def _return(self, names: Sequence[tuple[bytes, int]]) -> None:
        for name, number in names:
            if name not in self._loans:
                continue  # a message that could not be read was to make it
            ref, loans = self._loans.pop(name)
            if loans > number:  # it was lent once more meanwhile
                self._loans[name] = (ref, loans - number)

    def _hand_over(self, refs: Sequence[Ref]) -> None:
        self._handed.update(refs)

    def arrived(self, ref: Ref) -> bool:
        """Note that a result with `ref` has arrived; return whether this borrower has sent it."""
        number = self._handed.pop(ref, 0)
        if number > 1:
            self._handed[ref] = number - 1
        return number > 0

    def _ref(self, name: bytes) -> ObjectRef:
        ref = self._loans[name][0] if name in self._loans else self._runtime.lost(name)
        assert isinstance(ref, ObjectRef)
        return ref

    def _refs(self, names: Sequence[bytes]) -> list[ObjectRef]:
        return [self._ref(name) for name in names]

    def _own(self, names: Sequence[bytes], call: Any = None) -> list[ObjectRef]:
        """Make objects under the names that the borrower has given them, and lend them to it."""
        refs = []
        for name in names:
            # A result that contains it comes over another socket, and may have been read
            # before: then this very reference exists, and may be waited for.
            ref = self._runtime.lent("o", name)
            assert isinstance(ref, ObjectRef)
            ref._call = call
            self._lend(ref)
            refs.append(ref)
        return refs

    # ------------------------------------------------------------------ objects

    def _put(self, name: bytes, stored: Any) -> None:
        (ref,) = self._own([name])
        self._runtime.give(ref, stored)

    def _get(self, request: int, names: Sequence[bytes]) -> None:
        asked = self._requests[request]
        asked.missing = len(names)
        for index, ref in enumerate(self._refs(names)):
            got = partial(self._got, request, index)
            if ref._watch(got):
                asked.watched.append((ref, got))
            else:
                got(ref)

    def _got(self, request: int, index: int, ref: ObjectRef) -> None:
        self._answer(request, index, ref._state, ref._value)

    def _forget(self, request: int) -> None:
        asked = self._requests.pop(request, None)
        if asked is not None:
            asked.unwatch()

    def _wait(self, request: int, names: Sequence[bytes], number: int) -> None:
        refs = self._refs(names)
        missing = number

        def there(ref: ObjectRef) -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                over()

        def over() -> None:
            # Objects that are not there yet must not hold this request any longer.
            asked.unwatch()
            self._answer(request, 0, READY, None)

        asked = self._requests[request]
        asked.watched += [(ref, there) for ref in refs if ref._watch(there)]
        missing -= len(refs) - len(asked.watched)
        if missing <= 0:
            over()

    def _are_ready(self, request: int, names: Sequence[bytes]) -> None:
        refs = self._refs(names)
        for ref in refs:
            if ref._state == FAILED:
                mark_handled(ref._value)
        self._answer(request, 0, READY, [bool(ref._state) for ref in refs])

    def _cancel(self, request: int, name: bytes, force: bool, recursive: bool) -> None:
        self._cancelled(request, self._runtime.cancel_here(self._ref(name), force, recursive))

    def _cancel_stream(self, request: int, name: bytes, force: bool, recursive: bool) -> None:
        stream = self._streams[name]
        self._cancelled(request, self._runtime.cancel_here(stream, force, recursive))

    def _cancelled(self, request: int, error: Exception | None) -> None:
        self._answer(request, 0, READY if error is None else FAILED, error)

    # ------------------------------------------------------------------ tasks

    def _task(self, code: Any, parcel: Any, options: Any) -> TaskCall:
        known = self._remember(code)
        call = TaskCall(self._runtime, known, options, [])
        call.parcel = parcel
        call.depth = 1 + self._runtime.driver.jobs.depth_of(self._worker_id)
        return call

    def _remember(self, code: Any) -> Any:
        if isinstance(code, int):
            return self._codes[code]
        self._codes[code.number] = code
        return code

    def _forget_codes(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._codes.pop(number, None)

    def _submit(
        self, names: Sequence[bytes], code: Any, parcel: Any, options: Any, origin: Any
    ) -> None:
        call = self._task(code, parcel, options)
        call.refs = self._own(names, call)
        self._begin(call, origin)

    def _stream_submit(
        self, name: bytes, code: Any, parcel: Any, options: Any, origin: Any
    ) -> None:
        call = self._task(code, parcel, options)
        self._new_stream(name, call)
        self._begin(call, origin)

    def _new_stream(self, name: bytes, call: TaskCall | ActorCall) -> None:
        call.stream = self._streams[name] = self._runtime.new_stream(name)
        call.stream._call = call

    def _belongs(self, call: TaskCall | ActorCall, origin: Any) -> bool:
        """Note which call made another; return False if it was cancelled, and the other with it."""
        maker = self._maker(origin)
        if maker is None:
            return True
        if maker.cancelled == RECURSIVELY:
            call.fail(call.cancellation())
            return False
        maker.adopt(call)
        return True

    def _maker(self, origin: Any) -> Any:
        """Return the call that asks for something, None if it is over.

        Parameters
        ----------
        origin : (message_id, chunk) or int
            What a worker of tasks runs, by its journal; or the number of an actor's call.
        """
        if self.actor is not None:
            return self.actor.mailbox.posted.get(origin)
        found = self._runtime.driver.jobs.of_chunk(self._worker_id, *origin)
        if found is None:
            return None
        job, index = found
        sink: Any = job.sink
        return sink if isinstance(sink, TaskCall) else sink.part(index)

    def _begin(self, call: TaskCall, origin: Any) -> None:
        if not self._belongs(call, origin):
            return
        problem = self._runtime.grants.unschedulable(call.options.resources, call.title)
        if problem is not None:
            call.fail(problem)
        else:
            self._runtime.tasks.wait_for_needs(call)

    # ------------------------------------------------------------------ actors

    def _create(self, request: int, code: Any, parcel: Any, options: Any) -> None:
        found = self._runtime.directory.create(self._remember(code), parcel, options)
        if isinstance(found, Exception):
            self._answer(request, 0, FAILED, found)
        else:
            self._answer(request, 0, READY, self._lend(found))

    def _call(
        self,
        names: Sequence[bytes],
        actor: ActorRef,
        method: str,
        parcel: Any,
        returns: int,
        options: Any,
        origin: Any,
    ) -> None:
        call = bind(ActorCall(actor.record, self, method, parcel, options), returns)
        call.refs = self._own(names, call)
        if self._belongs(call, origin):
            actor.record.call(call)

    def _stream_call(
        self, name: bytes, actor: ActorRef, method: str, parcel: Any, options: Any, origin: Any
    ) -> None:
        call = bind(ActorCall(actor.record, self, method, parcel, options), protocol.STREAM)
        self._new_stream(name, call)
        if self._belongs(call, origin):
            actor.record.call(call)

    def _kill(self, actor: ActorRef, no_restart: bool) -> None:
        actor.record.kill(no_restart)

    def _find(self, request: int, name: str, namespace: str | None) -> None:
        ref = self._runtime.directory.find(name, namespace)
        self._answer(request, 0, READY, None if ref is None else self._lend(ref))

    def _facts(self, request: int) -> None:
        self._answer(request, 0, READY, self._runtime.facts_here())

    # ------------------------------------------------------------------ streams

    def _yield(self, name: bytes, index: int, stored: Any) -> None:
        stream = self._runtime.streams.get(name)
        if stream is not None:
            stream.add(index, stored)

    def _next(self, request: int, name: bytes, index: int) -> None:
        stream = self._streams[name]
        # The value before has arrived. This one is kept: it is asked for again after a timeout.
        stream.let_go(index - 1)
        if not stream.knows(index):

            def look() -> None:
                if request in self._requests and name in self._streams:
                    self._next(request, name, index)

            stream.watch(look)
            return
        ref = stream.take(index)
        self._answer(request, 0, READY, None if ref is None else self._lend(ref))

    def _when_known(self, request: int, name: bytes, index: int | None) -> None:
        self._answer(request, 0, READY, self._lend(self._streams[name].when_known_here(index)))

    def _is_over(self, request: int, name: bytes, index: int) -> None:
        self._answer(request, 0, READY, self._streams[name].is_over(index))

    def _stream_over(self, name: bytes) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.abandon()


def _refused(head: Any, error: BaseException) -> Any:
    """Return the message for a task in place of an answer that cannot be sent to it."""
    _, request, index, _ = head
    error.add_note("raised while sending the value to the task that asked for it")
    encoded = dumps_exception(error)
    return (protocol.ANSWER, request, index, FAILED), encoded.packet
