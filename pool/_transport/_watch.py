"""Stay awake for a moment, when what is waited for is likely to come at once.

To fall asleep and be woken costs 10 to 50 us on each side of a connection, most in a virtual
machine: more than a small call takes. So who had to wait for a moment only, the last time, looks
again and again before it sleeps. That is bounded twice: by `AWAKE`, and by the last time, so
whoever waits for something slow, or for nothing, does so asleep. And where there is one CPU only,
being awake would keep the other side from getting on. ``POOL_AWAKE=0`` in the environment turns
it off.
"""

from __future__ import annotations

import os
from time import perf_counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Seconds to stay awake, at most.
AWAKE = 100e-6
#: A wait was short if it took no longer, in seconds: two wake-ups and a small call.
SHORT = 300e-6

_yield = os.sched_yield
#: None: not known yet.
_allowed: bool | None = None


class Watch:
    """Wait for something, again and again.

    Parameters
    ----------
    look : callable
        Returns what there is; something false if there is nothing.
    sleep : callable
        Returns what there is as soon as there is something.
    """

    __slots__ = ("_look", "_short", "_sleep")

    def __init__(self, look: Callable[[], Any], sleep: Callable[..., Any]) -> None:
        self._look = look
        self._sleep = sleep
        #: Whether the last wait was short.
        self._short = False

    def wait(self, *patience: Any) -> Any:
        """Return what there is as soon as there is something.

        Parameters
        ----------
        *patience
            Handed on to `sleep`.
        """
        began = perf_counter()
        if self._short and (allowed() if _allowed is None else _allowed):
            look = self._look
            until = began + AWAKE
            while True:
                found = look()
                if found:
                    return found
                if perf_counter() > until:
                    break
                # Should somebody have work for this CPU.
                _yield()
        found = self._sleep(*patience)
        self._short = bool(found) and perf_counter() - began < SHORT
        return found


def allowed() -> bool:
    """Return whether this process may stay awake: whether it has a CPU to spare for that."""
    if _allowed is None:
        from pool._cpus import usable_cpus

        allow(usable_cpus() > 1 and os.environ.get("POOL_AWAKE") != "0")
    return bool(_allowed)


def allow(value: bool) -> None:
    """Set that, in a worker: to find out takes longer than it saves."""
    global _allowed
    _allowed = value
