"""Which variables of its module a function sets, as ``mlflow.set_tracking_uri`` does.

The program calls such functions to set up a package, and drops what they return. What they set goes
by their code: names that are declared `global`, and containers of the module that are changed.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType, ModuleType

from pool._workers._variables._assigned import GLOBALS, bound
from pool._workers._variables._contents import CONTAINERS

from ._mentions import CHANGERS
from ._places import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: What was found out, by function or class.
_known: dict[Any, tuple[tuple[Place, bool], ...]] = {}


def variables_set_by(function: Any, place: Place | None) -> tuple[tuple[Place, bool], ...]:
    """Return the variables that a function, or a class that is called, may set.

    Parameters
    ----------
    function : function or class
    place : Place, optional
        If it is a method that gets a class: that class, as the owner of the method.

    Returns
    -------
    tuple of (Place, bool)
        With each, whether it is a container that is changed in place.
    """
    key = function if place is None else (function, place.owner)
    found = _known.get(key)
    if found is None:
        found = _known[key] = tuple(_variables_set_by(function, place))
    return found


def _variables_set_by(function: Any, place: Place | None) -> Iterator[tuple[Place, bool]]:
    if place is not None:
        for name in _attributes_set_by(function.__code__):
            yield Place(place.module, place.path, name, place.owner), False
    members = list(vars(function).values()) if isinstance(function, type) else [function]
    for member in members:
        inner = member
        while type(inner) is FunctionType and "__wrapped__" in vars(inner):
            inner = vars(inner)["__wrapped__"]
        if type(inner) is FunctionType:
            yield from _variables_of(inner)


def _attributes_set_by(code: CodeType) -> Iterator[str]:
    """Yield the attributes that a method sets of its first argument."""
    from dis import get_instructions

    before = ""
    for one in get_instructions(code):
        if one.opname == "STORE_ATTR" and before and before == code.co_varnames[0]:
            yield one.argval
        before = str(one.argval) if one.opname.startswith("LOAD_FAST") else ""


def _variables_of(function: FunctionType) -> Iterator[tuple[Place, bool]]:
    names = function.__globals__
    name = names.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    if not isinstance(module, ModuleType) or vars(module) is not names:
        return
    code = function.__code__
    parts = [code, *(part for part in code.co_consts if isinstance(part, CodeType))]
    for variable in bound(parts, GLOBALS):
        yield Place(module.__name__, (), variable, module), False
    containers = {name for name in code.co_names if type(names.get(name)) in CONTAINERS}
    if containers:
        for variable in containers & set(_changed_in(code)):
            yield Place(module.__name__, (), variable, module), True


def _changed_in(code: CodeType) -> Iterator[str]:
    """Yield the global names on which some code calls a method like `update`, or sets an item."""
    from dis import get_instructions

    instructions = [one for one in get_instructions(code) if one.opname != "PUSH_NULL"]
    for place, one in enumerate(instructions):
        if one.opname in ("LOAD_ATTR", "LOAD_METHOD") and one.argval in CHANGERS:
            at = place - 1
        elif one.opname == "STORE_SUBSCR":
            at = place - 1  # where the key is, which may be an attribute of something
            while instructions[at].opname == "LOAD_ATTR":
                at -= 1
            at -= 1
        else:
            continue
        if instructions[at].opname == "LOAD_GLOBAL":
            yield instructions[at].argval
