"""Give an object that a worker's import has made the state of the program's."""

from __future__ import annotations

from collections import OrderedDict

from pool._workers._variables._contents import CONTAINERS, apart, fill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def become(present: Any, other: Any) -> bool:
    """Give an object the state of another one of its class; return whether that was possible.

    So those that have it already, by `from ... import`, see that too.
    """
    kind = type(present)
    if present is other:
        return True  # it is pickled as a name
    if kind is not type(other):
        return False
    if kind in CONTAINERS:
        fill(present, apart(other)[1])
        return True
    if hasattr(kind, "dtype") and hasattr(kind, "__array_interface__"):
        if (present.shape, present.dtype) != (other.shape, other.dtype):
            return False
        present[...] = other
        return True
    if any(_has_slots(base) for base in kind.__mro__) or not issubclass(kind, (dict, list, set)):
        if not _is_only_attributes(kind):
            return False
    if issubclass(kind, dict):
        base: Any = OrderedDict if issubclass(kind, OrderedDict) else dict
        base.clear(present)
        for key, value in other.items():
            base.__setitem__(present, key, value)
    elif issubclass(kind, list):
        list.__setitem__(present, slice(None), list(other))
    elif issubclass(kind, set):
        set.clear(present)
        set.update(present, other)
    if kind.__dictoffset__:
        vars(present).clear()
        vars(present).update(vars(other))
    return True


def _has_slots(base: type) -> bool:
    return bool(vars(base).get("__slots__"))


def _is_only_attributes(kind: type) -> bool:
    """Return whether all that an instance has is in its `__dict__`."""
    return kind.__dictoffset__ != 0 and all(
        base is object or (base.__module__ != "builtins" and not _has_slots(base))
        for base in kind.__mro__
    )
