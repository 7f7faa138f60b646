"""The first forkserver, started before this process imports what running tasks takes.

Both take some ten milliseconds, and there are two CPUs nearly everywhere. So nothing is imported
here, or by what is imported here, that a start does not need.
"""

from __future__ import annotations

import sys

from pool._workers import _carried, _servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: Modules that take long to import and are safe to have before a fork. The forkserver
#: imports those that the user's process has.
HEAVY = ("numpy", "pandas")

#: What the first array that comes to a worker, or leaves it, needs. With numpy there will be one,
#: and importing these then took each worker 3 ms.
FOR_ARRAYS = ("store._arena", "store._depot", "store._links")


def start_forkserver(limits: dict[str, str], preload: Sequence[str]) -> None:
    """Start a forkserver, without waiting for it, if there is none.

    Parameters
    ----------
    limits, preload
        As for `pool._workers._launcher.connect`.
    """
    if _servers.is_first():
        _servers.prepare(wanted(preload, _carried.changes()), limits)


def wanted(preload: Sequence[str], carried: dict[str, Any]) -> frozenset[str]:
    """Return the modules that are to be loaded before workers are forked."""
    heavy = [name for name in HEAVY if name in sys.modules]
    for_arrays = FOR_ARRAYS if "numpy" in heavy else ()
    return _carried.modules(carried).union(preload, heavy, for_arrays)
