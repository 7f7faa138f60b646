"""Modules that workers had to import, imported once into the forkserver for those to come.

A forked child of the program has its modules. Workers from a clean process import what their
tasks need, which takes a second for some packages: once for each worker, of every pool, and
after every ``maxtasksperchild`` tasks. So a worker tells which installed packages its tasks
have loaded, and when more workers are wanted, the forkserver loads them too.

Not before: a program with one pool would pay for nothing. Not unseen: a process with threads
must not be forked, unless they end at a fork; where the worker has several threads, a child
tries first whether that is so. And only what is installed: the program's own modules may change
between two pools.
"""

from __future__ import annotations

import os
import sys
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: So many modules that were loaded at once are worth a message.
MANY = 25

#: A bound for the message. What is behind these is mostly imported by them.
NAMES_MAX = 2000


def news(known: int) -> tuple[list[str], dict[str, str], bool]:
    """Return what was imported after the first `known` modules of this process.

    Returns
    -------
    names : list of str
        In the order of their import.
    files : dict
        Where the packages at the top of these names are.
    harmless : bool
        Whether that has started no thread, nor has anything else.
    """
    names = []
    files: dict[str, str] = {}
    own = __name__.partition(".")[0]
    for name in islice(list(sys.modules), known, known + NAMES_MAX):
        top = name.partition(".")[0]
        if top not in files:
            files[top] = "" if top in (own, "store") else _installed(top)
        if files[top]:
            names.append(name)
    return names, {top: file for top, file in files.items() if file}, _threads() == 1


def _installed(top: str) -> str:
    """Return the file of an installed package or module; empty for any other."""
    file = getattr(sys.modules.get(top), "__file__", None)
    if not isinstance(file, str):
        return ""
    return file if {"site-packages", "dist-packages"} & set(file.split(os.sep)) else ""


class Warmup:
    """What a forkserver is about to import.

    Attributes
    ----------
    pid : int
        The child that tries it out, or 0.
    wanted : bool
        Whether workers were asked for since there was something to import.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.wanted = False
        #: What is harmless, and what has to be tried.
        self._ready: list[str] = []
        self._names: list[str] = []
        self._tried: Sequence[str] = ()
        #: Of what was told before, whether it was imported or not.
        self._seen: set[str] = set()

    @property
    def due(self) -> bool:
        """Whether there is something to try out, for workers that are wanted."""
        return self.wanted and bool(self._names) and not self.pid

    def told(self, names: Iterable[str], files: dict[str, str], harmless: bool) -> None:
        """Note what a worker has imported, as far as it would be the same here."""
        from importlib.util import find_spec

        same = set()
        for top, file in files.items():
            try:
                spec = find_spec(top)
            except (ImportError, ValueError):
                continue
            if spec is not None and spec.origin == file:
                same.add(top)
        for name in names:
            if name.partition(".")[0] in same and name not in self._seen:
                self._seen.add(name)
                (self._ready if harmless else self._names).append(name)

    def asked(self) -> bool:
        """Note that workers are wanted; True if something was imported for them at once.

        They would have to import it themselves, which takes as long.
        """
        self.wanted = bool(self._names)
        names, self._ready = self._ready, []
        load(names)
        return bool(names)

    def trying(self, pid: int) -> None:
        """Note which child tries out what is due."""
        self.pid = pid
        self._tried, self._names = self._names, []
        self.wanted = False

    def is_fit(self) -> bool:
        """Import what is due, in the child: whether that left it fit to be forked."""
        load(self._names)
        return may_fork()

    def tried(self, status: int) -> bool:
        """Take in how the child has ended; True if something was imported here."""
        self.pid = 0
        names, self._tried = self._tried, ()
        if status != 0:
            return False
        load(names)
        return True


def load(names: Sequence[str]) -> None:
    """Import modules without a word, whatever they print."""
    if not names:
        return
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
            except Exception:
                continue  # workers report it, if any task needs it
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
