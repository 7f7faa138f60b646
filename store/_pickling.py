"""How an object that is put is pickled: for no process in particular, maybe for many.

Functions and classes are pickled as names, which this process, its forked and spawned children and
a later run of the program resolve to their own ones. The names are noted: before a reference is
sent to a process that lacks them, they have to be defined there (the pools of this project do so).
A function without a name, such as a lambda, is pickled as its definition.
"""

from __future__ import annotations

import _pickle
import functools
import sys
from types import FunctionType

from store._codec import encode, reduce_large

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from store._codec import Encoded

    #: A module, and what its namespace must have.
    Name = tuple[str, str]

_LruType: Any = type(functools.lru_cache(int))

#: Folders of modules that every process of this program finds.
_INSTALLED = ("site-packages", "dist-packages")


def encoded(obj: object) -> tuple[Encoded, tuple[Name, ...]]:
    """Pickle an object.

    Returns
    -------
    encoded : Encoded
    names : tuple
        Names that some process may lack: those in the main module, and in modules that are not
        known to be installed.
    """
    names: dict[Name, None] = {}
    try:
        return encode(obj, _noting(_Pickler, names)), tuple(names)
    except (_pickle.PicklingError, TypeError, AttributeError):
        names.clear()
        return encode(obj, _noting(_reaching(), names)), tuple(names)


class _Pickler(_pickle.Pickler):
    names: dict[Name, None]

    def reducer_override(self, obj: Any) -> Any:
        return _reduce(obj, self.names)


@functools.cache
def _reaching() -> Any:
    """Return a pickler class for what the other one refuses; its import takes long."""
    from cloudpickle import CloudPickler

    class Pickler(CloudPickler):  # type: ignore[misc]  # it ships no annotations
        names: dict[Name, None]

        def reducer_override(self, obj: Any) -> Any:
            reduced = _reduce(obj, self.names)
            if reduced is not NotImplemented or (_has_name(obj) and _is_left(obj)):
                return reduced
            return super().reducer_override(obj)

    return Pickler


def _is_left(obj: Any) -> bool:
    """Return whether plain pickle is to write a function's or class's name, or to refuse it."""
    # The definition of a class of ctypes can be written, but not be read.
    return type(obj).__module__ == "_ctypes" or _is_noted(obj)


def _noting(pickler_class: Any, names: dict[Name, None]) -> Any:
    def make(*args: Any, **kwds: Any) -> Any:
        pickler = pickler_class(*args, **kwds)
        pickler.names = names
        return pickler

    return make


def _reduce(obj: Any, names: dict[Name, None]) -> Any:
    return _by_name(obj, names) if _has_name(obj) else reduce_large(obj)


def _has_name(obj: Any) -> bool:
    kind = type(obj)
    return kind is FunctionType or kind is _LruType or issubclass(kind, type)


def _by_name(obj: Any, names: dict[Name, None]) -> Any:
    """Note the name of a function or class; return how it is reduced."""
    if not _is_noted(obj):
        return NotImplemented
    first = obj.__qualname__.partition(".")[0]
    if obj.__module__ == "__mp_main__":
        # In a spawned process of `multiprocessing`; elsewhere that module has its own name.
        names["__main__", first] = None
        return named, (obj.__qualname__,)
    names[obj.__module__, first] = None
    return NotImplemented


def _is_noted(obj: Any) -> bool:
    """Return whether something has a name that not every process may know."""
    module, qualname = getattr(obj, "__module__", None), getattr(obj, "__qualname__", "")
    if type(module) is not str or type(qualname) is not str or not _may_lack(module):
        return False
    return _found(module, qualname) is obj


def _may_lack(name: str) -> bool:
    """Return whether a process may not find a module by its name."""
    if name in ("__main__", "__mp_main__"):
        return True
    if name.partition(".")[0] in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return not (isinstance(file, str) and any(folder in file for folder in _INSTALLED))


def _found(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def named(qualname: str) -> Any:
    """Return what the main module has by this name.

    Raises
    ------
    AttributeError
    """
    # In a spawned process of `multiprocessing` the program is `__mp_main__`, and may not be known
    # as `__main__` yet.
    found: Any = sys.modules.get("__mp_main__") or sys.modules["__main__"]
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
