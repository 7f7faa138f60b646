"""How events come in: from any thread, without waiting.

A thread appends its event to a deque and then tries the lock; whoever holds the lock empties the
deque. So nobody waits for the lock in order to submit, and a signal handler or a finalizer that
interrupts the holder cannot deadlock.
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
    dirty : deque of Flushable
        Streams with calls that the scheduler does not know of.
    calling : list of CallsBack
        Whose callbacks are due.
    sleeping : float
        Until when the leader sleeps; 0.0 if it does not.
    closed : bool
        Nothing is handled any more.
    """

    def __init__(self) -> None:
        self.inbox: deque[ev.Event] = deque()
        self.dirty: deque[Flushable] = deque()
        self.calling: list[CallsBack] = []
        self.sleeping = 0.0
        self.closed = False
        #: A job has ended since the leader last looked, perhaps the one that it waits for.
        self.ended_some = False
        #: Nothing that is handed in can be done any more, and whoever does it is to know.
        self._released = False
        #: Never taken twice by one thread; it is one of these because it knows who has it, from the
        #: very moment on, which a signal handler or a finalizer asks.
        self._lock = _thread.RLock()
        self._owned: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]
        #: The thread that ends the interpreter.
        self._last = 0

    # ------------------------------------------------------------------ of the driver

    def wake(self) -> None:
        """Make the leader look around."""
        raise NotImplementedError

    def check_open(self) -> None:
        """Refuse to go on where nothing will come any more."""
        raise NotImplementedError

    def _drain(self) -> None:
        """Handle what is in the inbox."""
        raise NotImplementedError

    def _deadline(self) -> float | None:
        """Return when something is due by the clock."""
        raise NotImplementedError

    def _crash(self, error: BaseException) -> None:
        """Give up in good order."""
        raise NotImplementedError

    def _refuse_rest(self) -> None:
        """Fail what was handed in when everything was closed."""
        raise NotImplementedError

    # ------------------------------------------------------------------ who is inside

    @property
    def held_here(self) -> bool:
        """Whether this very thread is inside the driver, further up its stack; or for good."""
        return self._owned() or self._last == _get_ident()

    @property
    def ended(self) -> bool:
        """Whether the interpreter goes down, and nothing is done any more."""
        return bool(self._last)

    # ------------------------------------------------------------------ events in

    def post(self, event: ev.Event) -> None:
        """Hand in an event from any thread; never waits."""
        self.inbox.append(event)
        self.pump()

    # `pump`, `locked` and `deal` handle events in the same frame: the lock, and what is done about
    # an error. Written out, since each of them is on the way of every round trip.

    def pump(self) -> None:
        """Handle what has been handed in, unless another thread is about to."""
        # Look again after each release: an event that came while the lock was held by
        # somebody who had just emptied the deque would wait for the next one.
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
                    self._crash(error)
                    raise
                finally:
                    self._lock.release()
            finally:
                shield.leave(shielded)
        else:
            if self.calling or self.ended_some:
                self.ended_some = False
                self.wake()  # whoever drives calls back, or waits for that job, and may be asleep
        if self.closed and self._released:
            self._refuse_rest()  # everything was let go of meanwhile

    def locked(self, action: Callable[[], Any]) -> Any:
        """Run `action` while no event is being handled, and handle what it hands in."""
        if self._last:
            self.check_open()
        shielded = shield.enter()
        try:
            with self._lock:
                try:
                    result = action()
                    self._drain()
                    if self.sleeping:
                        self._hurry()
                except BaseException as error:
                    self._crash(error)
                    raise
        finally:
            shield.leave(shielded)
        if self.inbox or self.dirty or self.closed:
            self.pump()  # handed in between the draining and the release of the lock
        elif self.calling or self.ended_some:
            self.ended_some = False
            self.wake()
        return result

    def _hurry(self) -> None:
        """Wake the leader if something is due before it would wake by itself."""
        deadline = self._deadline()
        if deadline is not None and deadline < self.sleeping:
            self.wake()
