"""How threads that submit look after the engine on their way.

A stand-in that is woken by an answer waits for the interpreter's lock, which a thread that submits
in a loop keeps for a whole switch interval: an eternity for workers that have nothing to do. So
that thread takes in what has arrived by itself. Callbacks it leaves to the stand-in: a program may
hold a lock while it submits that its callbacks take.
"""

from __future__ import annotations

import _thread
from time import monotonic

from pool._local._waiting import GRACE, Lead
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from typing import Protocol

    from pool._local._waiting import Steppable

    class Tended(Steppable, Protocol):
        """What is driven and looked after: `pool._local._driver.Driver`."""

        looked: float

        @property
        def calls_back(self) -> bool: ...
        def arrived(self) -> bool: ...
        def look(self) -> None: ...


#: Seconds between two looks at the sockets by a thread that only submits.
LOOK = 1e-3

_get_ident = _thread.get_ident


class TendedLead(Lead):
    """The lead of an engine that other threads may look after.

    Parameters
    ----------
    driver : Driver
    """

    def __init__(self, driver: Tended) -> None:
        super().__init__(driver)
        self._tended = driver
        #: When a thread that submits last looked.
        self._visited = 0.0
        #: Until when the stand-in is not asked whether it is late.
        self._patient = 0.0

    @property
    def looked_after(self) -> bool:
        """Whether a thread has just looked that submits more, or is about to wait."""
        return self._visited + GRACE > monotonic() and not self._tended.calls_back

    def attend(self, me: weakref.ref[Lead]) -> None:
        """See to it that outstanding work goes on; for a thread that has submitted."""
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
        self.ensure_stand_in(me)

    def glance(self) -> None:
        """Deal with what has arrived, without sleeping, unless somebody drives."""
        driver = self._tended
        if driver.held_here:
            return  # a finalizer or a signal handler, within the driver's own lines
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

    def _relieve(self, now: float) -> None:
        """Take the lead from the stand-in if it does not get to what has arrived."""
        self._patient = now + LOOK
        driver = self._tended
        if self._leader == _get_ident() or driver.calls_back:
            return  # this is a callback, or one is under way and may take its time
        shielded = shield.enter()
        try:
            self._claims += 1
            try:
                if driver.closed or not driver.arrived():
                    return
                # This hands over the interpreter's lock as well.
                self._follow(lambda: False, now + LOOK)
                if self.taken:
                    self._patient = now + GRACE  # it has much to take in
                self.glance()
                self._visited = now
            finally:
                self._claims -= 1
                self._leave()
        finally:
            shield.leave(shielded)
