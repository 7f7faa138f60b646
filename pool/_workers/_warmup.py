"""Import before the fork what takes long, and note what tasks import that could have been."""

from __future__ import annotations

import gc
import os
import sys
from itertools import islice

from pool._workers._forking import fork, harmless_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: A worker tells its parent when tasks have imported so many modules.
SOME = 5

#: So many modules of installed packages are worth another forkserver.
MANY = 25

#: Where Python's own modules are; a folder that does not exist if they are frozen into a program.
LIBRARY = os.path.dirname(getattr(os, "__file__", "/nowhere/os.py")) + os.sep

#: Names of the folders into which packages are installed.
PACKAGES = {"site-packages", "dist-packages"}

#: Modules in one message, at most. Later ones are mostly imported by those that are in it.
NAMES_MAX = 2000

#: By name, modules of Python's own: all of them are looked at for each pool.
_pythons: dict[str, Any] = {}


def news(known: int) -> tuple[list[str], dict[str, str]]:
    """Return what this process has imported after its first `known` modules.

    Returns
    -------
    names : list of str
        Modules of installed packages, in the order of their import.
    files : dict
        By name, the files of the top-level packages of these modules.
    """
    names = []
    files: dict[str, str] = {}
    own = __name__.partition(".")[0]
    for name in islice(list(sys.modules), known, known + NAMES_MAX):
        if type(name) is not str:
            continue
        top = name.partition(".")[0]
        if top not in files:
            files[top] = "" if top in (own, "store") else installed(top)
        if files[top]:
            names.append(name)
    return names, {top: file for top, file in files.items() if file}


def installed(top: str) -> str:
    """Return the file of a top-level module, empty unless it is installed or comes with Python.

    Modules of the program's own do not count: they may be edited before the next pool is made.
    """
    file = _file_of(top)
    return file if is_installed(file) else ""


def is_library(top: str) -> bool:
    """Return whether a top-level module comes with Python (also without a file) or is installed."""
    return top in sys.stdlib_module_names or bool(installed(top))


def is_installed(file: str) -> bool:
    """Return whether a file of code is installed or comes with Python."""
    return file.startswith(LIBRARY) or _is_package(file)


def not_before_forks(names: Iterable[str]) -> Iterable[str]:
    """Return those of the modules that this program has imported which no forkserver may load."""
    if "django.apps" not in sys.modules:
        return ()
    try:
        from pool._workers._carried._django import wait_for_set_up

        return wait_for_set_up(names)
    except Exception:
        return names  # another version of Django, or a module of the program's by that name


def is_of_python(top: str) -> bool:
    """Return whether a top-level module comes with Python, and is meant for programs to use."""
    file = _file_of(top)
    return top != "test" and file.startswith(LIBRARY) and not _is_package(file)


def is_shadowed() -> bool:
    """Return whether the program has a module of its own under the name of one of Python's.

    Modules of Python's that import the one of that name have got the program's. Loaded in another
    process they would run that there, or leave Python's own in its place.
    """
    for top in sys.stdlib_module_names & sys.modules.keys():
        module = sys.modules.get(top)
        if _pythons.get(top) is not module:
            file = _file_of(top)
            if file and not file.startswith(LIBRARY) and not _is_package(file):
                return True
            _pythons[top] = module
    return False


def _is_package(file: str) -> bool:
    return not PACKAGES.isdisjoint(file.split(os.sep))


def _file_of(top: str) -> str:
    module = sys.modules.get(top)
    if not issubclass(type(module), type(sys)):
        return ""  # not asked for its class, which a proxy may refuse to tell
    # Not by `getattr`, which would load a lazy module.
    names = object.__getattribute__(module, "__dict__")
    file = names.get("__file__")
    if type(file) is str:
        return file
    return _folder_of(names)


def _folder_of(names: dict[str, Any]) -> str:
    """Return a folder of a package without a file, as ``google`` and ``zope`` are, or "".

    One that is not of installed packages, if it has any: a part of such a package may be the
    program's own.
    """
    spec = names.get("__spec__")
    places = getattr(spec, "submodule_search_locations", None)
    if getattr(spec, "origin", None) is not None or not places:
        return ""
    folders = [os.path.join(str(place), "") for place in places]
    return next((folder for folder in folders if not is_installed(folder)), folders[0])


def load_missing(names: Iterable[str]) -> bool:
    """Load modules that come with Python in a running forkserver; return whether it loaded any.

    Only from where Python has them. A file of the program's may have the name of one, in a folder
    that was put before those when the program had imported Python's own: no code of the user's
    is to run here.
    """
    missing = [name for name in names if name not in sys.modules]
    library = LIBRARY[:-1]
    if not missing or library not in sys.path:
        return False
    path = sys.path[:]
    sys.path[:] = path[path.index(library) :]
    try:
        load(missing)
    except OSError:
        pass  # short of descriptors: workers load what they need, and others are not to suffer
    finally:
        sys.path[:] = path
    gc.freeze()  # as in `ForkServer.run`
    return True


def load_next(names: list[str]) -> bool:
    """Remove names from a list until one was not loaded, and load it; return whether one was."""
    while names:
        if load_missing([names.pop(0)]):
            return True
    return False


def load(names: Iterable[str]) -> str:
    """Import modules, and show neither what they print nor their errors.

    Workers report a module that cannot be imported, if any task needs it.

    Returns
    -------
    str
        The package that has made this process unfit to be forked, by a thread; empty if there is
        none, and all modules were tried.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    kept = []
    try:
        for fd in (1, 2):
            try:
                kept.append((os.dup(fd), fd))
            except OSError:
                continue  # closed
            os.dup2(null, fd)
        for name in names:
            try:
                __import__(name)
            except BaseException:  # also SystemExit: a script that misses its arguments
                continue
            if not may_fork():
                return name.partition(".")[0]
        return ""
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        for copy, fd in kept:
            os.dup2(copy, fd)
            os.close(copy)
        os.close(null)


def may_fork() -> bool:
    """Return whether this process has no threads but those of libraries that see to forks.

    Forks once to find out. OpenBLAS starts its threads when it is loaded, ends them before a fork,
    and starts them again when there is work.
    """
    if _threads() == 1:
        return True
    pid = fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return _threads() <= 1 + harmless_threads()


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1
