"""How many workers there are: those missing are started, those too many are stopped.

Part of the scheduler, see `pool._local._scheduler`. A worker whose task waits for other tasks does
not count, so that a *substitute* may run in its place. When that task goes on there is one worker
too many, and none begins another chunk until one of them is idle. To start a substitute takes time,
and perhaps an initializer, while tasks may wait often and briefly. So none is started while another
worker is idle, and one that is not needed any more is *spare*: it is kept for the next task that
waits. There are at most as many spare ones as workers that may run, and none when no job is left.

A new pool for whose workers the system has no room is an error at once. Later that may pass: the
program has too many files open for a moment, say. So a worker that cannot be started then is *put
off*, as long as others go on.
"""

from __future__ import annotations

from pool._local._events import Reclaim, StartWorker, StopWorker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._local._events import (
        Command,
        ProcessesChanged,
        StartPutOff,
        WorkerBlocked,
        WorkersWanted,
        WorkerUnblocked,
    )
    from pool._local._records import Worker
    from pool._local._scheduler import Scheduler

#: Workers that may die one after the other while starting before the pool is given up.
START_ATTEMPTS = 3


class Staffing:
    """Start and stop workers until `Scheduler.processes` of them can run tasks.

    Parameters
    ----------
    scheduler : Scheduler
        Whose records this part reads and changes.

    Attributes
    ----------
    failed_starts : int
        Workers that ended while starting, since one last was ready.
    owed : int
        Substitutes that were not started because another worker was idle.
    """

    __slots__ = ("_roster", "_scheduler", "_up", "failed_starts", "owed")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._roster = scheduler.roster
        #: How many workers have come up so far.
        self._up = 0
        self.failed_starts = self.owed = 0

    def on_processes(self, event: ProcessesChanged, now: float) -> list[Command]:
        """Start the workers that are missing now, and stop idle ones that are too many."""
        self._scheduler.processes = event.processes
        commands: list[Command] = []
        self._stop_surplus(commands)
        self.start_missing(commands)
        return self._scheduler.dispatch.fill(commands, now)

    def on_wanted(self, event: WorkersWanted, now: float) -> list[Command]:
        """Start the workers of a new pool, or those that were put off."""
        commands: list[Command] = []
        self.start_missing(commands)
        return self._scheduler.dispatch.fill(commands, now)

    def on_put_off(self, event: StartPutOff, now: float) -> list[Command]:
        """Strike out a worker that cannot be started now; none is started in its place as yet."""
        worker = self._roster.remove(event.worker_id)
        if worker is None:
            return []
        # What is to be interrupted there has never begun.
        self._scheduler.interrupts.pardon(event.worker_id, None)
        commands: list[Command] = []
        for message in reversed(worker.messages.values()):
            for run in reversed(message.runs):
                self._scheduler.requeue(run, None, commands)
        return self._scheduler.dispatch.fill(commands, now)

    def can_put_off(self, worker_id: int) -> bool:
        """Return whether the pool can do without a worker that cannot be started now.

        The pool is not new, and somebody goes on, or is about to end: then the missing are started
        again.
        """
        return self._up >= self._scheduler.processes and any(
            not worker.blocked and (worker.ready or worker.stopping)
            for worker in self._roster
            if worker.worker_id != worker_id
        )

    def came_up(self) -> None:
        """Note that a worker is ready."""
        self.failed_starts = 0
        self._up += 1

    @property
    def gave_up(self) -> bool:
        """Whether workers died while starting, so often that no more are started."""
        return self.failed_starts >= START_ATTEMPTS

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
