"""Find at once, among the first parts of an object, one that no pickler can carry.

``self.connection`` beside ``self.table``: pickle comes to the connection when it has gone through
the table, and what is tried then, other picklers and fewer globals, goes through it each time, to
come to the same connection. So after the first refusal it is looked for where programs keep such
things: in the variables that functions use and the attributes of plain objects. Tables are passed
over.
"""

from __future__ import annotations

import copyreg
import functools
from collections import deque
from types import FunctionType, MethodType

from ._constants import constants_of
from ._culprit import parts_of, refusal_of
from ._functions import ATOMS
from ._reducers import Unpicklable, find, find_late
from ._slots import reduced_as_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    #: From the object that was to be sent to its culprit: names, and what has them.
    Steps = tuple[tuple[str, Any], ...]

#: Objects that are looked at, at most, and how deep.
_MANY = 1000
_DEEPEST = 8

#: What is larger is a table.
_ITEMS = 64

_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
_FUNCTIONS = frozenset({FunctionType, MethodType, functools.partial})
_getstate = object.__getstate__


def unpicklable_part(obj: Any, up: bool) -> Steps | None:
    """Return the way from an object to a part that cannot be pickled; None if none was found.

    Parameters
    ----------
    obj : object
    up : bool
        Whether it is to be sent to the parent.
    """
    pending: deque[Steps] = deque([(("", obj),)])
    seen = {id(obj)}
    held = []  # parts that were made just now are kept, so that their ids are not used again
    while pending and len(seen) < _MANY:
        steps = pending.popleft()
        part = steps[-1][1]
        if _is_refused(part, up):
            return steps
        if len(steps) > _DEEPEST or not _is_looked_into(part):
            continue
        for name, inner in _parts(part):
            if type(inner) not in ATOMS and id(inner) not in seen:
                seen.add(id(inner))
                held.append(inner)
                pending.append((*steps, (name, inner)))
    return None


def any_unpicklable(values: Iterable[Any], up: bool) -> type | None:
    """Return the class of a part of one of some values that cannot be pickled, if one was found."""
    for value in values:
        steps = unpicklable_part(value, up)
        if steps is not None:
            return type(steps[-1][1])
    return None


def _parts(part: Any) -> list[tuple[str, Any]]:
    try:
        return list(parts_of(part))
    except Exception:
        return []  # pickling it will tell


def _is_looked_into(part: Any) -> bool:
    """Return whether its parts are pickled with it, and are few."""
    kind: Any = type(part)
    if kind in _CONTAINERS:
        return len(part) <= _ITEMS
    if kind in _FUNCTIONS:
        return True
    return _is_plain(kind) and kind.__dictoffset__ != 0 and _is_left_to_pickle(part, kind)


def _is_left_to_pickle(part: Any, kind: type) -> bool:
    """Return whether no pickler of ours knows better: reducers, names of what packages have."""
    try:
        known = find(kind) or find_late(part, kind)
    except Unpicklable:
        return False
    return known is None and id(part) not in constants_of(kind)


def _is_plain(kind: Any) -> bool:
    """Return whether instances are pickled as `object` says: with all their attributes."""
    return (
        not issubclass(kind, type)
        and kind not in copyreg.dispatch_table
        and reduced_as_object(kind)
        and kind.__getstate__ is _getstate
    )


def _is_refused(part: Any, up: bool) -> bool:
    """Return whether a part cannot be pickled, whatever it holds: pickle knows nothing of it."""
    kind: Any = type(part)
    if kind in ATOMS or kind in _CONTAINERS or kind in _FUNCTIONS or not _is_plain(kind):
        return False
    try:
        if find(kind) is None:
            part.__reduce_ex__(5)
    except Unpicklable:
        return True
    except TypeError:
        # Of some of these our own picklers know better: locks, files.
        return refusal_of(part, up) is not None
    except Exception:
        pass  # an error of its own, which pickling it will raise
    return False
