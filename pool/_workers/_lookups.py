"""How a worker asks its parent for globals of the main module; see `pool._pickling._lookups`.

It asks over a connection of its own, opened when it is first needed, since the worker's main thread
reads the other one. The parent's driver answers at any time.
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

#: The answer for a name that the main module does not have: no such name, no payload.
NO_SUCH_NAME: tuple[int, list[Any]] = (0, [])


class Lookups:
    """Ask the parent for names.

    Parameters
    ----------
    channel : Channel
        The worker's own, over which the parent is sent its end of the new connection.
    """

    __slots__ = ("_channel", "_lock", "_main", "_numbers", "_waiting")

    def __init__(self, channel: Channel) -> None:
        self._main = channel
        self._channel: Channel | None = None
        # Reentrant, for a signal handler or a finalizer may interrupt its holder and ask as well.
        self._lock = _thread.RLock()
        self._numbers = count(1)
        #: By number, the answers to questions that are under way; None: not there yet.
        self._waiting: dict[int, tuple[int, list[Any]] | None] = {}

    def ask(self, name: str) -> tuple[int, list[Any]]:
        """Return the parent's answer to a name, see `pool._pickling._lookups`, and the payload."""
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = None
            try:
                return self._answer(number, name)
            except (EOFError, ConnectionError):
                return NO_SUCH_NAME  # the parent is gone, and this process is about to be
            finally:
                # Perhaps after an interrupt: then the answer is dropped when it comes.
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
