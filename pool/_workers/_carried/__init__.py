"""What a program has set in the interpreter and its libraries, carried to its workers.

A forked child has the recursion limit, the warnings filters, the logging handlers and numpy's
error handling of its parent. A worker comes from a clean process and would have those of a
fresh interpreter: the same program would give other results. So what differs from a fresh
interpreter when the pool is made goes along, and nothing where nothing was set.

What is carried is the state that a documented function sets for the whole process. Variables
that the program changed in its modules are not: which of them belong together only the
program knows.
"""

from __future__ import annotations

import marshal
import sys

from pool._unraisable import report
from pool._workers._warmup import installed

from ._interpreter import FILTERS, LEVELS, SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ._setting import Setting

#: Where the code for other modules is; loaded if the program has imported them.
_OTHERS = {
    "copyreg": "_reducers",
    "multiprocessing.reduction": "_reducers",
    "io": "_redirected",
    "logging": "_logging",
    "sqlite3": "_adapters",
    "numpy": "_libraries",
    "pandas": "_libraries",
    "matplotlib": "_libraries",
}


def changes() -> dict[str, Any]:
    """Return what this program has set, by the name of the module, as `marshal` takes it."""
    found: dict[str, Any] = {}
    for setting in SETTINGS:
        _read(setting, found)
    for name in _OTHERS:
        if name in sys.modules and (name != "io" or _is_redirected()):
            try:
                setting = _setting(name)
            except ImportError:
                continue  # another module of that name
            _read(setting, found)
    return found


def _is_redirected() -> bool:
    return sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__


def _read(setting: Setting, found: dict[str, Any]) -> None:
    module = sys.modules.get(setting.module)
    if module is None:
        return
    try:
        value = setting.read(module)
        marshal.dumps(value, 2)
    except Exception:
        # Half imported, by the very import that makes this pool; of another version; or set to
        # something odd. No pool shall fail for that.
        return
    if value is not None:
        found[setting.module] = value


def modules(changed: Mapping[str, Any]) -> frozenset[str]:
    """Return the modules that workers will import for it, better loaded before the fork.

    Not the program's own ones, which may have been edited before the next pool is made.
    """
    names: set[str] = set()
    # Streams come and go, and it would take longer to start another server for them.
    for name in (changed.keys() & _OTHERS.keys()) - {"io"}:
        names.update((name, f"{__name__}.{_OTHERS[name]}"))
        for needed in _setting(name).needs(changed[name]):
            top = needed.partition(".")[0]
            if top in sys.stdlib_module_names or installed(top):
                names.add(needed)
    return frozenset(names)


def not_set_here(changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of it is different in this process, whose forks need no more than that."""
    here: dict[str, Any] = {}
    for setting in SETTINGS:
        # The collector of this process, a forkserver, is as that needs it: off.
        if setting.module in changed and setting.module != "gc":
            _read(setting, here)
    return {name: value for name, value in changed.items() if here.get(name) != value}


def take_over(changed: Mapping[str, Any]) -> None:
    """Set here what another process has set."""
    known = {setting.module: setting for setting in SETTINGS}
    for name, value in changed.items():
        try:
            setting = known.get(name) or _setting(name)
            __import__(name)
            setting.write(sys.modules[name], value)
        except (Exception, SystemExit) as error:
            report(error, f"raised while a worker took over what the program has set in {name}")


class Undisturbed:
    """What modules set when they are imported counts for nothing, within.

    To unpickle a function imports its module, and packages with it, which add warnings filters
    and set levels of loggers. They did so in the program, before it went on from there.

    Parameters
    ----------
    active : bool
        Whether anything of the program's was taken over.
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
        ]

    def __exit__(self, *exc_info: object) -> None:
        if self._active and len(sys.modules) != self._loaded:
            for setting, value in self._kept:
                setting.write(sys.modules[setting.module], value)


def _setting(name: str) -> Setting:
    module = f"{__name__}.{_OTHERS[name]}"
    __import__(module)
    found: Setting = sys.modules[module].SETTINGS[name]
    return found
