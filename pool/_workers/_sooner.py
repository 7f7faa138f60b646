"""Whether workers are there sooner if the program itself is forked, and no less safe.

A forkserver imports numpy and pandas before its first worker, and a worker what else its tasks
need, which takes half a second and more. A fork of a program that has done all that takes some
milliseconds. What speaks against it mostly is that it has the memory of other threads and none of
them; that it keeps connections open; that what the program has in the store stays there as long as
the fork, which sees it; and that it costs memory and time where the program is large.
So this is for the first pool of a program without any of that. Many make no other one. With a
second one a forkserver is worth its start: it is started beside that, and pools are made in this
way until it is up.
"""

from __future__ import annotations

import _thread
import os
import sys
from _thread import get_ident

from pool._workers import _carried, _servers, _tracking
from pool._workers._early import FOR_ARRAYS, wanted
from pool._workers._forking import harmless_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

#: Bytes of a program that is forked in a few milliseconds, and is not much to keep twice.
MOST_NBYTES = 1 << 30

#: Threads of an allocator, which sees to itself in forks (jemalloc, in Arrow).
_OWN_HOOKS = frozenset({"jemalloc_bg_thd"})

#: Whether a pool was forked.
_forked = False


def forks_sooner(limits: dict[str, str], preload: Sequence[str]) -> tuple[bool, bool]:
    """Return whether to fork this process for a pool that is being made, and note it.

    To be asked if `pool._workers._early.has_heavy`.

    Parameters
    ----------
    limits, preload
        As for `pool._workers._launcher.connect`.

    Returns
    -------
    forks : bool
    is_first : bool
        Whether no other pool was forked so before.
    """
    global _forked
    is_first = not _forked
    if is_importing() or not is_alone():
        return False, is_first
    modules = wanted(preload, _carried.changes())
    if not (_servers.is_awaited(modules, limits) and _is_quiet()):
        return False, is_first
    _forked = True
    if "numpy" in sys.modules:
        for name in FOR_ARRAYS:
            __import__(name)
    return True, is_first


def is_alone() -> bool:
    """Return whether no other thread runs code of the program's.

    A fork has none of them, and a lock that one of them holds stays locked in it for ever.
    """
    threading = sys.modules.get("threading")
    if threading is None:
        return not _thread._count()
    # Not by `enumerate`, which takes a lock: a signal handler may make a pool.
    names = [thread.name for thread in list(threading._active.values())]
    ours = sum(name.startswith("actorpool") for name in names)
    return bool(threading.main_thread().ident == get_ident() and _thread._count() <= ours)


def is_importing() -> bool:
    """Return whether this thread is in the midst of importing a module."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            spec = frame.f_globals.get("__spec__")
            if getattr(spec, "_initializing", False):
                return True
        frame = frame.f_back
    return False


def _is_quiet() -> bool:
    """Return whether this process has few things that its forks would keep, or would miss."""
    try:
        with open("/proc/self/statm", "rb") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if resident > MOST_NBYTES or has_connections() or may_have_foreign_threads():
            return False
    except (OSError, ValueError):
        return False  # nothing is known of it
    return not _has_objects()


def _has_objects() -> bool:
    """Return whether this process has objects in the store."""
    depot = getattr(sys.modules.get("store._depot"), "_depot", None)
    return depot is not None and bool(depot.ledger.things)


def has_connections() -> bool:
    """Return whether somebody at another end would wait until the workers have ended, too.

    A browser whose answer ends when the socket is closed; a command that reads a pipe to its end. A
    pipe that this program has got from whoever started it ends with the program anyway; what we
    have opened for pools, forks are to have, or close by themselves.
    """
    ours = {*_servers.descriptors(), _tracking.descriptor()}
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return True  # nothing is known of it
    for name in names:
        fd = int(name)
        if fd in ours:
            continue
        try:
            kind = os.readlink(f"/proc/self/fd/{name}")
            if fd > 2 and (
                kind.startswith("socket:")
                or (kind.startswith("pipe:") and not os.get_inheritable(fd))
            ):
                return True
        except OSError:
            continue  # the descriptor of this very folder
    return False


def may_have_foreign_threads() -> bool:
    """Return whether there are such threads, or nothing is known of them."""
    try:
        return bool(foreign_threads())
    except (OSError, ValueError):
        return True


def foreign_threads() -> int:
    """Return how many threads there are of libraries that do not end them before a fork.

    OpenBLAS starts one for each CPU but one when it is loaded, and does. OpenMP starts them with
    the first work, and a fork waits for them for ever.
    """
    found = 0
    for number in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{number}/comm") as file:
            found += file.read().rstrip() not in _OWN_HOOKS
    threading = sys.modules.get("threading")
    known = 1 if threading is None else len(threading._active)
    return max(0, found - known - _blas_threads() - harmless_threads()) if found > known else 0


def _blas_threads() -> int:
    with open("/proc/self/maps") as file:
        copies = {line.split(None, 5)[5] for line in file if "openblas" in line}
    wanted = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    count = len(os.sched_getaffinity(0))
    if wanted.isdecimal():
        count = min(count, max(1, int(wanted)))
    return len(copies) * (count - 1)
