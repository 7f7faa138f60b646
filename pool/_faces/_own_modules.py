"""Our own modules in `sys.modules`, where a test may have taken them out.

``mock.patch.dict("sys.modules", ...)`` puts the old contents back, without what was imported in
its block. Most of our modules are imported when they are first needed, so they may be among
that. Imported once more they would be second copies, whose classes the first ones do not know.
"""

from __future__ import annotations

import sys

import pool._local
import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

_PACKAGES = (pool, store)


def restore_own_modules() -> None:
    """Put modules of ours back that are loaded and missing; with the next pool of a program."""
    if hasattr(pool._local, "_engine"):  # there has been a pool
        for package in _PACKAGES:
            _restore(package)


def _restore(module: ModuleType) -> None:
    found = vars(module)
    own = found["__name__"]
    sys.modules.setdefault(own, module)
    if "__path__" not in found:
        return  # it has no modules of its own
    for name, value in list(found.items()):
        if value.__class__ is _Module and value.__name__ == f"{own}.{name}":
            _restore(value)


_Module = type(sys)
