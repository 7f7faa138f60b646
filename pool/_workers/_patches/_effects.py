"""Find what the main module imports only for what the import does to other packages.

``import rioxarray`` gives arrays of xarray an attribute, ``import ale_py`` registers environments
with gymnasium, ``import hdf5plugin`` filters with h5py. No function refers to these modules, so
nothing would have a worker import them. It does so when it has imported a package that they use,
and that the program itself uses too.
"""

from __future__ import annotations

import sys
from itertools import islice
from types import ModuleType

from pool._workers._variables._data import module_of
from pool._workers._warmup import installed

from ._places import vars_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: Packages that take long to import, change no other one, and are often imported for nothing.
_FOR_NOTHING = frozenset(
    {"matplotlib", "numpy", "pandas", "scipy", "seaborn", "sklearn", "statsmodels", "tensorflow"}
    | {"torch"}
)

#: So many modules of a package are looked through.
MODULES_MAX = 100

#: By name of a module, the packages that it uses.
_uses: dict[str, frozenset[str]] = {}


def due_with(unused: Iterable[str], used: Iterable[str]) -> list[tuple[str, str]]:
    """Return which modules are to be imported after which packages.

    Parameters
    ----------
    unused : iterable of str
        Full names that the main module imports, and does not use.
    used : iterable of str
        The top-level modules that it imports.

    Returns
    -------
    list of (str, str)
        The package, and the module.
    """
    due = []
    for name in unused:
        top = name.partition(".")[0]
        if name not in sys.modules:  # a function or class, say, which was meant to be used
            continue
        if top in _FOR_NOTHING or not _is_package(top):
            continue
        if name not in _uses:
            _uses[name] = _used_by(top)
        due += [
            (package, name) for package in sorted(_uses[name].intersection(used)) if package != top
        ]
    return due


def _is_package(top: str) -> bool:
    return top not in sys.stdlib_module_names and bool(installed(top))


def _used_by(top: str) -> frozenset[str]:
    """Return the installed packages of which the modules of another one have something."""
    modules = (m for n, m in list(sys.modules.items()) if n == top or n.startswith(f"{top}."))
    tops = {
        _home(value).partition(".")[0]
        for module in islice(modules, MODULES_MAX)
        for value in list(vars_of(module).values())
    }
    return frozenset(filter(_is_package, tops)) - {top}


def _home(value: Any) -> str:
    if issubclass(type(value), ModuleType):
        name = vars_of(value).get("__name__")
        return name if type(name) is str else ""
    return module_of(value if issubclass(type(value), type) else type(value))
