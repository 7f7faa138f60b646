"""Processes that tasks start through `multiprocessing` end with the worker.

A standard worker is a daemon, which may have no such children. Ours may: processes, executors,
managers, pools of joblib. When a worker is killed they would stay for ever, waiting for work at
pipes of which they have both ends. So the kernel kills them when their worker is gone, however it
ended, as it kills the workers when their forkserver is gone (see `pool._workers._lifeline`).

Only those that `multiprocessing` starts, by whatever method: they have this in their `_config`,
which each process takes over from the one that starts it. What a task starts by other means
(`subprocess`, `os.fork`) outlives it, as with the standard's workers.
"""

from __future__ import annotations

import os

from pool._transport._descriptors import above_streams, pipe_above_streams
from pool._workers._imports import when_imported
from pool._workers._lifeline import tie

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

#: Under which name it is in `_config`.
KEY = "actorpool"

#: Write end of the pipe that the children of this worker live by. Nobody else has it.
_write = -1


class Tie:
    """What the life of a process hangs by, as `multiprocessing` hands it on.

    Parameters
    ----------
    read : int
        Descriptor: the read end of the pipe whose write end only the worker has.
    """

    def __init__(self, read: int) -> None:
        self._read = read
        #: Open as long as this process is tied.
        self._held = -1

    def hold(self) -> None:
        """Tie the life of this process to the worker's."""
        if self._held >= 0:
            os.close(self._held)  # a copy of the parent's
        self._held = tie(self._read)

    def hold_forks(self, util: ModuleType) -> None:
        """Tie what `multiprocessing` forks from this process."""
        util.register_after_fork(self, Tie.hold)

    def __reduce__(self) -> Any:
        from multiprocessing.context import get_spawning_popen
        from multiprocessing.reduction import DupFd

        if get_spawning_popen() is None:
            return _nothing, ()  # it goes to a process that is nobody's child
        return _handed_on, (DupFd(self._read),)


def _nothing() -> None:
    """Stand for a tie where there is none."""


def _handed_on(handle: Any) -> Tie:
    """Tie this process, which was started by exec, and those that it starts."""
    read = above_streams(handle.detach())
    os.set_inheritable(read, False)
    made = Tie(read)
    made.hold()
    when_imported("multiprocessing.util", made.hold_forks)
    return made


def tie_children(process: Any) -> None:
    """Tie the processes that this one will start to its life.

    Parameters
    ----------
    process : BaseProcess
        This one, as `multiprocessing.current_process` shows it.
    """
    global _write
    read, _write = pipe_above_streams()
    made = process._config[KEY] = Tie(read)
    when_imported("multiprocessing.util", made.hold_forks)


def _forked() -> None:
    """Close a fork's copy: the end of the worker is to close the last one."""
    global _write
    if _write >= 0:
        os.close(_write)
        _write = -1


os.register_at_fork(after_in_child=_forked)
