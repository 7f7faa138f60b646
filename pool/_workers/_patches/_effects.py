"""Find what the main module imports only for what the import does to other packages.

``import rioxarray`` gives arrays of xarray an attribute, ``import ale_py`` registers environments
with gymnasium, ``import hdf5plugin`` filters with h5py. No function refers to these modules, so
nothing would have a worker import them. It does so when it has imported a package that they use,
and that the program itself uses too. Some are used by so many that this tells nothing, and workers
have numpy and pandas from the start: with these, only a module is imported that has left something
there.
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
    from collections.abc import Iterable, Iterator
    from typing import Any

#: Packages that take long to import, change no other one, and are often imported for nothing.
_FOR_NOTHING = frozenset(
    {"matplotlib", "numpy", "pandas", "scipy", "seaborn", "sklearn", "statsmodels", "tensorflow"}
    | {"torch"}
)

#: Packages that most others use, few of them to add something.
_USED_BY_MOST = frozenset(
    {"numpy", "pandas", "scipy", "matplotlib", "PIL", "attr", "click", "httpx", "jinja2", "joblib"}
    | {"packaging", "psutil", "pydantic", "requests", "rich", "tqdm", "urllib3", "yaml"}
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
            _uses[name] = frozenset(
                used
                for used in _used_by(top)
                if used not in _USED_BY_MOST or _has_part_of(used, top)
            )
        due += [
            (package, name) for package in sorted(_uses[name].intersection(used)) if package != top
        ]
    return due


def _is_package(top: str) -> bool:
    return top not in sys.stdlib_module_names and bool(installed(top))


def _used_by(top: str) -> frozenset[str]:
    """Return the installed packages of which the modules of another one have something."""
    tops = {
        _home(value).partition(".")[0]
        for _, module in islice(_modules_of(top), MODULES_MAX)
        for value in list(vars_of(module).values())
    }
    return frozenset(filter(_is_package, tops)) - {top}


def _modules_of(top: str) -> Iterator[tuple[str, Any]]:
    modules = sys.modules.copy().items()
    return (one for one in modules if one[0] == top or one[0].startswith(f"{top}."))


def _has_part_of(package: str, top: str) -> bool:
    """Return whether a package has something that another one has put there.

    Among its names, in one of its classes, as ``DataFrame.hvplot``, or in a table, as numpy has
    types of numbers; or in a list of an object, as pandas has them. Its modules may have more,
    which they have imported.
    """
    names = vars_of(sys.modules.get(package))
    found = [part for value in list(names.values()) for part in _parts(value)]
    for name, module in _modules_of(package):
        for value in list(vars_of(module).values()):
            if module_of(type(value)) == name:
                found += [held for held in vars_of(value).values() if type(held) is list]
    homes = {module_of(part) for value in found for part in _parts(value)}
    return any(home.partition(".")[0] == top for home in homes)


def _parts(value: Any) -> list[Any]:
    """Return a value, and what it holds; nothing of a module."""
    if issubclass(type(value), ModuleType):
        return []
    if type(value) is property:
        return [value.fget]
    if type(value) in (list, dict):
        return list(value.values() if type(value) is dict else value)
    return [value, *vars_of(value).values()]


def _home(value: Any) -> str:
    if issubclass(type(value), ModuleType):
        name = vars_of(value).get("__name__")
        return name if type(name) is str else ""
    return module_of(value if issubclass(type(value), type) else type(value))
