"""The errors that a Pool raises.

::

    multiprocessing.ProcessError
    ├── PoolError                      everything of ours
    │   ├── StartError                 workers cannot be started    (+ OSError)
    │   ├── WorkerDied                 a worker ended while it ran a task
    │   │   ├── OutOfMemory            it was ended because memory ran out    (+ MemoryError)
    │   │   └── WorkerLost             of a cluster, with its process or machine
    │   ├── TaskTimeout                a task ran longer than `timeout`    (+ TimeoutError)
    │   ├── TaskCancelled              a job was cancelled    (+ concurrent.futures.CancelledError)
    │   ├── PoolTerminated             a Pool was terminated under its jobs
    │   └── InvalidTransition          a bug of this library: an impossible event for the scheduler
    └── TimeoutError                   the standard's: waiting for a result took too long

Each class is also derived from the standard class that callers catch today. Errors have fields,
which survive pickling: an error of a nested Pool crosses a process boundary.

Importing this takes `multiprocessing` and `concurrent.futures`, so the rest of the package does it
only when something goes wrong.
"""

from __future__ import annotations

import errno
import signal
from concurrent.futures import CancelledError
from multiprocessing import ProcessError
from multiprocessing import TimeoutError as _StandardTimeout

from pool._memory import binary_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PoolError(ProcessError):
    """Base of all errors that a Pool makes itself; errors of tasks are raised as they are."""

    __module__ = "pool"


class StartError(PoolError, OSError):
    """Say that workers cannot be started, and why.

    Parameters
    ----------
    message : str
    number : int, optional
        Of the system's error.

    Attributes
    ----------
    errno : int or None
        That number.
    """

    __module__ = "pool"

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.errno), self.__dict__


#: What usually keeps processes from being started, by the system's error.
SHORTAGES: dict[int | None, str] = {
    errno.EAGAIN: "a limit of processes, the user's (`ulimit -u`) or a container's, is reached",
    errno.EMFILE: "the limit of open files (`ulimit -n`) is reached",
    errno.ENOMEM: "there is too little memory",
}


class WorkerDied(PoolError):
    """Say that a worker ended, and what it was doing.

    Parameters
    ----------
    worker_id : int
        Never used again, unlike `pid`.
    pid : int
    exitcode : int or None
        What the process exited with, negative for a signal; None if it is not known.
    doing : str, optional
        "while running task 17 (render.tile)", "while starting".

    Attributes
    ----------
    worker_id, pid, exitcode, doing
        As given.
    task : str or None
        The task it ran, from `doing`: "task 17 (render.tile)"; None if it ran none.
    signal : str or None
        Name of the signal that ended it.
    cause, remedy : str
        What usually leads to this, and what can be done.
    """

    __module__ = "pool"

    def __init__(
        self, worker_id: int, pid: int, exitcode: int | None, doing: str | None = None
    ) -> None:
        self.worker_id = worker_id
        self.pid = pid
        self.exitcode = exitcode
        self.doing = doing
        self.task = doing[len(RUNNING) :] if doing and doing.startswith(RUNNING) else None
        self.signal = _signal_name(exitcode)
        unbegun = doing is not None and doing.startswith(RECEIVED)
        self.cause, self.remedy = _NO_ROOM if unbegun else _explain(exitcode, self.signal)
        end = _describe(exitcode, self.signal) + (f" {doing}" if doing else "")
        super().__init__(f"worker {worker_id} (pid {pid}) {end}; {self.cause}; {self.remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call the class with `args`, which here is the finished message.
        return type(self), (self.worker_id, self.pid, self.exitcode, self.doing), self.__dict__


class WorkerLost(WorkerDied):
    """Say that a worker on a cluster is gone, with its process or machine.

    Parameters
    ----------
    worker_id : int
    host : str
        Its machine, as far as it is known.
    reason : str
        What the cluster says of it.
    doing : str, optional
        "while it had task 17 (render.tile)": whether that had begun is not known.

    Attributes
    ----------
    host, reason
        As given; besides those of `WorkerDied`, of which `pid` is 0 and `exitcode` None.
    """

    __module__ = "pool"

    def __init__(self, worker_id: int, host: str, reason: str, doing: str | None = None) -> None:
        super().__init__(worker_id, 0, None, doing)
        self.host = host
        self.reason = reason
        self.cause = reason
        self.remedy = "give `retries` if it may run again; the logs of the cluster may say more"
        where = f" on {host}" if host else ""
        end = f" {doing}" if doing else ""
        self.args = (f"worker {worker_id}{where} was lost{end}: {reason}; {self.remedy}",)

    def __reduce__(self) -> tuple[Any, ...]:
        known = (self.worker_id, self.host, self.reason, self.doing)
        return type(self), known, self.__dict__


class OutOfMemory(WorkerDied, MemoryError):
    """Say that a worker was ended because memory ran out, and who had it.

    The kernel would have ended a process soon, perhaps the program itself.

    Parameters
    ----------
    worker_id, pid, exitcode, doing
        As for `WorkerDied`.
    table : tuple of (int, str, int)
        For this program and its largest workers, largest first: pid, what it ran, and the bytes
        of memory that it held for itself (USS).
    available : int
        Bytes that were left under the limit.
    limit : int
        Bytes in all.
    where : str
        Whose limit it is: "of the machine", "of the cgroup /sys/fs/cgroup/...".

    Attributes
    ----------
    table, available, limit, where
        As given; besides those of `WorkerDied`.
    """

    __module__ = "pool"

    def __init__(
        self,
        worker_id: int,
        pid: int,
        exitcode: int | None,
        doing: str | None,
        table: tuple[tuple[int, str, int], ...],
        available: int,
        limit: int,
        where: str,
    ) -> None:
        super().__init__(worker_id, pid, exitcode, doing)
        self.table = table
        self.available = available
        self.limit = limit
        self.where = where
        left = f"{binary_size(abs(available))} {'held beyond' if available < 0 else 'left of'}"
        self.cause = f"memory ran out ({left} the {binary_size(limit)} {where})"
        self.remedy = (
            "lower `processes` or `chunksize`, send each task less, or give `retries` if it may "
            "run again beside others"
        )
        end = "was ended" + (f" {doing}" if doing else "")
        lines = [f"{pid:>9}  {binary_size(nbytes):>9}  {task}" for pid, task, nbytes in table]
        message = f"worker {worker_id} (pid {pid}) {end}, because {self.cause}; {self.remedy}"
        self.args = ("\n".join([message, f"{'pid':>9}  {'USS':>9}  task", *lines]),)

    def __reduce__(self) -> tuple[Any, ...]:
        known = (self.worker_id, self.pid, self.exitcode, self.doing)
        figures = (self.table, self.available, self.limit, self.where)
        return type(self), (*known, *figures), self.__dict__


class TaskTimeout(_StandardTimeout, PoolError):
    """Say that a task was ended because it ran longer than the call's `timeout`.

    Attributes
    ----------
    seconds : float or None
        The limit.
    task : str or None
        Which task it was.
    """

    __module__ = "pool"

    def __init__(
        self,
        message: str = "a task ran longer than its timeout",
        *,
        seconds: float | None = None,
        task: str | None = None,
    ) -> None:
        super().__init__(message)
        self.seconds = seconds
        self.task = task


class TaskCancelled(CancelledError, PoolError):
    """Say that a job was cancelled before this task of it was done.

    Attributes
    ----------
    task : str or None
        Which task it was; None for the whole job.
    """

    __module__ = "pool"

    def __init__(self, message: str = "the job was cancelled", *, task: str | None = None) -> None:
        super().__init__(message)
        self.task = task


class PoolTerminated(PoolError):
    """Say that a Pool was terminated, or lost, before a job was done."""

    __module__ = "pool"


class InvalidTransition(PoolError):
    """Say that the scheduler was told something that cannot happen in the state it is in."""

    __module__ = "pool"


#: How `doing` begins if the worker has ended while it ran that task.
RUNNING = "while running "

#: How it begins if one worker after the other has ended before it began that task.
RECEIVED = "when it, like others before, was to receive "

#: The likely cause of that, and a remedy.
_NO_ROOM = (
    "there was no memory or no descriptor to receive it with",
    "do not limit these in the initializer (RLIMIT_AS, RLIMIT_NOFILE), or send less with a task",
)


def _signal_name(exitcode: int | None) -> str | None:
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


def _describe(exitcode: int | None, name: str | None) -> str:
    if exitcode is None:
        return "ended"
    return f"was killed by {name}" if name else f"exited with code {exitcode}"


_CRASH = (
    "a bug in compiled code, or a corrupt input to it, is the usual cause",
    "run the task with `python -X faulthandler` to see where, or give `retries` if it is rare",
)
_STOPPED = (
    "another process (a job scheduler, an operator) stopped it",
    "give `retries` if such a task may run again",
)

# What to tell for each way to die; anything else gets the general answer below.
_EXPLANATIONS = {
    "SIGKILL": (
        "out of memory is the usual cause",
        "lower `processes` or `chunksize`, or give `retries` if such a task may run again",
    ),
    "SIGSEGV": _CRASH,
    "SIGBUS": (
        "full shared memory or a bug in compiled code is the usual cause",
        "free space in /dev/shm, or run the task with `python -X faulthandler` to see where",
    ),
    "SIGILL": _CRASH,
    "SIGFPE": _CRASH,
    "SIGABRT": _CRASH,
    "SIGTERM": _STOPPED,
    "SIGHUP": _STOPPED,
    "SIGINT": _STOPPED,
    "SIGXCPU": (
        "it used up its limit of CPU time",
        "raise `ulimit -t`, or make the items smaller",
    ),
}


def _explain(exitcode: int | None, name: str | None) -> tuple[str, str]:
    """Return the likely cause of such an end, and a remedy."""
    if name is not None:
        unknown = ("somebody sent it that signal", "give `retries` if such a task may run again")
        return _EXPLANATIONS.get(name, unknown)
    if exitcode is None:
        return (
            "its exit code is not known, because something else in this program waited for it",
            "do not wait for processes of others with `os.wait` or by ignoring SIGCHLD",
        )
    return (
        "the task, or a library it uses, called os._exit or the like",
        "raise an exception instead of exiting",
    )
