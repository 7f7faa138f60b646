"""Who gets which chunks, and when: batches are cut here, and taken back from stragglers.

Part of the scheduler, see `pool._local._scheduler`.
"""

from __future__ import annotations

from pool._local._events import Reclaim, Send
from pool._local._records import Message
from pool._local._roster import DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._local._events import Command
    from pool._local._records import Job, Worker
    from pool._local._scheduler import Scheduler


class Dispatch:
    """Cut chunks off their jobs and send them to workers that have room.

    Parameters
    ----------
    scheduler : Scheduler
        Whose books these are.
    """

    __slots__ = (
        "_costs", "_distance", "_next_message", "_queue", "_roster", "_scheduler", "_staff",
        "_stragglers",
    )  # fmt: skip

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._costs = scheduler.costs
        self._distance = scheduler.distance
        self._queue = scheduler.queue
        self._roster = scheduler.roster
        self._staff = scheduler.staff
        self._stragglers = scheduler.stragglers
        self._next_message = 1

    def place(self, worker: Worker, commands: list[Command]) -> None:
        """File the worker under what it can take now; retire it when it is due."""
        self._roster.withdraw(worker.worker_id)
        if worker.stopping or worker.blocked or worker.lent:
            return
        if worker.tasks_left is not None and worker.tasks_left <= 0:
            if not worker.messages:
                self._staff.stop(worker, commands)
                self._staff.start_missing(commands)
            return
        if not worker.messages and self._staff.surplus() > 0:
            self._staff.stop(worker, commands)
        else:
            self._roster.file(worker)

    def fill(self, commands: list[Command], now: float, steal: bool = True) -> list[Command]:
        """Give work to workers that can take some; return `commands` with what that takes."""
        roster = self._roster
        while self._queue.chunks:
            job = self._queue.head()
            if roster.idle:
                worker = roster.pick_idle()
            elif self._staff.owed:
                self._staff.start_missing(commands)
                continue
            elif roster.room and job.timeout is None and self._worth_prefetch(job):
                worker = next(iter(roster.room.values()))
            else:
                return commands
            self._send(worker, job, commands, now)
        if steal and roster.idle and len(roster.idle) < len(roster.workers):
            # Workers that are still starting must not rob anybody, least of all each other:
            # they would hand a message to and fro until one of them is ready.
            if roster.pick_idle().ready:
                self._steal(commands)
        return commands

    def _worth_prefetch(self, job: Job) -> bool:
        seconds = self._costs.seconds(job.cost_key)
        below = self._distance.prefetch_below
        if seconds is None:
            return below > 0.0
        return seconds < below and self._queue.chunks >= self._costs.least(job.cost_key)

    def _send(self, worker: Worker, job: Job, commands: list[Command], now: float) -> None:
        key = job.cost_key
        # What runs against the clock travels alone, so that the clock is its own.
        timeout = job.timeout
        share = -(-self._queue.chunks // (DEPTH * max(1, self._scheduler.processes)))
        limit = 1 if timeout is not None else self._costs.batch(key, share)
        if worker.tasks_left is not None:
            limit = min(limit, worker.tasks_left)
        runs, taken = self._queue.take(limit)
        message_id = self._next_message
        self._next_message += 1
        if not worker.messages:
            worker.heard = now
        if taken > 1 and self._distance.watched:
            self._stragglers.watch(now)
        message = worker.messages[message_id] = Message(message_id, runs, taken, key)
        if timeout is not None:
            message.timeout = timeout
            if worker.ready:
                message.deadline = now + timeout
        if worker.tasks_left is not None:
            worker.tasks_left -= taken
        # The driver gets a list of its own: answers cut ours down.
        commands.append(Send(worker.worker_id, message_id, list(runs)))
        self.place(worker, commands)

    def _steal(self, commands: list[Command]) -> None:
        """Ask for what waits behind the message that has been running longest."""
        victim = self._roster.straggler()
        if victim is not None:
            victim.reclaiming = True
            commands.append(Reclaim(victim.worker_id))
