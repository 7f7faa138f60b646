"""Who drives the engine: the thread that waits, or a stand-in while nobody does.

One thread at a time sleeps in `Driver.step`: the *leader*. A thread that waits for a
result leads if nobody else does; a round trip then needs no hand-over between threads,
which would triple its time. Other waiting threads are *followers*: they sleep on a lock
of their own until their result is there or the lead is free.

While work is outstanding that nobody waits for, the stand-in thread leads. It is started
with the first such job, sleeps while there is nothing to do, and makes way at once for a
thread that comes to wait.
"""

from __future__ import annotations

import _thread
from time import monotonic

from pool._local._timers import LONGEST
from pool._unraisable import report
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable
    from typing import Protocol

    class Steppable(Protocol):
        """What is driven: `pool._local._driver.Driver`."""

        crashed: bool
        closed: bool

        @property
        def outstanding(self) -> bool: ...
        @property
        def held_here(self) -> bool: ...
        def check_open(self) -> None: ...
        def step(self, patience: float | None, eager: bool = False) -> None: ...
        def wake(self) -> None: ...
        def call_back(self) -> None: ...


#: Seconds that the stand-in leaves to a thread which has just submitted: mostly it
#: submits more, or comes to wait, and taking the lead from it costs two thread switches.
#: The interpreter's own switch interval.
GRACE = 5e-3

#: Callbacks that run one within the other, as those do that wait: about so many. After that others
#: only run when nothing else is left that could be waited for.
DEEPEST = 8

_get_ident = _thread.get_ident
_allocate_lock = _thread.allocate_lock


class _Follower:
    __slots__ = ("lock", "ready")

    def __init__(self, ready: Callable[[], bool]) -> None:
        self.ready = ready
        self.lock = _allocate_lock()
        self.lock.acquire()

    def release(self) -> None:
        try:
            self.lock.release()
        except RuntimeError:
            return  # it was woken a moment ago and has not run yet


class Lead:
    """The lead of one engine.

    Parameters
    ----------
    driver : Driver
    """

    def __init__(self, driver: Steppable) -> None:
        self._driver = driver
        self._lead = _allocate_lock()
        self._leader = 0
        self._followers: list[_Follower] = []
        self._claims = 0
        self._stand_in: StandIn | None = None
        self._hiring = _allocate_lock()

    @property
    def taken(self) -> bool:
        """Whether some thread drives at the moment."""
        return self._lead.locked()

    @property
    def taken_here(self) -> bool:
        """Whether this thread drives, further up its stack."""
        return self._leader == _get_ident()

    @property
    def outstanding(self) -> bool:
        """Whether there is anything to drive."""
        return self._driver.outstanding

    @property
    def followed(self) -> bool:
        """Whether other threads wait for results."""
        return bool(self._followers)

    # ------------------------------------------------------------------ waiting

    def wait(
        self, ready: Callable[[], bool], timeout: float | None = None, eager: bool = False
    ) -> bool:
        """Block until ``ready()``, driving the engine if nobody else does.

        Parameters
        ----------
        ready : callable
            Cheap; called by any thread.
        timeout : float, optional
            Seconds.
        eager : bool
            What is waited for is one answer, which may come at once.

        Returns
        -------
        bool
            What ``ready()`` says in the end.
        """
        if ready():
            return True
        if self._driver.held_here:
            if self._driver.closed:
                self._driver.check_open()
            # Leader or not: a thread that submits is inside the driver without leading.
            raise RuntimeError(
                "a pool cannot be waited for inside the pickling of its own tasks, nor in a "
                "signal handler or a finalizer (`__del__`, run by the garbage collector) that "
                "interrupted the pool; submit there, and wait elsewhere"
            )
        deadline = None if timeout is None else monotonic() + max(0.0, timeout)
        if self._leader == _get_ident():
            # Inside a callback or a signal handler. The leader's own wait has let interrupts
            # through for it; not for us.
            return shield.closed(self.drive, ready, deadline, eager)
        # An interrupt between taking the lead and the `try` after it would leave the lead
        # to nobody, for ever; so it is let through only where this thread sleeps.
        shielded = shield.enter()
        try:
            return self._wait_shielded(ready, deadline, eager)
        finally:
            shield.leave(shielded)

    def _wait_shielded(
        self, ready: Callable[[], bool], deadline: float | None, eager: bool
    ) -> bool:
        self._claims += 1
        try:
            while not ready():
                if self.acquire():
                    try:
                        return self.drive(ready, deadline, eager)
                    finally:
                        self.abdicate()
                if not self._follow(ready, deadline):
                    return ready()
        finally:
            self._claims -= 1
            self._leave()
        return True

    def _leave(self) -> None:
        """Call the stand-in if the last one who could have led goes without having led."""
        stand_in = self._stand_in
        if stand_in is not None and stand_in.parked and self.forsaken():
            stand_in.ring()

    def drive(
        self, ready: Callable[[], bool], deadline: float | None = None, eager: bool = False
    ) -> bool:
        """Drive until ``ready()`` or the deadline; for the thread that has the lead."""
        driver = self._driver
        while not ready():
            if driver.closed:
                driver.check_open()
            if deadline is None:
                driver.step(None, eager)
            else:
                left = deadline - monotonic()
                if left <= 0:
                    return False
                driver.step(min(left, LONGEST), eager)
            if self._followers:
                self.notify()
        return True

    def _follow(self, ready: Callable[[], bool], deadline: float | None) -> bool:
        """Sleep until notified; False when the deadline has passed."""
        follower = _Follower(ready)
        self._followers.append(follower)
        try:
            # The leader frees the lead before it looks at the followers. So either we
            # see it free here, or it sees us.
            if ready() or not self._lead.locked():
                return True
            if self._leader_is_stand_in():
                self._driver.wake()
            if deadline is None:
                shield.opened(follower.lock.acquire)
                return True
            left = deadline - monotonic()
            return left > 0 and shield.opened(follower.lock.acquire, True, left)
        finally:
            self._followers.remove(follower)

    def notify(self) -> None:
        """Wake the followers whose results are there."""
        for follower in list(self._followers):
            if follower.ready():
                follower.release()

    # ------------------------------------------------------------------ the lead itself

    def acquire(self) -> bool:
        """Take the lead if it is free; the taker must `abdicate`."""
        if not self._lead.acquire(False):
            return False
        self._leader = _get_ident()
        return True

    def abdicate(self) -> None:
        """Give up the lead, and see to it that somebody takes it if need be."""
        self._leader = 0
        self._lead.release()
        followers = self._followers
        if followers:
            for follower in list(followers):
                follower.release()
        elif (stand_in := self._stand_in) is not None and stand_in.parked:
            # Else it looks by itself.
            if self._driver.outstanding:
                stand_in.ring()

    def exclusively(self, action: Callable[[], None]) -> None:
        """Run `action` while nobody drives: it takes away what a leader sleeps on."""
        if self.taken_here:
            action()
            return
        shielded = shield.enter()
        self._claims += 1
        try:
            while not self.acquire():
                self._driver.wake()
                self._follow(lambda: False, monotonic() + GRACE)
            try:
                action()
            finally:
                self.abdicate()
        finally:
            self._claims -= 1
            shield.leave(shielded)

    # ------------------------------------------------------------------ the stand-in

    def _leader_is_stand_in(self) -> bool:
        return self._stand_in is not None and self._leader == self._stand_in.ident

    def ensure_stand_in(self, me: weakref.ref[Lead]) -> None:
        """See to it that somebody drives although nobody waits."""
        stand_in = self._stand_in
        if stand_in is None:
            stand_in = self._hire(me)
        if stand_in is not None and not self._lead.locked():
            stand_in.ring()

    def _hire(self, me: weakref.ref[Lead]) -> StandIn | None:
        """Start the thread, once; None if another thread, or a frame below, does so now."""
        shielded = shield.enter()
        try:
            if self._hiring.acquire(False):
                try:
                    if self._stand_in is None and not self._driver.closed:
                        self._stand_in = StandIn(me)
                finally:
                    self._hiring.release()
            if self._stand_in is not None and self._driver.closed:
                self._stand_in.retire(waits=False)  # meanwhile, when there was none to be retired
            return self._stand_in
        finally:
            shield.leave(shielded)

    def forsaken(self) -> bool:
        """Return whether work is outstanding that nobody drives or is about to."""
        driver = self._driver
        return (
            driver.outstanding
            and not self._claims
            and not self._lead.locked()
            and not (driver.crashed or driver.closed)
        )

    @property
    def looked_after(self) -> bool:
        """Whether the stand-in may leave the lead alone for a while, see `pool._local._tending`."""
        return False

    def stand_in(self) -> None:
        """Lead, as the stand-in, until nothing is left or somebody comes to wait."""
        driver = self._driver
        if self._claims or driver.closed or not self.acquire():
            return  # who leads now rings when leaving
        try:
            while driver.outstanding and not self._claims and not (driver.crashed or driver.closed):
                driver.step(None)
                if self._followers:
                    self.notify()
        finally:
            self.abdicate()

    def call_back(self) -> None:
        """Tell who waits for nothing but a callback that the engine was given up."""
        try:
            self._driver.call_back()
        except BaseException as error:
            report(error, "raised by a callback of a pool that was given up")

    def retire_stand_in(self, waits: bool = True) -> None:
        """End the stand-in thread; there is nothing to drive any more.

        Parameters
        ----------
        waits : bool
            Until it has ended, unless this is it.
        """
        self._hiring.acquire(False)  # for good: no other one is started
        if self._stand_in is not None:
            self._stand_in.retire(waits)


class StandIn:
    """The background thread of one engine; holds it only while it has work."""

    def __init__(self, lead: weakref.ref[Lead]) -> None:
        import threading

        self._lead = lead
        self._bell = _allocate_lock()
        self._bell.acquire()
        self._end = threading.Event()
        #: Whether it sleeps until somebody rings.
        self.parked = False
        self.ident = 0
        self._thread = threading.Thread(target=self._run, name="actorpool", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        """Ask it to look whether it is needed; cheap if it is awake."""
        if self.parked:
            self.parked = False
            self._release()

    def retire(self, waits: bool = True) -> None:
        """End the thread, and wait for that unless this is it."""
        self._end.set()
        self._release()
        if waits and self.ident != _get_ident():
            self._thread.join()

    def _release(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # another thread was quicker

    def _run(self) -> None:
        self.ident = _get_ident()
        while not self._end.wait(GRACE):
            lead = self._lead()
            if lead is None:
                return
            if lead.looked_after:
                if not lead.outstanding:
                    del lead
                continue
            try:
                lead.stand_in()
            except BaseException as error:
                # The engine has been given up; its jobs carry the reason.
                report(error, "ended the background thread of a pool")
                lead.call_back()
            self.parked = True
            # Whoever found it awake until now did not ring.
            if not lead.forsaken():
                del lead
                self._bell.acquire()
            self.parked = False
