"""Classes that have arrived: made empty, then given their contents.

The sending half is `_classes`.
"""

from __future__ import annotations

import abc
from types import new_class

from ._identity import adopt, entry_for, entry_of, forgotten, outdated
from ._metaclasses import delete_attribute, set_attribute
from ._numbers import known_as
from ._slots import native_base, slots_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


#: Calls a function while the program's modules show what imports have left in them; set where
#: workers get the variables of these.
as_imported: Callable[[Callable[[], object]], object] | None = None


def make_plain(
    metaclass: Any, name: str, bases: tuple[Any, ...], space: dict[str, Any], number: str
) -> Any:
    """Make a class that has only its bases and slots.

    Parameters
    ----------
    metaclass : type
    name : str
    bases : tuple of type
    space : dict
        Its namespace so far.
    number : str
        By which cloudpickle knows the class, see `_numbers`.
    """
    return new_class(name, bases, {"metaclass": metaclass}, lambda names: names.update(space))


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
    from enum import EnumType

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
    # Not by the metaclass's own `__new__`: it has done its work where the class was defined.
    made = EnumType.__new__(metaclass, name, bases, namespace)
    for method in ("__new_member__", "__init__"):
        if method in vars(made):
            # If the class had a method of this name, it comes with the state.
            delete_attribute(made, method)
    return made


def make_native(native: Any, kind: Any, parts: tuple[Any, list[Any], list[Any]]) -> Any:
    """Make an instance of a class by the methods of `native`, the class in C that it derives from.

    Parameters
    ----------
    native, kind : type
    parts : tuple
        The arguments of its constructor, items to append, and pairs to set.
    """
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
    """Set the attributes of an instance, without a ``__setattr__`` of its class."""
    for name, value in state.items():
        object.__setattr__(obj, name, value)


def make_class(token: str, up: bool, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return the class of this token, or a new one that is still to be filled."""
    number = arguments[-1] if make is make_plain else None
    entry = entry_for(token)
    if entry is None:
        made = _made(make, arguments)
        if number is not None:
            made = known_as(number, made)
        adopt(token, made, above=not up).number = number
        return made
    made = entry.obj
    if number is not None and entry.number is None:  # inherited by a fork
        entry.number = number
        known_as(number, made)
    return made


def _made(make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Make a class without contents.

    Hooks of the program's own classes (``__init_subclass__``, metaclasses) have done their work
    where the class was defined. Here they would find a class without attributes, and miss globals
    that have not arrived. Hooks of modules are run: they may have to register the class here too.
    Not a second time in variables that workers have from the program, so these are not shown.
    """
    if _has_own_hooks(arguments[0], arguments[2]):
        return _make_quietly(make, arguments)
    try:
        if as_imported is not None and _has_hooks(arguments[0], arguments[2]):
            made = _make_as_imported(make, arguments)
        else:
            made = make(*arguments)
    except Exception:
        return _make_quietly(make, arguments)
    if make is not make_enum and _is_of_another_layout(made, arguments[3]):
        return _make_quietly(make, arguments)
    return made


def _has_own_hooks(metaclass: Any, bases: tuple[Any, ...]) -> bool:
    return entry_of(metaclass) is not None or any(map(entry_of, _hook_owners(bases)))


def _has_hooks(metaclass: Any, bases: tuple[Any, ...]) -> bool:
    return metaclass not in (type, abc.ABCMeta) or bool(_hook_owners(bases))


def _make_as_imported(make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    made = []
    assert as_imported is not None
    as_imported(lambda: made.append(make(*arguments)))
    return made[0]


def _is_of_another_layout(made: Any, namespace: dict[str, Any]) -> bool:
    """Return whether the metaclass has chosen other slots, since the contents are missing."""
    return "__slots__" in namespace and slots_of(made) != namespace["__slots__"]


def _make_quietly(make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Make a class without running the hooks of its bases, which may fail here.

    They may need keywords of the ``class`` line, for example. What they did in the process that
    defined the class is part of the state.
    """
    metaclass, name, bases, namespace, *_ = arguments
    owners = _hook_owners(bases)
    saved = [(owner, vars(owner)["__init_subclass__"]) for owner in owners]
    for owner in owners:
        set_attribute(owner, "__init_subclass__", classmethod(lambda cls, **_: None))
    try:
        if make is make_enum:
            return make(*arguments)
        made = type.__new__(metaclass, name, bases, namespace)
    finally:
        for owner, hook in saved:
            set_attribute(owner, "__init_subclass__", hook)
    if issubclass(metaclass, abc.ABCMeta):
        abc._abc_init(made)  # type: ignore[attr-defined]  # not shared with its base
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
    """Give a class its first attributes, see `_parts_of`; return whether it was complete before."""
    entry = entry_of(kind)
    knew = entry is not None and entry.knows_state
    if not knew:
        set_attribute(kind, "__qualname__", qualname)
        if entry is not None:
            entry.missing = {*missing}
    elif entry is not None:
        for name in forgotten(entry, gone):
            if name in vars(kind):
                delete_attribute(kind, name)
    give_attributes(kind, versions, state)
    return knew


def give_attributes(kind: type, versions: dict[str, int], state: dict[str, Any]) -> None:
    """Give a class those of some attributes that are newer than what it has."""
    entry = entry_of(kind)
    if entry is not None:
        changed = set(outdated(entry, versions))
        if entry.missing:
            entry.missing.difference_update(state)
        state = {name: value for name, value in state.items() if name in changed}
    _set_attributes(kind, state)


def new_instance(kind: Any) -> Any:
    """Make an instance without contents.

    A ``__new__`` of a singleton looks for the instance in an attribute of the class. It is not
    called while attributes of the class are still to come: this may be that very instance. Nor if
    it fails, as it may where it uses an object that has itself to be filled yet: mpmath's contexts
    hold numbers whose classes refer to that context.
    """
    entry = entry_of(kind)
    if entry is None:
        return kind.__new__(kind)
    if not entry.missing:
        try:
            return kind.__new__(kind)
        except Exception:
            pass
    return native_base(kind).__new__(kind)


def fill_class(kind: Any, definition: tuple[Any, ...]) -> None:
    """Give the members of an Enum class their attributes, if the class is new here."""
    knew, members, *_ = definition
    if members and not knew:
        for name, attributes in members.items():
            fill_native(kind.__members__[name], attributes)


def _set_attributes(kind: Any, state: dict[str, Any]) -> None:
    """Set attributes of a class, without a ``__setattr__`` of its metaclass."""
    if "__annotate_func__" in state and "__annotations_cache__" in vars(kind):
        # What Python 3.14 keeps of annotations that somebody asked for before the class had any:
        # an ``__init_subclass__``, or pydantic, which looks into the bases of generic models.
        delete_attribute(kind, "__annotations_cache__")
    for name, value in state.items():
        if name != "_abc_impl":
            set_attribute(kind, name, value)
    if "__firstlineno__" in state:
        # Set last: Python 3.13 deletes it when another attribute is set.
        set_attribute(kind, "__firstlineno__", state["__firstlineno__"])
    for registered in state.get("_abc_impl") or ():
        # Not by `kind.register`, which may be a method of the program's.
        abc.ABCMeta.register(kind, registered)
