"""How the program pickles objects of types that are not its own.

Reducers that it has registered with `copyreg`, or with `multiprocessing`, hold for results of tasks
as well. Those of installed packages are registered in a worker when tasks import the package.
"""

from __future__ import annotations

from functools import partial

from pool._workers._warmup import is_library

from ._setting import Later, Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    # Pickled types and reducers; modules that are needed.
    _Registered = tuple[list[tuple[bytes, bytes]], list[str]]


def _is_programs(reducer: Any) -> bool:
    """Return whether a reducer is neither the interpreter's nor an installed package's."""
    while isinstance(reducer, partial):
        reducer = reducer.func
    if type(reducer) is Later:
        return True  # of the program whose task makes this pool
    module = getattr(reducer, "__module__", None)
    top = module.partition(".")[0] if isinstance(module, str) else "builtins"
    return top == "__main__" or not is_library(top)


def _read_copyreg(module: Any) -> _Registered | None:
    return _entries(module.dispatch_table)


def _read_reduction(module: Any) -> _Registered | None:
    return _entries(module.ForkingPickler._extra_reducers)


def _entries(registered: dict[type, Any]) -> _Registered | None:
    found = []
    needs = set()
    for kind, reducer in list(registered.items()):
        if not _is_programs(reducer):
            continue
        type_, function = packed(kind), packed(reducer)
        if type_ is not None and function is not None:
            found.append((type_, function))
            needs.add(kind.__module__)
    return (found, sorted(needs - {"__main__"})) if found else None


def _write_copyreg(module: Any, value: _Registered) -> None:
    _register(module.dispatch_table, value)


def _write_reduction(module: Any, value: _Registered) -> None:
    _register(module.ForkingPickler._extra_reducers, value)


def _register(registered: dict[type, Any], value: _Registered) -> None:
    from pool._workers._carried import Undisturbed

    for kind, reducer in value[0]:
        try:
            with Undisturbed(True):
                registered[unpacked(kind)] = Later(reducer)
        except Exception:
            continue  # its class cannot be imported here, so there are no objects of it either


def _needs(value: _Registered) -> Iterable[str]:
    return value[1]


SETTINGS = {
    "copyreg": Setting("copyreg", _read_copyreg, _write_copyreg, _needs),
    "multiprocessing.reduction": Setting(
        "multiprocessing.reduction", _read_reduction, _write_reduction, _needs
    ),
}
