"""An actor in its process: it runs the calls that arrive, one after the other or side by side.

There are three ways to do so, chosen by the class and by `max_concurrency`: one thread that sleeps
in ``recv`` and runs each call; a thread that receives calls, and several that run them; or an event
loop, if the class has async methods.

An actor ends when the runtime sends EXIT or is gone, or when one of its methods leaves by
`exit_actor` (or ``sys.exit()``; with another status than 0 that is a crash).
"""

from __future__ import annotations

import copy
import os
from _socket import MSG_DONTWAIT, SHUT_RDWR
from collections import deque
from functools import partial

from pool._clock import perf_counter
from pool._in_worker import _logs, _output
from pool._in_worker._context import context
from pool._in_worker._graceful_exit import Leave, end, exit_gracefully
from pool._in_worker._interrupts import Interrupts
from pool._in_worker._runner import (
    cancelled,
    dumps_error,
    ends_actor,
    enter,
    function_of,
    print_error,
    results,
    sealed,
    send_answer,
    tidy,
)
from pool._objects._options import ASYNC_CONCURRENCY
from pool._objects._parcels import Parcel, unflatten
from pool._objects._protocol import CALL, DROP, ERROR, LEFT, RESULT, STARTED, STREAM, VALUE, YIELDED
from pool._pickling import loads
from pool._transport._channel import DescriptorsLost
from pool._transport._journal import DROPS
from pool._transport._messages import EXIT, REFUSED, RETURNS
from pool._transport._watch import Watch
from pool._workers._outcomes import end_fork, is_crash
from pool._workers._worker import Worker
from store._codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._transport._channel import Channel

#: Messages that bring no calls and do not end the actor.
_ASIDE = frozenset({DROP, RETURNS})


def host(channel: Channel, config: dict[str, Any], layout: Any, blobs: list[Any]) -> None:
    """Turn a worker into an actor, and serve until it ends.

    Parameters
    ----------
    channel : Channel
        To the runtime.
    config : dict
        ``title``, ``name`` ("": none), ``key`` (the name of its reference), ``is_task``,
        ``is_async``, ``concurrency`` (0: by the class), ``groups`` (calls side by side, by
        concurrency group), ``granted`` (variables by its resources), ``environ``, ``gpus``,
        ``resources``, ``log``, ``namespace``, ``reconstructed``.
    layout, blobs
        The packets of the class and of the constructor's arguments.
    """
    os.environ.update({**config["granted"], **config["environ"]})
    context.environ = config["environ"]
    context.gpus = config["gpus"]
    context.resources = config["resources"]
    context.reconstructed = config["reconstructed"]
    enter(config["is_task"], config["log"], config["namespace"])
    host = ActorHost(channel, config)
    assert Worker.current is not None
    host.page = Worker.current.words
    if host.is_task:
        host.interrupts.heed()
    context.actor = host
    construct = partial(host.construct, *unflatten(layout, blobs))
    _serve(host, config["concurrency"], construct)
    if not host.is_task:
        end(host)


def _serve(host: ActorHost, concurrency: int, construct: Callable[[], bool]) -> None:
    """Make the instance and run its calls, until the actor ends."""
    if host.is_async:
        from pool._in_worker._concurrent import serve_async

        serve_async(host, concurrency or ASYNC_CONCURRENCY, construct)
    elif construct():
        if concurrency > 1 or host.groups:
            from pool._in_worker._concurrent import serve_threads

            serve_threads(host, concurrency)
        else:
            host.serve()


class ActorHost:
    """One actor, its instance and its channel to the runtime."""

    def __init__(self, channel: Channel, config: dict[str, Any]) -> None:
        self.channel = channel
        self._watch: Watch | None = None
        self.title: str = config["title"]
        self.name = config["name"]
        self.key = config["key"]
        self.is_task = config["is_task"]
        #: Whether it is an actor that belongs to no program.
        self.detached = False
        #: Called before anybody is told that it leaves.
        self.give_up_name: Callable[[], None] = lambda: None
        #: The pid of its keeper, if it has one.
        self.kept_by: tuple[int, ...] = ()
        #: The class of the instance; None before it is known.
        self.kind: Any = None
        #: The instance; empty before it is made, and when it is gone. The hosts that `for_channel`
        #: returns share this list.
        self._instance: list[Any] = []
        #: Whether the actor ends in good order: it was told to end, or has left.
        self.leaves = False
        self.is_async: bool = config["is_async"]
        #: By concurrency group: calls of it that may run at the same time.
        self.groups: dict[str, int] = config["groups"]
        #: The page that says how many cancellations were sent; None: look at the socket.
        self.page: Any = None
        #: How many of them the page said when the socket was last read.
        self._seen = 0
        #: Numbers of calls that were cancelled, and have not been answered.
        self._dropped: set[int] = set()
        #: Whether this thread, which receives, also runs the calls.
        self.alone = True
        #: Messages that `part` sends.
        self._partings: list[tuple[Any, list[Any]]] = []
        #: Whether no more calls will come.
        self._ended = False
        self._pid = os.getpid()
        self.interrupts = Interrupts()
        #: Calls that came in a message behind the one that runs.
        self._calls: deque[tuple[Any, list[Any]]] = deque()

    def for_channel(self, channel: Channel) -> ActorHost:
        """Return the same actor, for calls that come over another channel."""
        host = copy.copy(self)
        host.channel = channel
        host._watch = None
        host._calls = deque()
        host._dropped = set()
        host._partings = []
        return host

    @property
    def instance(self) -> Any:
        """The instance of the class; None before it is made, and when it is gone."""
        return self._instance[0] if self._instance else None

    def forget_instance(self) -> None:
        """Let go of the instance."""
        self._instance.clear()

    def label(self) -> str:
        """Return how lines of its output begin: by `__repr__`, if its class has one of its own."""
        if not self._instance or self.is_task:
            return self.title
        kind: type = type(self.instance)
        if "__repr__" not in {name for base in kind.__mro__[:-1] for name in vars(base)}:
            return self.title
        try:
            return repr(self.instance)
        except Exception:
            return self.title

    def construct(self, code: list[Any], *packets: list[Any]) -> bool:
        """Make the instance and tell the runtime how that went."""
        context.name = f"{self.title}.__init__"
        _output.sign(self.title)
        try:
            if self.is_task:
                self._instance.append(function_of(code))
            else:
                self.kind = kind = loads(code[0], code[1:])
                args, kwargs = self._open(list(packets))
                self._instance.append(kind(*args, **kwargs))
        except BaseException as error:
            if not isinstance(error, Leave):
                print_error(error, f"{self.title}.__init__")
            complete_lines()
            encoded = dumps_error(error)
            head = (REFUSED, os.getpid(), len(encoded.buffers))
            self.channel.send(head, encoded.packet)
            return False
        complete_lines()
        tidy()
        _output.sign(self.label())
        try:
            self.channel.send((STARTED, os.getpid(), *self.kept_by))
        except ConnectionError:
            # The program that made the actor has ended, which only a detached one survives.
            return self.detached
        return True

    def _open(self, packets: list[list[Any]]) -> tuple[Any, Any]:
        """Return ``(args, kwargs)`` of a parcel."""
        if not self.detached:
            return Parcel(packets).open()
        *packets, attachments = packets
        # Held until the references in the arguments have found their objects, by name.
        held = loads(attachments[0], attachments[1:])
        opened = Parcel(packets).open()
        del held
        return opened

    def receive(self) -> tuple[Any, list[Any]] | None:
        """Wait for the next call; None when the actor is to end."""
        while True:
            if self._calls:
                call = self._calls.popleft()
                if not (self.alone and self.is_dropped(call[0][1])):
                    return call
                self.refuse_cancelled(call[0])
                continue
            if self._ended:
                return None
            if self._watch is None:
                self._watch = Watch(self.channel.look, self.channel.receive)
            try:
                head, blobs = self._watch.wait()
            except (EOFError, ConnectionError):
                return None
            except DescriptorsLost as lost:
                self._lose(lost)
                head, blobs = (RETURNS, 0), []
            if head[0] in _ASIDE and not self.alone:
                return head, blobs  # the caller must not sleep here: it may be an event loop
            self._take(head, blobs)

    def _lose(self, lost: DescriptorsLost) -> None:
        """Answer calls whose arguments this process has no descriptor, or no memory, to receive."""
        if lost.head is None:
            # Nobody knows which calls these were. The end of an actor, or of the connection to one
            # that other programs use too, is an answer to all.
            if not self.detached:
                raise lost
            self.channel.socket.shutdown(SHUT_RDWR)
            self._ended = True
        elif lost.head[0] == CALL:
            dropped = set(self._dropped)
            for number, *_ in lost.head[1]:
                self.fail(number, lost.plain(), 0.0)
            self._dropped |= dropped  # an earlier call, of which that forgets it, may be running

    def _take(self, head: Any, blobs: list[Any]) -> None:
        if head[0] == EXIT:
            self._ended = self.leaves = True
        elif head[0] == DROP:
            self._dropped.add(head[1])
        elif head[0] == CALL:
            start = 0
            for number, method, returns, layout, *others in head[1]:
                end = start + sum(layout)
                self._calls.append(
                    ((CALL, number, method, returns, layout, *others), blobs[start:end])
                )
                start = end
            # Each call holds its own blobs: a block is released when its call is over.
            blobs.clear()

    def is_canceled(self) -> bool:
        """Return whether the running call was cancelled.

        Raises
        ------
        RuntimeError
            If this actor is async.
        """
        if self.is_async:
            raise RuntimeError(
                "is_canceled() is not for async actors: asyncio raises CancelledError there"
            )
        return self.is_dropped(context.call)

    def is_dropped(self, number: int) -> bool:
        """Return whether a call was cancelled."""
        if self.alone:
            self._look()
        return number in self._dropped

    def note_drop(self, number: int) -> None:
        """Note that a call that runs on another thread was cancelled."""
        self._dropped.add(number)

    def refuse_cancelled(self, head: Any) -> None:
        """Answer a call that was cancelled before it began."""
        _, number, method, *_ = head
        self.fail(number, cancelled(f"{self.title}.{method}"), 0.0)

    def _forget_drops(self, number: int) -> None:
        if self._dropped and self.alone:
            # Also cancellations of earlier calls, which came too late.
            self._dropped -= {n for n in self._dropped if n <= number}
        elif self._dropped:
            self._dropped.discard(number)  # another thread may add one meanwhile

    def _look(self) -> None:
        """Take in messages that have come, if a cancellation may be among them."""
        if self.page is not None:
            sent = self.page[DROPS]
            if sent == self._seen:
                return
            self._seen = sent
        try:
            while not self._ended:
                try:
                    self._take(*self.channel.receive(MSG_DONTWAIT))
                except DescriptorsLost as lost:
                    self._lose(lost)
        except BlockingIOError:
            return
        except (EOFError, ConnectionError):
            self._ended = True

    @property
    def has_more(self) -> bool:
        """Whether `receive` would not wait."""
        return bool(self._calls)

    def serve(self) -> None:
        """Run one call after the other."""
        while True:
            message = self.receive()
            if message is None:
                return
            if not self.run(*message):
                return
            del message
            tidy()

    # ------------------------------------------------------------------ one call

    def run(self, head: Any, blobs: list[Any]) -> bool:
        """Run a call and answer it; return False if the actor leaves with it."""
        _, number, method, returns, layout, task, _ = head
        interrupts = self.interrupts
        context.begin(self, number)
        begun = perf_counter()
        try:
            interrupts.let_through()
            value = self.begin(method, layout, blobs, task)
            self.end_fork()
            answer = self.finish(number, value, returns, method)
            interrupts.open = interrupts.struck = False
        except BaseException as error:
            interrupts.open = interrupts.struck = False
            return self.fail(number, error, begun)
        self.answer(number, answer, begun)
        return True

    def begin(self, method: str, layout: Any, blobs: list[Any], task: bytes) -> Any:
        """Call a method and return what it returns: a value, a coroutine, a generator."""
        context.name = self.title if self.is_task else f"{self.title}.{method}"
        context.task = task
        args, kwargs = self._open(unflatten(layout, blobs))
        if self.is_task:
            return self._instance[0](*args, **kwargs)
        if method == "__ray_ready__":
            return True
        if method == "__ray_terminate__":
            raise Leave
        if method == "__ray_call__":
            function, *args = args
            return function(self._instance[0], *args, **kwargs)
        return getattr(self._instance[0], method)(*args, **kwargs)

    def finish(self, number: int, value: Any, returns: int, method: str) -> Any:
        """Return the answer to a call that has returned `value`."""
        if returns != STREAM:
            return results(value, returns, f"{self.title}.{method}")
        count = 0
        for item in value:
            self.yielded(number, count, item)
            count += 1
            if self.is_dropped(number):
                raise cancelled(f"{self.title}.{method}")
        return count

    def end_fork(self, error: BaseException | None = None) -> None:
        """End this process if it is not the actor but was forked by one of its methods."""
        if os.getpid() != self._pid:
            end_fork(error)

    def yielded(self, number: int, index: int, item: Any) -> None:
        """Send one value of a generator."""
        self.end_fork()
        encoded = encode(sealed(item))
        self.channel.send((YIELDED, number, index), encoded.packet)

    def answer(self, number: int, answer: Any, begun: float) -> None:
        """Send the answer to a call, or the error that says why it cannot be sent."""
        self.end_fork()
        finished = perf_counter()
        complete_lines()
        tidy()
        self._forget_drops(number)
        try:
            encoded = encode(answer)
        except (OSError, MemoryError) as error:
            self.fail(number, error, begun)
        else:
            self._tell((RESULT, number, VALUE, begun, finished), encoded.packet)

    def fail(self, number: int, error: BaseException, begun: float) -> bool:
        """Send an exception; return whether the actor goes on.

        Parameters
        ----------
        number : int
        error : BaseException
            What the call raised.
        begun : float
            When the call began; 0: it never did.
        """
        self.end_fork(error)
        finished = perf_counter()
        complete_lines()
        self._forget_drops(number)
        # In a task, which is no actor, it is an error like any other.
        leaves = ends_actor(error) and not self.is_task
        if leaves and is_crash(error) and not isinstance(error, Leave):
            if self.alone and not self.detached:  # in the main thread
                exit_gracefully(self)
            end_fork(error)  # as one that crashes, so that it is started again
        if leaves:
            self.leaves = True  # never reset, although other calls may still be answered
            self.give_up_name()
        status = LEFT if leaves else ERROR
        encoded = dumps_error(error)
        message = (RESULT, number, status, begun, finished), encoded.packet
        if leaves and not self.alone:
            self._partings.append(message)
        else:
            self._tell(*message)
        return not leaves

    def _tell(self, head: Any, packet: list[Any]) -> None:
        """Send an answer; a detached actor goes on though the program that called has ended."""
        try:
            send_answer(self.channel, head, packet)
        except ConnectionError:
            if not self.detached:
                raise

    def part(self) -> None:
        """Answer the calls by which the actor has left, when no other call runs any more.

        Not before: a caller that sees such an answer may end the actor at once, with the calls that
        still run.
        """
        # Of none, if what has left was no call: then the runtime alone is told.
        partings = self._partings or [((RESULT, 0, LEFT, 0.0, 0.0), [])]
        self._partings = []
        for message in partings:
            try:
                self.channel.send(*message)
            except ConnectionError:
                return  # the caller is gone as well


def complete_lines() -> None:
    """Send text that was printed without a line break; at the end of a call."""
    _output.complete_lines()
    _output.flush()
    _logs.complete_lines()
