"""Find out whether the program's own modules have what tasks can share only by inheriting it.

``counter = multiprocessing.Value("i")`` at the top of a module is one counter for the program and
its forked workers. A worker that imports the module would make another one, and count for nobody.
"""

from __future__ import annotations

import sys

from ._snapshot import snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Modules of locks and events, queues, values and arrays, pipes, managers, and blocks of memory.
_MODULES = frozenset(
    f"multiprocessing.{name}"
    for name in (
        *("synchronize", "queues", "sharedctypes"),
        *("connection", "managers", "shared_memory"),
    )
)


def to_be_inherited() -> bool:
    """Return whether a module of the program's, or one of its classes, has such an object."""
    if _MODULES.isdisjoint(sys.modules):
        return False
    return any(_is_shared(value) for names in snapshots.namespaces() for value in names.values())


def _is_shared(value: Any) -> bool:
    try:
        return _is_of_multiprocessing(value)
    except Exception:
        return False  # of a class that may not be asked what it is


def _is_of_multiprocessing(value: Any) -> bool:
    kind: Any = type(value)
    if kind in (list, tuple, dict):
        # Several locks, or both ends of a pipe: all are of a kind.
        value = next(iter(value.values() if kind is dict else value), None)
        kind = type(value)
    if getattr(kind, "__module__", None) in _MODULES:
        return True
    # A `RawValue` or `RawArray`: an ordinary object of ctypes, in memory that is shared.
    return getattr(type(kind), "__module__", None) == "_ctypes" and hasattr(value, "_wrapper")
