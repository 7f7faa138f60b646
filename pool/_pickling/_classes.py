"""Classes by value, and the picklers that can send them: cloudpickle, and ours before it.

Imported only when it is needed, since cloudpickle takes longer to import than a small
program takes to run.
"""

from __future__ import annotations

import abc
import copyreg
from enum import EnumType
from types import FunctionType, MemberDescriptorType, ModuleType

import cloudpickle
from cloudpickle.cloudpickle import _class_getnewargs, _make_skeleton_class

from ._encoding import ATOMS
from ._identity import adopt, entry_for, entry_of, forgotten, outdated
from ._needs import is_plain
from ._picklers import BasePickler
from ._slots import is_slot, native_base, reduce_slot, slot_values, slots_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._identity import Entry

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]  # missing in typeshed

#: What Enum keeps for itself in a member; the rest is the program's.
_MEMBER_NAMES = ("_value_", "_name_", "__objclass__", "_sort_order_")

#: What a new class gets by itself; the descriptors of its slots are left out as well.
_MADE_ANEW = ("__dict__", "__weakref__")

#: What a new Enum class gets by itself, besides.
_MADE_BY_ENUM = (
    "_generate_next_value_",
    "_member_names_",
    "_member_map_",
    "_member_type_",
    "_value2member_map_",
)


class ReachPickler(BasePickler, cloudpickle.Pickler):  # type: ignore[misc]  # it ships no annotations
    """Pickle what needs cloudpickle."""

    def define_class(self, kind: type, entry: Entry) -> Any:
        """Reduce a class to its definition."""
        return _reduce_class(self, kind, entry)

    def reduce_other(self, obj: Any, kind: type) -> Any:
        """Reduce what is left to the reducers that others have registered."""
        if issubclass(kind, ModuleType):
            from ._modules import reduce_by_value

            return reduce_by_value(self, obj)
        if kind is MemberDescriptorType:
            return reduce_slot(obj)
        from ._reducers import find_late

        reducer = find_late(obj, kind)
        reduced = super().reduce_other(obj, kind) if reducer is None else reducer(self, obj)
        if reduced is NotImplemented and self.inline and type(kind.__new__) is FunctionType:
            return _reduce_instance(obj, kind)
        return reduced

    def reduce_class(self, kind: Any) -> Any:
        """Reduce a class; cloudpickle knows those that are only called builtin."""
        reduced = super().reduce_class(kind)
        if reduced is NotImplemented and kind.__module__ == "builtins":
            return cloudpickle.Pickler.reducer_override(self, kind)
        return reduced


class BarePickler(ReachPickler):
    """Pickle without annotations, which may refer to anything and are rarely needed."""

    annotations = False


# ---------------------------------------------------------------- sending


def _reduce_class(pickler: BasePickler, kind: Any, entry: Entry) -> Any:
    state = _state_of(kind)
    slots = slots_of(kind)
    space: dict[str, Any] = {} if slots is None else {"__slots__": slots}
    members = None
    if issubclass(type(kind), EnumType):
        make, arguments, members = _reduce_enum(kind, space)
        for name in (*members, *_MADE_BY_ENUM):
            state.pop(name, None)
    else:
        make, arguments = _reduce_plain(kind, space)
    present = vars(kind)
    # What comes from a call, like the registry of an ABC, is another object each time;
    # what the class itself has tells whether it has changed.
    versions = {name: entry.versions.observe(present, name)[0] or 1 for name in state}
    gone = [name for name in entry.versions.numbers() if name not in present]
    for name in gone:
        entry.versions.forget(name)
    if pickler.notes is not None:
        pickler.notes.add(_values_of(kind))
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
    """Return what a class is given at first, and what only after that.

    The data of a class may be instances of it: ``Point.ORIGIN = Point(0, 0)``. They are unpickled
    by methods of the class, and these may look at what was written before them.
    """
    first = {name: value for name, value in state.items() if _comes_first(name, value)}
    return first, {name: value for name, value in state.items() if name not in first}


def _comes_first(name: str, value: Any) -> bool:
    kind = type(value)
    if kind in ATOMS:
        return True
    # What says how the class works, in the words of Python or of a library.
    return is_plain(value) and (hasattr(kind, "__get__") or name.startswith("__"))


def _reduce_instance(obj: Any, kind: Any) -> Any:
    """Reduce an instance of a class with a ``__new__`` of its own, if that gets no arguments."""
    if entry_of(kind) is None or issubclass(kind, BaseException):
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    if isinstance(reduced, tuple) and reduced[0] is _newobj and len(reduced[1]) == 1:
        return (new_instance, *reduced[1:])
    return reduced


class _Attributes:
    """Some attributes of a class, which has them before what follows is unpickled."""

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
    """Return what the class is to be given once it is made."""
    state = {
        name: value
        for name, value in vars(kind).items()
        if name not in _MADE_ANEW and not is_slot(kind, value)
    }
    if hasattr(state.get("__slots__"), "__next__"):
        del state["__slots__"]  # it has ended
    if "_abc_impl" in state:
        # Registered classes; what was found out with their help, or without, is left behind.
        found = [reference() for reference in abc._get_dump(kind)[0]]  # type: ignore[attr-defined]  # missing in typeshed
        state["_abc_impl"] = [registered for registered in found if registered is not None]
    return state


def _reduce_plain(kind: Any, space: dict[str, Any]) -> tuple[Any, Any]:
    """Return how to make a class that is empty but for its layout."""
    metaclass, name, _, given, *tracked = _class_getnewargs(kind)
    space = {**given, **space}
    if "__orig_bases__" in vars(kind):
        # Not in place of the bases: what stands there may make another kind of class of them.
        space["__orig_bases__"] = kind.__orig_bases__
    return _make_skeleton_class, (metaclass, name, kind.__bases__, space, *tracked)


def _reduce_enum(kind: Any, space: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Return how to make an Enum class, and what else its members hold.

    Members are not made by the program's own ``__new__`` and ``__init__``, whose arguments
    nobody knows any more, but from what these have left.
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
    """Stands for a value that only its own ``__new__`` could make of what is written."""

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


# ---------------------------------------------------------------- receiving


def make_enum(
    metaclass: Any,
    name: str,
    bases: tuple[Any, ...],
    module: str,
    native: Any,
    members: dict[str, tuple[tuple[Any, list[Any], list[Any]], Any]],
    space: dict[str, Any],
) -> Any:
    """Make an Enum class with its members, and nothing else in it."""

    def new(cls: Any, *definition: Any) -> Any:
        # Enum unpacks it, except where members are tuples themselves.
        parts, value = definition if len(definition) == 2 else definition[0]
        member = make_native(native, cls, parts)
        member._value_ = value
        return member

    namespace = EnumType.__prepare__(name, bases)
    namespace.update(space)
    namespace["__module__"] = module
    namespace["__new__"] = new
    namespace["__init__"] = lambda *_: None
    for member, definition in members.items():
        namespace[member] = definition
    # Not the metaclass's own `__new__`, which has had its say where members were what is written.
    made = EnumType.__new__(metaclass, name, bases, namespace)
    for method in ("__new_member__", "__init__"):
        if method in vars(made):
            # The program's own comes with the state, if it had one.
            type.__delattr__(made, method)
    return made


def make_native(native: Any, kind: Any, parts: tuple[Any, list[Any], list[Any]]) -> Any:
    """Make an instance of a class as the class in C does that it is derived from."""
    arguments, items, pairs = parts
    made = native.__new__(kind, *arguments)
    if native.__init__ is not object.__init__:
        native.__init__(made, *arguments)
    for item in items:
        native.append(made, item)
    for key, content in pairs:
        native.__setitem__(made, key, content)
    return made


def fill_native(obj: Any, state: dict[str, Any]) -> None:
    """Give an instance its attributes, whatever its class thinks of that."""
    for name, value in state.items():
        object.__setattr__(obj, name, value)


def make_class(token: str, up: bool, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return the class of this token, or a new one that is still to be filled."""
    entry = entry_for(token)
    if entry is not None:
        return entry.obj
    adopt(token, made := _made(make, arguments), above=not up)
    return made


def _made(make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Make a class without contents.

    Hooks of the program's own classes have done their work there: here they would find a class
    that has nothing yet, and globals that are still to come. Those of packages may have to know of
    each class in this process too.
    """
    if _has_own_hooks(arguments[0], arguments[2]):
        return _make_quietly(make, arguments)
    try:
        made = make(*arguments)
    except Exception:
        return _make_quietly(make, arguments)
    if make is not make_enum and _is_of_another_layout(made, arguments[3]):
        return _make_quietly(make, arguments)
    return made


def _has_own_hooks(metaclass: Any, bases: tuple[Any, ...]) -> bool:
    return entry_of(metaclass) is not None or any(map(entry_of, _hook_owners(bases)))


def _is_of_another_layout(made: Any, namespace: dict[str, Any]) -> bool:
    """Return whether a metaclass has found slots itself, by contents that are still missing."""
    return "__slots__" in namespace and slots_of(made) != namespace["__slots__"]


def _make_quietly(make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Make a class without the hooks of its bases, which may ask for what is not here.

    Keywords that only its ``class`` line had, for example. What came of them in the process that
    defined the class is in the state.
    """
    metaclass, name, bases, namespace, *_ = arguments
    owners = _hook_owners(bases)
    saved = [(owner, vars(owner)["__init_subclass__"]) for owner in owners]
    for owner in owners:
        type.__setattr__(owner, "__init_subclass__", classmethod(lambda cls, **_: None))
    try:
        if make is make_enum:
            return make(*arguments)
        made = type.__new__(metaclass, name, bases, namespace)
    finally:
        for owner, hook in saved:
            type.__setattr__(owner, "__init_subclass__", hook)
    if issubclass(metaclass, abc.ABCMeta):
        abc._abc_init(made)  # type: ignore[attr-defined]  # or it would share what its base has
    return made


def _hook_owners(bases: tuple[Any, ...]) -> list[Any]:
    return [
        owner
        for owner in dict.fromkeys(owner for base in bases for owner in base.__mro__)
        if owner is not object and type(vars(owner).get("__init_subclass__")) is classmethod
    ]


def begin_class(
    kind: type,
    versions: dict[str, int],
    state: dict[str, Any],
    qualname: str,
    missing: list[str],
    gone: list[str],
) -> bool:
    """Give a class what makes it work; return whether it was complete before."""
    entry = entry_of(kind)
    knew = entry is not None and entry.knows_state
    if not knew:
        type.__setattr__(kind, "__qualname__", qualname)
        if entry is not None:
            entry.missing = {*missing}
    elif entry is not None:
        for name in forgotten(entry, gone):
            if name in vars(kind):
                type.__delattr__(kind, name)
    give_attributes(kind, versions, state)
    return knew


def give_attributes(kind: type, versions: dict[str, int], state: dict[str, Any]) -> None:
    """Give a class some attributes, as far as they are new."""
    entry = entry_of(kind)
    if entry is not None:
        changed = set(outdated(entry, versions))
        if entry.missing:
            entry.missing.difference_update(state)
        state = {name: value for name, value in state.items() if name in changed}
    _set_attributes(kind, state)


def new_instance(kind: Any) -> Any:
    """Make an instance without contents.

    A ``__new__`` that returns the one instance there is looks for it in the class. While that has
    not got it yet, because this is it, it is left alone.
    """
    entry = entry_of(kind)
    owner = native_base(kind) if entry is not None and entry.missing else kind
    return owner.__new__(kind)


def fill_class(kind: Any, definition: tuple[Any, ...]) -> None:
    """Give the members of an Enum class what they hold, if it is new."""
    knew, members, *_ = definition
    if members and not knew:
        for name, attributes in members.items():
            fill_native(kind.__members__[name], attributes)


def _set_attributes(kind: Any, state: dict[str, Any]) -> None:
    """Give a class its attributes, whatever its metaclass says of later changes."""
    for name, value in state.items():
        if name != "_abc_impl":
            type.__setattr__(kind, name, value)
    if "__firstlineno__" in state:
        # Python 3.13 takes it away with the next attribute.
        type.__setattr__(kind, "__firstlineno__", state["__firstlineno__"])
    for registered in state.get("_abc_impl") or ():
        # Past a method of the program's of that name.
        abc.ABCMeta.register(kind, registered)
