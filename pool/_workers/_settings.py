"""What a worker takes over from its program, as it was when the pool was made.

Working directory, umask, environment, time zone, how standard streams write, ``sys.path``,
``sys.argv``, the authentication key of `multiprocessing`, and what the program has set in the
interpreter and its libraries (see `pool._workers._carried`). Nothing else: no handlers of signals
from outside, locks or file buffers.
"""

from __future__ import annotations

import os
import sys
import time

from pool._transport._watch import allow, allowed
from pool._workers import _carried, _servers
from pool._workers._argv import search_path
from pool._workers._foreseen import foreseen
from pool._workers._imports import when_imported
from pool._workers._stdio import manners, write_alike
from pool._workers._warmup import is_shadowed
from store._cgroups import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_PROCESS = "multiprocessing.process"

#: The authentication key, if one was drawn, under `_PROCESS`: used until `multiprocessing` is
#: imported, which keeps it from then on. A dict, since `setdefault` lets one of two threads win.
_keys: dict[str, bytes] = {}

#: Of this process, if it is a worker: as `current_process` has it, once somebody imports that.
_identity: tuple[int, ...] = ()


def capture(
    extra_environ: dict[str, str], pool: int = 0, inherited: bool = False
) -> dict[str, Any]:
    """Return this process's settings as plain values.

    Without the ``variables`` and ``patches`` of modules, which tell whether the program has to be
    forked: see `pool._local._starting`.

    Parameters
    ----------
    extra_environ : dict
        Environment variables that the workers are to have besides those of this process.
    pool : int
        Tells the pool of these workers from others of this process; 0: the runtime of Ray's API.
    inherited : bool
        Whether the workers will be forks of this process, which have most of it anyway.

    Returns
    -------
    dict
        Of values that `marshal` takes.
    """
    # Not at the top: this import takes 8 ms, in which the forkserver boots now.
    from pool._pickling import main_facts, tell_cloudpickle
    from pool._pickling._origins import folders_left

    tell_cloudpickle(when_imported)

    try:
        cwd: str | None = os.getcwd()
    except OSError:  # it was removed
        cwd = None
    process = sys.modules.get(_PROCESS)
    loads_ahead = not (inherited or is_shadowed())
    return {
        "cwd": cwd,
        # As bytes, so that a worker can compare it with its own without decoding.
        "environ": {**os.environb, **_as_bytes(extra_environ)},
        "path": [*search_path(), *([] if inherited else folders_left())],
        "argv": [str(argument) for argument in getattr(sys, "argv", [])],
        "main": main_facts(),
        "authkey": _authkey(),
        "parent_pid": os.getpid(),
        "pool": pool,
        "awake": allowed(),
        "name": "MainProcess" if process is None else str(process.current_process().name),
        "identity": _identity if process is None else tuple(process.current_process()._identity),
        "umask": _umask(),
        "zone": _zone(),
        "streams": () if inherited else manners(),
        "carried": {} if inherited else _carried.changes(),
        "variables": {},
        "patches": [],
        # Modules of Python's own that tasks had to import, and those that they are likely to need.
        "learned": _servers.learned_of_python() if loads_ahead else [],
        "foreseen": foreseen() if loads_ahead else [],
    }


def _authkey() -> bytes:
    """Return the key by which processes of this program authenticate each other.

    `multiprocessing` draws one when it is imported, which may come later, as for a manager.
    If each worker drew one of its own, they could not connect to that manager.
    """
    process = sys.modules.get(_PROCESS)
    if process is not None:
        return bytes(process.current_process().authkey)
    if _PROCESS not in _keys:
        _keys.setdefault(_PROCESS, os.urandom(32))  # another thread may make a pool now as well
        when_imported(_PROCESS, _hand_over)
    return _keys[_PROCESS]


def keep_identity(identity: tuple[int, ...]) -> None:
    """Have this process, a worker, number the workers of its own pools below itself."""
    global _identity
    _identity = identity


def keep_authkey(key: bytes) -> None:
    """Keep the program's key for this worker's own workers, until it imports `multiprocessing`."""
    _keys[_PROCESS] = key


def _hand_over(process: ModuleType) -> None:
    """Give the key to `multiprocessing`, which has just been imported."""
    process.current_process().authkey = _keys[_PROCESS]


def _zone() -> tuple[Any, ...]:
    return time.timezone, time.altzone, *time.tzname


def _umask() -> int | None:
    # Not by `os.umask`, which can only set it: for a moment other threads would have another one.
    _, found, rest = read("/proc/self/status").partition("\nUmask:")
    return int(rest.split(maxsplit=1)[0], 8) if found else None


def _as_bytes(environ: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}


def apply(settings: dict[str, Any]) -> None:
    """Take over `settings` in a process that was started anew."""
    apply_common(settings)
    apply_place(settings)


def apply_common(settings: dict[str, Any]) -> None:
    """Take over what a forkserver can take over for its workers, once for all of them."""
    allow(settings["awake"])
    environ = settings["environ"]
    present = dict(os.environb)
    if present != environ:
        # Only what differs: to set one variable takes as long as to compare all of them.
        for name in present.keys() - environ.keys():
            del os.environb[name]
        os.environb.update(dict(environ.items() - present.items()))


def enter(cwd: str | None) -> None:
    """Change to the program's working directory, if it still exists.

    Otherwise to a directory that is removed at once, as that of a forked child would be: so that
    relative paths lead nowhere, rather than into the root directory.
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
    """Take over what each worker has to by itself.

    The working directory, for one: a file system could not be unmounted while a forkserver has a
    directory of it as its own.
    """
    enter(settings["cwd"])
    if settings["umask"] is not None:
        os.umask(settings["umask"])
    if settings["zone"] != _zone():
        # TZ has the program's value by now, but the C library read it when this process began.
        time.tzset()
    write_alike(settings["streams"])
    sys.path[:] = settings["path"]
    sys.argv[:] = settings["argv"]
