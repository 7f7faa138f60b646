"""Read what a pool is doing, without disturbing it."""

from __future__ import annotations

import _signal
import os

from pool._local._members import members
from store._children import notice_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._faces._pool import Pool
    from pool._local._engine import LocalEngine


class WorkerView:
    """A worker as an element of ``pool._pool``, with the attributes of a standard `Process`.

    Parameters
    ----------
    engine : LocalEngine
    worker_id : int
    state : str
        ``"starting"``, ``"idle"``, ``"busy"``, ``"blocked"`` or ``"stopping"``.
    tasks_done : int
    """

    daemon = True

    def __init__(self, engine: LocalEngine, worker_id: int, state: str, tasks_done: int) -> None:
        self._engine = engine
        self._peer = engine.driver.peers.get(worker_id)
        self.worker_id = worker_id
        # For `==`: views are made anew for each look, and programs compare them.
        self._key = id(engine), worker_id
        self.name = f"PoolWorker-{worker_id}"
        self.state = state
        self.tasks_done = tasks_done

    @property
    def known_pid(self) -> int | None:
        """The id of its process; None until the worker has told it."""
        return None if self._peer is None else self._peer.pid

    @property
    def pid(self) -> int | None:
        """The id of its process. Waits for it, since the fork comes a moment after `Pool()`.

        None on a cluster. On this machine None would be harmful meanwhile: ``psutil.Process(None)``
        is the program itself.
        """
        engine, peer = self._engine, self._peer
        driver = engine.driver
        if peer is not None and not (self._is_known() or driver.held_here):
            driver.locked(driver.crew.ask_pids)
            engine.wait(self._is_known)
        return self.known_pid

    @property
    def host(self) -> str | None:
        """The machine of a worker on a cluster, as far as it is known; None for this one."""
        return getattr(self._peer, "host", None)

    ident = pid

    def _is_known(self) -> bool:
        peer = self._peer
        engine = self._engine
        # A worker on another machine never tells: nothing here could be done with it.
        return peer is None or not (
            peer.pid is peer.status is None and engine.usable and engine.near
        )

    @property
    def exitcode(self) -> int | None:
        """The exit status, or minus the number of the signal that ended it; None while it lives."""
        engine = self._engine
        if engine.usable:
            engine.glance()
        status = None if self._peer is None else self._peer.status
        if status is not None:
            return os.waitstatus_to_exitcode(status) if status >= 0 else os.EX_OSERR  # not forked
        # The status of workers that are terminated with their pool is not collected.
        return -_signal.SIGTERM if engine.driver.closed else None

    def is_alive(self) -> bool:
        """Return whether it is running."""
        return self.exitcode is None

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""
        engine, peer = self._engine, self._peer
        engine.wait(lambda: peer is None or peer.status is not None or not engine.usable, timeout)

    def terminate(self) -> None:
        """Send it SIGTERM: the task that it runs fails, and another worker takes its place."""
        self._signal(_signal.SIGTERM)

    def kill(self) -> None:
        """Do as `terminate`, with SIGKILL."""
        self._signal(_signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # Without the driver's lock: a signal handler may run while its own thread holds it.
        if self._engine.usable:
            self._engine.driver.crew.signal(self.worker_id, number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkerView) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<{self.name} pid={self.known_pid} {self.state}>"


def worker_views(pool: Pool) -> list[WorkerView]:
    """Return the workers of `pool`, oldest first."""
    engine = pool._engines.main
    return [] if engine is None else _workers_of(engine)


def active_children() -> list[Any]:
    """Return the processes that this one has started and that run, workers of its pools too.

    Programs that have closed a pool wait until there are none, or for each one, before they look
    at what tasks have done.
    """
    import multiprocessing

    from pool._local._engine import engines

    notice_fork()  # else these may be the parent's
    near = [engine for engine in members(engines) if engine.near]
    workers = [each for engine in near for each in _workers_of(engine)]
    return [*multiprocessing.active_children(), *(each for each in workers if each.is_alive())]


active_children.__module__ = "pool"  # where users find it


def _workers_of(engine: LocalEngine) -> list[WorkerView]:
    if not engine.usable:
        return []
    engine.glance()
    views = []
    for worker in list(engine.scheduler.workers.values()):
        if worker.stopping:
            state = "stopping"
        elif not worker.ready:
            state = "starting"
        elif worker.blocked:
            state = "blocked"
        else:
            state = "busy" if worker.messages else "idle"
        views.append(WorkerView(engine, worker.worker_id, state, worker.tasks_done))
    return views


def _resident(pid: int | None) -> int | None:
    """Return the bytes of RAM that a worker takes, without pages shared with files."""
    if pid is None:
        return None
    from pool._memory import resident

    return resident(pid)


def stats(pool: Pool) -> dict[str, Any]:
    """Return what `Pool.stats` returns."""
    workers = worker_views(pool)
    engine = pool._engines.main
    return {
        "processes": pool._processes,
        "start_method": pool._engines.method if engine is None else engine.method,
        "state": pool._state,
        "workers": [
            {
                "worker_id": worker.worker_id,
                "pid": worker.known_pid,
                "host": worker.host,
                "state": worker.state,
                "tasks_done": worker.tasks_done,
                "nbytes": _resident(worker.known_pid),
            }
            for worker in workers
        ],
        "jobs": sum(len(each.unfinished()) for each in pool._engines.all()),
        "queued": 0 if engine is None else engine.scheduler.queued,
        "tasks_done": 0 if engine is None else engine.scheduler.tasks_done,
        "tasks_failed": 0 if engine is None else engine.scheduler.tasks_failed,
        "restarts": 0 if engine is None else engine.scheduler.restarts,
    }
