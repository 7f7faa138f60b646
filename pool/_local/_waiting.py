"""Which thread drives the engine: one that waits for a result, or a stand-in if none does.

One thread at a time sleeps in `Driver.step`: the *leader*. A thread that waits for a result takes
the lead if it is free; a round trip then needs no hand-over between threads, which would triple its
time. Other waiting threads are *followers*: each sleeps on a lock of its own until its result is
there or the lead is free.

While work is outstanding that no thread waits for, the stand-in leads: a background thread that is
started with the first such job, sleeps while there is nothing to do, and makes way at once for a
thread that comes to wait.
"""

from __future__ import annotations

import _thread
import sys
from _weakref import ref

from pool._clock import monotonic
from pool._local._timers import LONGEST
from pool._unraisable import report
from store._children import notice_fork
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from threading import Thread
    from typing import Protocol

    class Steppable(Protocol):
        """What is driven: `pool._local._driver.Driver`."""

        crashed: bool
        closed: bool

        @property
        def calling(self) -> Collection[object]: ...
        @property
        def outstanding(self) -> bool: ...
        @property
        def held_here(self) -> bool: ...
        def check_open(self) -> None: ...
        def step(self, patience: float | None, eager: bool = False) -> None: ...
        def wake(self) -> None: ...
        def call_back(self) -> None: ...


#: Seconds for which the stand-in leaves the lead free after a thread has submitted: mostly that
#: thread submits more, or comes to wait, and would have to get the lead from the stand-in, which
#: costs two thread switches. As long as the interpreter's own switch interval.
GRACE = 5e-3

#: Callbacks that run one within the other, as those do that wait: about so many. After that others
#: only run when nothing else is left that could be waited for.
DEEPEST = 8

_get_ident = _thread.get_ident
_allocate_lock = _thread.allocate_lock


class _Follower:
    """A thread that waits while another one leads; it sleeps on `lock`."""

    __slots__ = ("lock", "ready")

    def __init__(self, ready: Callable[[], bool]) -> None:
        self.ready = ready
        self.lock = _allocate_lock()
        self.lock.acquire()

    def wake(self) -> None:
        """Let the thread go on, to look whether it is ready or may lead."""
        try:
            self.lock.release()
        except RuntimeError:
            return  # it was woken a moment ago and has not run yet


class Lead:
    """The right to drive one engine: to sleep on its sockets and take in what arrives.

    Parameters
    ----------
    driver : Driver
    """

    def __init__(self, driver: Steppable) -> None:
        self._driver = driver
        #: Reentrant for its owner alone, which is set and asked for in one step: a signal handler
        #: that strikes between two instructions of `acquire` or `abdicate` knows whose it is.
        self._lead = _thread.RLock()
        self._owned: Callable[[], bool] = self._lead._is_owned  # type: ignore[attr-defined]  # as `Condition` uses it
        #: The thread that has the lead, or 0: as others see it, who may be a moment behind.
        self._leader = 0
        self._followers: list[_Follower] = []
        #: An item for each thread that waits, or wants the lead. While there are any the stand-in
        #: does not take it, and gives it up. Each thread calls `_leave` afterwards, or `abdicate`
        #: as the leader. A list, for which counting up is one step without the GIL as well.
        self._claims: list[None] = []
        self._stand_in: StandIn | None = None
        #: Held while the stand-in is started, and for good once it is retired.
        self._hiring = _allocate_lock()

    @property
    def taken(self) -> bool:
        """Whether some thread drives; one that is just about to, or done, may be missed."""
        return self._leader != 0

    @property
    def taken_here(self) -> bool:
        """Whether this thread drives, further up its stack."""
        if not self._owned():
            return False
        # Or another greenlet of this thread, where gevent has replaced `get_ident`.
        return self._leader in (0, _get_ident())

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
            ``ready()`` says whether the wait is over. Cheap; called by any thread.
        timeout : float, optional
            Seconds; None: no limit.
        eager : bool
            This thread waits for a single answer, which may come at once.

        Returns
        -------
        bool
            What ``ready()`` returned last: False after a timeout.

        Raises
        ------
        RuntimeError
            If this thread is inside the driver further up its stack, and so can never be ready.
        PoolTerminated
            If the driver was released before ``ready()``.
        """
        if ready():
            return True
        notice_fork()
        if self._driver.held_here:
            if self._driver.closed:
                self._driver.check_open()
            # Also for a thread that does not lead: submitting takes the driver's lock as well.
            raise RuntimeError(
                "a pool cannot be waited for inside the pickling of its own tasks, nor in a "
                "signal handler or a finalizer (`__del__`, run by the garbage collector) that "
                "interrupted the pool; submit there, and wait elsewhere"
            )
        try:
            deadline = None if timeout is None else monotonic() + max(0.0, timeout)
        except TypeError:
            raise TypeError(
                f"timeout must be a number of seconds or None, not {timeout!r}"
            ) from None
        if self.taken_here:
            # The leader is in a callback or a signal handler, for which its own wait has opened the
            # shield. The driving that starts here needs it closed again.
            try:
                return shield.closed(self.drive, ready, deadline, eager)
            finally:
                # What this took in may be all that the interrupted wait was about to sleep for, or
                # sleeps for: Python resumes a system call after a handler.
                self._driver.wake()
        # An interrupt between taking the lead and the `try` after it would leave the lead taken
        # for ever. So interrupts are let through only where this thread sleeps.
        shielded = shield.enter()
        try:
            return self._wait_shielded(ready, deadline, eager)
        finally:
            shield.leave(shielded)

    def _wait_shielded(
        self, ready: Callable[[], bool], deadline: float | None, eager: bool
    ) -> bool:
        self._claims.append(None)
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
            self._claims.pop()
            self._leave()
        return True

    def _leave(self) -> None:
        """Ring for the stand-in if this was the last claim and work is left that nobody drives."""
        stand_in = self._stand_in
        if stand_in is not None and stand_in.parked and self.forsaken():
            stand_in.ring()

    def drive(self, ready: Callable[[], bool], deadline: float | None, eager: bool) -> bool:
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
        """Sleep until woken by the leader; return False when the deadline has passed."""
        follower = _Follower(ready)
        self._followers.append(follower)
        try:
            # A leader frees the lead before it looks at the followers. So either this thread sees
            # the lead free here, or that leader sees this thread among them.
            if ready() or not self.taken:
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
                follower.wake()

    # ------------------------------------------------------------------ the lead itself

    def acquire(self) -> bool:
        """Take the lead if it is free; the taker must `abdicate`."""
        if self._owned() or not self._lead.acquire(False):
            return False
        self._leader = _get_ident()
        return True

    def abdicate(self) -> None:
        """Give up the lead, and see to it that another thread takes it if work is outstanding."""
        self._leader = 0
        self._lead.release()
        followers = self._followers
        if followers:
            for follower in list(followers):
                follower.wake()
        elif (stand_in := self._stand_in) is not None and stand_in.parked:
            # A stand-in that is not parked looks by itself before it parks.
            if self._driver.outstanding:
                stand_in.ring()

    def exclusively(self, action: Callable[[], None]) -> None:
        """Run `action` while no thread drives: it closes what a leader sleeps on."""
        if self.taken_here:
            action()
            return
        shielded = shield.enter()
        self._claims.append(None)
        try:
            while not self.acquire():
                self._driver.wake()
                self._follow(lambda: False, monotonic() + GRACE)
            try:
                action()
            finally:
                self.abdicate()
        finally:
            self._claims.pop()
            shield.leave(shielded)

    # ------------------------------------------------------------------ the stand-in

    def _leader_is_stand_in(self) -> bool:
        return self._stand_in is not None and self._leader == self._stand_in.ident

    def ensure_stand_in(self) -> None:
        """See to it that the engine is driven although no thread waits."""
        stand_in = self._stand_in
        if stand_in is None:
            stand_in = self._hire()
        if stand_in is not None and not self.taken:
            stand_in.ring()

    def _hire(self) -> StandIn | None:
        """Start the stand-in, once; return it, or None if there is none for now.

        Another call may be just starting it, perhaps one that this call has interrupted, as a
        signal handler or a finalizer.
        """
        shielded = shield.enter()
        try:
            if self._hiring.acquire(False):
                try:
                    if self._stand_in is None and not self._driver.closed:
                        self._stand_in = _started(ref(self))
                finally:
                    self._hiring.release()
            if self._stand_in is not None and self._driver.closed:
                self._stand_in.retire(waits=False)  # meanwhile, when there was none to be retired
            return self._stand_in
        finally:
            shield.leave(shielded)

    def forsaken(self) -> bool:
        """Return whether work is outstanding, and no thread drives or is about to."""
        driver = self._driver
        # Of an engine that was given up nothing is left but callbacks.
        left = driver.calling if driver.crashed else driver.outstanding
        return bool(left) and not (self._claims or self.taken or driver.closed)

    @property
    def looked_after(self) -> bool:
        """Whether the stand-in can leave the lead free for now, see `pool._local._tending`."""
        return False

    def stand_in(self) -> None:
        """Lead, as the stand-in, until nothing is outstanding or another thread comes to wait."""
        driver = self._driver
        if self._claims or driver.closed or not self.acquire():
            return  # the thread that leads now, or is about to, rings when it leaves
        try:
            while driver.outstanding and not self._claims and not (driver.crashed or driver.closed):
                driver.step(None)
                if self._followers:
                    self.notify()
        finally:
            self.abdicate()

    def call_back(self) -> None:
        """Run the callbacks that are due if the engine was given up; never raises."""
        if not self._driver.crashed:
            return
        try:
            self._driver.call_back()
        except BaseException as error:
            report(error, "raised by a callback of a pool that was given up")

    def end(self, release: Callable[[], None], waits: bool = True) -> None:
        """Run `release`, which closes the driver, and end the stand-in thread.

        An interrupt that comes meanwhile must not leave that thread, for which nobody would ring.
        """
        shielded = shield.enter()
        try:
            release()
        except BaseException:
            if self._driver.closed:
                self.retire_stand_in(waits=False)
            raise
        else:
            self.retire_stand_in(waits)
        finally:
            shield.leave(shielded)

    def retire_stand_in(self, waits: bool = True) -> None:
        """End the stand-in thread, and let no other be started: nothing is driven any more.

        Parameters
        ----------
        waits : bool
            Wait until it has ended, unless this call comes from it.
        """
        self._hiring.acquire(False)  # never released
        if self._stand_in is not None:
            self._stand_in.retire(waits)


def _started(lead: ref[Lead]) -> StandIn | None:
    """Start a stand-in; return None where there can be none, and whoever waits drives."""
    try:
        return StandIn(lead)
    except RuntimeError as error:
        raise_unless_exiting(error)
        return None


def start_thread(run: Callable[[], None], name: str) -> Thread:
    """Start a daemon thread.

    Raises
    ------
    RuntimeError
        If there can be none, see `raise_unless_exiting`.
    """
    import threading

    if sys.is_finalizing():
        # Before 3.12 a finalizer would wait here for ever: the thread is made, and never runs.
        raise RuntimeError("can't start new thread at interpreter shutdown")
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def raise_unless_exiting(error: RuntimeError) -> None:
    """Raise the error of a thread that was not started, unless the program is ending.

    Python 3.12 starts none in `atexit` functions, and later ones.
    """
    if "shutdown" not in str(error):
        raise error


class StandIn:
    """The background thread of one engine, to which it keeps a reference only while it works.

    Parameters
    ----------
    lead : weakref to Lead
    """

    def __init__(self, lead: ref[Lead]) -> None:
        import threading

        self._lead = lead
        self._bell = _allocate_lock()
        self._bell.acquire()
        self._end = threading.Event()
        #: Whether the thread sleeps, or is about to, until another one rings.
        self.parked = False
        #: The thread's identifier, 0 until it runs.
        self.ident = 0
        self._thread = start_thread(self._run, "actorpool")

    def ring(self) -> None:
        """Have the thread look whether it is needed; cheap if it is awake."""
        if self.parked:
            self.parked = False
            self._release()

    def retire(self, waits: bool = True) -> None:
        """End the thread, and wait until it has ended unless this call comes from it.

        A finalizer does not wait: the thread may be in a callback, which may take long, and there
        Ctrl-C would not end the wait.
        """
        self._end.set()
        self._release()
        if waits and self.ident != _get_ident() and not shield.finalizes:
            shield.opened(self._thread.join)

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
            # Looked at again after `parked` was set: threads that came before found this one awake
            # and did not ring.
            if not lead.forsaken():
                del lead
                self._bell.acquire()
            self.parked = False
