"""Find the definitions and globals that other definitions use, without pickling them."""

from __future__ import annotations

import copyreg
import sys
from itertools import islice
from types import FunctionType, ModuleType

from ._functions import ATOMS, names_needed
from ._names import global_names
from ._newer import FROZEN_DICT
from ._notes import contents
from ._origins import (
    LruType,
    innermost,
    is_definition,
    is_named,
    resolve,
    scope_of,
    scope_of_module,
)
from ._slots import reduced_as_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._picklers import Needs

#: In place of a name: all names of a scope whose values are small. See `_implicit`, which is
#: imported only if code contains a word that may use them.
ALL_NAMES = "*"

#: How many items of a container are searched for their classes.
_LOOKED_THROUGH = 256


def explore(needs: Needs, implicit: bool) -> Needs:
    """Return `needs` and all that these use in turn, as far as functions and classes show.

    Pickling would find the same, but by recursion: a chain of a few hundred functions would
    exceed the recursion limit.

    Parameters
    ----------
    needs : dict
    implicit : bool
        Whether to include globals that they may use without naming them, see `_implicit`.

    Returns
    -------
    dict
    """
    found: Needs = {}
    pending = list(needs.items())
    seen: set[int] = set()
    while pending:
        key, what = pending.pop()
        if key in found:
            continue
        found[key] = what
        if isinstance(key, bytes):
            continue
        if isinstance(key, tuple) and key[1] == ALL_NAMES:
            if implicit:
                pending += _all_names(key[0], what)
            continue
        value = what if isinstance(key, str) else what.get(key[1])
        if isinstance(key, str):
            pending += _own_name(value)
        for part in _definitions_in(value, seen):
            pending += _names_used(part, implicit)
    return found


def _all_names(scope_key: str, names: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    from ._implicit import small_names

    for name in small_names(scope_key, names):
        yield (scope_key, name), names


def _own_name(obj: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the name that an object with a token has in its module."""
    scope = scope_of_module(obj.__module__)
    name = obj.__qualname__
    if scope is not None and not scope.importable and "." not in name:
        names = vars(sys.modules[obj.__module__])
        if resolve(names, name) is obj:
            yield (scope.key, name), names


def _names_used(part: Any, implicit: bool) -> Iterator[tuple[Any, Any]]:
    if type(part) is not FunctionType:
        if "__annotations__" in vars(part) and implicit:
            from ._implicit import annotated_names

            yield from annotated_names(part)
        return
    scope = scope_of(part.__globals__)
    if scope is not None and not scope.importable:
        for name in names_needed(part, implicit):
            yield (scope.key, name), part.__globals__
        if implicit and part.__closure__ and part.__code__.co_freevars != ("__class__",):
            for name in _names_beside(part):
                yield (scope.key, name), part.__globals__


def _names_beside(func: FunctionType) -> Iterator[str]:
    """Yield the names of global functions that have a closure variable in common with `func`.

    They have to be pickled together to share the cell: ``increase, value = make_counter()``.
    """
    cells = set(map(id, func.__closure__ or ()))
    for name, value in list(func.__globals__.items()):
        if type(value) is FunctionType and value.__closure__ and value is not func:
            if not cells.isdisjoint(map(id, value.__closure__)):
                yield name


def _definitions_in(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the functions and classes that `value` is or consists of and that travel by value."""
    pending = [value]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        kind = type(value)
        if kind is FunctionType:
            seen.add(id(value))
            if not is_named(value):
                yield value
                pending += [contents(cell) for cell in value.__closure__ or ()]
                pending += value.__defaults__ or ()
                pending += (value.__kwdefaults__ or {}).values()
                pending += value.__dict__.values()
        elif kind is LruType:
            pending.append(value.__wrapped__)
        elif kind in (staticmethod, classmethod):
            pending.append(value.__func__)
        elif kind is property:
            pending += [value.fget, value.fset, value.fdel]
        elif issubclass(kind, type):
            seen.add(id(value))
            if not is_named(value):
                yield value
                pending += [*vars(value).values(), *value.__bases__, kind]
        elif kind is dict or kind is list or kind is tuple or kind is set:
            seen.add(id(value))
            pending += _samples(value)
        elif kind.__module__ != "builtins":
            if id(kind) not in seen:
                pending += _attributes(value, kind)  # of one object for each class
            pending.append(kind)  # the next to be looked at


def _samples(container: Any) -> list[Any]:
    """Return one of the first items for each of their types; of definitions only the type."""
    found = {type(item): item for item in islice(container, _LOOKED_THROUGH)}
    if type(container) is dict:
        found.update({type(item): item for item in islice(container.values(), _LOOKED_THROUGH)})
    return [kind if is_definition(item) else item for kind, item in found.items()]


def _attributes(value: Any, kind: Any) -> list[Any]:
    """Return the attributes of an object if its class travels by value, and it has no say in this.

    If it has, its pickle may lack some of them, with all that these would need.
    """
    plain = (
        reduced_as_object(kind)
        and kind.__getstate__ is object.__getstate__
        and kind not in copyreg.dispatch_table
        and not is_named(kind)
    )
    try:
        return list(object.__getattribute__(value, "__dict__").values()) if plain else []
    except Exception:
        return []  # it has none, or a property of that name


def names_in_use(names: dict[str, Any]) -> Iterator[str]:
    """Yield the names that any function or class of a scope uses, whether or not that is sent.

    Other names, such as the variable of a loop, are bound anew often, and no task uses them.
    """
    for value in list(names.values()):
        if issubclass(type(value), type):
            if value.__module__ == names.get("__name__"):
                for part in list(vars(value).values()):
                    yield from _names_in(part, names)
        else:
            yield from _names_in(value, names)


def _names_in(value: Any, names: dict[str, Any]) -> tuple[str, ...]:
    kind = type(value)
    if kind is staticmethod or kind is classmethod:
        value = value.__func__
    elif kind is property:
        value = value.fget
    elif kind is LruType:
        value = innermost(value)
    if type(value) is not FunctionType:
        return ()
    own = global_names(value.__code__) if value.__globals__ is names else ()
    inner = getattr(value, "__wrapped__", value)
    return own if inner is value else (*own, *_names_in(inner, names))


def is_plain(value: Any) -> bool:
    """Return whether unpickling `value` runs no code of the program's, by its first items."""
    kind = type(value)
    return is_named(kind) and (kind not in _CONTAINERS or all(map(is_named, _kinds_in(value))))


def is_simple(value: Any) -> bool:
    """Return whether `value` is a module, a number, a text and the like, or a few of these."""
    if type(value) not in _CONTAINERS:
        return type(value) in _SIMPLE
    return len(value) <= _LOOKED_THROUGH and _SIMPLE.issuperset(_kinds_in(value))


_CONTAINERS = (list, tuple, set, frozenset, dict, FROZEN_DICT)
_SIMPLE = ATOMS | {ModuleType}


def _kinds_in(container: Any) -> set[type]:
    """Return the types of the first items."""
    kinds = set(map(type, islice(container, _LOOKED_THROUGH)))
    if type(container) in (dict, FROZEN_DICT):
        kinds.update(map(type, islice(container.values(), _LOOKED_THROUGH)))
    return kinds
