"""How events come in: from any thread, without waiting.

A thread appends its event to a deque and then tries to take the lock. If another thread holds it,
that thread empties the deque. So no thread waits for the lock in order to submit, and a signal
handler or a finalizer that interrupts the holder of the lock cannot deadlock.
"""

from __future__ import annotations

import _thread
from collections import deque

from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._local import _events as ev
    from pool._local._protocols import CallsBack, Flushable

_get_ident = _thread.get_ident


class Door:
    """The lock of a driver, and what waits to be handled under it.

    Attributes
    ----------
    inbox : deque of Event
        Events that the scheduler has not been told of.
    dirty : deque of Flushable
        What has collected news for the scheduler, such as streams with new calls.
    calling : list of CallsBack
        Results whose callbacks are due.
    sleeping : float
        When the leader will wake up by itself, on the monotonic clock; 0.0 while it is awake.
    closed : bool
        Whether the descriptors are closed, or about to be: no event is handled any more.
    """

    def __init__(self) -> None:
        self.inbox: deque[ev.Event] = deque()
        self.dirty: deque[Flushable] = deque()
        self.calling: list[CallsBack] = []
        self.sleeping = 0.0
        self.closed = False
        #: A job has ended since the leader last looked, perhaps the one that it waits for.
        self.ended_some = False
        #: Closed in this process (not by a fork): what is still handed in fails at once.
        self._released = False
        #: Never taken twice by one thread; an RLock because it knows from the very moment on that
        #: it is taken which thread holds it, which a signal handler or a finalizer asks.
        self._lock = _thread.RLock()
        self._owned: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # as `Condition` uses it
        #: The thread that called `Driver.quit` as the interpreter goes down; 0 before that.
        self._quitter = 0

    # ------------------------------------------------------------------ of the driver

    def wake(self) -> None:
        """Make the leader return from its sleep and look at what has changed."""
        raise NotImplementedError

    def check_open(self) -> None:
        """Raise if no outcome will come any more."""
        raise NotImplementedError

    def _drain(self) -> None:
        """Handle everything in `inbox` and `dirty`."""
        raise NotImplementedError

    def _deadline(self) -> float | None:
        """Return when something is next due by the monotonic clock; None if nothing is."""
        raise NotImplementedError

    def _crash(self, error: BaseException) -> None:
        """Fail all jobs after an error that may have left the records half written."""
        raise NotImplementedError

    def _refuse_rest(self) -> None:
        """Fail what was handed in too late: after everything was closed."""
        raise NotImplementedError

    # ------------------------------------------------------------------ who is inside

    @property
    def held_here(self) -> bool:
        """Whether this very thread holds the lock, further up its stack; or keeps it for good."""
        return self._owned() or self._quitter == _get_ident()

    @property
    def ended(self) -> bool:
        """Whether the interpreter goes down, and nothing is done any more."""
        return bool(self._quitter)

    # ------------------------------------------------------------------ events in

    def post(self, event: ev.Event) -> None:
        """Hand in an event from any thread; never waits."""
        # Not into `inbox`: what this thread has put into `dirty` before is to come before it.
        self.dirty.append(_Posted(self.inbox, event))
        self.pump()

    # `pump`, `locked` and `deal` repeat the same frame: take the lock, handle, and crash on an
    # error. It is written out in each, since they are part of every round trip.

    def pump(self) -> None:
        """Handle what has been handed in, unless another thread holds the lock and will do so."""
        # Look again after each release: an event that came while the lock was still held, but after
        # its holder had emptied the deque, would otherwise lie there until the next event.
        while (self.inbox or self.dirty) and not self.closed:
            shielded = shield.enter()
            try:
                if self._owned() or not self._lock.acquire(False):
                    break
                try:
                    self._drain()
                    if self.sleeping:
                        self._hurry()
                except BaseException as error:
                    if not self._was_closed(error):
                        self._crash(error)
                        raise
                finally:
                    self._lock.release()
            finally:
                shield.leave(shielded)
        else:
            if self.calling or self.ended_some:
                self.ended_some = False
                self.wake()  # the leader runs callbacks, or waits for that job, and may be asleep
        if self.closed and self._released:
            self._refuse_rest()  # everything was closed meanwhile

    def locked(self, action: Callable[[], Any]) -> Any:
        """Run `action` while no event is being handled, and handle what it hands in."""
        if self._quitter:
            self.check_open()
        cut_short: BaseException | None = None
        shielded = shield.enter()
        try:
            with self._lock:
                done = False
                try:
                    result = action()
                    done = True
                    self._drain()
                    if self.sleeping:
                        self._hurry()
                except BaseException as error:
                    if not self._was_closed(error):
                        self._crash(error)
                        raise
                    cut_short = None if done else error
        finally:
            shield.leave(shielded)
        if self.inbox or self.dirty or self.closed:
            self.pump()  # handed in between the draining and the release of the lock
        elif self.calling or self.ended_some:
            self.ended_some = False
            self.wake()
        if cut_short is not None:
            self.check_open()
            raise cut_short
        return result

    def _was_closed(self, error: BaseException) -> bool:
        """Return whether `error` comes of what a signal handler or a finalizer has closed.

        It has ended the pool in the midst of this thread's lines here.
        """
        return self.closed and isinstance(error, OSError | ValueError | LookupError)

    def _hurry(self) -> None:
        """Wake the leader if something is due before it would wake up by itself."""
        deadline = self._deadline()
        if deadline is not None and deadline < self.sleeping:
            self.wake()


class _Posted:
    """An event that waits in `Door.dirty` for its turn among what else was handed in."""

    __slots__ = ("_event", "_inbox")

    def __init__(self, inbox: deque[ev.Event], event: ev.Event) -> None:
        self._inbox = inbox
        self._event = event

    def flush(self) -> None:
        """Hand the event on; under the driver's lock."""
        self._inbox.append(self._event)

    def abort(self, error: BaseException) -> tuple[()]:
        """Do nothing: jobs are given up by their records."""
        return ()
