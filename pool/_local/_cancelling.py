"""Stop what was called off: whole jobs, and single chunks.

Part of the scheduler, see `pool._local._scheduler`. Chunks that have not been sent are dropped,
those that wait in a worker's mailbox are taken back, and one that has begun is interrupted, by
force if it goes on for too long (see `pool._local._interrupts`).
"""

from __future__ import annotations

from pool._local._events import KILL, CancelRequested, DropChunk, Reclaim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool._local._events import Command, InterruptMissed, RecallHeard, RecallRequested
    from pool._local._records import Job, Message, Worker
    from pool._local._scheduler import Scheduler


class Cancelling:
    """Drop, take back and interrupt chunks that were cancelled or recalled.

    Parameters
    ----------
    scheduler : Scheduler
        Whose records this part reads and changes.
    """

    __slots__ = ("_interrupts", "_queue", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._queue = scheduler.queue
        self._interrupts = scheduler.interrupts

    def on_cancel(self, event: CancelRequested, now: float) -> list[Command]:
        """Drop a job, or one chunk of it, whose results nobody wants."""
        job = self._scheduler.jobs.get(event.job_id)
        if job is None:
            return []
        if event.index is not None:
            return self._cancel_chunk(job, event.index, now)
        self._queue.drop(job)
        commands: list[Command] = []
        self._call_off(job, None, commands, now)
        self._scheduler.forget(job)
        self._scheduler.staff.job_ended(commands)
        return commands

    def _cancel_chunk(self, job: Job, index: int, now: float) -> list[Command]:
        if index >= job.chunks:
            raise self._scheduler.invalid(
                CancelRequested(job.job_id, index), f"the job has {job.chunks} chunks"
            )
        if self._queue.skip(job, index):
            job.pending -= 1
            return self._scheduler.finish(job) if job.final and not job.pending else []
        if job.skipped is None:
            job.skipped = set()
        job.skipped.add(index)
        commands: list[Command] = []
        self._call_off(job, index, commands, now)
        return commands

    def on_recall(self, event: RecallRequested, now: float) -> list[Command]:
        """Stop one chunk of a job whose other chunks go on; being stopped is its outcome."""
        job_id, index, force = event
        job = self._scheduler.jobs.get(job_id)
        if job is None or index in job.recalled:
            return []
        if index >= job.chunks:
            raise self._scheduler.invalid(event, f"the job has {job.chunks} chunks")
        if self._queue.skip(job, index):
            job.pending -= 1
            commands: list[Command] = [DropChunk(job_id, index)]
            return commands + (self._scheduler.finish(job) if job.final and not job.pending else [])
        job.recalled = job.recalled | {index}
        commands = []
        for worker, message in self._holders(job_id, index, commands):
            key = (worker.worker_id, message.message_id, job_id, index)
            commands.append(self._interrupts.recall(key, now, force))
        return commands

    def on_heard(self, event: RecallHeard, now: float) -> list[Command]:
        """Note that a task got its interrupt; what it makes of that is its own affair."""
        self._interrupts.heard((event.worker_id, event.message_id, event.job_id, event.index))
        return []

    def on_missed(self, event: InterruptMissed, now: float) -> list[Command]:
        """Ask a task that had not begun when it was asked, so that it has time to clean up."""
        worker_id, message_id, job_id, index = event
        worker = self._scheduler.workers.get(worker_id)
        if worker is None or message_id not in worker.messages:
            return []
        return [self._interrupts.missed((worker_id, message_id, job_id, index), now)]

    def on_time(self, now: float) -> Iterator[Command]:
        """Yield a command for each chunk that has not stopped in time; before it, what it takes."""
        for interrupt in self._interrupts.overdue(now):
            if interrupt.how == KILL and self._scheduler.distance.watched:
                # The chunk may still end before the signal comes, which would hit the next one. So
                # the worker must have no other message, and be sent none.
                worker = self._scheduler.workers[interrupt.worker_id]
                worker.retiring = True
                self._scheduler.roster.withdraw(worker.worker_id)
                yield from taken_back(worker)
            yield interrupt

    def _call_off(self, job: Job, index: int | None, commands: list[Command], now: float) -> None:
        """Interrupt what runs of a job, and take back what waits in mailboxes."""
        for worker, message in self._holders(job.job_id, index, commands):
            key = (worker.worker_id, message.message_id, job.job_id, index)
            commands.append(self._interrupts.cancel(key, now))

    def _holders(
        self, job_id: int, index: int | None, commands: list[Command]
    ) -> Iterator[tuple[Worker, Message]]:
        """Yield workers with their messages that hold the chunk (any of the job if None).

        Appends a command to take back what such a worker has not read. If it has read a message
        by then, it may be running the chunk, or be about to.
        """
        for worker in self._scheduler.workers.values():
            held = [m for m in worker.messages.values() if m.holds(job_id, index)]
            if held:
                commands.extend(taken_back(worker))
            for message in held:
                yield worker, message


def taken_back(worker: Worker) -> Iterator[Command]:
    """Yield the command to take back what a worker has not read, unless that is under way."""
    if not worker.reclaiming:
        worker.reclaiming = True
        yield Reclaim(worker.worker_id)
