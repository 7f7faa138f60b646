"""Classes by value: what is sent for a class, and for its members if it is an Enum.

The receiving half is `_made`. Imported only when the first class is sent.
"""

from __future__ import annotations

import _pickle
import abc
import copyreg
import sys

from ._functions import ATOMS
from ._identity import entry_of
from ._made import (
    begin_class,
    fill_class,
    fill_native,
    give_attributes,
    make_class,
    make_enum,
    make_native,
    make_plain,
    new_instance,
)
from ._metaclasses import metaclass_of
from ._named import ByState, is_by_its_place
from ._needs import is_plain
from ._numbers import number_of
from ._slots import is_slot, native_base, slot_values, slots_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._identity import Entry
    from ._picklers import BasePickler

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]  # missing in typeshed

#: Attributes that Enum sets in a member; the others are the program's.
_MEMBER_NAMES = ("_value_", "_name_", "__objclass__", "_sort_order_")

#: Attributes that Python makes for a new class. They are not sent, nor are descriptors of slots.
_MADE_ANEW = ("__dict__", "__weakref__")

#: Attributes that Enum makes for a new class, besides.
_MADE_BY_ENUM = (
    "_generate_next_value_",
    "_member_names_",
    "_member_map_",
    "_member_type_",
    "_value2member_map_",
    "_hashable_values_",
    "_unhashable_values_",
    "_unhashable_values_map_",
)


#: Attributes by which packages mark classes that only they can make: SQLAlchemy those that are
#: mapped to tables, and their bases; msgspec its structs; PyYAML those that have tags.
_ACCOUNTED_FOR = ("_sa_registry", "_sa_class_manager", "__struct_config__", "yaml_loader")


def is_accounted_for(kind: type) -> bool:
    """Return whether there is more to a class than its attributes: what a package knows of it."""
    return any(hasattr(kind, name) for name in _ACCOUNTED_FOR)


def reduce_definition(pickler: BasePickler, kind: Any, entry: Entry) -> Any:
    """Reduce a class to its definition, or to the number under which workers inherit it."""
    if not is_accounted_for(kind):
        return _reduce_class(pickler, kind, entry)
    sharing = pickler.sharing
    reduced = NotImplemented if sharing is None else sharing.inherit(kind)
    if reduced is NotImplemented:
        raise _pickle.PicklingError(
            f"cannot pickle class {kind.__qualname__!r}: its package keeps account of it, and "
            "would not know of a copy; define it in a module that can be imported"
        )
    return reduced


def _reduce_class(pickler: BasePickler, kind: Any, entry: Entry) -> Any:
    state = _state_of(kind)
    slots = slots_of(kind)
    space: dict[str, Any] = {} if slots is None else {"__slots__": slots}
    members = None
    if _is_enum(kind):
        make, arguments, members = _reduce_enum(kind, space)
        for name in (*members, *_MADE_BY_ENUM):
            state.pop(name, None)
    else:
        make, arguments = _reduce_plain(kind, space, entry)
    present = vars(kind)
    # Compared by what the class has: `state` holds values made just now, such as the registry of
    # an ABC, which would look changed each time.
    versions = {name: entry.versions.observe(present, name)[0] or 1 for name in state}
    gone = [name for name in entry.versions.numbers() if name not in present]
    for name in gone:
        entry.versions.forget(name)
    if pickler.notes is not None:
        pickler.notes.add(_values_of(kind))
    pickler.add_class_dict(kind)
    first, rest = _parts_of(state)
    begin = _Attributes(begin_class, kind, versions, first, kind.__qualname__, list(rest), gone)
    later = [_Attributes(give_attributes, kind, versions, {name: rest[name]}) for name in rest]
    if pickler.deferred is not None:
        pickler.deferred += later
        later = []
    return (
        make_class,
        (entry.token, pickler.up, make, arguments),
        (begin, members, *later),
        None,
        None,
        fill_class,
    )


def _parts_of(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes that a class gets first, and those that it gets after them.

    A class may have instances of itself as attributes: ``Point.ORIGIN = Point(0, 0)``. Methods of
    the class unpickle them, and may use the attributes that the program had set before.
    """
    first = {name: value for name, value in state.items() if _comes_first(name, value)}
    return first, {name: value for name, value in state.items() if name not in first}


def _comes_first(name: str, value: Any) -> bool:
    kind = type(value)
    if kind in ATOMS:
        return True
    # Descriptors and special names: they say how the class works.
    return is_plain(value) and (hasattr(kind, "__get__") or name.startswith("__"))


def reduce_instance(obj: Any, kind: Any) -> Any:
    """Reduce an instance whose class has a ``__new__`` of its own that takes no arguments."""
    if entry_of(kind) is None or issubclass(kind, BaseException):
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    if isinstance(reduced, tuple) and reduced[0] is _newobj and len(reduced[1]) == 1:
        return (new_instance, *reduced[1:])
    return reduced


class _Attributes:
    """Some attributes of a class, set as soon as they are unpickled, before what follows."""

    __slots__ = ("_reduced",)

    def __init__(
        self,
        function: Callable[..., object],
        kind: type,
        versions: dict[str, int],
        state: dict[str, Any],
        *arguments: Any,
    ) -> None:
        versions = {name: versions[name] for name in state}
        self._reduced = function, (kind, versions, state, *arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def _values_of(kind: type) -> Callable[[], Iterable[Any]]:
    from _weakref import ref

    reference = ref(kind)

    def values() -> Iterable[Any]:
        found = reference()
        if found is None:
            raise ReferenceError
        return vars(found).values()

    return values


def _state_of(kind: Any) -> dict[str, Any]:
    """Return the attributes that the class is given after it is made."""
    state = {
        name: value
        for name, value in vars(kind).items()
        if name not in _MADE_ANEW and not is_slot(kind, value)
    }
    for name, value in state.items():
        if is_by_its_place(kind, name, value):
            state[name] = ByState(value)
    if hasattr(state.get("__slots__"), "__next__"):
        del state["__slots__"]  # an iterator, which making the class has used up
    if "_abc_impl" in state:
        # Only the registered classes, without the caches of `isinstance`.
        found = [reference() for reference in abc._get_dump(kind)[0]]  # type: ignore[attr-defined]  # missing in typeshed
        state["_abc_impl"] = [registered for registered in found if registered is not None]
    return state


def _is_enum(kind: Any) -> bool:
    # `enum` itself is not imported for this: it takes longer than to send a class.
    return issubclass(type(kind), getattr(sys.modules.get("enum"), "EnumType", ()))


def _reduce_plain(kind: Any, space: dict[str, Any], entry: Entry) -> tuple[Any, Any]:
    """Return how to make a class that has only its bases and slots."""
    present = vars(kind)
    given: dict[str, Any] = {}
    if "__module__" in present:
        given["__module__"] = kind.__module__
    if issubclass(type(present.get("__dict__")), property):
        given["__dict__"] = present["__dict__"]  # one of the program's own
    space = {**given, **space}
    if "__orig_bases__" in present:
        # As an attribute, not as the bases: ``__mro_entries__`` might make another class of them.
        space["__orig_bases__"] = kind.__orig_bases__
    number = number_of(kind, entry)
    return make_plain, (metaclass_of(kind), kind.__name__, kind.__bases__, space, number)


def _reduce_enum(kind: Any, space: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Return how to make an Enum class, and the attributes of its members.

    Members are not made by the program's own ``__new__`` and ``__init__``, since their arguments
    are not known any more, but from the values and attributes that these have set.
    """
    native = native_base(kind._member_type_)
    members = {
        name: (_native_parts(native, member), _value_of(kind._member_type_, native, member))
        for name, member in kind.__members__.items()
    }
    state = {name: _member_state(member) for name, member in kind.__members__.items()}
    return (
        make_enum,
        (type(kind), kind.__name__, kind.__bases__, kind.__module__, native, members, space),
        state,
    )


def _native_parts(native: Any, member: Any) -> tuple[Any, list[Any], list[Any]]:
    """Return the arguments, items and pairs of which `native` makes its part of a member."""
    if native is object:
        return (), [], []
    if hasattr(native, "__getnewargs__"):
        return native.__getnewargs__(member), [], []
    arguments: Any = ()
    items = list.__iter__(member) if issubclass(native, list) else ()
    pairs = dict.items(member) if issubclass(native, dict) else ()
    if native.__reduce__ is not object.__reduce__:
        function, given, *rest = native.__reduce__(member)
        if function is type(member):
            _, items, pairs = (*rest, None, None, None)[:3]
            arguments = given
    return arguments, list(items or ()), list(pairs or ())


def _value_of(data_type: Any, native: Any, member: Any) -> Any:
    value = member._value_
    if native is object or data_type is native or type(value) is not data_type:
        return value
    return _Value(value, native)


class _Value:
    """Stands for a value of a member that could otherwise be made only by its own ``__new__``."""

    __slots__ = ("_native", "_value")

    def __init__(self, value: Any, native: Any) -> None:
        self._value = value
        self._native = native

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self._native, type(self._value), _native_parts(self._native, self._value))
        return make_native, arguments, _member_state(self._value), None, None, fill_native


def _member_state(member: Any) -> dict[str, Any]:
    state = {**getattr(member, "__dict__", {}), **slot_values(member)}
    return {name: value for name, value in state.items() if name not in _MEMBER_NAMES}
