"""The runtime of a worker: it owns nothing and asks the runtime of the program.

Every thread of a task or an actor may use it. References here are borrowed: the runtime has noted
that this process holds their objects, once for each time that one was lent; when a reference is
collected, its loans are returned. They are returned with the next message, because the garbage
collector may run anywhere, even inside another send.

A `Lead` drives it, as it drives an engine: the thread that waits receives.
"""

from __future__ import annotations

import _thread
import os
import weakref
from collections import deque
from itertools import count

from pool._errors import PoolTerminated
from pool._in_worker._answers import BorrowedDriver, Request
from pool._in_worker._borrowed_refs import BorrowedActorRef, BorrowedRef
from pool._in_worker._context import context
from pool._in_worker._sent_codes import Sending, SentCodes
from pool._local._waiting import Lead
from pool._objects import _protocol as protocol
from pool._objects._parcels import pack, seal
from pool._objects._refs import FAILED, Collecting, new_name
from pool._transport._channel import Channel
from pool._transport._messages import BLOCKED, CLIENT, UNBLOCKED
from pool._transport._sockets import socket_pair
from store._codec import encode
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from typing import Any, TypeVar

    from pool._objects._refs import ActorFacts, ActorRef, ObjectRef, Ref

    _T = TypeVar("_T")


class BorrowedRuntime:
    """The home of references in a worker.

    Parameters
    ----------
    channel : Channel
        The worker's own; used once, to hand over the other end of a new socket.
    lends_slot : bool
        Whether this is a worker of tasks: while its task waits, a substitute may run.
    driver : type of BorrowedDriver
        What receives, and decides what the end of the runtime means for this process.
    """

    def __init__(
        self,
        channel: Channel,
        lends_slot: bool,
        driver: type[BorrowedDriver] = BorrowedDriver,
    ) -> None:
        self._introduction = channel
        self._lends_slot = lends_slot
        self._driver_class = driver
        self.named: weakref.WeakValueDictionary[bytes, Ref] = weakref.WeakValueDictionary()
        self.seals = self.failures = 0
        self.usable = True
        #: For a `Runtime` the number by which a Pool's workers know it; they cannot use this one.
        self.number = 0
        self._requests = count(1)
        self._connect()

    def _connect(self) -> None:
        """Become a borrower of the runtime, which knows nothing of this process yet."""
        ours, theirs = socket_pair()
        self._introduction.send((CLIENT, "borrower"), fds=[theirs.fileno()])
        theirs.close()
        self._pid = os.getpid()
        self.channel = Channel(ours, linked=True)
        self.driver = self._driver_class(self.channel)
        self.lead = Lead(self.driver)
        #: Names of streams that are not read any more.
        self.finished: deque[bytes] = deque()
        #: Names of references, and numbers of codes, that are gone here and not returned yet.
        self.returned: deque[bytes | int] = deque()
        #: By name, how often the runtime has lent each reference.
        self._loans: dict[bytes, int] = {}
        #: Held where references are made. Without it two threads could make two of one name, and
        #: the first to go would return the loans of both.
        self._books = _thread.RLock()
        #: One object for each future during which a substitute may run.
        self.promises: set[object] = set()
        self._sent_codes = SentCodes(self.returned.append)

    def _begin_anew(self) -> None:
        """Connect the child of a fork, which has the references of its parent.

        If both used the same socket, each would take the other's answers, and return its loans.
        """
        self._lends_slot = False  # the engine counts the parent only
        self._connect()
        for name, ref in list(self.named.items()):
            self._do("borrow", ref._kind, name, getattr(ref, "facts", None))
            self._loans[name] = 1

    #: Never: the child of a fork becomes a borrower of its own.
    foreign = False

    # ------------------------------------------------------------------ references

    def arrived(self, kind: str, name: bytes, facts: ActorFacts | None = None) -> Ref:
        """Return the reference of that name; borrow it if there is none here."""
        ref = self.named.get(name)
        if ref is not None:
            return ref
        with self._books:
            ref = self.named.get(name)  # another thread may have been quicker
            if ref is None:
                self._do("borrow", kind, name, facts)
                ref = self.lent(kind, name, facts)
            return ref

    def lent(self, kind: str, name: bytes, facts: ActorFacts | None = None) -> Ref:
        """Return the reference of that name, which the runtime has just lent to this process."""
        with self._books:
            ref = self.named.get(name)
            if ref is None:
                if kind == "a":
                    assert facts is not None
                    ref = BorrowedActorRef(self, facts, name)
                else:
                    ref = BorrowedRef(self, name)
                self.named[name] = ref
            self._loans[name] = self._loans.get(name, 0) + 1
            return ref

    def taken_over(self, refs: Sequence[Ref]) -> None:
        """Do nothing: the runtime has noted that this process holds them."""

    def end_call(self) -> None:
        """Do what is due at the end of a call."""
        # The call may have asked for futures that it has not waited for.
        for promise in list(self.promises):
            self._take_slot_back(promise)
        self.tidy()

    def tidy(self) -> None:
        """Tell the runtime what this process does not hold any more."""
        try:
            self._return_loans()
        except PoolTerminated:
            return  # the runtime has ended

    def _return_loans(self) -> None:
        for stream in _emptied(self.finished):
            self._send((protocol.DO, "stream over", ()), (stream,))
        returned, codes = [], []
        for name in _emptied(self.returned):
            if isinstance(name, int):
                codes.append(name)
                continue
            with self._books:
                # It may have come again since; when that one goes, all loans are returned.
                loans = 0 if name in self.named else self._loans.pop(name, 0)
            if loans:
                returned.append((name, loans))
        if returned:
            self._send((protocol.DO, "return", ()), (returned,))
        if codes:
            self._send((protocol.DO, "forget codes", ()), (codes,))

    # ------------------------------------------------------------------ messages

    def _do(self, verb: str, *args: Any, promised: Sequence[bytes] = ()) -> None:
        if self._pid != os.getpid():
            self._begin_anew()
        if self.returned:
            self.tidy()
        self._send((protocol.DO, verb, tuple(promised)), args)

    def _send(self, head: tuple[Any, ...], args: tuple[Any, ...]) -> None:
        self._tell(head, _packet(args))

    def _tell(self, head: tuple[Any, ...], packet: list[Any]) -> None:
        self.driver.check_open()
        try:
            self.channel.send(head, packet)
        except ConnectionError:
            self.driver.end()  # the message that says so was not read yet
            self.driver.call_back()  # since no thread may be waiting that would do so
            self.driver.check_open()

    def _ask(
        self, number: int, call_back: Callable[[Request], None] | None, verb: str, *args: Any
    ) -> Request:
        if self._pid != os.getpid():
            self._begin_anew()
        if self.returned:
            self.tidy()
        # Pickled first: if that fails, there must be no request, which would never be answered.
        packet = _packet(args)
        request = Request(number, call_back)
        request_id = next(self._requests)
        self.driver.requests[request_id] = request
        try:
            self._tell((protocol.ASK, request_id, verb), packet)
        except BaseException:
            self.driver.requests.pop(request_id, None)
            raise
        return request

    def _wait_for(self, request: Request, timeout: float | None) -> bool:
        if not self._lends_slot:
            return self.lead.wait(request.is_over, timeout, eager=True)
        _hand_back()
        # Interrupts are let through only where this thread sleeps: UNBLOCKED must always follow.
        shielded = shield.enter()
        try:
            self.channel.send((BLOCKED,))
            try:
                return self.lead.wait(request.is_over, timeout, eager=True)
            finally:
                self.channel.send((UNBLOCKED,))
        finally:
            shield.leave(shielded)

    def _lend_slot(self) -> object:
        """Let a substitute run, until `_take_slot_back` gets the promise, or the call ends.

        Returns
        -------
        object
            The promise.
        """
        promise = object()
        if self._lends_slot:
            _hand_back()
            shielded = shield.enter()
            try:
                self.promises.add(promise)
                self.channel.send((BLOCKED,))
            finally:
                shield.leave(shielded)
        return promise

    def _take_slot_back(self, promise: object) -> None:
        shielded = shield.enter()
        try:
            self.promises.remove(promise)
            self.channel.send((UNBLOCKED,))
        except KeyError:
            return  # no substitute was let run, or the call is over
        finally:
            shield.leave(shielded)

    def _answer(self, verb: str, *args: Any) -> Any:
        request = self._ask(1, None, verb, *args)
        self.lead.wait(request.is_over, eager=True)
        state, content = request.answers[0]
        if state == FAILED:
            raise content
        return content

    # ------------------------------------------------------------------ verbs

    def put(self, value: object) -> ObjectRef:
        """Store a value in the runtime."""
        return self.put_stored(seal(value))

    def put_stored(self, stored: Any) -> ObjectRef:
        """Store a value that `seal` returned."""
        name = new_name()
        self._do("put", name, stored, promised=[name])
        return self._made([name])[0]

    def _made(self, names: Sequence[bytes]) -> list[ObjectRef]:
        """Return references to objects that the runtime was told to make, and to lend."""
        return [self.lent("o", name) for name in names]  # type: ignore[misc]  # "o": objects

    def submit(self, code: Any, args: Any, kwargs: Any, options: Any) -> Any:
        """Run a task; the runtime finds a worker for it."""
        options = context.inheriting(options)
        parcel = pack(args, kwargs).in_full()
        with self._sending(code) as sent:
            if options.returns == protocol.STREAM:
                return self._stream("submit", sent, parcel, options)
            names = [new_name() for _ in range(protocol.number_of(options.returns))]
            self._do("submit", names, sent, parcel, options, _origin(), promised=names)
        return self._made(names)

    def create(self, code: Any, args: Any, kwargs: Any, options: Any) -> ActorRef:
        """Start an actor."""
        parcel = pack(args, kwargs).in_full()
        with self._sending(code) as sent:
            found: ActorRef = self._answer("create", sent, parcel, context.inheriting(options))
        return found

    def call(
        self, actor: ActorRef, method: str, args: Any, kwargs: Any, returns: int, options: Any
    ) -> Any:
        """Call a method of an actor."""
        parcel = pack(args, kwargs).in_full()
        if returns == protocol.STREAM:
            return self._stream("call", actor, method, parcel, options)
        names = [new_name() for _ in range(protocol.number_of(returns))]
        self._do("call", names, actor, method, parcel, returns, options, _origin(), promised=names)
        return self._made(names)

    def _stream(self, verb: str, *args: Any) -> Any:
        from pool._in_worker._streams import BorrowedStream

        stream = new_name()
        self._do("stream " + verb, stream, *args, _origin(), promised=[stream])
        return BorrowedStream(self, stream)

    def stream_out(self, stream: bytes, values: Any) -> int:
        """Send what a generator yields; return how many values that were."""
        number = 0
        for value in values:
            self._do("yield", stream, number, seal(value), promised=[stream])
            number += 1
        return number

    def stream_next(self, stream: bytes, index: int) -> ObjectRef | None:
        """Return the next object of a stream; None at its end."""
        request = self._ask(1, None, "next", stream, index)
        self._wait_for(request, None)
        state, found = request.answers[0]
        if state == FAILED:
            raise found
        next_one: ObjectRef | None = found
        return next_one

    def stream_when_known(self, stream: bytes, index: int | None) -> ObjectRef:
        """Return an object that is there when a value of a stream, or its end, is known."""
        found: ObjectRef = self._answer("when known", stream, index)
        return found

    def stream_is_over(self, stream: bytes, index: int) -> bool:
        """Return whether it is known that a stream has no value of that number."""
        return bool(self._answer("is over", stream, index))

    def _sending(self, code: Any) -> Sending:
        """Return a context that gives a code as it is sent: at first whole, later as its number."""
        if self._pid != os.getpid():
            self._begin_anew()
        return Sending(self._sent_codes, code)

    def fetch(self, refs: Sequence[ObjectRef], timeout: float | None) -> list[Any]:
        """Wait for objects and return ``(state, stored value)`` of each; None as in `Runtime`."""
        request = self._ask(len(refs), None, "get", [ref.binary() for ref in refs])
        self._wait_for(request, timeout)
        if request.missing:
            self._give_up(request)
        return request.answers

    def _give_up(self, request: Request) -> None:
        for number, known in list(self.driver.requests.items()):
            if known is request:
                self.driver.requests.pop(number, None)
                self._do("forget", number)

    def wait(self, refs: Sequence[ObjectRef], number: int, timeout: float | None) -> None:
        """Wait until `number` of the objects are there, or the timeout."""
        request = self._ask(1, None, "wait", [ref.binary() for ref in refs], number)
        if timeout == 0:
            self.lead.wait(request.is_over, 0)
            if not request.is_over():
                self._give_up(request)
        elif not self._wait_for(request, timeout):
            self._give_up(request)

    def are_ready(self, refs: Sequence[ObjectRef]) -> list[bool]:
        """Return which objects are there now."""
        found: list[bool] = self._answer("are ready", [ref.binary() for ref in refs])
        return found

    def future(self, ref: ObjectRef) -> Future[Any]:
        """Return a future; a thread of this process receives for it."""
        from concurrent.futures import Future

        from pool._objects._outcomes import resolve_future

        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        promise = self._lend_slot()  # the task is about to wait, by means of the future alone

        def resolve(request: Request) -> None:
            self._take_slot_back(promise)
            resolve_future(future, *request.answers[0])

        try:
            self._ask(1, resolve, "get", [ref.binary()])
        except BaseException:
            self._take_slot_back(promise)
            raise
        self.lead.ensure_stand_in()
        return future

    def cancel(self, ref: ObjectRef, force: bool, recursive: bool) -> None:
        """Cancel the call that is to produce an object."""
        self._answer("cancel", ref.binary(), force, recursive)

    def cancel_stream(self, name: bytes, force: bool, recursive: bool) -> None:
        """Cancel the call that yields a stream."""
        self._answer("cancel stream", name, force, recursive)

    def kill(self, actor: ActorRef, no_restart: bool) -> None:
        """End an actor at once."""
        self._do("kill", actor, no_restart)

    def find(self, name: str, namespace: str | None) -> ActorRef | None:
        """Return a named actor."""
        found: ActorRef | None = self._answer("find", name, namespace)
        return found

    def facts(self) -> dict[str, Any]:
        """Return resources, nodes and the like."""
        found: dict[str, Any] = self._answer("facts")
        return found

    def hand_over(self, refs: Sequence[Ref]) -> None:
        """Keep references in a result alive until the runtime has that result."""
        if refs:
            self._do("hand over", list(refs))

    def when_there(
        self, needs: Sequence[Sequence[ObjectRef]], ready: Callable[[list[int]], None]
    ) -> None:
        """Call ``ready(places)`` for groups of objects when they are there: all at once.

        A task that uses a Pool waits here for its arguments.
        """
        wanted = list({ref.binary(): ref for group in needs for ref in group}.values())
        while wanted:
            for ref, found in zip(wanted, self.fetch(wanted, None), strict=True):
                if found is not None:
                    # Given to this reference alone, which the parcels of the calls hold.
                    ref._state, ref._value = found
            # An error ends the wait early, but concerns only the calls that need that object.
            wanted = [ref for ref in wanted if not ref._state]
        ready(list(range(len(needs))))

    def let_go(self, refs: Sequence[Ref]) -> None:
        """Do nothing: a reference that is not held any more is returned by itself."""

    def leave(self) -> None:
        """Use this no more: its runtime is gone."""
        self.usable = False
        try:
            while self.channel.look():
                continue  # the last messages tell which memory of this process it has let go of
        except (EOFError, OSError):
            pass
        self.channel.leave()

    def stop(self) -> None:
        """Do nothing: the runtime is the program's."""


def _packet(args: tuple[Any, ...]) -> list[Any]:
    with Collecting():
        encoded = encode(args)
    return encoded.packet


def _emptied(names: deque[_T]) -> Iterator[_T]:
    """Yield names and remove them; other threads may do the same."""
    while names:
        try:
            name = names.popleft()
        except IndexError:
            return
        yield name


def _hand_back() -> None:
    from pool._workers._worker import Worker

    if Worker.current is not None:
        Worker.current.hand_back()


def _origin() -> Any:
    """Return which call of this process makes a request, in terms that the runtime knows."""
    if context.actor is not None:
        return context.call
    from pool._transport._journal import FINISHED, MESSAGE
    from pool._workers._worker import Worker

    assert Worker.current is not None
    words = Worker.current.words
    return words[MESSAGE], words[FINISHED]
