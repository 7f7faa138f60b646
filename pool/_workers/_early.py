"""Start the first forkserver before this process imports the engine.

Each of the two takes some ten milliseconds, and nearly every machine has two CPUs to do both at the
same time. So this module, and those that it imports, import nothing that the start does not need.
"""

from __future__ import annotations

import sys

from pool._workers import _carried, _servers
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: Modules that take long to import and can be forked. The forkserver imports those of them that
#: the user's process has imported.
HEAVY = ("numpy", "pandas")

#: So many modules take long to import, whatever they are.
MANY_MODULES = 600

#: Modules that a worker needs to receive or send an array. A program with numpy will do so, and
#: importing them then took each worker 3 ms.
FOR_ARRAYS = ("store._arena", "store._depot", "store._links")


def has_heavy() -> bool:
    """Return whether a forkserver and workers would take long to import what this process has."""
    return len(sys.modules) >= MANY_MODULES or any(name in sys.modules for name in HEAVY)


def start_forkserver(limits: dict[str, str], preload: Sequence[str], ahead: bool = False) -> None:
    """Start a forkserver if there is none, or none like it, without waiting until it is ready.

    Parameters
    ----------
    limits, preload
        As for `pool._workers._launcher.connect`.
    ahead : bool
        For pools to come, not for this one.
    """
    if not (ahead or _servers.is_first()):
        return
    modules = wanted(preload, _carried.changes())
    # A signal handler that makes a pool, too, would wait for the lock that its own thread has; one
    # that raises would leave a forkserver that nobody knows.
    shielded = shield.enter()
    try:
        _servers.prepare(modules, limits, ahead)
    finally:
        shield.leave(shielded)


def wanted(preload: Sequence[str], carried: dict[str, Any]) -> frozenset[str]:
    """Return the modules that are to be loaded before workers are forked."""
    heavy = [name for name in HEAVY if name in sys.modules]
    for_arrays = FOR_ARRAYS if "numpy" in heavy else ()
    return _carried.modules(carried).union(preload, heavy, for_arrays)
