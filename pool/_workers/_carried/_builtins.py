"""Names that the program has added to `builtins`, or that mean something else there.

``builtins.print = loud`` holds for every module, as does what `icecream.install` puts there. What a
shell puts there belongs to its process.
"""

from __future__ import annotations

import builtins

# Not by `operator`, in Python, which nothing else needs before the forkserver is started.
from _operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from ._setting import Later, Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: Names of a fresh interpreter for what is neither a function nor a class.
_CONSTANTS = frozenset({"None", "True", "False", "Ellipsis", "NotImplemented"})

#: Modules in which its functions are.
_OWN = frozenset({"builtins", "io", "_io"})

#: Kinds of functions, the program's and, for pools in tasks, a worker's.
_FUNCTIONS = (FunctionType, Later)

#: `site` has ``exit``, ``help`` and others from ``_sitebuiltins``.
_SHELLS = frozenset({"_sitebuiltins", "IPython", "ipykernel", "marimo"})

#: What was there when it was last found to be all of a fresh interpreter.
_fresh: dict[str, Any] = {}


def is_changed() -> bool:
    """Return whether there is anything to carry; quick if there was nothing the last time."""
    found = dict(vars(builtins))  # copied at once, since other threads may add names meanwhile
    if _is_programs("_", found.pop("_", None)):  # not kept: what a shell has shown may be large
        return True
    if found.keys() == _fresh.keys() and all(map(is_, found.values(), _fresh.values())):
        return False
    if any(_is_programs(name, value) for name, value in found.items()):
        return True
    _fresh.clear()
    _fresh.update(found)
    return False


def _is_programs(name: str, value: Any) -> bool:
    if name.startswith("__") or name in _CONSTANTS:
        return False
    kind = type(value)
    if name == "_" and kind not in _FUNCTIONS:
        return False  # the last value that was shown, or gettext's, which is carried with gettext
    if kind is BuiltinFunctionType:
        return value.__name__ != name or value.__module__ not in _OWN
    if kind is type and value.__module__ == "builtins":
        return False
    # What a live object does: of a kernel, or a debugger, which workers do not have.
    return kind is not MethodType and _top(value) not in _SHELLS


def _top(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0]
    kind = type(value)  # asked in place of an instance, which may be a proxy for nothing
    module = value.__module__ if kind in _FUNCTIONS or issubclass(kind, type) else kind.__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def _read(module: Any) -> tuple[dict[str, tuple[bool, bytes]], list[str]] | None:
    found = {}
    needs = set()
    for name, value in dict(vars(module)).items():
        if _is_programs(name, value):
            data = packed(value)
            if data is not None:
                found[name] = type(value) in _FUNCTIONS, data
                needs.add(_top(value))
    return (found, sorted(needs - {"", "__main__"})) if found else None


def _write(module: Any, value: tuple[dict[str, tuple[bool, bytes]], list[str]]) -> None:
    from pool._pickling._originals import put
    from pool._workers._carried import Undisturbed

    for name, (is_function, data) in value[0].items():
        try:
            with Undisturbed(True):
                put(name, Later(data) if is_function else unpacked(data))
        except Exception:
            continue  # made of what cannot be imported here; a task that uses it says so


def _needs(value: tuple[Any, list[str]]) -> Iterable[str]:
    return value[1]


SETTINGS = {"builtins": Setting("builtins", _read, _write, _needs)}
