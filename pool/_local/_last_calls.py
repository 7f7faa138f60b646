"""Error callbacks of calls that a Pool gives up when it is terminated.

In `multiprocessing` these are never called. So a program may well hold a lock while it terminates
a Pool that such a callback takes. They are therefore called by a thread of their own, for which
`LocalEngine.terminate` waits a moment, and no longer.
"""

from __future__ import annotations

import _thread
from collections import deque

from pool._unraisable import report
from store._children import in_child
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Seconds for which `terminate` waits until all have returned.
PATIENCE = 1.0


class LastCalls:
    """Call functions one after the other, in a thread that there is while any are due."""

    __slots__ = ("_due", "_running", "_thread")

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """Begin anew in a forked child: what is due, and the thread, are the parent's."""
        self._due: deque[tuple[Callable[[Any], object], Any, str]] = deque()
        #: Held by the thread, or for the one that is being started.
        self._running = _thread.allocate_lock()
        #: Its identifier; 0 if there is none.
        self._thread = 0

    def add(self, function: Callable[[Any], object], argument: Any, whose: str) -> None:
        """Have ``function(argument)`` called soon; never waits.

        Parameters
        ----------
        function, argument
        whose : str
            Names the call for the report of what it raises.
        """
        self._due.append((function, argument, whose))
        self._start()

    def _start(self) -> None:
        shielded = shield.enter()  # an interrupt would leave the lock held by nobody
        try:
            if self._running.acquire(False):
                try:
                    _thread.start_new_thread(self._run, ())
                except RuntimeError:  # no room for a thread, or the interpreter is going down
                    self._run()
        finally:
            shield.leave(shielded)

    def called_here(self) -> bool:
        """Return whether the thread that calls them is this one."""
        return self._thread == _thread.get_ident()

    def wait(self, seconds: float) -> None:
        """Wait until all have returned, but not in the thread itself, nor for longer than that."""
        if self.called_here() or not (self._due or self._running.locked()):
            return
        over = _thread.allocate_lock()
        over.acquire()
        self.add(lambda _: over.release(), None, "all")
        over.acquire(True, seconds)

    def _run(self) -> None:
        self._thread = _thread.get_ident()
        while True:
            try:
                self._call_all()
            finally:
                self._thread = 0
                self._running.release()
            # Again: what was added just now has found the lock held.
            if not (self._due and self._running.acquire(False)):
                return
            self._thread = _thread.get_ident()

    def _call_all(self) -> None:
        while self._due:
            function, argument, whose = self._due.popleft()
            try:
                function(argument)
            except BaseException as error:
                if not _is_waited_for_no_longer(error):
                    report(error, f"raised by the callback of {whose}")


def _is_waited_for_no_longer(error: BaseException) -> bool:
    """Return whether a callback raised this since nobody waits for what it was to tell.

    A future was cancelled that it sets, or an event loop has ended that it calls, as mostly when
    ``asyncio.run`` is within the ``with`` block of a pool. In `multiprocessing` nothing is shown
    then, for the callback is not called.
    """
    return type(error).__name__ == "InvalidStateError" or str(error) == "Event loop is closed"


#: Those of this process.
last_calls = LastCalls()
in_child(last_calls.forked)
