"""Workers lent to the driver for a single call, see `pool._local._express`.

Part of the scheduler, see `pool._local._scheduler`, which sends a lent worker nothing until it is
returned. The call counts as one task.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._local._events import Command, LoanCancelled, WorkerLent, WorkerReturned
    from pool._local._scheduler import Scheduler


class Loans:
    """Lend idle workers.

    Parameters
    ----------
    scheduler : Scheduler
        Whose records this part reads and changes.
    """

    __slots__ = ("_dispatch", "_interrupts", "_queue", "_roster", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._dispatch = scheduler.dispatch
        self._interrupts = scheduler.interrupts
        self._queue = scheduler.queue
        self._roster = scheduler.roster

    def lendable(self) -> int | None:
        """Return the worker_id of an idle worker that the driver may use; None if there is none."""
        idle = self._roster.idle
        if not idle or self._scheduler.maxtasksperchild is not None or self._scheduler.broken:
            return None
        worker_id = next(reversed(idle))
        return worker_id if idle[worker_id].ready else None

    def on_lent(self, event: WorkerLent, now: float) -> list[Command]:
        """Note that the driver uses a worker."""
        worker = self._roster.idle.pop(event.worker_id, None)
        if worker is None:
            raise self._scheduler.invalid(event, "the worker is not idle")
        worker.lent = True
        return []

    def on_returned(self, event: WorkerReturned, now: float) -> list[Command]:
        """Note that the driver's call is over; send the worker chunks that wait."""
        worker = self._roster.workers.get(event.worker_id)
        if worker is None:
            return []
        worker.lent = False
        worker.tasks_done += 1
        self._scheduler.tasks_done += 1
        if event.failed:
            self._scheduler.tasks_failed += 1
        self._interrupts.pardon(event.worker_id, event.message_id)
        commands: list[Command] = []
        self._dispatch.place(worker, commands)
        if self._queue.chunks or len(self._roster.idle) < len(self._roster.workers):
            self._dispatch.fill(commands, now)
        return commands

    def on_cancelled(self, event: LoanCancelled, now: float) -> list[Command]:
        """Interrupt the call that a lent worker runs."""
        worker = self._roster.workers.get(event.worker_id)
        if worker is None or not worker.lent:
            return []
        key = (event.worker_id, event.message_id, 0, None)
        return [self._interrupts.cancel(key, now)]
