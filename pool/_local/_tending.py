"""How a thread that submits in a loop takes in answers on the way.

A stand-in that is woken by an answer has to wait for the interpreter's lock, which a thread that
submits in a loop keeps for a whole switch interval, 5 ms: an eternity for workers that have nothing
to do. So the submitting thread itself takes in what has arrived. It leaves callbacks to the
stand-in, for the program may hold a lock while it submits that its callbacks want to take.
"""

from __future__ import annotations

import sys

from pool._clock import monotonic
from pool._local._waiting import GRACE, Lead, start_thread
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pool._local._waiting import Steppable

    class Tended(Steppable, Protocol):
        """What a `TendedLead` drives: `pool._local._driver.Driver`."""

        looked: float

        @property
        def calls_back(self) -> bool: ...
        def arrived(self) -> bool: ...
        def look(self) -> None: ...


#: Seconds between two looks at the sockets by a thread that only submits.
LOOK = 1e-3


class TendedLead(Lead):
    """The lead of an engine whose answers threads that submit may take in as well.

    Parameters
    ----------
    driver : Driver
    """

    def __init__(self, driver: Tended) -> None:
        super().__init__(driver)
        self._tended = driver
        #: When a thread that submits last took in answers, on the monotonic clock.
        self._visited = 0.0
        #: Until when `attend` does not ask again whether the stand-in falls behind.
        self._patient = 0.0

    @property
    def looked_after(self) -> bool:
        """Whether a submitting thread has just taken in answers, and no callback is due.

        Most likely it submits more and comes again, or is about to wait.
        """
        return self._visited + GRACE > monotonic() and not self._tended.calls_back

    def attend(self) -> None:
        """See to it that outstanding work goes on; for a thread that has just submitted."""
        driver = self._tended
        if driver.closed or driver.held_here:
            return
        now = monotonic()
        if driver.looked + LOOK < now:
            if not self.taken:
                self.glance()
                self._visited = now
            elif self._patient < now and self._leader_is_stand_in():
                self._relieve(now)
        self.ensure_stand_in()

    def glance(self) -> None:
        """Take in what has arrived, without sleeping, unless another thread drives."""
        driver = self._tended
        if driver.held_here or _in_store():
            return  # this is a finalizer or a signal handler that has interrupted one of them
        shielded = shield.enter()
        try:
            if self.acquire():
                try:
                    if not driver.closed:
                        driver.look()
                    self.notify()
                finally:
                    self.abdicate()
        finally:
            shield.leave(shielded)

    def end(self, release: Callable[[], None], waits: bool = True) -> None:
        """Do as `Lead.end`, but not in the midst of the store's lines, where a finalizer may be.

        The thread that drives may be about to wait for the store, so this one must not wait for it.
        """
        if waits and _in_store():
            start_thread(lambda: super(TendedLead, self).end(release), "actorpool-end")
        else:
            super().end(release, waits)

    def _relieve(self, now: float) -> None:
        """Take the lead from the stand-in if something has arrived that it has not taken in."""
        self._patient = now + LOOK
        driver = self._tended
        if self.taken_here or driver.calls_back:
            return  # this is a callback of the stand-in's, or it runs one, which may take long
        shielded = shield.enter()
        try:
            self._claims.append(None)
            try:
                if driver.closed or not driver.arrived():
                    return
                # Sleeping hands the interpreter's lock over to the stand-in as well.
                self._follow(lambda: False, now + LOOK)
                if self.taken:
                    self._patient = now + GRACE  # the stand-in is at it, and has much to take in
                self.glance()
                self._visited = now
            finally:
                self._claims.pop()
                self._leave()
        finally:
            shield.leave(shielded)


def _in_store() -> bool:
    """Return whether this thread has the lock of the store's records, further up its stack."""
    books = getattr(sys.modules.get("store._mappings"), "books", None)
    return books is not None and bool(books.held_here)
