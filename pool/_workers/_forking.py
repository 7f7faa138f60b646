"""Forks of this package: which keep the resource tracker, and of which Python does not warn.

And the threads beside which a process may be forked.
"""

from __future__ import annotations

import _warnings
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The filter for what Python says of a fork beside threads: as a warning of this module.
_SILENCE = ("ignore", None, DeprecationWarning, __name__, 0)


def fork() -> int:
    """Fork this process; the child goes on writing to its tracker. Returns as `os.fork`.

    Since 2026 Python closes the descriptor in children that `multiprocessing` has not forked: a
    program need not wait for these before its tracker ends.

    Since 3.12 it also warns of threads, and since 3.15 of those, too, that end themselves before a
    fork (pyarrow's). Mostly the program has not asked for this fork; and were warnings errors, the
    child would be there, and nobody know of it.
    """
    kept = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_fork_intent", None)
    # Nothing else is kept quiet by this, and it is taken out again, in the child too.
    filters = present_filters(sys.modules.get("warnings", _warnings))
    filters.insert(0, _SILENCE)
    if kept is not None:
        kept.preserve_fd = True
    try:
        return os.fork()
    finally:
        if kept is not None:
            kept.preserve_fd = False
        if _SILENCE in filters:  # nobody has made another list of it meanwhile
            filters.remove(_SILENCE)


def present_filters(module: Any) -> list[Any]:
    """Return the list of warnings filters that hold now, in this thread.

    ``python -X context_aware_warnings``, and one without the GIL, keep what `catch_warnings` brings
    in a context of its own.
    """
    of_context = getattr(module, "_get_filters", None)
    found: list[Any] = module.filters if of_context is None else of_context()
    return found


def harmless_threads() -> int:
    """Return how many threads numexpr has, which sees in a fork that they are not there.

    It starts them when it is imported, by pandas for one, and in a fork with the first work.
    """
    numexpr = sys.modules.get("numexpr.interpreter")
    try:
        count = 1 if numexpr is None else int(numexpr._get_num_threads())
    except Exception:
        return 0  # half imported, or another version
    return count if count > 1 else 0
