"""Find the objects that a program names in its text."""

from __future__ import annotations

import sys
from types import FunctionType, GetSetDescriptorType, ModuleType

from pool._pickling._origins import resolve
from pool._workers._variables._data import ATOMS, is_of_program, is_proxy, module_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ._mentions import Mentions

#: Modules in which nothing is looked for: these packages, and what is carried in other ways or
#: belongs to a process.
_LEFT_ALONE = frozenset(
    {"__main__", "__mp_main__", "pool", "store", "builtins", "multiprocessing"}
    | {"gevent", "eventlet"}
)

_STREAMS = frozenset({"stdin", "stdout", "stderr"})

#: Modules whose settings `pool._workers._carried` knows, with what goes with them: their functions,
#: instances and containers are left to it.
CARRIED = frozenset(
    {"copyreg", "coverage", "django", "gettext", "logging", "matplotlib", "structlog", "warnings"}
)


class Place:
    """An attribute of a module, a class or an instance that a module has.

    Parameters
    ----------
    module : str
        The name of the module.
    path : tuple of str
        The attributes that lead from there to the owner; empty: it is the module.
    name : str
        The attribute.
    owner : object
        Whose attribute it is.
    """

    __slots__ = ("module", "name", "owner", "path")

    def __init__(self, module: str, path: tuple[str, ...], name: str, owner: Any) -> None:
        self.module = module
        self.path = path
        self.name = name
        self.owner = owner

    @property
    def key(self) -> tuple[str, str]:
        """Its module, and its dotted name there."""
        return self.module, ".".join((*self.path, self.name))


def find(dotted: str, names: dict[str, Any], mentions: Mentions) -> Place | None:
    """Return the place that a dotted name means in a module of the program.

    Parameters
    ----------
    dotted : str
        As it is written: ``np.float``; or the full name of a place: ``requests.get``.
    names : dict
        The globals of that module.
    mentions : Mentions
        What its text says.

    Returns
    -------
    Place or None
        None if it is not found, or nothing is to be done about it. Nothing is asked that runs code
        of a module, or loads one.
    """
    try:
        return _find(dotted, names, mentions)
    except Exception:
        return None  # of a class that may not be asked what it is


def _find(dotted: str, names: dict[str, Any], mentions: Mentions) -> Place | None:
    first, *rest = dotted.split(".")
    value = names.get(first)
    if not _is_start(value):
        # Imported in a function; or a full name.
        full = mentions.imported.get(first, first)
        if full.startswith(f"{first}.") and not full.endswith(f".{first}"):
            full = first  # `import a.b` binds `a`; `from a.b import a` does not
        name, parts = _loaded([*full.split("."), *rest])
        value = sys.modules.get(name)
        rest = parts
    return _along(value, rest)


def find_own(module: str, dotted: str) -> Place | None:
    """Return the place that a dotted name means which begins with a variable of a module."""
    try:
        return _along(sys.modules.get(module), dotted.split("."))
    except Exception:
        return None  # as above


def _along(value: Any, path: list[str]) -> Place | None:
    """Return the place to which attributes lead, from a module or class on."""
    if not path or not _is_start(value):
        return None
    *middle, last = path
    place = _start(value, last)
    for part in middle:
        if place is None:
            return None
        place = _next(place, part, last)
    if place is None or place.module.partition(".")[0] in _LEFT_ALONE:
        return None
    return None if place.module == "sys" and not _is_of_sys(place) else place


def _is_of_sys(place: Place) -> bool:
    """Return whether it is a number or a text that the program may have put into `sys`.

    Everything else there belongs to the process, or is carried.
    """
    value = vars_of(place.owner).get(place.name, place)
    return type(value) in ATOMS and place.name not in _STREAMS


def called(dotted: str, names: dict[str, Any], mentions: Mentions) -> tuple[Any, Place | None]:
    """Return the function or class of an installed module that a name means, or None.

    Returns
    -------
    function : function, class or None
    place : Place or None
        Where it was found, if it is a method of a class that gets the class.
    """
    place = None
    if "." in dotted:
        place = find(dotted, names, mentions)
        value = None if place is None else looked_up(place.owner, place.name)
    else:
        value = names.get(dotted)
        if value is None and dotted in mentions.imported:
            name, rest = _loaded(mentions.imported[dotted].split("."))
            value = vars_of(sys.modules.get(name)).get(rest[0]) if len(rest) == 1 else None
    if type(value) is classmethod and place is not None:
        is_left = place.module.partition(".")[0] in CARRIED or is_of_program(place.module)
        return (None, None) if is_left else (value.__func__, place)
    if type(value) is staticmethod:
        value = value.__func__
    if type(value) is not FunctionType and not issubclass(type(value), type):
        return None, None
    top = module_of(value).partition(".")[0]
    return (None if top in _LEFT_ALONE | CARRIED or is_of_program(top) else value), None


def looked_up(owner: Any, name: str) -> Any:
    """Return what an object has under a name; a class also has what it is derived from."""
    owners = owner.__mro__ if issubclass(type(owner), type) else (owner,)
    return next((found[name] for one in owners if name in (found := vars_of(one))), None)


def _is_start(value: Any) -> bool:
    kind = type(value)
    return issubclass(kind, (ModuleType, type))


def _loaded(parts: list[str]) -> tuple[str, list[str]]:
    """Split a full name into the longest part that is a loaded module, and the rest."""
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in sys.modules:
            return name, parts[length:]
    return "", parts


def _start(value: Any, last: str) -> Place | None:
    """Return the attribute `last` of a module or class as a place, if others find its owner."""
    if issubclass(type(value), type):
        module, qualname = module_of(value), value.__qualname__
        if resolve(vars_of(sys.modules.get(module)), qualname) is not value:
            return None
        return Place(module, tuple(qualname.split(".")), last, value)
    name = vars_of(value).get("__name__")
    if type(name) is not str or sys.modules.get(name) is not value:
        return None
    return Place(name, (), last, value)


def _next(place: Place, part: str, last: str) -> Place | None:
    """Return the same attribute of the object that the owner has under the name `part`."""
    child = vars_of(place.owner).get(part)
    if child is None and not place.path:
        child = sys.modules.get(f"{place.module}.{part}")
    if _is_start(child):
        found = _start(child, last)
        if found is not None:
            return found
    if child is None:
        return None
    return Place(place.module, (*place.path, part), last, child)


def vars_of(obj: Any) -> Mapping[str, Any]:
    """Return what an object has in its `__dict__`; nothing if that may be somebody else's code."""
    kind = type(obj)
    if issubclass(kind, type):
        return _NAMES_OF_CLASS(obj)  # type: ignore[no-any-return]  # of a descriptor
    if issubclass(kind, ModuleType):
        return _NAMES_OF_MODULE(obj)  # type: ignore[no-any-return]  # of a descriptor
    found = next(
        (vars(base)["__dict__"] for base in kind.__mro__ if "__dict__" in vars(base)), None
    )
    if type(found) is not GetSetDescriptorType or is_proxy(kind):
        return {}  # none; or of a proxy, which shows another object's
    names = found.__get__(obj)
    return names if type(names) is dict else {}


# Not by `vars` or an attribute: lazy modules load themselves then.
_NAMES_OF_CLASS = vars(type)["__dict__"].__get__
_NAMES_OF_MODULE = vars(ModuleType)["__dict__"].__get__
