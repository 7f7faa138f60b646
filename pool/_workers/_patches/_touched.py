"""Objects that modules of the program have made when they were imported, and that it changed since.

``state.scaler.fit(data)``, ``config.options.depth = 3``, ``tables.primes[0] = 2``, or that it has
replaced, ``config.weights = numpy.ones(3)``: a worker that
imports the module makes the object anew, and would have it as that leaves it. What is data is sent
with the module's variables; for other objects the text tells that something is done to them.
"""

from __future__ import annotations

import sys

from pool._workers._carried._setting import packed
from pool._workers._variables._data import (
    ATOMS,
    DEFINITIONS,
    TooLarge,
    is_of_program,
    is_plain,
    may_be_data,
    pickled,
)
from pool._workers._variables._snapshot import snapshots

from ._applied import PICKLED, STATE
from ._places import find, vars_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ._applied import Patch
    from ._mentions import Mentions


def touched(texts: Iterable[tuple[dict[str, Any], Mentions]]) -> tuple[list[Patch], str]:
    """Return the state of such objects; and one that workers can only inherit, or "".

    A connection or the like, of which a method was called, is as its import leaves it: most methods
    change nothing.
    """
    patches: dict[tuple[str, str], Patch] = {}
    lost = ""
    # Those assigned come last: what the program has put there is another object.
    for names, mentions in texts:
        for dotted in (*mentions.called, *mentions.changed, *mentions.assigned):
            place = find(f"{dotted}._" if dotted in mentions.changed else dotted, names, mentions)
            if place is None or not is_of_program(place.module):
                continue
            is_assigned = len(place.path) == 0
            if is_assigned and dotted not in mentions.assigned:
                continue
            variable = place.name if is_assigned else place.path[0]
            value = vars_of(sys.modules[place.module]).get(variable)
            kind = type(value)
            if kind in ATOMS or issubclass(kind, DEFINITIONS):
                continue
            if may_be_data(kind) and _is_data(value):
                continue  # sent with the variables
            try:
                plain = is_plain(value)
            except TooLarge:
                lost = f"{place.module}.{variable}"
                continue
            data = packed(value) if plain else None
            if data is not None:
                how = PICKLED if is_assigned and _is_of_one(value) else STATE
                patches[place.module, variable] = place.module, (), variable, how, data
            elif dotted not in mentions.called:
                lost = f"{place.module}.{variable}"
    return list(patches.values()), lost


def _is_data(value: Any) -> bool:
    try:
        pickled("", {"": value}, {})
    except Exception:
        return False
    return True


def _is_of_one(value: Any) -> bool:
    """Return whether one module alone has an object, of those of the program."""
    modules = snapshots.modules().values()
    return sum(value is other for module in modules for other in list(vars(module).values())) == 1


def become(present: Any, other: Any) -> bool:
    """Give an object the state of another one of its class; return whether that was possible.

    So those that have it already, by `from ... import`, see that too.
    """
    kind = type(present)
    if kind is not type(other):
        return False
    if hasattr(kind, "dtype") and hasattr(kind, "__array_interface__"):
        if (present.shape, present.dtype) != (other.shape, other.dtype):
            return False
        present[...] = other
        return True
    if any(_has_slots(base) for base in kind.__mro__) or not issubclass(kind, (dict, list, set)):
        if not _is_only_attributes(kind):
            return False
    if issubclass(kind, dict):
        dict.clear(present)
        dict.update(present, other)
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
