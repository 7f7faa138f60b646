"""What a program has set in the interpreter and its libraries, carried to its workers.

A forked child has the recursion limit, the warnings filters, the logging handlers and numpy's
error handling of its parent. A worker comes from a clean process and would have those of a
fresh interpreter: the same program would give other results. So what differs from a fresh
interpreter when the pool is made is sent to workers; where nothing was set, nothing is sent.

What is carried here is state that a documented function sets for the whole process, and that
cannot be read from the variables of one module. What the program itself puts into modules of
libraries is sent by `pool._workers._patches`, variables of its own ones by
`pool._workers._variables`.

Each module has the settings (`_setting`) of something. Of Python: `_interpreter`, `_builtins`,
`_logging`, `_redirected`, `_reducers`, `_adapters`, `_prefixes`, `_translations`. Of libraries:
`_libraries` (numpy, pandas, matplotlib), `_learning` (PyTorch, JAX, scikit-learn), `_precision`
(mpmath, gmpy2), `_images` (Pillow), `_django`, `_structlog`, `_coverage`.
"""

from __future__ import annotations

import marshal
import sys

from pool._unraisable import report
from pool._workers._warmup import is_library

from ._builtins import is_changed
from ._interpreter import FILTERS, LEVELS, SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ._setting import Setting

#: By module, the part of this package that carries its settings; imported only if the program has
#: imported that module.
_OTHERS = {
    "builtins": "_builtins",  # first, since what others are made of may use these
    "copyreg": "_reducers",
    "multiprocessing.reduction": "_reducers",
    "io": "_redirected",
    "gettext": "_translations",
    "logging": "_logging",
    "structlog": "_structlog",
    "sqlite3": "_adapters",
    "xml.etree.ElementTree": "_prefixes",
    "numpy": "_libraries",
    "pandas": "_libraries",
    "matplotlib": "_libraries",
    "mpmath": "_precision",
    "gmpy2": "_precision",
    "torch": "_learning",
    "jax": "_learning",
    "sklearn": "_learning",
    "django.conf": "_django",
    "PIL.Image": "_images",
    "PIL.ImageFile": "_images",
    "coverage.multiproc": "_coverage",
}


def changes() -> dict[str, Any]:
    """Return what this program has set: by module, a value that `marshal` takes."""
    found: dict[str, Any] = {}
    for setting in SETTINGS:
        _read(setting, found)
    for name in _OTHERS:
        if name in sys.modules and _UNLESS_USUAL.get(name, _yes)():
            try:
                setting = _setting(name)
            except ImportError:
                continue  # the program's is another module with that name
            _read(setting, found)
    return found


def _is_redirected() -> bool:
    return sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__


#: Modules that every program has imported, and whether there is anything to carry.
_UNLESS_USUAL = {"io": _is_redirected, "builtins": is_changed}


def _yes() -> bool:
    return True


def _read(setting: Setting, found: dict[str, Any]) -> None:
    """Enter into `found` the value of a setting, if it is not as in a fresh interpreter."""
    module = sys.modules.get(setting.module)
    if module is None:
        return
    try:
        value = setting.read(module)
        marshal.dumps(value, 2)
    except Exception:
        # The module is half imported, since its own import makes this pool; or of another version;
        # or set to a value of an unexpected type. No pool is to fail for that.
        return
    if value is not None:
        found[setting.module] = value


def modules(changed: Mapping[str, Any]) -> frozenset[str]:
    """Return the modules that workers will import for `changed`, to be loaded before the fork.

    Without the program's own ones, which may be edited before the next pool is made.
    """
    names: set[str] = set()
    # Not for redirected streams: they change often, and each change would start another forkserver.
    for name in (changed.keys() & _OTHERS.keys()) - {"io"}:
        names.update((name, f"{__name__}.{_OTHERS[name]}"))
        for needed in _setting(name).needs(changed[name]):
            if is_library(needed.partition(".")[0]):
                names.add(needed)
    return frozenset(names)


def not_set_here(changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `changed` that differs in this process: its forks need no more."""
    here: dict[str, Any] = {}
    for setting in SETTINGS:
        # Not the collector's: this process is a forkserver, which has it off for its own reasons.
        if setting.module in changed and setting.module != "gc":
            _read(setting, here)
    return {name: value for name, value in changed.items() if here.get(name) != value}


def take_over(changed: Mapping[str, Any]) -> None:
    """Set in this process what the program has set; report errors, and go on."""
    known = {setting.module: setting for setting in SETTINGS}
    for name, value in changed.items():
        try:
            setting = known.get(name) or _setting(name)
            __import__(name)
            setting.write(sys.modules[name], value)
        except (Exception, SystemExit) as error:
            report(error, f"raised while a worker took over what the program has set in {name}")


class Undisturbed:
    """Context in which imports change neither warnings filters nor levels of loggers.

    To unpickle a function imports its module, and packages with it, which may change both. They did
    so in the program too, but before the program made the settings that were taken over.

    Parameters
    ----------
    active : bool
        Whether any settings were taken over; if not, the context does nothing.
    """

    __slots__ = ("_active", "_kept", "_loaded")

    def __init__(self, active: bool) -> None:
        self._active = active

    def __enter__(self) -> None:
        if not self._active:
            return
        self._loaded = len(sys.modules)
        self._kept = [
            (setting, setting.read(module))
            for setting in (FILTERS, LEVELS)
            if (module := sys.modules.get(setting.module)) is not None
            # Not `logging` while it is being imported, by which time it has imported `string`.
            and not getattr(module.__spec__, "_initializing", False)
        ]

    def __exit__(self, *exc_info: object) -> None:
        if self._active and len(sys.modules) != self._loaded:
            for setting, value in self._kept:
                setting.write(sys.modules[setting.module], value)


def _setting(name: str) -> Setting:
    """Return the setting of a module in `_OTHERS`, after importing the code for it."""
    module = f"{__name__}.{_OTHERS[name]}"
    __import__(module)
    found: Setting = sys.modules[module].SETTINGS[name]
    return found
