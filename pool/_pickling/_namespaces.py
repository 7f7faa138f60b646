"""One namespace per module that travels by value.

All functions of such a module share the namespace of that name in a worker, so that tasks see
the globals that an initializer has set. A name that a function uses is written there if it is
absent, or if the sender has bound it to another object since. Otherwise the value that an
initializer or a task has set stays.
"""

from __future__ import annotations

import sys

from store._children import in_child

from ._facts import facts_of, take_over
from ._homes import bring_home
from ._origins import canonical, unforgotten
from ._versions import Versions, is_marked, mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

    from ._versions import Mark

#: Namespaces of scopes that are registered nowhere else.
_modules: dict[str, ModuleType] = {}

#: For each scope, the versions of its names: those that this process counts for its workers, and
#: those that it has received from its parent.
_sent: dict[str, Versions] = {}
_applied: dict[str, dict[str, int]] = {}

#: For each name that was received, the mark of its value: whether it still has that.
_written: dict[tuple[str, str], Mark] = {}


#: Names of scopes that this process has asked for, and that no function relies on.
_looked_up: set[tuple[str, str]] = set()


def main_facts() -> bytes:
    """Return the pickled facts about the main module of this process, see `_facts`."""
    return facts_of(getattr(sys.modules.get("__main__"), "__dict__", {}))


def install_main(facts: bytes) -> None:
    """Give this process an empty main module, in place of the one it has.

    Parameters
    ----------
    facts : bytes
        What `main_facts` has returned in the parent.
    """
    module = sys.modules["__main__"] = _new_module("__main__", facts)
    vars(module)["__getattr__"] = _look_up
    vars(module)["__dir__"] = _list_names
    _applied.pop("__main__", None)
    _sent.pop("__main__", None)


#: Asks the parent for a name; returns the kind of the answer, see `_lookups`, and its payload.
ask: Callable[[str], tuple[int, list[Any]]] | None = None


def look_up_with(function: Callable[[str], tuple[int, list[Any]]] | None) -> None:
    """Set the function that asks for names that the main module lacks; None: none asks."""
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
    """Return the globals of a scope; make the scope if it does not exist.

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
    if key == name:
        sys.modules[name] = module
    else:
        sys.modules.setdefault(name, module)
    return vars(module)


def namespace(key: str) -> dict[str, Any] | None:
    """Return the globals of a scope that travels by value, or None."""
    key = canonical(key)
    module = _modules.get(key)
    if module is None:
        module = sys.modules.get(key)
        if any(module is other for other in list(_modules.values())):
            return None  # of another scope, whose module was registered nowhere
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
    """Drop the values of names, kept since they were sent, that the names no longer have."""
    while unforgotten:
        try:
            _sent.pop(unforgotten.popleft(), None)
        except IndexError:
            break  # another thread was quicker
    for key, versions in list(_sent.items()):
        names = namespace(key)
        if names is not None:
            versions.let_go(names)
        elif "#" not in key:
            versions.let_go({})  # a module that is registered no longer


def forget_scopes(keys: Iterable[str]) -> list[dict[str, Any]]:
    """Drop scopes made here that the parent has freed; return their globals."""
    found = []
    for key in keys:
        module = _modules.pop(key, None)
        if module is None:
            continue
        found.append(vars(module))
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
        for name in _applied.pop(key, ()):
            _written.pop((key, name), None)
            _looked_up.discard((key, name))
    return found


def clear() -> None:
    """Forget what was sent: the program ends, and its objects with it."""
    _sent.clear()


def is_from_above(key: str, name: str) -> bool:
    """Return whether the parent is known to have this name: it was received or inherited."""
    return name in _applied.get(key, ())


def bind(names: dict[str, Any], key: str, name: str, version: int, value: Any) -> None:
    """Write a name that the parent sent, if it is absent here or has changed in the parent."""
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
    """Do as `bind` for an object that the sender had imported from a module, see `_homes`."""
    bind(names, key, name, version, value)

    def rebind(found: Any) -> None:
        if names.get(name) is value:
            names[name] = found
            _written[key, name] = mark(found)

    if names[name] is value:
        bring_home(home, attribute, value, rebind)


def note_looked_up(key: str, name: str) -> None:
    """Note that a name was asked for, and that no function that uses it has arrived."""
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
    """Write a name that a worker sent, unless this process has it."""
    names.setdefault(name, value)


def _after_fork_in_child() -> None:
    look_up_with(None)  # the connection belongs to the process that has forked this one
    _applied.clear()  # names now come from that process, which counts versions of its own
    _written.clear()
    for key, versions in _sent.items():
        versions.reset_lock()
        _applied[key] = versions.numbers()
        # The values that the fork has inherited are those that the parent has sent or would send.
        names = namespace(key) or {}
        _written.update(
            {(key, name): mark(names[name]) for name in versions.numbers() if name in names}
        )


in_child(_after_fork_in_child)
