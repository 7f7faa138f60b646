"""Which variables of its module a function sets, as ``mlflow.set_tracking_uri`` does.

The program calls such functions to set up a package, and drops what they return. What they set goes
by their code: names that are declared `global`, containers of the module that are changed, and
attributes of other modules and their classes, as by ``tqdm.pandas()``.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType, ModuleType

from pool._workers._variables._assigned import GLOBALS, bound
from pool._workers._variables._contents import CONTAINERS
from pool._workers._variables._data import is_programs, module_of

from ._mentions import CHANGERS, mentions_of
from ._places import Place, called, find, vars_of
from ._steps import steps_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: What is set: a variable of the module, a container of it in place, an attribute of another one.
VARIABLE, CONTAINER, OTHER = range(3)

#: What was found out, by function or class.
_known: dict[Any, tuple[tuple[Place, int], ...]] = {}


def set_by(
    function: Any, place: Place | None, within: tuple[Any, ...] = ()
) -> tuple[tuple[Place, int], ...]:
    """Return what a function, or a class that is called, may set.

    Parameters
    ----------
    function : function or class
    place : Place, optional
        If it is a method that gets a class: that class, as the owner of the method.
    within : tuple
        What this is asked for that calls it, among which it may be itself.

    Returns
    -------
    tuple of (Place, int)
        With each, what it is.
    """
    key = function if place is None else (function, place.owner)
    if key in within:
        return ()
    found = _known.get(key)
    if found is None:
        found = _known[key] = tuple(_set_by(function, place, (*within, key)))
    return found


def _set_by(
    function: Any, place: Place | None, within: tuple[Any, ...]
) -> Iterator[tuple[Place, int]]:
    if place is not None:
        for name in _attributes_set_by(function.__code__):
            yield Place(place.module, place.path, name, place.owner), VARIABLE
    if (function.__module__, function.__qualname__) == ("mimetypes", "add_type"):
        yield Place("mimetypes", (), "_db", sys.modules["mimetypes"]), VARIABLE  # where it adds it
    members = list(vars(function).values()) if isinstance(function, type) else [function]
    for member in members:
        inner = member
        while type(inner) is FunctionType and "__wrapped__" in vars(inner):
            inner = vars(inner)["__wrapped__"]
        if type(inner) is FunctionType:
            yield from _variables_of(inner)
            if member is function:  # not for each method of a class: that takes long
                yield from _others_of(inner, within)


def registered_by(function: Any) -> Iterator[Place]:
    """Yield what a function such as ``xarray.register_dataarray_accessor`` may have registered.

    They set an attribute of a class of their package, under a name that the program chooses.
    """
    top = module_of(function).partition(".")[0]
    for kind in list(vars_of(sys.modules.get(top)).values()):
        if not issubclass(type(kind), type) or module_of(kind).partition(".")[0] != top:
            continue
        for name, value in list(vars_of(kind).items()):
            if _is_of_program(value):
                yield Place(module_of(kind), tuple(kind.__qualname__.split(".")), name, kind)


def _is_of_program(value: Any) -> bool:
    """Return whether an attribute is the program's, or a descriptor that has something of it."""
    parts = [value]
    if hasattr(type(value), "__get__"):
        parts += vars_of(value).values()
    return any(
        type(part) is FunctionType or issubclass(type(part), type)
        for part in parts
        if is_programs(part)
    )


def _attributes_set_by(code: CodeType) -> Iterator[str]:
    """Yield the attributes that a method sets of its first argument."""
    before = ""
    for kind, value in steps_of(code):
        if kind == "STORE_ATTR" and before and before == code.co_varnames[0]:
            yield value
        before = value if kind.startswith("LOAD_FAST") else ""


def _variables_of(function: FunctionType) -> Iterator[tuple[Place, int]]:
    names = function.__globals__
    name = names.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    if not isinstance(module, ModuleType) or vars(module) is not names:
        return
    code = function.__code__
    parts = [code, *(part for part in code.co_consts if isinstance(part, CodeType))]
    for variable in bound(parts, GLOBALS):
        yield Place(module.__name__, (), variable, module), VARIABLE
    containers = {
        name
        for name in code.co_names
        # A cache, as `re._cache`, only takes time to fill: each worker would compile it all.
        if type(names.get(name)) in CONTAINERS and "cache" not in name.lower()
    }
    if containers:
        for variable in containers & set(_changed_in(code)):
            yield Place(module.__name__, (), variable, module), CONTAINER


def _others_of(function: FunctionType, within: tuple[Any, ...]) -> Iterator[tuple[Place, int]]:
    code = function.__code__
    mentions = mentions_of(code)
    names = {**function.__globals__, **_defaults(function)}
    for dotted in mentions.assigned:
        place = find(dotted, names, mentions)
        if place is not None and issubclass(type(place.owner), (ModuleType, type)):
            yield place, OTHER
    for dotted in mentions.changed:
        place = find(dotted, names, mentions)
        if place is not None and issubclass(type(place.owner), type):
            yield place, CONTAINER
    for dotted in mentions.called:
        method, place = called(dotted, names, mentions)
        if place is not None and method is not function:
            yield from set_by(method, place, within)
    for dotted in mentions.returned:
        # A name from before, which leaves it all to the one that has replaced it.
        method, place = called(dotted, names, mentions)
        if type(method) is FunctionType and method.__module__ == function.__module__:
            yield from set_by(method, place, within)


def _defaults(function: FunctionType) -> dict[str, Any]:
    """Return the classes that parameters have by default, by the names of the parameters."""
    code, values = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(values) : code.co_argcount]
    found = zip(names, values, strict=True)
    return {name: value for name, value in found if issubclass(type(value), type)}


def _changed_in(code: CodeType) -> Iterator[str]:
    """Yield the global names on which some code calls a method like `update`, or sets an item."""
    steps = [step for step in steps_of(code) if step[0] != "PUSH_NULL"]
    for place, (kind, value) in enumerate(steps):
        if kind in ("LOAD_ATTR", "LOAD_METHOD") and value in CHANGERS:
            at = place - 1
        elif kind == "STORE_SUBSCR":
            at = place - 1  # where the key is, which may be an attribute of something
            while steps[at][0] == "LOAD_ATTR":
                at -= 1
            at -= 1
        else:
            continue
        kind, value = steps[at]
        if kind == "LOAD_GLOBAL":
            yield value
