"""What a worker takes over from the moment its pool was made, and nothing else.

Working directory, umask, environment, time zone, how standard streams write, ``sys.path``,
``sys.argv``, the authentication key of `multiprocessing`, and what the program has set in the
interpreter and its libraries (see `pool._workers._carried`); no signal handlers, locks or file
buffers.
"""

from __future__ import annotations

import os
import sys
import time

from pool._transport._watch import allow, allowed
from pool._workers import _carried, _servers
from pool._workers._foreseen import foreseen
from pool._workers._imports import when_imported
from pool._workers._streams import manners, write_alike
from pool._workers._warmup import is_shadowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_PROCESS = "multiprocessing.process"

#: Variables by which BLAS and OpenMP libraries learn how many threads to start.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

#: The authentication key, if any, until `multiprocessing` is imported, which keeps it from then on.
_keys: dict[str, bytes] = {}


def thread_limits(threads: int) -> dict[str, str]:
    """Return the variables that limit each worker to `threads` BLAS threads.

    What the user's environment sets already is left alone. Libraries that do not find their own
    variable look at OMP_NUM_THREADS: so that is what those are set to.
    """
    common = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    value = common if common.isdigit() else str(threads)
    return {name: value for name in THREAD_VARIABLES if name not in os.environ}


def capture(
    extra_environ: dict[str, str], pool: int = 0, inherited: bool = False
) -> dict[str, Any]:
    """Return this process's settings as plain values.

    Parameters
    ----------
    extra_environ : dict
        Variables that the workers shall have beside the present ones.
    pool : int
        What tells the pool of these workers from others of this process.
    inherited : bool
        The workers will be forks of this process.
    """
    # Not at the top: this takes 8 ms, and by now a forkserver boots in the meantime.
    from pool._pickling import main_facts

    try:
        cwd: str | None = os.getcwd()
    except OSError:  # it was removed
        cwd = None
    process = sys.modules.get(_PROCESS)
    loads_ahead = not (inherited or is_shadowed())
    return {
        "cwd": cwd,
        # As bytes: nothing to decode when a worker compares it with what it has.
        "environ": {**os.environb, **_as_bytes(extra_environ)},
        "path": [str(entry) for entry in sys.path],
        "argv": [str(argument) for argument in getattr(sys, "argv", [])],
        "main": main_facts(),
        "authkey": _authkey(),
        "parent_pid": os.getpid(),
        "pool": pool,
        "awake": allowed(),
        "name": "MainProcess" if process is None else str(process.current_process().name),
        "umask": _umask(),
        "zone": _zone(),
        "streams": () if inherited else manners(),
        "carried": {} if inherited else _carried.changes(),
        # Modules that tasks had to import, or will have to.
        "learned": _servers.learned_of_python() if loads_ahead else [],
        "foreseen": foreseen() if loads_ahead else [],
    }


def _authkey() -> bytes:
    """Return what processes of this program know each other by.

    `multiprocessing` draws it when it is imported, which may be after this: for a manager, say.
    Workers could not talk to that one if each of them drew a key of its own.
    """
    process = sys.modules.get(_PROCESS)
    if process is not None:
        return bytes(process.current_process().authkey)
    if _PROCESS not in _keys:
        _keys.setdefault(_PROCESS, os.urandom(32))  # another thread may make a pool as well
        when_imported(_PROCESS, _hand_over)
    return _keys[_PROCESS]


def keep_authkey(key: bytes) -> None:
    """Have this process hand `key` to its own workers while it has no `multiprocessing`."""
    _keys[_PROCESS] = key


def _hand_over(process: ModuleType) -> None:
    process.current_process().authkey = _keys[_PROCESS]


def _zone() -> tuple[Any, ...]:
    return time.timezone, time.altzone, *time.tzname


def _umask() -> int | None:
    # To ask the system call is to set it, if only for a moment: for other threads too.
    try:
        with open("/proc/self/status", "rb") as file:
            _, found, rest = file.read(512).partition(b"\nUmask:")
    except OSError:
        return None
    return int(rest.split(maxsplit=1)[0], 8) if found else None


def _as_bytes(environ: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}


def apply(settings: dict[str, Any]) -> None:
    """Take over `settings` in a process that was started anew."""
    apply_common(settings)
    apply_place(settings)


def apply_common(settings: dict[str, Any]) -> None:
    """Take over what a forkserver can for its workers: less is left for each of them to do."""
    allow(settings["awake"])
    environ = settings["environ"]
    present = dict(os.environb)
    if present != environ:
        # What differs only: each variable set costs as much as looking at all of them.
        for name in present.keys() - environ.keys():
            del os.environb[name]
        os.environb.update(dict(environ.items() - present.items()))


def enter(cwd: str | None) -> None:
    """Go where the program is, if that is still there.

    Otherwise into a directory that is gone, as a forked child would be: relative names lead
    nowhere, and not into the root directory.
    """
    try:
        if cwd is not None:
            os.chdir(cwd)
            return
    except OSError:
        pass
    import tempfile

    try:
        path = tempfile.mkdtemp()
    except OSError:
        return  # no room for one
    try:
        os.chdir(path)
    finally:
        os.rmdir(path)


def apply_place(settings: dict[str, Any]) -> None:
    """Take over the rest: a folder that a forkserver is in could not be unmounted."""
    enter(settings["cwd"])
    if settings["umask"] is not None:
        os.umask(settings["umask"])
    if settings["zone"] != _zone():
        # The variable TZ is the program's by now, but had another value when this process began.
        time.tzset()
    write_alike(settings["streams"])
    sys.path[:] = settings["path"]
    sys.argv[:] = settings["argv"]
