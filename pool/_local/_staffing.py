"""How many workers there are: those missing are started, those too many are stopped.

Part of the scheduler, see `pool._local._scheduler`. A worker whose task waits for other tasks does
not count, so that a *substitute* may run in its place. When that task goes on there is one worker
too many, and none begins another chunk until one of them is idle. To start a substitute takes time,
and perhaps an initializer, while tasks may wait often and briefly. So none is started while another
worker is idle, and one that is not needed any more is *spare*: it is kept for the next task that
waits. There are at most as many spare ones as workers that may run, and none when no job is left.
"""

from __future__ import annotations

from pool._local._events import Reclaim, StartWorker, StopWorker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._local._events import (
        Command,
        PoolOpened,
        ProcessesChanged,
        WorkerBlocked,
        WorkerUnblocked,
    )
    from pool._local._records import Worker
    from pool._local._scheduler import Scheduler


class Staffing:
    """Start and stop workers until `Scheduler.processes` of them can run tasks.

    Parameters
    ----------
    scheduler : Scheduler
        Whose records this part reads and changes.
    """

    __slots__ = ("_roster", "_scheduler", "owed")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._roster = scheduler.roster
        #: Substitutes that were not started because another worker was idle.
        self.owed = 0

    def on_processes(self, event: ProcessesChanged, now: float) -> list[Command]:
        """Start the workers that are missing now, and stop idle ones that are too many."""
        self._scheduler.processes = event.processes
        commands: list[Command] = []
        self._stop_surplus(commands)
        self.start_missing(commands)
        return self._scheduler.dispatch.fill(commands, now)

    def on_opened(self, event: PoolOpened, now: float) -> list[Command]:
        """Start the workers of a new pool."""
        commands: list[Command] = []
        self.start_missing(commands)
        return commands

    def excess(self) -> int:
        """Return how many more workers than wanted run tasks; negative: some may begin to."""
        roster = self._roster
        if len(roster.workers) <= self._scheduler.processes:
            return -len(roster.idle)
        return roster.runnable - len(roster.idle) - self._scheduler.processes

    def surplus(self) -> int:
        """Return how many workers there are that are neither wanted nor spare."""
        scheduler = self._scheduler
        if len(self._roster.workers) <= scheduler.processes:
            return 0
        wanted = scheduler.processes * (2 if scheduler.jobs else 1)
        return self._roster.runnable - wanted

    def _stop_surplus(self, commands: list[Command]) -> None:
        # Busy workers that are too many are stopped when they are idle, by `Dispatch.place`.
        idle = self._roster.idle
        while idle and self.surplus() > 0:
            # One that is still starting before one that has started.
            starting = (worker for worker in idle.values() if not worker.ready)
            self.stop(next(starting, None) or next(iter(idle.values())), commands)

    def start_missing(self, commands: list[Command]) -> None:
        """Start as many workers as are wanted, unless nothing is left for them to do."""
        self.owed = 0
        scheduler = self._scheduler
        if scheduler.broken or (scheduler.closing and not scheduler.jobs):
            return
        for _ in range(scheduler.processes - self._roster.runnable):
            worker = self._roster.add(scheduler.maxtasksperchild)
            commands.append(StartWorker(worker.worker_id))

    def stop(self, worker: Worker, commands: list[Command]) -> None:
        """Have a worker end in good order; it is sent nothing more."""
        worker.stopping = True
        self._roster.withdraw(worker.worker_id)
        commands.append(StopWorker(worker.worker_id))

    def job_ended(self, commands: list[Command]) -> None:
        """Stop workers if no job is left: all if the pool was closed, else the spare ones."""
        if self._scheduler.jobs:
            return
        if self._scheduler.closing:
            self.stop_all(commands)
        else:
            self._stop_surplus(commands)

    def stop_all(self, commands: list[Command]) -> None:
        """Have all workers end in good order: the pool was closed, and no job is left."""
        for worker in self._roster.workers.values():
            if not worker.stopping:
                self.stop(worker, commands)

    def on_blocked(self, event: WorkerBlocked, now: float) -> list[Command]:
        """Let a substitute run in place of a worker whose task waits for other tasks."""
        worker = self._roster.workers.get(event.worker_id)
        if worker is None:
            return []
        worker.blocked += 1
        commands: list[Command] = []
        if worker.blocked == 1:
            self._scheduler.dispatch.place(worker, commands)
            if self._roster.idle:
                self.owed += 1
            else:
                self.start_missing(commands)
            if len(worker.messages) > 1 and not worker.reclaiming:
                worker.reclaiming = True
                commands.append(Reclaim(worker.worker_id))
        return self._scheduler.dispatch.fill(commands, now)

    def on_unblocked(self, event: WorkerUnblocked, now: float) -> list[Command]:
        """Count a worker again whose task goes on."""
        worker = self._roster.workers.get(event.worker_id)
        if worker is None:
            return []
        worker.blocked -= 1
        commands: list[Command] = []
        if not worker.blocked:
            self._scheduler.dispatch.place(worker, commands)
            self.owed = max(0, self.owed - 1)
            self._stop_surplus(commands)
        return self._scheduler.dispatch.fill(commands, now)
