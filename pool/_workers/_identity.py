"""Give a worker its own identity in `multiprocessing.current_process`, and its parent.

Programs choose a GPU or a log file by ``current_process()._identity`` or by its name.
Importing `multiprocessing` takes 10 ms, and few tasks need it. So if it is not loaded yet,
the process object is put in place when a task imports it.

Workers that are to end with the program compare `os.getppid` with the pid that they were given.
They are children of the program in all that matters, so that is what it says.
"""

from __future__ import annotations

import os
import posix
import sys

from pool._workers._imports import when_imported
from pool._workers._settings import keep_authkey, keep_identity
from pool._workers._tied import tie_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_MODULE = "multiprocessing.process"

#: What begins the names of workers whose program has chosen no start method, whatever process they
#: are forked from: programs name files by them, and make those beforehand (``ForkPoolWorker-1``).
_DEFAULT = "Fork" if sys.version_info < (3, 14) else "ForkServer"

_real_parent = posix.getppid

#: The pids of this worker, of the forkserver, and of the program.
_family: tuple[int, int, int] | None = None


def be_child_of(program: int) -> None:
    """Have `os.getppid` return the pid of the program in this process, a worker of its pool."""
    global _family
    _family = os.getpid(), _real_parent(), program
    os.getppid = posix.getppid = getppid


def getppid() -> int:
    """Return the parent's process id."""
    parent = _real_parent()
    if _family is not None and _family[:2] == (os.getpid(), parent):
        return _family[2]
    return parent  # of a fork that a task has made, or since the forkserver has ended


# So that it is pickled as the function in whose place it is.
getppid.__module__ = "posix"


def introduce(number: int, settings: dict[str, Any], prefix: str) -> None:
    """Give this process the name and identity of a worker.

    Parameters
    ----------
    number : int
        Of the worker, in the program. Becomes ``current_process()._identity[-1]``.
    settings : dict
        From `pool._workers._settings.capture`.
    prefix : str
        ``"Fork"``, ``"Spawn"`` or ``"ForkServer"``. The name is as in `multiprocessing`, such as
        ``SpawnPoolWorker-1``.
    """
    if settings.get("alike"):
        prefix = _DEFAULT
    # The worker's number is appended to the identity of the process that has the pool.
    identity = (*settings["identity"], number)
    if "number" in settings:
        # Of a pool each of whose workers has an engine of its own: the other number tells those
        # apart that follow each other there.
        identity = (*identity, settings["number"])
    keep_identity(identity)
    keep_authkey(settings["authkey"])
    when_imported(_MODULE, lambda module: _introduce(module, identity, settings, prefix))


def _introduce(
    module: ModuleType, identity: tuple[int, ...], settings: dict[str, Any], prefix: str
) -> None:
    process: Any = module
    parent = process._current_process

    class PoolWorkerProcess(process.BaseProcess):  # type: ignore[misc]  # Any, see above
        """This worker, as `multiprocessing.current_process` shows it."""

        def __init__(self) -> None:
            self._identity = identity
            self._config = dict(getattr(parent, "_config", {}))
            # `Process.start` looks at this one: workers may have children of their own.
            self._config["daemon"] = False
            self._daemon = bool(settings["pool"])
            self._config["authkey"] = process.AuthenticationString(settings["authkey"])
            self._parent_pid = settings["parent_pid"]
            self._parent_name = settings["name"]
            self._popen = None
            self._closed = False
            self._name = f"{prefix}PoolWorker-{':'.join(map(str, identity))}"

        @property
        def daemon(self) -> bool:
            """Whether this is a worker of a Pool, in which libraries are to start no processes.

            joblib and others look at this one, and then use one process where they would use many:
            there is a worker for each CPU already.
            """
            return self._daemon

        @daemon.setter
        def daemon(self, value: bool) -> None:
            self._daemon = value

        @property
        def ident(self) -> int:
            pid: int = process.os.getpid()
            return pid

        pid = ident

        def is_alive(self) -> bool:
            return True

    process._current_process = PoolWorkerProcess()
    tie_children(process._current_process)
    process._parent_process = _parent(process, settings)
    process._process_counter = process.itertools.count(1)
    process._children = set()


def _parent(process: Any, settings: dict[str, Any]) -> Any:
    """Return what `multiprocessing.parent_process` is to return: the process that made the pool."""
    pid = settings["parent_pid"]
    try:
        # Becomes readable when the process ends, like the pipe that `multiprocessing` uses.
        sentinel = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
    return process._ParentProcess(settings["name"], pid, sentinel)
