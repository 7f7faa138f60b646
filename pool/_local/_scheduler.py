"""Decide which worker runs what: a state machine without any I/O.

`Scheduler.handle` takes one event and returns the commands that follow from it. It knows
no clock, pid, pipe or pickle; time comes in as a number. Replaying a log of events gives
the same commands, so every race is one test.

Theory of operation
-------------------
A chunk is in exactly one of four places: *queued* in its job (not yet cut off, or in
`returned`), in a *message* of one worker, *delivered*, or *dropped* with a cancelled job.
Each worker holds at most `DEPTH` messages: the one it runs and one that waits in its
mailbox, so that it need not sleep between two. A message waiting in a mailbox can be
taken back (`Reclaim`) as long as the worker has not read it; that is how an idle worker
gets what would wait behind a straggler. Within a message, a worker hands back the chunks that
it has not begun when one took unexpectedly long; while such a chunk still runs, they are
taken from it (`pool._local._stragglers`).

A chunk is never sent to a second worker unless the first cannot have begun it, or the
job asked for retries.

Deeper jobs (submitted by tasks) go first: they are what blocked workers wait for, and
depth-first order bounds how many workers can be blocked at once.
"""

from __future__ import annotations

from collections import deque

from pool._local import _events as ev
from pool._local._cancelling import Cancelling, taken_back
from pool._local._costs import NEAR, Costs
from pool._local._dispatch import Dispatch
from pool._local._interrupts import Interrupts
from pool._local._loans import Loans
from pool._local._queue import JobQueue
from pool._local._records import Job, Message, Worker
from pool._local._roster import Roster
from pool._local._staffing import Staffing
from pool._local._stragglers import Stragglers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._local._costs import Distance


class Scheduler:
    """Assign chunks of jobs to workers.

    Parameters
    ----------
    processes : int
        Workers that may run tasks at the same time.
    maxtasksperchild : int, optional
        Chunks after which a worker is replaced; None: never.
    distance : Distance
        How far away the workers are.

    Attributes
    ----------
    closing : bool
        No more jobs are expected: workers are stopped when none is left.
    broken : bool
        No worker will run anything any more: every job is aborted.
    restarts : int
        How many workers died, or were killed for a time limit or for memory.
    """

    def __init__(
        self, processes: int, maxtasksperchild: int | None = None, distance: Distance = NEAR
    ) -> None:
        self.processes = processes
        self.maxtasksperchild = maxtasksperchild
        self.distance = distance
        self.jobs: dict[int, Job] = {}
        self.roster = Roster()
        self.workers = self.roster.workers
        self.costs = Costs(processes, distance)
        self.restarts = 0
        self.tasks_done = 0
        self.tasks_failed = 0
        self.closing = False
        self.broken = False
        self.queue = JobQueue()
        #: Jobs with a time limit.
        self._timed = 0
        self.interrupts = Interrupts()
        self.staff = Staffing(self)
        self.stragglers = Stragglers(self)
        self.cancelling = Cancelling(self)
        self.dispatch = Dispatch(self)
        self.loans = Loans(self)
        self.history: deque[ev.Event] = deque(maxlen=200)
        self._handlers: dict[type[Any], Callable[[Any, float], list[ev.Command]]] = {
            ev.JobSubmitted: self._on_submitted,
            ev.ChunksAdded: self._on_chunks,
            ev.CancelRequested: self.cancelling.on_cancel,
            ev.RecallRequested: self.cancelling.on_recall,
            ev.RecallHeard: self.cancelling.on_heard,
            ev.InterruptMissed: self.cancelling.on_missed,
            ev.WorkerReady: self._on_ready,
            ev.WorkerRefused: self._on_refused,
            ev.MessageAnswered: self._on_answered,
            ev.RestReturned: self._on_rest,
            ev.MessagesReclaimed: self._on_reclaimed,
            ev.WorkerExited: self._on_exited,
            ev.WorkerLent: self.loans.on_lent,
            ev.WorkerReturned: self.loans.on_returned,
            ev.LoanCancelled: self.loans.on_cancelled,
            ev.MemoryShort: self._on_memory_short,
            ev.WorkerBlocked: self.staff.on_blocked,
            ev.WorkerUnblocked: self.staff.on_unblocked,
            ev.DeadlinePassed: self._on_deadline,
            ev.ProcessesChanged: self.staff.on_processes,
            ev.StartPutOff: self.staff.on_put_off,
            ev.WorkersWanted: self.staff.on_wanted,
            ev.PoolClosed: self._on_closed,
            ev.PoolTerminated: self._on_terminated,
        }

    # ------------------------------------------------------------------ the one door

    def handle(self, event: ev.Event, now: float) -> list[ev.Command]:
        """Take one event and return the commands that follow, to be carried out in this order.

        Parameters
        ----------
        event : Event
        now : float
            Seconds of a monotonic clock.

        Raises
        ------
        InvalidTransition
            If the event cannot happen in the present state; the message holds the
            recent history.
        """
        self.history.append(event)
        return self._handlers[event.__class__](event, now)

    def next_deadline(self) -> float | None:
        """Return when `DeadlinePassed` is due, None if nothing is."""
        # Called without the lock by the thread that is about to sleep.
        deadline = self.stragglers.due
        if self.interrupts.asked:
            asked = self.interrupts.deadline()
            if asked is not None and (deadline is None or asked < deadline):
                deadline = asked
        if self._timed:
            for worker in list(self.workers.values()):
                for message in list(worker.messages.values()):
                    due = message.deadline
                    if due is not None and (deadline is None or due < deadline):
                        deadline = due
        return deadline

    @property
    def queued(self) -> int:
        """Chunks that could be sent if a worker were free."""
        return self.queue.chunks

    @property
    def timed(self) -> bool:
        """Whether something may be due by the clock, see `next_deadline`."""
        return bool(self.interrupts.asked or self._timed or self.stragglers.due is not None)

    @property
    def interrupting(self) -> bool:
        """Whether cancelled tasks have been asked to stop and have not stopped yet."""
        return bool(self.interrupts.asked)

    @property
    def hungry(self) -> bool:
        """Whether some worker could be sent a message."""
        return bool(self.roster.idle or self.roster.room)

    @property
    def starving(self) -> bool:
        """Whether some worker has nothing to do."""
        return bool(self.roster.idle)

    @property
    def starting(self) -> bool:
        """Whether a worker was asked for that is not ready."""
        # Called without the lock.
        return any(not worker.ready for worker in list(self.workers.values()))

    # ------------------------------------------------------------------ jobs

    def _on_submitted(self, event: ev.JobSubmitted, now: float) -> list[ev.Command]:
        if event.job_id in self.jobs:
            raise self.invalid(event, "its job_id was used before")
        if self.broken:
            return [ev.AbortJobs((event.job_id,))]
        job = self.jobs[event.job_id] = Job(event)
        if not self.distance.watched:
            job.timeout = None
        if job.timeout is not None:
            self._timed += 1
        if job.final and not job.chunks:
            return self.finish(job)
        commands: list[ev.Command] = []
        if self.closing:
            # Submitted by a thread that saw the pool open: the workers may have been stopped since.
            self.staff.start_missing(commands)
        if job.chunks:
            self.queue.add(job, job.chunks)
            self.dispatch.fill(commands, now)
        return commands

    def _on_chunks(self, event: ev.ChunksAdded, now: float) -> list[ev.Command]:
        job = self.jobs.get(event.job_id)
        if job is None:  # cancelled meanwhile
            return []
        if job.final:
            raise self.invalid(event, "the job was complete already")
        job.add(event.chunks)
        job.final = event.final
        if job.final and not job.pending:
            return self.finish(job)
        if event.chunks:
            self.queue.add(job, event.chunks)
            return self.dispatch.fill([], now)
        return []

    def finish(self, job: Job) -> list[ev.Command]:
        """End a job none of whose chunks is without an outcome."""
        self.forget(job)
        commands: list[ev.Command] = [ev.FinishJob(job.job_id)]
        self.staff.job_ended(commands)
        return commands

    def forget(self, job: Job) -> None:
        """Drop a job from the records."""
        del self.jobs[job.job_id]
        if job.timeout is not None:
            self._timed -= 1
        if not self.jobs:
            self.stragglers.due = None

    # ------------------------------------------------------------------ answers

    def _on_answered(self, event: ev.MessageAnswered, now: float) -> list[ev.Command]:
        worker = self.workers.get(event.worker_id)
        message = None if worker is None else worker.messages.get(event.message_id)
        if worker is None or message is None:
            return []  # a late answer of a worker that was given up: its chunks have failed
        commands: list[ev.Command] = []
        worker.heard = now
        if event.done:
            worker.stuck = False
            if event.elapsed > 0.0:
                for key in message.cost_keys:
                    self.costs.observe(key, event.done, event.elapsed)
            worker.tasks_done += event.done
            self.tasks_done += event.done
            self.tasks_failed += len(event.failed)
            self._settle(message, event, commands)
        if not event.final:
            # Chunks that are to be tried again need not wait for the rest of this message.
            return self.dispatch.fill(commands, now) if event.failed else commands
        del worker.messages[event.message_id]
        if self.jobs and self.distance.watched:
            if any(waiting.chunks > 1 for waiting in worker.messages.values()):
                self.stragglers.watch(now)  # it begins now, and nobody has looked after it so far
        worker.stuck = worker.stuck or bool(message.runs and not event.done)
        for run in reversed(message.runs):  # each goes to the head
            self.requeue(run, worker, commands)
        self.interrupts.pardon(worker.worker_id, event.message_id)
        self.dispatch.place(worker, commands)
        return self.dispatch.fill(commands, now)

    def _on_rest(self, event: ev.RestReturned, now: float) -> list[ev.Command]:
        worker = self.workers.get(event.worker_id)
        message = None if worker is None else worker.messages.get(event.message_id)
        if worker is None or message is None:
            return []
        commands: list[ev.Command] = []
        for run in reversed(message.cut(event.kept)):
            self.requeue(run, worker, commands)
        return self.dispatch.fill(commands, now)

    def _settle(
        self, message: Message, event: ev.MessageAnswered, commands: list[ev.Command]
    ) -> None:
        """Deliver the first `event.done` chunks that are left in the message."""
        left = event.done
        offset = 0
        runs = message.runs
        failed = event.failed
        while left and runs:
            job_id, start, stop = runs[0]
            count = min(left, stop - start)
            job = self.jobs.get(job_id)
            if job is not None:
                if job.retries and failed:
                    self._deliver_with_retries(job, start, count, offset, failed, commands)
                else:
                    commands.append(ev.Deliver(job_id, start, start + count, offset))
                    job.pending -= count
                if job.final and not job.pending:
                    commands.extend(self.finish(job))
            if start + count == stop:
                runs.pop(0)
            else:
                runs[0] = (job_id, start + count, stop)
            left -= count
            offset += count
        if left:
            raise self.invalid(event, f"it answers {left} chunks too many")
        message.chunks -= event.done

    def _deliver_with_retries(
        self,
        job: Job,
        start: int,
        count: int,
        offset: int,
        failed: tuple[int, ...],
        commands: list[ev.Command],
    ) -> None:
        for index in range(start, start + count):
            at = offset + index - start
            if at in failed and job.try_again(index):
                self.requeue((job.job_id, index, index + 1), None, commands)
            else:
                commands.append(ev.Deliver(job.job_id, index, index + 1, at))
                job.pending -= 1

    def requeue(self, run: ev.Run, worker: Worker | None, commands: list[ev.Command]) -> None:
        """Queue a run again, at the head of its job: it was certainly not begun, or is retried.

        Cancelled and recalled chunks of the run are dropped, which may finish the job.
        """
        job_id, start, stop = run
        if worker is not None and worker.tasks_left is not None:
            worker.tasks_left += stop - start
        job = self.jobs.get(job_id)
        if job is None or start == stop:
            return
        if job.recalled:
            dropped = sorted(index for index in job.recalled if start <= index < stop)
            commands.extend(ev.DropChunk(job_id, index) for index in dropped)
        self.queue.give_back(job, start, stop)
        if job.final and not job.pending:
            commands.extend(self.finish(job))

    def _on_reclaimed(self, event: ev.MessagesReclaimed, now: float) -> list[ev.Command]:
        worker = self.workers.get(event.worker_id)
        if worker is None:
            return []
        worker.reclaiming = False
        commands: list[ev.Command] = []
        for message_id in sorted(event.message_ids, reverse=True):
            message = worker.messages.pop(message_id, None)
            if message is not None:
                self.interrupts.pardon(worker.worker_id, message_id)
                for run in reversed(message.runs):
                    self.requeue(run, worker, commands)
        self.dispatch.place(worker, commands)
        # A worker that had read everything by then is not asked again at once.
        return self.dispatch.fill(commands, now, steal=bool(event.message_ids))

    # ------------------------------------------------------------------ workers

    def _on_ready(self, event: ev.WorkerReady, now: float) -> list[ev.Command]:
        worker = self.workers.get(event.worker_id)
        if worker is None:
            return []
        worker.ready = True
        worker.heard = now
        for message in worker.messages.values():
            if message.timeout is not None:
                # Only now: the time that a worker takes to start is not the task's.
                message.deadline = now + message.timeout
        self.staff.came_up()
        return self.dispatch.fill([], now)

    def _on_refused(self, event: ev.WorkerRefused, now: float) -> list[ev.Command]:
        return self._break()

    def _break(self) -> list[ev.Command]:
        self.broken = True
        commands: list[ev.Command] = [ev.AbortJobs(tuple(self.jobs))]
        self.jobs.clear()
        self.queue.clear()
        self._timed = 0
        self.interrupts.clear()
        self.stragglers.due = None
        for worker in self.workers.values():
            worker.stopping = True
            commands.append(ev.KillWorker(worker.worker_id))
            self.roster.withdraw(worker.worker_id)
        return commands

    def _on_exited(self, event: ev.WorkerExited, now: float) -> list[ev.Command]:
        worker = self.roster.remove(event.worker_id)
        if worker is None:
            raise self.invalid(event, "no such worker")
        self.interrupts.pardon(event.worker_id, None)
        commands: list[ev.Command] = []
        for message in reversed(worker.messages.values()):
            begun = message.message_id == event.running
            if message.runs and (begun or self.dispatch.gives_up(message, event.unbegun)):
                self._fail(message, begun, worker.timed_out, commands)
            for run in reversed(message.runs):
                self.requeue(run, None, commands)
        if worker.timed_out or worker.condemned:
            self.restarts += 1
        elif not worker.stopping:
            self.restarts += 1
            if event.alone and not worker.ready:
                self.staff.failed_starts += 1
                if self.staff.gave_up and not self.broken:
                    return commands + self._break()
        self.staff.start_missing(commands)
        return self.dispatch.fill(commands, now)

    def _fail(self, message: Message, begun: bool, late: bool, commands: list[ev.Command]) -> None:
        """Fail (or retry) the chunk that was under way, or next, when its worker ended."""
        job_id, start, stop = message.runs[0]
        message.runs[0] = (job_id, start + 1, stop)
        if start + 1 == stop:
            message.runs.pop(0)
        job = self.jobs.get(job_id)
        if job is None:
            return
        if job.try_again(start):
            self.requeue((job_id, start, start + 1), None, commands)
            return
        self.tasks_failed += 1
        commands.append(ev.FailChunk(job_id, start, late, begun))
        job.pending -= 1
        if job.final and not job.pending:
            commands.extend(self.finish(job))

    def _on_memory_short(self, event: ev.MemoryShort, now: float) -> list[ev.Command]:
        worker = self.workers.get(event.worker_id)
        if worker is None:
            return []
        # The worker must be sent nothing more, as when a task is late. But another worker takes its
        # place only when it has ended, and its memory is free.
        worker.condemned = worker.stopping = True
        self.roster.withdraw(event.worker_id)
        commands: list[ev.Command] = []
        if len(worker.messages) > 1:
            # Its task may end before the signal comes, which would hit the next one.
            commands.extend(taken_back(worker))
        return [*commands, ev.KillWorker(event.worker_id)]

    # ------------------------------------------------------------------ time and the end

    def _on_deadline(self, event: ev.DeadlinePassed, now: float) -> list[ev.Command]:
        commands: list[ev.Command] = [*self.cancelling.on_time(now), *self.stragglers.on_time(now)]
        late = False
        for worker in self.workers.values():
            for message in worker.messages.values():
                if message.deadline is not None and message.deadline <= now:
                    message.deadline = None
                    # The answer may still be quicker than the signal. So the worker must be sent
                    # nothing more: the signal would hit that in place of the task that was late.
                    worker.timed_out = worker.stopping = late = True
                    commands.append(ev.KillWorker(worker.worker_id))
        if late:
            self.staff.start_missing(commands)
            self.dispatch.fill(commands, now)
        return commands

    def _on_closed(self, event: ev.PoolClosed, now: float) -> list[ev.Command]:
        self.closing = True
        commands: list[ev.Command] = []
        if not self.jobs:
            self.staff.stop_all(commands)
        return commands

    def _on_terminated(self, event: ev.PoolTerminated, now: float) -> list[ev.Command]:
        self.closing = True
        # Without the commands that kill workers one by one: the pool goes away as a whole.
        return self._break()[:1]

    # ------------------------------------------------------------------ self-checks

    def invalid(self, event: ev.Event, why: str) -> Exception:
        """Return the error for an event that cannot happen now."""
        from pool._errors import InvalidTransition

        recent = "\n".join(f"  {past}" for past in list(self.history)[-20:])
        return InvalidTransition(f"{event} cannot be handled: {why}. Recent events:\n{recent}")
