"""Blocks that were let go of: noted by finalizers, which must not wait, and returned later."""

from __future__ import annotations

import os
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from store._forks import Dropped


class Returned(deque["Dropped"]):
    """Blocks that were let go of in this process, and that their owner was not told of yet.

    Parameters
    ----------
    urge : callable
        Called, by a finalizer, when blocks with many bytes wait here; must not wait.
    urgent : int
        How many bytes are many.

    Attributes
    ----------
    pid : int
        The process that let go of them; a forked child has a copy of the deque.
    kept : object
        Something that must live as long as any of these blocks.
    """

    def __init__(self, urge: Callable[[], None], urgent: int) -> None:
        super().__init__()
        self._urge = urge
        self._urgent = urgent
        self.kept: object = None
        self._nbytes = 0
        self.pid = os.getpid()

    def notice(self, nbytes: int, _getpid: Callable[[], int] = os.getpid) -> None:
        """Note that a large block was let go of; works also when module names are gone, at exit."""
        self._nbytes += nbytes
        if self._nbytes > self._urgent and self.pid == _getpid():
            self._nbytes = 0
            self._urge()

    def taken(self) -> None:
        """Note that they are being returned."""
        self._nbytes = 0
