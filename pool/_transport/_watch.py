"""Stay awake for a moment if an answer is likely to come at once.

To fall asleep and be woken costs 10 to 50 us on each side of a connection, most in a virtual
machine: more than a small call takes. So a thread whose last wait was short looks again and again
before it sleeps. That has two bounds: `AWAKE`, and the last wait, so that a thread that waits for
something slow, or for nothing, does so asleep. With one CPU only it is not done, for it would keep
the other side from running. Nor is it done where other programs want the CPUs: they have it for
milliseconds when it is offered to them, while a thread that sleeps is woken when its answer is
there. ``POOL_AWAKE=0`` in the environment turns it off.
"""

from __future__ import annotations

import os

from pool._clock import perf_counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Seconds to stay awake, at most.
AWAKE = 100e-6
#: A wait that took no more seconds was short: two wake-ups and a small call.
SHORT = 300e-6

#: Who offers the CPU, and has it back only after so many seconds, is among others that want it. A
#: worker of the same pool that has it has less to do before it answers.
LOST = 2e-3

#: Seconds to wait asleep after that: the first time, and at most. Each time that follows soon
#: doubles them; a single one is mostly the machine's own doing.
CROWDED = 4e-3
CROWDED_MOST = 1.0

_yield = os.sched_yield
#: Whether this process may stay awake; None: not known yet.
_allowed: bool | None = None


class Watch:
    """Wait for one thing after another, at first awake, then asleep.

    Parameters
    ----------
    look : callable
        ``look()`` returns what has come, or something false; never waits.
    sleep : callable
        ``sleep(*patience)`` waits until something has come, and returns it.
    """

    __slots__ = ("_crowded", "_crowded_until", "_look", "_short", "_sleep")

    def __init__(self, look: Callable[[], Any], sleep: Callable[..., Any]) -> None:
        self._look = look
        self._sleep = sleep
        #: Whether the last wait was short.
        self._short = False
        #: For how long, and until when, it is taken that others want the CPU.
        self._crowded = self._crowded_until = 0.0

    def wait(self, *patience: Any) -> Any:
        """Wait until something has come, and return it.

        Parameters
        ----------
        *patience
            Handed on to `sleep`.
        """
        began = perf_counter()
        if (
            self._short
            and began > self._crowded_until
            and (allowed() if _allowed is None else _allowed)
        ):
            look = self._look
            now, until = began, began + AWAKE
            while True:
                found = look()
                if found:
                    return found
                if now > until:
                    break
                before = now
                _yield()  # lets another thread or process that wants this CPU have it
                now = perf_counter()
                if now - before > LOST:
                    self._note_crowd(before, now)
        found = self._sleep(*patience)
        self._short = bool(found) and perf_counter() - began < SHORT
        return found

    def _note_crowd(self, since: float, now: float) -> None:
        """Note that others have had the CPU for long, since it was offered to them."""
        again = since < self._crowded_until + self._crowded
        self._crowded = min(2 * self._crowded, CROWDED_MOST) if again else CROWDED
        self._crowded_until = now + self._crowded


def allowed() -> bool:
    """Return whether this process may stay awake: if it has more than one CPU."""
    if _allowed is None:
        from pool._cpus import usable_cpus

        allow(usable_cpus() > 1 and os.environ.get("POOL_AWAKE") != "0")
    return bool(_allowed)


def allow(value: bool) -> None:
    """Set what `allowed` returns; workers are told, since to find out takes them too long."""
    global _allowed
    _allowed = value
