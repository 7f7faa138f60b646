"""One namespace per module that travels by value.

All functions of such a module share the namespace of that name in a worker, so that what
an initializer sets there is seen by the tasks. A name that a function uses is written
there when it is absent, or when the sender has bound it to another object since; what an
initializer or a task has set stays otherwise.
"""

from __future__ import annotations

import os
import sys

from ._facts import facts_of, take_over
from ._homes import bring_home
from ._origins import canonical
from ._versions import Versions, is_marked, mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from ._versions import Mark

#: Namespaces of scopes that are registered nowhere else.
_modules: dict[str, ModuleType] = {}

#: For each scope, the versions of its names: as counted for our workers, and as received.
_sent: dict[str, Versions] = {}
_applied: dict[str, dict[str, int]] = {}

#: The mark of what was written under a name. It tells whether that is still there.
_written: dict[tuple[str, str], Mark] = {}


#: Names of scopes that came because this process had asked for them.
_looked_up: set[tuple[str, str]] = set()


def main_facts() -> bytes:
    """Return what this process's main module says of itself."""
    return facts_of(getattr(sys.modules.get("__main__"), "__dict__", {}))


def install_main(facts: bytes) -> None:
    """Give this process an empty main module, in place of the one it has.

    Parameters
    ----------
    facts : bytes
        What the parent's main module says of itself.
    """
    module = sys.modules["__main__"] = _new_module("__main__", facts)
    vars(module)["__getattr__"] = _look_up
    vars(module)["__dir__"] = _list_names
    _applied.pop("__main__", None)
    _sent.pop("__main__", None)


#: Asks the parent for a name; returns what the answer says, see `_lookups`, and its payload.
ask: Callable[[str], tuple[int, list[Any]]] | None = None


def look_up_with(function: Callable[[str], tuple[int, list[Any]]] | None) -> None:
    """Have names that the main module lacks asked for by a function; None: by nobody."""
    global ask
    ask = function


def _look_up(name: str) -> Any:
    from ._lookups import look_up

    return look_up(name)


def _list_names() -> list[str]:
    from ._lookups import list_names

    return list_names()


def _new_module(name: str, facts: bytes) -> ModuleType:
    module = type(sys)(name)
    vars(module)["__builtins__"] = sys.modules["builtins"]
    if facts:
        take_over(vars(module), facts)
    return module


def open_scope(
    key: str, name: str, by_import: bool, facts: bytes, package: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the globals of a scope, which is made if it is not there.

    Parameters
    ----------
    key, name, by_import, facts
        From `Scope`.
    package : dict or None
        The globals of its package, which has been opened.
    """
    if by_import:
        __import__(name)
        return vars(sys.modules[name])
    known = namespace(key)
    if known is not None:
        return known
    module = _modules[key] = _new_module(name, facts)
    # Some libraries look for the module of a class there (dataclasses, typing, pickle).
    sys.modules.setdefault(name, module)
    return vars(module)


def namespace(key: str) -> dict[str, Any] | None:
    """Return the globals of a scope that travels by value, or None."""
    key = canonical(key)
    module = _modules.get(key) or sys.modules.get(key)
    return None if module is None else vars(module)


def module_of(names: dict[str, Any]) -> ModuleType | None:
    """Return the module made here that has these globals."""
    for module in _modules.values():
        if vars(module) is names:
            return module
    return None


def new_globals(name: str | None) -> dict[str, Any]:
    """Return globals for generated code that belongs to no module."""
    names: dict[str, Any] = {"__builtins__": sys.modules["builtins"]}
    if name is not None:
        names["__name__"] = name
    return names


def versions_of(key: str) -> Versions:
    """Return the versions of a scope's names, as sent by this process."""
    return _sent.get(key) or _sent.setdefault(key, Versions())


def let_go_of_values() -> None:
    """Keep no value alive that a name had when it was sent, and has no longer."""
    for key, versions in list(_sent.items()):
        names = namespace(key)
        if names is not None:
            versions.let_go(names)


def clear() -> None:
    """Forget what was sent: the program ends, and its objects with it."""
    _sent.clear()


def is_from_above(key: str, name: str) -> bool:
    """Return whether the parent process is known to have this name."""
    return name in _applied.get(key, ())


def bind(names: dict[str, Any], key: str, name: str, version: int, value: Any) -> None:
    """Write a name that the parent sent, if it is absent or has changed there."""
    applied = _applied.setdefault(key, {})
    known = applied.get(name)
    applied[name] = version if known is None else max(version, known)
    if name not in names or (known is not None and known < version):
        names[name] = value
        _written[key, name] = mark(value)
    _looked_up.discard((key, name))  # it came with a function, which relies on it


def bind_at_home(
    home: str,
    attribute: str,
    names: dict[str, Any],
    key: str,
    name: str,
    version: int,
    value: Any,
) -> None:
    """Do as `bind`, with an object that the sender has imported from a module by its name."""
    bind(names, key, name, version, value)

    def rebind(found: Any) -> None:
        if names.get(name) is value:
            names[name] = found
            _written[key, name] = mark(found)

    if names[name] is value:
        bring_home(home, attribute, value, rebind)


def note_looked_up(key: str, name: str) -> None:
    """Note that a name was asked for: no function here is known to rely on it."""
    _looked_up.add((key, name))


def outdate(key: str, name: str, version: int) -> None:
    """Drop a name that was asked for, if the parent has bound it anew since."""
    if (key, name) in _looked_up and _applied.get(key, {}).get(name, 0) < version:
        _looked_up.discard((key, name))
        (namespace(key) or {}).pop(name, None)


def is_written(key: str, name: str, version: int, value: Any) -> bool:
    """Return whether `value`, which the name has now, is what the parent sent for it."""
    known = _applied.get(key, {}).get(name)
    written = _written.get((key, name))
    if known is None or known < version or written is None:
        return False
    return is_marked(written, value)


def bind_absent(names: dict[str, Any], name: str, value: Any) -> None:
    """Write a name that a worker sent: nothing that this process has is overwritten."""
    names.setdefault(name, value)


def _after_fork_in_child() -> None:
    look_up_with(None)  # the connection is that of the process which has forked
    _applied.clear()  # what comes from now on is counted by the process that forked
    _written.clear()
    for key, versions in _sent.items():
        versions.reset_lock()
        _applied[key] = versions.numbers()
        # What the fork has inherited is what the parent means by these names.
        names = namespace(key) or {}
        _written.update(
            {(key, name): mark(names[name]) for name in versions.numbers() if name in names}
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
