"""SIGINT in a process that is there for one task: it strikes the task, and nothing around it."""

from __future__ import annotations

import _signal
import os

from pool._workers._lost_interrupts import raise_again


class Interrupts:
    """Whether an interrupt may be raised now, and what became of the last one.

    Nothing is raised before the task begins, when the task would not learn of it, nor while its
    answer is sent, which must go out whole. An actor makes one too, but does not call `heed`:
    SIGINT, which a terminal sends to its program, is none of its business.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._came = False
        #: Whether one may be raised now, and whether one was raised in the running task. Both are
        #: reset by plain assignment: a method's first instruction is where it could be raised.
        self.open = self.struck = False

    def heed(self) -> None:
        """Have SIGINT interrupt the task."""
        _signal.signal(_signal.SIGINT, self._on_interrupt)
        raise_again(self._strike_again)

    def let_through(self) -> None:
        """Have an interrupt raised from now on, also one that came before."""
        self.open = True
        if self._came:
            raise KeyboardInterrupt

    def _on_interrupt(self, signum: int, frame: object) -> None:
        self._came = True
        if self.open or os.getpid() != self._pid:  # children of the task do as they like
            self.open = False
            self.struck = True
            raise KeyboardInterrupt

    def _strike_again(self) -> bool:
        if self.struck and os.getpid() == self._pid:
            self.open = True
            return True
        return False
