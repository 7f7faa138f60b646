"""Blocks that were let go: noted by finalizers, which must not wait, and taken note of later."""

from __future__ import annotations

import os
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from store._forks import Dropped


class Returned(deque["Dropped"]):
    """Blocks that were let go here, and of which their owner was not told yet.

    Parameters
    ----------
    urge : callable
        Called when much memory waits for it; from a finalizer, so it must not wait.
    urgent : int
        How many bytes are much.

    Attributes
    ----------
    pid : int
        Of the process that has them; a forked child has copies of these words.
    kept : object
        Lives as long as any of them.
    """

    def __init__(self, urge: Callable[[], None], urgent: int) -> None:
        super().__init__()
        self._urge = urge
        self._urgent = urgent
        self.kept: object = None
        self._nbytes = 0
        self.pid = os.getpid()

    def notice(self, nbytes: int, _getpid: Callable[[], int] = os.getpid) -> None:
        """Note that a large block was let go, if need be when the names of modules are gone."""
        self._nbytes += nbytes
        if self._nbytes > self._urgent and self.pid == _getpid():
            self._nbytes = 0
            self._urge()

    def taken(self) -> None:
        """Note that they are being returned."""
        self._nbytes = 0
