"""How a worker asks its parent for globals of the main module; see `pool._pickling._lookups`.

Over a connection of its own, which is opened when it is first needed: the parent's driver answers
at any time, so a thread that waits here needs nobody's help but the driver's.
"""

from __future__ import annotations

import _thread
from itertools import count

from pool._transport._channel import Channel
from pool._transport._messages import CLIENT, NAME
from pool._transport._sockets import socket_pair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NO_SUCH_NAME: tuple[int, list[Any]] = (0, [])


class Lookups:
    """Ask the parent for names.

    Parameters
    ----------
    channel : Channel
        Of the worker, over which the parent gets the other end of the connection.
    """

    __slots__ = ("_channel", "_lock", "_main", "_numbers", "_waiting")

    def __init__(self, channel: Channel) -> None:
        self._main = channel
        self._channel: Channel | None = None
        # One that a signal handler or a finalizer can enter that interrupts its holder.
        self._lock = _thread.RLock()
        self._numbers = count(1)
        #: Answers that are awaited, by number; None: not there yet.
        self._waiting: dict[int, tuple[int, list[Any]] | None] = {}

    def ask(self, name: str) -> tuple[int, list[Any]]:
        """Return what the parent says of a name, and the payload."""
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = None
            try:
                return self._answer(number, name)
            except (EOFError, ConnectionError):
                return NO_SUCH_NAME  # the parent is gone, and this process is about to be
            finally:
                # Cancelled perhaps: its answer, when it comes, is nobody's.
                del self._waiting[number]

    def _answer(self, number: int, name: str) -> tuple[int, list[Any]]:
        channel = self._channel or self._open()
        channel.send((NAME, number, name))
        while True:
            answer = self._waiting[number]
            if answer is not None:
                return answer
            head, blobs = channel.receive()
            if head[1] in self._waiting:
                self._waiting[head[1]] = (head[2], blobs)

    def _open(self) -> Channel:
        ours, theirs = socket_pair()
        self._main.send((CLIENT,), fds=[theirs.fileno()])
        theirs.close()
        self._channel = Channel(ours, linked=True)
        return self._channel
