"""Processes that tasks start through `multiprocessing` end with the worker.

Workers of `multiprocessing` are daemons, which may have no such children. Here they may:
processes, executors, managers, pools of joblib. When a worker is killed these would stay for ever,
waiting for work at pipes of which they have both ends. So the kernel kills them when their worker
is gone, however it ended, as it kills workers whose forkserver is gone (see
`pool._workers._lifeline`).

That holds for what `multiprocessing` starts, by whatever method: the tie is in the `_config` that
each process takes over from the one that starts it. What a task starts by other means
(`subprocess`, `os.fork`) outlives the worker, as it does in `multiprocessing`.
"""

from __future__ import annotations

import os

from pool._transport._descriptors import above_streams, pipe_above_streams
from pool._workers._imports import when_imported
from pool._workers._lifeline import tie
from store._children import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

#: The name of the tie in `_config`.
KEY = "actorpool"

#: Write end of the pipe that ties this worker's children to its life. No other process has it.
_write = -1


class Tie:
    """Ties the life of a process to a worker's; `multiprocessing` hands it on from one to the next.

    Parameters
    ----------
    read : int
        Descriptor: the read end of the pipe whose write end only the worker has.
    """

    def __init__(self, read: int) -> None:
        self._read = read
        #: The descriptor that ties this process as long as it is open; -1 if there is none.
        self._held = -1

    def hold(self) -> None:
        """Tie the life of this process to the worker's."""
        if self._held >= 0:
            os.close(self._held)  # inherited from the parent, whom it ties
        self._held = tie(self._read)

    def hold_forks(self, util: ModuleType) -> None:
        """Have the processes tied that `multiprocessing` forks from this one."""
        util.register_after_fork(self, Tie.hold)

    def __reduce__(self) -> Any:
        from multiprocessing.context import get_spawning_popen
        from multiprocessing.reduction import DupFd

        if get_spawning_popen() is None:
            return _no_tie, ()  # not pickled to start a process: a descriptor cannot be sent
        return _handed_on, (DupFd(self._read),)


def _no_tie() -> None:
    """Return None, in place of a tie."""


def _handed_on(handle: Any) -> Tie:
    """Tie this process, which was started by exec, and have those tied that it starts."""
    read = above_streams(handle.detach())
    os.set_inheritable(read, False)
    made = Tie(read)
    made.hold()
    when_imported("multiprocessing.util", made.hold_forks)
    return made


def tie_children(process: Any) -> None:
    """Have the processes that this worker will start tied to its life.

    Parameters
    ----------
    process : BaseProcess
        The worker, as `multiprocessing.current_process` returns it.
    """
    global _write
    read, _write = pipe_above_streams()
    made = process._config[KEY] = Tie(read)
    when_imported("multiprocessing.util", made.hold_forks)


def _forked() -> None:
    """Close the copy that a fork of the worker has: the end of the worker must close the last."""
    global _write
    if _write >= 0:
        os.close(_write)
        _write = -1


in_child(_forked)
