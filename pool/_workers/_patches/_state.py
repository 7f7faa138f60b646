"""Give an object that a worker's import has made the state of the program's."""

from __future__ import annotations

from collections import OrderedDict

from pool._workers._variables._contents import CONTAINERS, apart, fill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: An object without anything has a count and a pointer to its class.
_POINTER_NBYTES = object.__basicsize__ // 2


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
            return _set_state(present, other)
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
    """Return whether an instance has all in its `__dict__`, and nothing in slots or in C."""
    pointers = (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    if not kind.__dictoffset__ or kind.__itemsize__:
        return False
    return kind.__basicsize__ <= object.__basicsize__ + pointers * _POINTER_NBYTES


def _set_state(present: Any, other: Any) -> bool:
    """Have an object's own class set its state, as when it is unpickled: generators can do that."""
    kind = type(present)  # asked in place of the object, which may answer to any name
    if hasattr(kind, "bit_generator"):
        if type(present.bit_generator) is not type(other.bit_generator):
            return False
        present.bit_generator.state = other.bit_generator.state
        return True
    reduced = other.__reduce_ex__(5)
    if type(reduced) is str or len(reduced) < 3 or not hasattr(kind, "__setstate__"):
        return False
    if any(part is not None for part in reduced[3:]):  # `object` says that there are no items
        return False
    present.__setstate__(reduced[2])
    return True
