"""Objects of modules that are compared by identity: found there again, not copied.

``MISSING = object()`` of a package may be held by an object that tasks use, as its attribute. A
fork keeps what it is; a copy would be equal to nothing.
"""

from __future__ import annotations

import copyreg
import sys
from _contextvars import ContextVar

from ._functions import ATOMS
from ._homes import attribute_of
from ._newer import BARE
from ._origins import importable
from ._slots import native_base, reduced_as_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._picklers import BasePickler

_getstate = object.__getstate__

#: How many modules there were when such instances were looked for, and where these are, by
#: id. Kept: to go through all modules takes milliseconds.
_bare: tuple[int, dict[int, tuple[str, str]]] = (0, {})


#: Types whose objects are found in the modules that have them.
_FOUND = BARE | {ContextVar}


def reduce_bare(pickler: BasePickler, obj: object) -> Any:
    """Reduce an instance of a type in `_FOUND` to the module that has it, and its name there."""
    global _bare
    if _bare[0] != len(sys.modules):
        modules = sys.modules.copy().items()
        places = {
            id(value): (module_name, name)
            for module_name, module in modules
            for name, value in list(getattr(module, "__dict__", {}).items())
            if type(value) in _FOUND
        }
        _bare = len(modules), places
    place = _bare[1].get(id(obj))
    return (attribute_of, place) if place is not None and _is_at(obj, *place) else NotImplemented


def constants_of(kind: type) -> dict[int, str]:
    """Return the names that a class's module has for instances of the class, by their ids."""
    if not (_is_plain(kind) and importable(kind.__module__)):
        return {}
    names = list(vars(sys.modules[kind.__module__]).items())
    return {id(value): name for name, value in names if type(value) is kind}


def reduce_constant(obj: Any, kind: type, name: str) -> Any:
    """Reduce an instance that its class's module has under a name, with what it holds.

    Only for what a fork would have in common with the program: tasks may change it. And only if it
    holds nothing but atoms: then the receiver can tell whether its own is the same.

    Parameters
    ----------
    obj : object
    kind : type
        Its class.
    name : str
        From `constants_of`.

    Returns
    -------
    tuple or NotImplemented
    """
    state = vars(obj)
    if _is_at(obj, kind.__module__, name) and ATOMS.issuperset(map(type, state.values())):
        return _constant, (kind, name, state)
    return NotImplemented


def _is_plain(kind: Any) -> bool:
    """Return whether instances are pickled as `object` does it, by their attributes alone."""
    return (
        native_base(kind) is object  # not by the items of a dict or a list
        and reduced_as_object(kind)
        and kind.__getstate__ is _getstate
        and kind.__dictoffset__ != 0
        and not hasattr(kind, "__setstate__")
        and not hasattr(kind, "__getnewargs__")
        and not hasattr(kind, "__getnewargs_ex__")
        and not copyreg._slotnames(kind)  # type: ignore[attr-defined]  # missing in typeshed
    )


def _is_at(obj: object, module_name: str, name: str) -> bool:
    module = sys.modules.get(module_name)
    return getattr(module, "__dict__", {}).get(name) is obj and importable(module_name)


def _constant(kind: Any, name: str, state: dict[str, Any]) -> Any:
    """Return the instance that a module has; a copy, if that holds something else here."""
    found = vars(sys.modules[kind.__module__]).get(name)
    if type(found) is kind and vars(found) == state:
        return found
    made = kind.__new__(kind)
    vars(made).update(state)
    return made
