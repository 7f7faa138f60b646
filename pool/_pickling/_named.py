"""Instances that a module binds to a name, found again instead of sent again.

``MISSING = object()`` is a default of one function and compared with in another; the two
may reach a worker in different messages, and still it has to be one object there.
"""

from __future__ import annotations

import copyreg
from types import FunctionType, ModuleType

from ._functions import LruType
from ._namespaces import is_written, namespace, versions_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ._origins import Scope
    from ._picklers import Session

#: These have tokens or names of their own, or cannot be told from their equals.
_OTHERS = (FunctionType, ModuleType, LruType, type, int, float, complex, str, bytes, type(None))
_CONTAINERS = (list, dict, set, tuple, frozenset, bytearray)


def has_identity(value: Any) -> bool:
    """Return whether `value` is to be the same object in every message."""
    kind = type(value)
    return kind not in _CONTAINERS and not issubclass(kind, _OTHERS)


def reduce_named(session: Session, obj: Any, scope: Scope, name: str, names: Any) -> Any:
    """Reduce an instance to its name and, for who does not have it, itself."""
    reduced = session.reduce_unnamed(obj)
    if reduced is NotImplemented:
        reducer = copyreg.dispatch_table.get(type(obj))
        reduced = obj.__reduce_ex__(5) if reducer is None else reducer(obj)
    if isinstance(reduced, str):
        # It pickles as its name. Where the name comes from it has to be made once.
        reduced = reduce_by_state(obj)
    function, arguments, *rest = reduced
    state, items, pairs, setter = (*rest, None, None, None, None)[:4]
    version, _ = versions_of(scope.key).observe(names, name)
    content = (state, list(items or ()), list(pairs or ()), setter)
    return (
        recall,
        (scope.key, name, version, function, arguments),
        content,
        None,
        None,
        fill,
    )


def reduce_by_state(obj: Any) -> tuple[Any, ...]:
    """Reduce an instance as `object` does, whatever its class says."""
    return copyreg.__newobj__, (type(obj),), obj.__getstate__()  # type: ignore[attr-defined]


_fresh: dict[int, Any] = {}


def recall(key: str, name: str, version: int, function: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the object that has been received under this name, or a new one."""
    names = namespace(key)
    if names is not None and name in names and is_written(key, name, version, names[name]):
        return names[name]
    made = function(*arguments)
    _fresh[id(made)] = made
    return made


def fill(obj: Any, content: tuple[Any, ...]) -> None:
    """Give a new object its contents; leave one that was there as it is."""
    if _fresh.pop(id(obj), None) is not obj:
        return
    state, items, pairs, setter = content
    if items:
        _extend(obj, items)
    for key, value in pairs:
        obj[key] = value
    if setter is not None:
        setter(obj, state)
    elif state is not None:
        _set_state(obj, state)


def _extend(obj: Any, items: Iterable[Any]) -> None:
    if hasattr(obj, "extend"):
        obj.extend(items)
    else:
        for item in items:
            obj.append(item)


def _set_state(obj: Any, state: Any) -> None:
    """Do as unpickling does."""
    if hasattr(obj, "__setstate__"):
        obj.__setstate__(state)
        return
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        obj.__dict__.update(state)
    for name, value in (slots or {}).items():
        setattr(obj, name, value)
