"""Conditions on which a thread that waits for several objects goes on.

The functions returned here are called by several threads at the same time, also after they have
returned True; then they must go on to do so. A thread may be held up between any two steps: so what
one notes never hides what another has seen meanwhile.
"""

from __future__ import annotations

from pool._objects._refs import FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pool._objects._home import Home
    from pool._objects._refs import ObjectRef


def all_or_failed(home: Home, refs: Sequence[ObjectRef]) -> Callable[[], bool]:
    """Return a function that says whether all objects are there, or one has failed."""
    wanted = tuple(refs)  # the list is the program's, which may change it meanwhile
    # As many are there from the first one on, at least.
    there = 0
    # Objects are examined for errors only when some object of the home has failed since.
    seen, failed = 0, False

    def is_over() -> bool:
        nonlocal there, seen, failed
        failures = home.failures
        if failures != seen:
            if any(ref._state == FAILED for ref in wanted):
                failed = True
            seen = failures
        if failed:
            return True
        index = there
        while index < len(wanted) and wanted[index]._state:
            index += 1
        there = index
        return index == len(wanted)

    return is_over


def enough(home: Home, refs: Sequence[ObjectRef], number: int) -> Callable[[], bool]:
    """Return a function that says whether `number` of the objects are there."""
    # Objects are counted only when some object of the home has got its value since.
    seen, over = -1, False

    def is_over() -> bool:
        nonlocal seen, over
        seals = home.seals
        if not over and seals != seen:
            if sum(1 for ref in refs if ref._state) >= number:
                over = True
            seen = seals
        return over

    return is_over
