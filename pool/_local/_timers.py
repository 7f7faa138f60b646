"""What is to be done after a while, by whoever drives."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


FOREVER = float("inf")

#: Seconds that a thread sleeps at most before it looks at the clock again: `epoll` takes no timeout
#: of more than 24 days, and programs say `get(9999999)`.
LONGEST = 3600.0


class Timers:
    """Actions and when they are due; used under the driver's lock.

    Attributes
    ----------
    due : float or None
        When the first action is due, on the monotonic clock; None if there is none.
    """

    __slots__ = ("_actions", "due")

    def __init__(self) -> None:
        self.due: float | None = None
        #: In no order: there are few, if any.
        self._actions: list[tuple[float, Callable[[], object]]] = []

    def add(self, when: float, action: Callable[[], object]) -> None:
        """Have `action` run at time `when` of the monotonic clock, or soon after it."""
        self._actions.append((when, action))
        self._update()

    def run(self, now: float) -> None:
        """Run the actions that are due at time `now`."""
        if self.due is None or self.due > now:
            return
        ready = [action for when, action in self._actions if when <= now]
        self._actions = [entry for entry in self._actions if entry[0] > now]
        self._update()
        for action in ready:
            action()

    def _update(self) -> None:
        self.due = min((when for when, _ in self._actions), default=None)
