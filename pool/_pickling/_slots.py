"""The layout of classes: the slots of a class, with which it is made again in a worker.

A class is made before its contents arrive, since these may refer to it. Slots cannot be
added later, so they are needed when the class is made. They are found by their descriptors in the
class. ``__slots__`` would need interpretation: it may be a single name, an iterator that is used
up, or contain private names.

Also two things that tell how pickle treats instances: `native_base` and `reduced_as_object`.
"""

from __future__ import annotations

import copyreg
from types import MemberDescriptorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: The bit of a class's flags that those have which were made at run time, by Python code mostly.
HEAPTYPE = 1 << 9
#: And the one of those to which nothing can be assigned: they were made by compiled code.
_IMMUTABLETYPE = 1 << 8


class Open:
    """Has what any class has whose instances have attributes."""


def native_base(kind: Any) -> Any:
    """Return the class in C that a class is derived from, or `kind` if it is one."""
    return next(
        base
        for base in kind.__mro__
        if not base.__flags__ & HEAPTYPE or base.__flags__ & _IMMUTABLETYPE
    )


def reduced_as_object(kind: Any) -> bool:
    """Return whether instances of a class are reduced as `object` does it, by no method of its own.

    They may yet have a say in what their state is, and what becomes of it.
    """
    return kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__


def slots_of(kind: Any) -> list[str] | None:
    """Return the ``__slots__`` that give a class with the same bases the same layout.

    Returns
    -------
    list of str or None
        None if it needs none.
    """
    names = {name for name, value in vars(kind).items() if is_slot(kind, value)}
    if not names and "__slots__" not in vars(kind):
        return None
    names.update(_written(kind))
    # A class may ask only for what no base has.
    if kind.__dictoffset__ and not any(base.__dictoffset__ for base in kind.__bases__):
        names.add("__dict__")
    if kind.__weakrefoffset__ and not any(base.__weakrefoffset__ for base in kind.__bases__):
        names.add("__weakref__")
    return sorted(names)  # private ones are mangled, and stay so


def is_slot(kind: Any, value: Any) -> bool:
    """Return whether `value` is what a class has for one of its slots."""
    return type(value) is MemberDescriptorType and value.__objclass__ is kind


def _written(kind: Any) -> set[str]:
    """Return the slots whose descriptor the program has replaced, by one around it perhaps."""
    space = vars(kind)
    written = space.get("__slots__", ())
    if isinstance(written, str):
        written = (written,)
    elif hasattr(written, "__next__"):
        return set()
    stripped = kind.__name__.lstrip("_")
    names = (f"_{stripped}{name}" if _is_private(name) and stripped else name for name in written)
    return {name for name in names if name in space and name not in ("__dict__", "__weakref__")}


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def slot_names(kind: type) -> list[str]:
    """Return the slots that objects of a class have, as pickle sees them."""
    return copyreg._slotnames(kind)  # type: ignore[attr-defined,no-any-return]  # missing in typeshed


def slot_values(obj: Any) -> dict[str, Any]:
    """Return what is in the slots of an object."""
    return {name: getattr(obj, name) for name in slot_names(type(obj)) if hasattr(obj, name)}


def reduce_slot(descriptor: Any) -> Any:
    """Reduce the descriptor of a slot, which the program may keep inside another one."""
    return find_slot, (descriptor.__objclass__, descriptor.__name__)


def find_slot(kind: type, name: str) -> Any:
    """Return the descriptor of a slot.

    Where the class is complete, and something else has taken the place of the descriptor,
    that: whatever has been unpickled for it is of no use then.
    """
    return vars(kind)[name]
