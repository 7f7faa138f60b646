"""What a worker has asked the runtime for, and the answers that come back."""

from __future__ import annotations

import os

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
    """Something that was asked for; each answer is ``(state, content)`` at its index."""

    __slots__ = ("action", "answers", "missing")

    def __init__(self, number: int, action: Callable[[Request], None] | None = None) -> None:
        self.answers: list[Any] = [None] * number
        self.missing = number
        self.action = action

    def call_back(self) -> None:
        """Do what was to follow."""
        if self.action is not None:
            self.action(self)

    def is_over(self) -> bool:
        """Return whether all answers are there."""
        return not self.missing


class BorrowedDriver(Receiver):
    """Receive answers from the runtime; what `Lead` drives."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.requests: dict[int, Request] = {}

    @property
    def outstanding(self) -> bool:
        """Whether anything was asked for and not answered."""
        return bool(self.requests)

    def on_message(self, head: Any, blobs: list[Any]) -> None:
        """Take one answer."""
        if head[0] == protocol.OVER:
            os._exit(1)  # as if it had closed the socket
        if head[0] != protocol.ANSWER:
            return  # nothing but what the channel has noted
        _, number, index, state = head
        try:
            content = loads(blobs[0], blobs[1:])
        except BaseException as error:
            state, content = FAILED, error
        request = self.requests.get(number)
        if request is None:
            return  # given up: what came with it is let go
        if index == protocol.ALL:
            request.answers = [(state, content)] * len(request.answers)
            request.missing = 0
        else:
            request.answers[index] = (state, content)
            request.missing -= 1
        if not request.missing:
            del self.requests[number]
            if request.action is not None:
                self.calling.append(request)
