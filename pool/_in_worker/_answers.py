"""Requests of a worker to the runtime, and the answers that come back."""

from __future__ import annotations

from pool._errors import PoolTerminated
from pool._local._receiver import Receiver
from pool._objects import _protocol as protocol
from pool._objects._refs import FAILED
from pool._pickling import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._transport._channel import Channel


class Request:
    """A request; each of its answers is ``(state, content)``, at its index."""

    __slots__ = ("action", "answers", "failed", "missing")

    def __init__(self, number: int, action: Callable[[Request], None] | None = None) -> None:
        self.answers: list[Any] = [None] * number
        self.missing = number
        #: Whether there is an error among the answers: then the others are not waited for.
        self.failed = False
        #: Called with the request when all answers are there; None: a thread waits for them.
        self.action = action

    def call_back(self) -> None:
        """Run the action that was to follow."""
        if self.action is not None:
            self.action(self)

    def is_over(self) -> bool:
        """Return whether all answers are there, or one that is an error."""
        return self.failed or not self.missing


class BorrowedDriver(Receiver):
    """Receive answers from the runtime; it is what a `Lead` drives in a worker.

    Parameters
    ----------
    channel : Channel
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.requests: dict[int, Request] = {}

    @property
    def unanswered(self) -> bool:
        """Whether any request has not been answered."""
        return bool(self.requests)

    def check_open(self) -> None:
        """Raise `PoolTerminated` if the runtime has ended."""
        if self.closed:
            raise _ended()

    def end(self) -> None:
        """Note that the runtime has ended: no request will be answered any more."""
        self.closed = True
        while self.requests:
            try:
                _, request = self.requests.popitem()
            except KeyError:
                return  # another thread took the last one
            if request.action is not None:  # else a thread waits, which learns it by `check_open`
                request.answers = [(FAILED, _ended())] * len(request.answers)
                request.missing = 0
                self.calling.append(request)

    def on_message(self, head: Any, blobs: list[Any]) -> None:
        """Take one answer."""
        if head[0] == protocol.OVER:
            self.end()
        if head[0] != protocol.ANSWER:
            return  # a message only for the channel
        _, number, index, state = head
        try:
            content = loads(blobs[0], blobs[1:])
        except BaseException as error:
            state, content = FAILED, error
        request = self.requests.get(number)
        if request is None:
            return  # given up; the content is dropped
        if index == protocol.ALL:
            request.answers = [(state, content)] * len(request.answers)
            request.missing = 0
        else:
            request.answers[index] = (state, content)
            request.missing -= 1
            if state == FAILED:
                request.failed = True
        if not request.missing:
            # Another thread may have given it up since.
            self.requests.pop(number, None)
            if request.action is not None:
                self.calling.append(request)


class GuestDriver(BorrowedDriver):
    """Receive answers in a Pool's worker, which lives on when the runtime has ended."""

    def on_end(self) -> None:
        """Note that the runtime has ended."""
        self.end()


def _ended() -> PoolTerminated:
    return PoolTerminated(
        "the runtime that this task's references belong to was shut down; wait for the task before "
        "you call shutdown()"
    )
