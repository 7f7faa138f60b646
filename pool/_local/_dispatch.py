"""Which worker gets which chunks, and when; what waits behind a straggler is taken back.

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
        Whose records this part reads and changes.

    Attributes
    ----------
    in_order : bool
        Whether chunks are to begin in the order of their submission. Then a message may have cheap
        ones of several functions, since calls of these may take turns.
    """

    __slots__ = (
        "_costs", "_distance", "_next_message", "_queue", "_roster", "_scheduler", "_staff",
        "_stragglers", "in_order",
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
        self.in_order = False

    def place(self, worker: Worker, commands: list[Command]) -> None:
        """Enter the worker in the roster under what it can take now, or stop it if it is due."""
        self._roster.withdraw(worker.worker_id)
        if worker.stopping or worker.blocked or worker.lent:
            return
        if worker.retiring or (worker.tasks_left is not None and worker.tasks_left <= 0):
            if not worker.messages:
                self._staff.stop(worker, commands)
                self._staff.start_missing(commands)
            return
        if not worker.messages and self._staff.surplus() > 0:
            self._staff.stop(worker, commands)
        else:
            self._roster.file(worker)

    def fill(self, commands: list[Command], now: float, steal: bool = True) -> list[Command]:
        """Send queued chunks to workers with room, and take some back for those still idle.

        Parameters
        ----------
        commands : list of Command
            Is extended, and returned.
        now : float
            Seconds of a monotonic clock.
        steal : bool
            Whether messages that wait behind a straggler may be taken back.
        """
        roster = self._roster
        while self._queue.chunks:
            job = self._queue.head()
            excess = self._staff.excess()
            if excess > 0:
                return commands
            if excess < 0 and roster.idle:
                worker = roster.pick_idle()
            elif self._staff.owed:
                self._staff.start_missing(commands)
                continue
            elif roster.room and job.timeout is None and self._worth_prefetch(job):
                worker = next(iter(roster.room.values()))
                if self._might_be_overtaken(worker):
                    return commands
            else:
                return commands
            self._send(worker, job, commands, now)
        busy = len(roster.workers) - len(roster.idle)
        if steal and roster.idle and busy and self._staff.excess() < 0:
            # A worker that is still starting takes nothing from others, least of all from another
            # such worker: a message would go to and fro between them until one is ready.
            if roster.pick_idle().ready:
                self._steal(commands)
        return commands

    def gives_up(self, message: Message, unbegun: int | None) -> bool:
        """Return whether the first chunk of a message is not to be sent any more.

        Each time that a worker has ended with it counts, see `Job.lose`.

        Parameters
        ----------
        message : Message
            One that has come back.
        unbegun : int or None
            The one with which its worker has ended, see `WorkerExited`.
        """
        if message.message_id != unbegun:
            return False
        job_id, index, _ = message.runs[0]
        job = self._scheduler.jobs.get(job_id)
        return job is not None and job.lose(index)

    def _worth_prefetch(self, job: Job) -> bool:
        seconds = self._costs.seconds(job.cost_key)
        below = self._distance.prefetch_below
        if seconds is None:
            return below > 0.0
        return seconds < below and self._queue.chunks >= self._costs.least(job.cost_key)

    def _might_be_overtaken(self, worker: Worker) -> bool:
        """Return whether what the worker has might begin after the next message.

        If one of its chunks is slow, those behind it in the message come back. A pool of one worker
        is a queue, in which nothing overtakes.
        """
        if not self.in_order or self._scheduler.processes > 1:
            return False
        return any(message.chunks > 1 for message in worker.messages.values())

    def _send(self, worker: Worker, job: Job, commands: list[Command], now: float) -> None:
        """Send a worker a message of the chunks that are next, as many as are worth it."""
        key, costs = job.cost_key, self._costs
        # A chunk with a time limit travels alone, so that no other one uses up its time. For the
        # others that do see `Job.lost`.
        timeout = job.timeout
        share = -(-self._queue.chunks // (DEPTH * max(1, self._scheduler.processes)))
        limit = 1 if timeout is not None or job.lost else costs.batch(key, share)
        if worker.tasks_left is not None:
            limit = min(limit, worker.tasks_left)
        limit_of = (lambda key: costs.batch(key, share)) if self.in_order and limit > 1 else None
        runs, taken, keys = self._queue.take(limit, limit_of)
        message_id = self._next_message
        self._next_message += 1
        if not worker.messages:
            worker.heard = now
        if taken > 1 and self._distance.watched:
            self._stragglers.watch(now)
        message = worker.messages[message_id] = Message(message_id, runs, taken, keys)
        if timeout is not None:
            message.timeout = timeout
            if worker.ready:
                message.deadline = now + timeout
        if worker.tasks_left is not None:
            worker.tasks_left -= taken
        # A copy for the driver: answers cut down the list in `message`.
        commands.append(Send(worker.worker_id, message_id, list(runs)))
        self.place(worker, commands)

    def _steal(self, commands: list[Command]) -> None:
        """Take back what waits behind the message that has been running longest."""
        victim = self._roster.straggler()
        if victim is not None:
            victim.reclaiming = True
            commands.append(Reclaim(victim.worker_id))
