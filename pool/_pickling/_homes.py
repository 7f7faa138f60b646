"""Objects that a program has imported by name from modules of its own or of packages.

``from config import settings``: the main module's `settings` and that of `config` are one object,
and have to be one in a worker too, where `config` may be imported by whatever needs it. What is
sent is as the program has it now. So it takes the place of what the module makes in the worker,
as soon as that imports it; a module that something there has imported before is left as it is.

An object without any state, with which others are compared, is simply that of the module.
"""

from __future__ import annotations

import copyreg
import sys

from ._origins import importable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

# ---------------------------------------------------------------- in the program


def homes_of(name: str, value: Any) -> tuple[str, ...]:
    """Return the modules beside the main one that have an object under the same name.

    Those of the standard library are not among them: what they are asked for is a matter of their
    own in each process.
    """
    standard = sys.stdlib_module_names
    return tuple(
        module_name
        for module_name, module in list(sys.modules.items())
        if getattr(module, "__dict__", {}).get(name) is value
        and module_name.partition(".")[0] not in standard
        and importable(module_name)
    )


def is_stateless(value: Any) -> bool:
    """Return whether there is nothing to an object but that it is the one it is."""
    kind: Any = type(value)
    if kind.__reduce__ is not object.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
        return False
    try:
        function, arguments, *rest = value.__reduce_ex__(4)
    except Exception:
        return False  # it cannot be pickled
    new: Any = copyreg.__newobj__  # type: ignore[attr-defined]  # missing in typeshed
    return function is new and arguments == (kind,) and not any(rest)


def attribute_of(module_name: str, name: str) -> Any:
    """Return what a module has under a name."""
    __import__(module_name)
    return vars(sys.modules[module_name])[name]


# ---------------------------------------------------------------- in a worker

#: Calls a step when a module is imported; set where workers start.
when_imported: Callable[[str, Callable[[ModuleType], object]], None] | None = None

#: Modules that were not imported when something of theirs was about to come.
_awaited: set[str] = set()


def await_modules(names: Iterable[str]) -> None:
    """Note which modules are not imported yet: what follows may import them."""
    _awaited.update(name for name in names if name not in sys.modules)


def bring_home(name: str, value: Any, homes: Iterable[str]) -> None:
    """Have the modules that were awaited show an object that has come under its name."""

    def show(module: ModuleType) -> None:
        if type(vars(module).get(name)) is type(value):
            vars(module)[name] = value

    for home in homes:
        if home in _awaited and when_imported is not None:
            when_imported(home, show)
