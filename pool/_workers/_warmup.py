"""What takes long to import, and is imported before workers are forked."""

from __future__ import annotations

import gc
import os
import sys
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: So many modules that tasks have loaded are worth a message.
SOME = 5

#: So many of installed packages are worth another forkserver.
MANY = 25

#: Where Python's own modules are; nowhere, if they were frozen into a program.
LIBRARY = os.path.dirname(getattr(os, "__file__", "/nowhere/os.py")) + os.sep

#: Folders of what was installed.
PACKAGES = {"site-packages", "dist-packages"}

#: A bound for the message. What is behind these is mostly imported by them.
NAMES_MAX = 2000


def news(known: int) -> tuple[list[str], dict[str, str]]:
    """Return what was imported after the first `known` modules of this process.

    Returns
    -------
    names : list of str
        Modules of installed packages, in the order of their import.
    files : dict
        Where the packages at the top of these names are.
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
    """Return the file of a package or module that is installed or Python's own; else nothing.

    Those of the program itself may have been edited before the next pool is made.
    """
    file = _file_of(top)
    return file if file.startswith(LIBRARY) or _is_package(file) else ""


def is_of_python(top: str) -> bool:
    """Return whether a package or module comes with Python, and is one for programs to use."""
    file = _file_of(top)
    return top != "test" and file.startswith(LIBRARY) and not _is_package(file)


def is_shadowed() -> bool:
    """Return whether the program has a module of its own under the name of one of Python's.

    Modules of Python's that import the one of that name have got the program's. Loaded in another
    process they would run that there, or leave Python's own in its place.
    """
    tops = sys.stdlib_module_names & sys.modules.keys()
    files = [_file_of(top) for top in tops]
    return any(file and not file.startswith(LIBRARY) and not _is_package(file) for file in files)


def _is_package(file: str) -> bool:
    return not PACKAGES.isdisjoint(file.split(os.sep))


def _file_of(top: str) -> str:
    module = sys.modules.get(top)
    if not isinstance(module, type(sys)):
        return ""
    # Not by attribute: a lazy module would be loaded by that.
    file = object.__getattribute__(module, "__dict__").get("__file__")
    return file if type(file) is str else ""


def load_missing(names: Iterable[str]) -> bool:
    """Load modules that come with Python in a running forkserver; return whether there were any.

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
    gc.freeze()  # or the collector's marks would unshare the pages
    return True


def load_next(names: list[str]) -> bool:
    """Take names from a list until one was loaded; return whether there was one."""
    while names:
        if load_missing([names.pop(0)]):
            return True
    return False


def load(names: Iterable[str]) -> str:
    """Import modules without a word, whatever they print.

    Returns
    -------
    str
        The package that made this process unfit to be forked; empty: all of them are loaded,
        or cannot be, which workers report if any task needs them.
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
            except BaseException:  # SystemExit: a script, whose arguments these are not
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
    """Return whether this process has no threads but those that end at a fork.

    OpenBLAS starts its threads when it is loaded, ends them before a fork and starts them
    again when there is work.
    """
    if _threads() == 1:
        return True
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return _threads() == 1


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1
