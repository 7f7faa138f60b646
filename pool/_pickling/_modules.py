"""Modules that cannot be imported elsewhere, by value."""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

from ._origins import scope_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._picklers import BasePickler

_SENDABLE = (FunctionType, ModuleType, type, int, float, str, bytes, bool, type(None), complex)


def reduce_by_value(pickler: BasePickler, module: ModuleType) -> Any:
    """Reduce a module to its namespace and those of its contents that can be sent.

    The main module is sent without contents: functions bring the names that they use, and a mere
    mention of the module should not send the whole program.
    """
    names = vars(module)
    scope = scope_of(names)
    if scope is None:
        return new_module, (module.__name__, dict(_public(names)))
    if scope.key != "__main__":
        pickler.require_names(scope, names, [name for name, _ in _public(names)])
    return open_module, (scope,)


def _public(names: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in list(names.items())
        if not (name.startswith("__") and name.endswith("__")) and _can_be_sent(value)
    ]


def _can_be_sent(value: Any) -> bool:
    """Return whether `value` can be sent; those that cannot are left out of the module."""
    # Not isinstance: proxies may fail when asked.
    if issubclass(type(value), _SENDABLE):
        return True
    from ._encoding import dumps_to_worker

    try:
        dumps_to_worker(value)
    except Exception:
        return False
    return True


def open_module(names: dict[str, Any]) -> ModuleType:
    """Return the module whose globals are `names`."""
    from ._namespaces import module_of

    found = module_of(names)
    return found if found is not None else sys.modules[names["__name__"]]


def new_module(name: str, contents: dict[str, Any]) -> ModuleType:
    """Make a module that is registered nowhere."""
    module = ModuleType(name)
    vars(module).update(contents)
    return module
