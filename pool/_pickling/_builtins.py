"""Functions of `builtins` in whose place a program has put others.

``builtins.print = loud`` holds in workers too. What ``loud`` itself calls is the one that was there
before, which pickle cannot name: that name means ``loud`` now.
"""

from __future__ import annotations

import builtins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: In a worker: by name, what was in `builtins` before the program's own took its place.
_originals: dict[str, Any] = {}


def put(name: str, value: Any) -> None:
    """Have `name` mean `value` in every module of this process."""
    names = vars(builtins)
    if name in names:
        _originals.setdefault(name, names[name])
    names[name] = value


def original(name: str) -> Any:
    """Return what Python itself has under that name."""
    return _originals[name] if name in _originals else getattr(builtins, name)


def reduce_builtin(pickler: Any, func: Any) -> Any:
    """Reduce a function written in C; only those are special whose name means another one."""
    if func.__self__ is builtins and vars(builtins).get(func.__name__) is not func:
        return original, (func.__name__,)
    return pickler.reduce_other(func, type(func))
