"""Objects that modules of the program have made when they were imported, and that it changed since.

``state.scaler.fit(data)``, ``config.options.depth = 3``, ``tables.primes[0] = 2``, or that it has
replaced, ``config.weights = numpy.ones(3)``: a worker that imports the module makes the object
anew, and would have it as that leaves it. What is data is sent with the module's variables; for
other objects the text tells that something is done to them.
"""

from __future__ import annotations

import sys
from _thread import _local as local
from collections import deque
from itertools import repeat

from pool._pickling._slots import reduced_as_object
from pool._workers._carried._setting import packed
from pool._workers._variables._data import (
    ATOMS,
    DEFINITIONS,
    TooLarge,
    is_of_program,
    is_plain,
    may_be_data,
    module_of,
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
    from ._places import Place


def touched(texts: Iterable[tuple[dict[str, Any], Mentions]]) -> tuple[list[Patch], str]:
    """Return the state of such objects; and one that workers can only inherit, or "".

    A connection or the like, of which a method was called, is as its import leaves it: most methods
    change nothing.
    """
    patches: list[Patch] = []
    lost = ""
    for (module, variable), uses in _uses(texts).items():
        try:
            patch = _patch_of(module, variable, uses)
        except (_IsLost, TooLarge):
            lost = f"{module}.{variable}"
        except Exception:
            continue  # objects are asked what they are; the others are not to suffer for that
        else:
            patches += [] if patch is None else [patch]
    return patches, lost


class _IsLost(Exception):
    """The program has changed an object that cannot be sent."""


def _uses(
    texts: Iterable[tuple[dict[str, Any], Mentions]],
) -> dict[tuple[str, str], list[tuple[Place, bool]]]:
    """Return what the texts say of variables of the program's own modules, by module and variable.

    Each time, the place; and whether it is assigned to.
    """
    uses: dict[tuple[str, str], list[tuple[Place, bool]]] = {}
    places: dict[tuple[str, str, int], Place | None] = {}  # many modules say the same
    for names, mentions in texts:
        others = *mentions.called, *(f"{dotted}._" for dotted in mentions.changed)
        for dotted, sets in (*zip(others, repeat(False)), *zip(mentions.assigned, repeat(True))):
            first = dotted.partition(".")[0]
            full = mentions.imported.get(first, "")
            if full and not is_of_program(full):
                continue
            key = dotted, full, id(names.get(first))
            if key not in places:
                places[key] = _found(dotted, names, mentions)
            place = places[key]
            # A function of the module that is called does nothing to a variable's object.
            if place is not None and is_of_program(place.module) and (sets or place.path):
                variable = place.path[0] if place.path else place.name
                uses.setdefault((place.module, variable), []).append((place, sets))
    return uses


def _patch_of(module: str, variable: str, uses: Iterable[tuple[Place, bool]]) -> Patch | None:
    """Return the state of what a variable has, if the variables do not bring it.

    Raises
    ------
    _IsLost or TooLarge
        If workers can only inherit it.
    """
    value = vars_of(sys.modules.get(module)).get(variable)
    kind = type(value)
    if kind in ATOMS or issubclass(kind, DEFINITIONS) or (may_be_data(kind) and _is_data(value)):
        return None
    if kind is local and not vars(value):
        return None  # whatever other threads have put there
    data = packed(value) if is_plain(value) and _has_all(value) else None
    if data is not None:
        is_other = any(not place.path for place, _ in uses) and _is_of_one(value)
        return module, (), variable, PICKLED if is_other else STATE, data
    if any(_is_changed(place, kind, sets) for place, sets in uses):
        raise _IsLost
    return None


def _is_changed(place: Place, kind: type, sets: bool) -> bool:
    """Return whether what the text says is sure to have changed an object of that class."""
    if len(place.path) == 0:
        return _is_foreign(kind, place.module)
    return sets or _is_container(place.owner)


def _found(dotted: str, names: dict[str, Any], mentions: Mentions) -> Place | None:
    """Return the place that a name means; or one of the same variable, if that is what it has.

    ``state.frame.loc`` is what a property returns, which is not asked.
    """
    place = find(dotted, names, mentions)
    while place is None and dotted.count(".") > 1:
        dotted = dotted.rpartition(".")[0]
        place = find(dotted, names, mentions)
    return place


def _is_foreign(kind: type, module: str) -> bool:
    """Return whether a module surely has not made an instance of that class when it was imported.

    A test's stand-in for a connection is one. A connection may be the one that the import has made:
    not all that the text says is done, and tests undo it.
    """
    home = module_of(kind)
    if home == module or (home != "__main__" and not is_of_program(home)):
        return False
    return all(kind is not value for value in list(vars(sys.modules[module]).values()))


def _is_container(owner: Any) -> bool:
    """Return whether `add` or `update` is sure to change an object: not that of a database."""
    return issubclass(type(owner), (list, dict, set, deque, bytearray))


def _has_all(value: Any) -> bool:
    """Return whether the pickle of an object has its attributes.

    Some objects are made anew by their own `__reduce__`, and filled by the imports that follow.
    """
    kind: Any = type(value)
    if reduced_as_object(kind):
        return True
    reduced = value.__reduce_ex__(5)
    return type(reduced) is not tuple or len(reduced) > 2 or not vars_of(value)


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
