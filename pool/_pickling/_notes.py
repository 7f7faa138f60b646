"""The values that a kept pickle depends on, to see whether they are still the same."""

from __future__ import annotations

import sys
from _weakref import ref
from itertools import repeat

from ._class_dicts import cells_of
from ._origins import mark_of
from ._versions import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FunctionType
    from typing import Any


class Notes:
    """Everything that a prelude depends on.

    Objects are referred to weakly: a prelude that is kept must not keep a program's
    classes alive.
    """

    def __init__(self) -> None:
        #: For each scope, by its key: a function that returns its module, and names in it.
        self._names: dict[str, tuple[Callable[[], Any], list[str]]] = {}
        self._functions: list[Any] = []
        self._others: list[Callable[[], Iterable[Any]]] = []

    def add_name(self, key: str, names: dict[str, Any], name: str) -> None:
        """Depend on the value of a name of a scope."""
        known = self._names.get(key)
        if known is None:
            known = self._names[key] = (_module_with(names), [])
        known[1].append(name)

    def add_all_names(self, names: dict[str, Any]) -> None:
        """Depend on which names there are in a scope."""
        module = _module_with(names)

        def values() -> list[Any]:
            found = module()
            if found is None:
                raise ReferenceError
            return list(vars(found))

        self._others.append(values)

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield ``(key of the scope, name)`` for each name that it depends on."""
        for key, (_, names) in self._names.items():
            for name in names:
                yield key, name

    def add_function(self, func: FunctionType) -> None:
        """Depend on the code, defaults, attributes and cells of a function."""
        self._functions.append(ref(func))

    def add(self, values: Callable[[], Iterable[Any]]) -> None:
        """Depend on the values that `values` returns."""
        self._others.append(values)

    def functions(self) -> list[Any]:
        """Return the functions that it depends on."""
        return [func for func in [reference() for reference in self._functions] if func is not None]

    def values(self) -> list[Any]:
        """Return all values that it depends on, as they are now.

        Raises
        ------
        ReferenceError
            If something is gone.
        """
        found: list[Any] = []
        for module, wanted in self._names.values():
            owner = module()
            if owner is None:
                raise ReferenceError
            found += map(owner.__dict__.get, wanted, _missing)
        for reference in self._functions:
            func = reference()
            if func is None:
                raise ReferenceError
            found += (func.__code__, func.__defaults__, func.__kwdefaults__)
            if func.__dict__:
                found += func.__dict__.values()
            if func.__closure__:
                found += map(contents, cells_of(func))
        for values in self._others:
            found += values()
        return found


def _module_with(names: dict[str, Any]) -> Callable[[], Any]:
    """Return a function that returns the module of a namespace, without keeping that alive.

    At the end of a program the interpreter frees the main module. If a library held its namespace
    then, finalizers of the program's objects would not run.
    """
    module = sys.modules.get(names.get("__name__", ""))
    if module is not None and module.__dict__ is names:
        return ref(module)
    mark = mark_of(names)
    if mark is not None:
        return ref(mark)
    stand_in = _StandIn()  # for a module that is registered nowhere
    stand_in.__dict__ = names
    return lambda: stand_in


class _StandIn:
    """Has a namespace as its ``__dict__``, like a module."""


_missing = repeat(MISSING)


def contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING
