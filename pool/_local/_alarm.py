"""What wakes the thread that sleeps on the sockets of an engine."""

from __future__ import annotations

import os

from pool._transport._descriptors import above_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Alarm:
    """An eventfd, which is closed when nothing refers to this object any more, and not before.

    Threads ring at any time, also while another one ends the pool. One that is just about to write
    has the object; so it cannot write to a number that is another file's by then.
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = -1
        self._fd = above_streams(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    def fileno(self) -> int:
        """Return the descriptor, which can be read when the alarm has rung."""
        return self._fd

    def ring(self) -> None:
        """Make the descriptor readable; from any thread."""
        try:
            os.eventfd_write(self._fd, 1)
        except (OSError, ValueError):
            return  # the collector has closed it, before it comes to what rings

    def stop(self) -> None:
        """Make the descriptor unreadable again."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return  # another thread was quicker

    def __del__(self, _close: Any = os.close) -> None:
        # Replaced first: the collector may run this before it ends the pool, which rings.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _close(fd)
