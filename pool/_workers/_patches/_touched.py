"""Objects that modules of the program have made when they were imported, and that it changed since.

``state.scaler.fit(data)``, ``config.options.depth = 3``, ``tables.primes[0] = 2``: a worker that
imports the module makes the object anew, and would have it as that leaves it. What is data is sent
with the module's variables; for other objects the text tells that something is done to them.
"""

from __future__ import annotations

import sys

from pool._workers._carried._setting import packed
from pool._workers._variables._data import ATOMS, TooLarge, is_of_program, is_plain, may_be_data

from ._applied import STATE
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
    for names, mentions in texts:
        for dotted in (*mentions.called, *mentions.changed, *mentions.assigned):
            place = find(f"{dotted}._" if dotted in mentions.changed else dotted, names, mentions)
            if place is None or len(place.path) == 0 or not is_of_program(place.module):
                continue
            variable = place.path[0]
            value = vars_of(sys.modules[place.module]).get(variable)
            kind = type(value)
            if kind in ATOMS or issubclass(kind, type):
                continue
            try:
                plain = is_plain(value)
            except TooLarge:
                lost = f"{place.module}.{variable}"
                continue
            if plain and may_be_data(kind):
                continue  # sent with the variables
            data = packed(value) if plain else None
            if data is not None:
                patches[place.module, variable] = place.module, (), variable, STATE, data
            elif dotted not in mentions.called:
                lost = f"{place.module}.{variable}"
    return list(patches.values()), lost


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
