"""Metaclasses written in C, such as pybind11's: how to find one again, and to get past it.

The metaclass of all classes that pybind11 makes is in no module, so no name leads to it; and it
does not let `type` set attributes of its classes.
"""

from __future__ import annotations

import sys
from types import WrapperDescriptorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _TypeOf:
    """Stands for the type of an object."""

    __slots__ = ("_of",)

    def __init__(self, obj: Any) -> None:
        self._of = obj

    def __reduce__(self) -> tuple[Any, ...]:
        return type, (self._of,)


def metaclass_of(kind: Any) -> Any:
    """Return what arrives as the metaclass of `kind`: if no module has it, that of a base."""
    metaclass = type(kind)
    if sys.modules.get(metaclass.__module__) is None:
        for base in kind.__bases__:
            if type(base) is metaclass:
                return _TypeOf(base)
    return metaclass


def set_attribute(kind: Any, name: str, value: Any) -> None:
    """Set an attribute of a class, without a ``__setattr__`` of its metaclass in Python."""
    _in_c(kind, "__setattr__")(kind, name, value)


def delete_attribute(kind: Any, name: str) -> None:
    """Delete an attribute of a class, without a ``__delattr__`` of its metaclass in Python."""
    _in_c(kind, "__delattr__")(kind, name)


def _in_c(kind: Any, name: str) -> Any:
    # That of `type` is refused where a metaclass in C has another one.
    for metaclass in type(kind).__mro__:
        method = vars(metaclass).get(name)
        if type(method) is WrapperDescriptorType:
            return method
    return getattr(type, name)
