"""Objects that modules of the program have made when they were imported, and that it changed since.

``state.scaler.fit(data)``, ``config.options.depth = 3``, ``tables.primes[0] = 2``, ``rng.seed(1)``
in a function of the module itself, or that it has replaced, ``config.weights = numpy.ones(3)``: a
worker that imports the module makes the object anew, and would have it as that leaves it. What is
data is sent with the module's variables; for other objects the text tells that something is done to
them.
"""

from __future__ import annotations

import sys
from _thread import _local as local
from collections import deque
from functools import partial
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
from ._places import find, find_own, vars_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._applied import Patch
    from ._mentions import Mentions
    from ._places import Place

    #: A module, the names that lead to one of its classes or none, and the name there.
    Variable = tuple[str, tuple[str, ...], str]

#: Modules of generators of random numbers, and what gives one another state.
_OF_GENERATORS = frozenset({"random", "numpy.random._generator", "numpy.random.mtrand"})
_SEEDS = frozenset({"seed", "setstate", "set_state", "_"})


def touched(texts: Iterable[tuple[dict[str, Any], Mentions]]) -> tuple[list[Patch], str]:
    """Return the state of such objects; and one that workers can only inherit, or "".

    A connection or the like, of which a method was called, is as its import leaves it: most methods
    change nothing.
    """
    patches: list[Patch] = []
    lost = ""
    for key, uses in _uses(texts).items():
        try:
            patch = _patch_of(*key, uses)
        except (_IsLost, TooLarge):
            module, path, variable = key
            lost = ".".join((module, *path, variable))
        except Exception:
            continue  # objects are asked what they are; the others are not to suffer for that
        else:
            patches += [] if patch is None else [patch]
    return patches, lost


class _IsLost(Exception):
    """The program has changed an object that cannot be sent."""


def _uses(
    texts: Iterable[tuple[dict[str, Any], Mentions]],
) -> dict[Variable, list[tuple[Place, bool]]]:
    """Return what the texts say of variables of the program's own modules and their classes.

    Each time, the place; and whether it is sure to be assigned to.
    """
    uses: dict[Variable, list[tuple[Place, bool]]] = {}
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
                places[key] = _found(dotted, partial(find, names=names, mentions=mentions))
            _note(uses, places[key], sets)
        module: Any = names.get("__name__")
        for dotted in mentions.own:
            place = _found(dotted, partial(find_own, module))
            # Not for sure, whatever is done: a function may have a variable of that name itself.
            if place is not None and not _is_drawn_from(place):
                _note(uses, place, False)
    return uses


def _note(uses: dict[Variable, list[tuple[Place, bool]]], place: Place | None, sets: bool) -> None:
    """Enter a place with the variable of the program's through which it is reached, if any."""
    if place is not None and is_of_program(place.module):
        path, variable = _variable_at(place)
        # A function of the module or class that is called does nothing to a variable's object.
        if sets or len(place.path) > len(path):
            uses.setdefault((place.module, path, variable), []).append((place, sets))


def _variable_at(place: Place) -> tuple[tuple[str, ...], str]:
    """Return the variable through which a place is reached: its class, if any, and its name."""
    owner: Any = sys.modules.get(place.module)
    for depth, part in enumerate(place.path):
        value = vars_of(owner).get(part)
        if not issubclass(type(value), type):
            return place.path[:depth], part
        owner = value
    return place.path, place.name


def _is_drawn_from(place: Place) -> bool:
    """Return whether random numbers are drawn there: for that, each process has a state of its own.

    A generator that nobody has seeded is seeded anew by each import.
    """
    return module_of(type(place.owner)) in _OF_GENERATORS and place.name not in _SEEDS


def _patch_of(
    module: str, path: tuple[str, ...], variable: str, uses: Iterable[tuple[Place, bool]]
) -> Patch | None:
    """Return the state of what a variable has, if the variables do not bring it.

    Raises
    ------
    _IsLost or TooLarge
        If workers can only inherit it.
    """
    owner: Any = sys.modules.get(module)
    for part in path:
        owner = vars_of(owner).get(part)
    value = vars_of(owner).get(variable)
    kind = type(value)
    if kind in ATOMS or issubclass(kind, DEFINITIONS) or (may_be_data(kind) and _is_data(value)):
        return None
    if path and hasattr(kind, "__get__"):
        return None  # a property or the like: part of what the class is
    if kind is local and not vars(value):
        return None  # whatever other threads have put there
    data = packed(value) if is_plain(value) and _has_all(value) else None
    if data is not None:
        is_other = any(len(place.path) == len(path) for place, _ in uses) and _is_of_one(value)
        return module, path, variable, PICKLED if is_other else STATE, data
    if any(_is_changed(place, len(path), kind, sets) for place, sets in uses):
        raise _IsLost
    return None


def _is_changed(place: Place, depth: int, kind: type, sets: bool) -> bool:
    """Return whether what the text says is sure to have changed an object of that class."""
    if len(place.path) == depth:
        return _is_foreign(kind, place.module)
    return sets or _is_container(place.owner)


def _found(dotted: str, look: Callable[[str], Place | None]) -> Place | None:
    """Return the place that a name means; or one of the same variable, if that is what it has.

    ``state.frame.loc`` is what a property returns, which is not asked.
    """
    place = look(dotted)
    while place is None and dotted.count(".") > 1:
        dotted = dotted.rpartition(".")[0]
        place = look(dotted)
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
