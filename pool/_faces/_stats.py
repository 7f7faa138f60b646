"""Read what a pool is doing, without disturbing it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._faces._pool import Pool


class WorkerView:
    """A worker as programs see it that look into ``pool._pool``."""

    def __init__(self, worker_id: int, pid: int | None, state: str, tasks_done: int) -> None:
        self.worker_id = worker_id
        self.pid = pid
        self.name = f"PoolWorker-{worker_id}"
        self.state = state
        self.tasks_done = tasks_done
        self.exitcode = None

    def is_alive(self) -> bool:
        """Return True: those that have ended are not listed."""
        return True

    def __repr__(self) -> str:
        return f"<{self.name} pid={self.pid} {self.state}>"


def worker_views(pool: Pool) -> list[WorkerView]:
    """Return the workers of `pool`, oldest first."""
    engine = pool._engines.main
    if engine is None or not engine.usable:
        return []
    engine.lead.glance()
    views = []
    for worker in list(engine.scheduler.workers.values()):
        peer = engine.driver.peers.get(worker.worker_id)
        if worker.stopping:
            state = "stopping"
        elif not worker.ready:
            state = "starting"
        elif worker.blocked:
            state = "blocked"
        else:
            state = "busy" if worker.messages else "idle"
        pid = None if peer is None else peer.pid
        views.append(WorkerView(worker.worker_id, pid, state, worker.tasks_done))
    return views


def stats(pool: Pool) -> dict[str, Any]:
    """Return `Pool.stats`."""
    workers = worker_views(pool)
    engine = pool._engines.main
    driver = None if engine is None else engine.driver
    return {
        "processes": pool._processes,
        "start_method": pool._engines.method if engine is None else engine.method,
        "state": pool._state,
        "workers": [
            {
                "worker_id": worker.worker_id,
                "pid": worker.pid,
                "state": worker.state,
                "tasks_done": worker.tasks_done,
            }
            for worker in workers
        ],
        "jobs": 0 if driver is None else len(driver.jobs),
        "queued": 0 if engine is None else engine.scheduler.queued,
        "tasks_done": 0 if engine is None else engine.scheduler.tasks_done,
        "tasks_failed": 0 if engine is None else engine.scheduler.tasks_failed,
        "restarts": 0 if engine is None else engine.scheduler.restarts,
    }
