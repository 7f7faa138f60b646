"""Conditions on which a thread that waits for several objects goes on.

The functions returned here are called by several threads, also after they have returned True; then
they must go on to do so.
"""

from __future__ import annotations

from collections import deque

from pool._objects._refs import FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pool._objects._home import Home
    from pool._objects._refs import ObjectRef


def all_or_failed(home: Home, refs: Sequence[ObjectRef]) -> Callable[[], bool]:
    """Return a function that says whether all objects are there, or one has failed."""
    left = deque(refs)
    # Objects are examined for errors only when some object of the home has failed since.
    seen, failed = 0, False

    def is_over() -> bool:
        nonlocal seen, failed
        failures = home.failures
        if failures != seen:
            failed = failed or any(ref._state == FAILED for ref in refs)
            seen = failures
        if failed:
            return True
        try:
            while left[0]._state:
                left.popleft()
        except IndexError:  # empty; another thread may have taken the last one
            return True
        return False

    return is_over


def enough(home: Home, refs: Sequence[ObjectRef], number: int) -> Callable[[], bool]:
    """Return a function that says whether `number` of the objects are there."""
    seen = -1
    found = 0

    def is_over() -> bool:
        nonlocal seen, found
        if found < number and home.seals != seen:
            seen = home.seals
            found = max(sum(1 for ref in refs if ref._state), found)
        return found >= number

    return is_over
