"""Definitions of modules in whose place a program has put others.

``builtins.print = loud`` holds in workers too, and so does ``socket.socket = Proxied``. What these
call, or are derived from, is what was there before. Pickle cannot name that: its name means the
program's now.
"""

from __future__ import annotations

import builtins
import sys
from types import ModuleType

from ._origins import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: By module and dotted name, what was there: in workers, and in a program that has sent it.
_originals: dict[tuple[str, str], Any] = {}

#: Names, beside those in `builtins`, that the program has given to something else.
_replaced: set[tuple[str, str]] = set()


def note_replaced(module: str, qualname: str) -> None:
    """Note that workers get what the program has put under that name."""
    _replaced.add((module, qualname))


def keep_original(module: str, qualname: str, value: Any) -> None:
    """Keep what is under a name, before the program's takes its place."""
    note_replaced(module, qualname)
    if value is not None:
        _originals.setdefault((module, qualname), value)


def put(name: str, value: Any) -> None:
    """Have `name` mean `value` in every module of this process."""
    names = vars(builtins)
    keep_original("builtins", name, names.get(name))
    names[name] = value


def original(module: str, qualname: str) -> Any:
    """Return what the import of a module has left under a name."""
    found = _originals.get((module, qualname))
    if found is None:
        __import__(module)
        found = resolve(vars(sys.modules[module]), qualname)
        if found is None:
            raise AttributeError(f"module {module!r} has no {qualname!r}")
    return found


def is_replaced(obj: Any) -> bool:
    """Return whether a function or class is one in whose place the program has put another."""
    key = obj.__module__, obj.__qualname__
    if key not in _replaced or key[0] not in sys.modules:
        return False
    return resolve(vars(sys.modules[key[0]]), key[1]) is not obj


def reduce_original(obj: Any) -> Any:
    """Reduce such a function or class."""
    key = obj.__module__, obj.__qualname__
    _originals.setdefault(key, obj)  # a task may return it
    return original, key


def reduce_builtin(pickler: Any, func: Any) -> Any:
    """Reduce a function written in C; only those are special whose name means another one."""
    owner = func.__self__
    if type(owner) is ModuleType and vars(owner).get(func.__name__) is not func:
        if owner is builtins or (func.__module__, func.__name__) in _replaced:
            return reduce_original(func)
    return pickler.reduce_other(func, type(func))
