"""Find out whether functions of the program keep results that tasks are to have.

``@lru_cache def get_settings()`` gives one object to all who call it, and the program has changed
that since; ``@cache def run_name()`` gives what it gave first. A worker's function would begin with
an empty cache, and make another object. No pickle carries what is in it: it is inherited.

What a function has computed from its arguments, as ``fib(30)``, is computed once more.
"""

from __future__ import annotations

import functools
import gc
import sys
from types import FunctionType, ModuleType

from pool._pickling._newer import FROZEN_DICT

from ._contents import CONTAINERS
from ._data import ATOMS, is_fixed, is_programs, module_of
from ._snapshot import snapshots
from ._spaces import namespaces_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_Cached: type = functools._lru_cache_wrapper

#: Classes of what may be such a function, or have one.
_FUNCTIONS = frozenset({_Cached, FunctionType, staticmethod, classmethod, property})

#: Results, or items of one, that are a table: it may have taken long to fill.
_MANY = 1000


def to_be_inherited() -> str:
    """Return the name of a function that keeps such results; empty if there is none."""
    for names in _namespaces():
        for value in names.values():
            kind = type(value)
            if kind in _FUNCTIONS and (kind is not FunctionType or value.__dict__):
                function = _cached(value)
                if function is not None and _keeps_state(function):
                    return f"{module_of(function)}.{function.__qualname__}"
    return ""


def _namespaces() -> Iterator[dict[str, Any]]:
    """Yield the names of all modules of the program, and of their classes."""
    yield from snapshots.namespaces()
    main = sys.modules.get("__main__")
    if type(main) is ModuleType:
        yield from namespaces_of(main, "__main__")


def _cached(value: Any) -> Any:
    """Return the function of the program's that keeps results, if it is one; else None."""
    kind = type(value)
    if kind is staticmethod or kind is classmethod:
        value = value.__func__
    elif kind is property:
        value = value.fget
    while type(value) is FunctionType and value.__dict__:
        value = value.__dict__.get("__wrapped__")
    if type(value) is not _Cached:
        return None
    return value if is_programs(value) else None


def _keeps_state(function: Any) -> bool:
    count = function.cache_info().currsize
    if not count:
        return False
    if count >= _MANY:
        return True
    # What the function refers to: its class, and with a bound to their number the results, each
    # with its key before it and a class behind it; without one the dict that has them.
    parts = gc.get_referents(function)
    if function.cache_parameters()["maxsize"] is None:
        results = list(parts[1].items())
    else:
        results = list(zip(parts[1 : 3 * count : 3], parts[2 : 3 * count : 3], strict=True))
    return any(key == () or not _is_computed(value) for key, value in results)


def _is_computed(value: Any) -> bool:
    """Return whether calling the function again gives the same as far as anybody can tell.

    Of objects of other people's classes, a compiled pattern or a column of a table, that is taken
    for granted: those that a program changes behind a function with arguments are its own.
    """
    kind = type(value)
    if kind in CONTAINERS or kind in (tuple, frozenset, FROZEN_DICT):
        items = value.values() if issubclass(kind, (dict, FROZEN_DICT)) else value
        return len(value) < _MANY and all(map(_is_computed, list(items)))
    if value is None:
        return False  # what the call has done is what counts
    return kind in ATOMS or is_fixed(kind) or not is_programs(kind)
