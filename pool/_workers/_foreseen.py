"""Guess which of Python's own modules the tasks will need.

A fork of the program has all its modules. A worker from the forkserver imports what its tasks
use: `json`, `logging` and `urllib` in each of eight workers take longer than all the rest of a
short program. So the forkserver loads them, once, for the workers that it forks after each CPU
has one.

It does not load all that the program has loaded, since each pool would wait for that. What counts
is what functions of the main module refer to, except for those that are running, whose work is
done in this process; and what modules of the program's own refer to, since workers import these as
a whole. Installed packages may take seconds; for them see `pool._workers._servers`.

The guess changes no result. So it must run no code of the user's: nothing here reads an attribute
that one of the user's classes could answer.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType

from pool._workers._warmup import installed, is_of_python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: After so many modules no more of the program's own are looked through.
OWN_MAX = 50


def foreseen() -> list[str]:
    """Return modules that tasks are likely to import."""
    main = sys.modules.get("__main__")
    if type(main) is not ModuleType:
        return []
    namespace = vars(main)
    names = _names_used(namespace)
    looked_through = {"__main__"}
    found: dict[str, None] = {}
    pending: list[Any] = []
    for name in names:
        value = namespace.get(name)
        if type(value) is ModuleType:
            pending += _submodules(_module_of(value), names)
        pending.append(value)
    while pending:
        name = _module_of(pending.pop())
        module = sys.modules.get(name)
        if type(module) is not ModuleType or name in looked_through:
            continue
        looked_through.add(name)
        top = name.partition(".")[0]
        if is_of_python(top):
            found[name] = None
        elif not installed(top) and top not in ("pool", "store") and OWN_MAX > len(looked_through):
            pending += vars(module).values()
    return list(found)


def _module_of(value: Any) -> str:
    """Return the name of a module, or of the module of a function or class, if it is one."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is ModuleType:
        name = vars(value).get("__name__")
    elif kind is type or kind is FunctionType or kind is BuiltinFunctionType:
        name = value.__module__
    else:
        return ""
    return name if type(name) is str else ""


def _submodules(package: str, names: set[str]) -> list[str]:
    """Return loaded modules of a package that are used as attributes, such as `urllib.request`."""
    full = (f"{package}.{name}" for name in names)
    return [name for name in full if name in sys.modules]


def _names_used(namespace: dict[str, Any]) -> set[str]:
    """Return all names used in the functions and methods of a module, but for those that run."""
    running = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        running.add(frame.f_code)
        frame = frame.f_back
    pending: list[CodeType] = []
    for value in list(namespace.values()):
        members = list(vars(value).values()) if type(value) is type else [value]
        for member in members:
            if type(member) is staticmethod or type(member) is classmethod:
                member = member.__func__
            if type(member) is FunctionType and member.__globals__ is namespace:
                pending.append(member.__code__)
    names: set[str] = set()
    while pending:
        code = pending.pop()
        if code not in running:
            names.update(code.co_names)
            pending += [part for part in code.co_consts if type(part) is CodeType]
    return names
