"""The scheduler in a simulated world where anything may happen in any order.

`World` plays the driver and the workers: mailboxes, journals, answers on their way, deaths at
any point, signals that arrive late. It checks each command against what is really the case,
and knows at the end what has become of every chunk.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from schedulerchecks import check_invariants

from pool._local import _events as ev
from pool._local._roster import DEPTH
from pool._local._scheduler import Scheduler

EXIT = "exit"
Chunk = tuple[int, int]


class SimMessage:
    """A message on its way through one worker."""

    def __init__(self, message_id: int, chunks: list[Chunk]) -> None:
        self.message_id = message_id
        self.chunks = chunks
        #: Chunks with an outcome, those of them sent to the parent, those the parent has got.
        self.finished = self.flushed = self.received = 0
        #: Of those received, how many the worker does not know to be, and will send again.
        self.harvested = 0

    @property
    def running(self) -> Chunk:
        return self.chunks[self.finished]


class SimWorker:
    """One process: what it has not read, what it runs, and what it has said."""

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self.state = "starting"
        self.mail: deque[SimMessage | str] = deque()
        self.current: SimMessage | None = None
        #: Messages that the parent has sent and not seen the end of.
        self.sent: dict[int, SimMessage] = {}
        #: What it has said and the parent has not heard.
        self.out: deque[Callable[[], None]] = deque()
        #: A call that the driver makes on it past the scheduler.
        self.loan: SimMessage | None = None
        self.blocked_on: int | None = None
        self.signalled = self.condemned = self.killed = False
        self.timed: Chunk | None = None
        #: The message and chunk that it shall not begin.
        self.halt: tuple[int, int] | None = None
        #: Where it was asked to stop, and where an interrupt was raised.
        self.asked: tuple[int, int] | None = None
        self.struck: tuple[int, int] | None = None
        self.ready_at: float | None = None


class SimJob:
    """One job and what has become of its chunks."""

    def __init__(self, event: ev.JobSubmitted) -> None:
        self.event = event
        self.chunks = event.chunks
        self.final = event.final
        self.state = "open"
        self.begun: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()
        self.outcomes: Counter[int] = Counter()
        self.dropped: set[int] = set()
        self.recalled: set[int] = set()


class World:
    """Everything around the scheduler."""

    def __init__(self, processes: int, maxtasksperchild: int | None = None) -> None:
        self.parameters = (processes, maxtasksperchild)
        self.scheduler = Scheduler(processes, maxtasksperchild)
        self.now = 0.0
        #: Whether workers were put off, and not asked for since.
        self.missing = False
        self.log: list[tuple[Any, float, str]] = []
        self.workers: dict[int, SimWorker] = {}
        self.jobs: dict[int, SimJob] = {}
        self.inbox: deque[Any] = deque()
        self.closed = self.over = False
        self.sent_at: dict[int, float] = {}
        self.next_loan = 1 << 62
        self.harvests = 0
        self.used_ids: set[int] = set()
        self.handle(ev.WorkersWanted())

    # ------------------------------------------------------------------ the driver's part

    def handle(self, event: Any, answered: list[Chunk] | None = None) -> None:
        commands = self.scheduler.handle(event, self.now)
        self.log.append((event, self.now, repr(commands)))
        check_invariants(self.scheduler, self.missing)
        for command in commands:
            if isinstance(command, ev.Deliver):
                self.deliver(command, answered)
            else:
                getattr(self, "do_" + type(command).__name__)(command)

    def drain(self) -> None:
        """Handle what the driver told itself; that must come to an end."""
        for _ in range(200):
            if not self.inbox:
                return
            self.handle(self.inbox.popleft())
        raise AssertionError("the scheduler and its driver go round in circles")

    def do_StartWorker(self, command: ev.StartWorker) -> None:
        assert command.worker_id not in self.used_ids
        assert not self.over
        self.used_ids.add(command.worker_id)
        self.workers[command.worker_id] = SimWorker(command.worker_id)
        runnable = [
            worker
            for worker in self.scheduler.workers.values()
            if not worker.blocked and not worker.stopping
        ]
        assert len(runnable) <= self.scheduler.processes

    def do_StopWorker(self, command: ev.StopWorker) -> None:
        self.workers[command.worker_id].mail.append(EXIT)

    def do_KillWorker(self, command: ev.KillWorker) -> None:
        worker = self.workers[command.worker_id]
        worker.signalled = True
        if worker.current is not None and worker.loan is None and not self.scheduler.broken:
            worker.timed = worker.current.chunks[0]

    def do_Send(self, command: ev.Send) -> None:
        worker = self.workers[command.worker_id]
        assert command.message_id not in self.sent_at, "a message_id was used again"
        assert EXIT not in worker.mail, "sent to a worker that was told to end"
        assert worker.loan is None, "sent to a worker that is lent"
        assert not worker.signalled or worker.timed is None, "sent to a worker that was killed"
        assert not worker.killed, "the signal may hit what is sent now"
        assert not worker.condemned, "sent to a worker whose memory is wanted"
        assert worker.blocked_on is None or not self.scheduler.workers[worker.worker_id].blocked
        self.sent_at[command.message_id] = self.now
        chunks = [(job, index) for job, start, stop in command.runs for index in range(start, stop)]
        assert chunks, "an empty message"
        keys = {self.jobs[job].event.cost_key for job, _ in chunks}
        assert len(keys) == 1, "functions that cost differently in one message"
        for job, index in chunks:
            assert index < self.jobs[job].chunks
            assert index not in self.jobs[job].dropped, "a cancelled chunk is sent"
        if any(self.jobs[job].event.timeout is not None for job, _ in chunks):
            assert len(chunks) == 1, "a chunk against the clock has company"
            assert not worker.sent, "a chunk against the clock waits behind another"
        message = SimMessage(command.message_id, chunks)
        worker.sent[message.message_id] = message
        worker.mail.append(message)
        assert len(worker.sent) <= DEPTH

    def do_Reclaim(self, command: ev.Reclaim) -> None:
        taken = self.take_back(self.workers[command.worker_id])
        self.inbox.append(ev.MessagesReclaimed(command.worker_id, taken))

    def take_back(self, worker: SimWorker) -> tuple[int, ...]:
        """Empty the mailbox, EXIT included, as the driver does."""
        taken = tuple(mail.message_id for mail in worker.mail if isinstance(mail, SimMessage))
        worker.mail.clear()
        for message_id in taken:
            del worker.sent[message_id]
        return taken

    def do_Halt(self, command: ev.Halt) -> None:
        worker = self.workers[command.worker_id]
        current = worker.current
        if current is not None and current.message_id == command.message_id:
            worker.halt = current.message_id, current.finished + 1

    def do_TakeRest(self, command: ev.TakeRest) -> None:
        worker = self.workers[command.worker_id]
        current = worker.current
        if current is None or current.message_id != command.message_id:
            return
        if worker.halt != (command.message_id, current.finished + 1):
            return
        harvest = current.chunks[current.received : current.finished]
        if harvest and current.flushed == current.received:
            current.received += len(harvest)
            current.harvested = len(harvest)
            self.harvests += 1
            self.handle(ev.MessageAnswered(*command, len(harvest), False, 0.0), harvest)
        kept = current.finished + 1 - current.received
        del current.chunks[current.finished + 1 :]
        self.inbox.append(ev.RestReturned(*command, kept))

    def do_Interrupt(self, command: ev.Interrupt) -> None:
        worker = self.workers[command.worker_id]
        current = worker.current
        if (
            current is not None
            and current.message_id == command.message_id
            and current.finished < len(current.chunks)
            and current.running[0] == command.job_id
            and command.index in (None, current.running[1])
        ):
            place = current.message_id, current.finished
            if command.how == ev.KILL and worker.asked != place:
                key = (command.worker_id, command.message_id, command.job_id, command.index)
                self.inbox.append(ev.InterruptMissed(*key))
            elif command.how != ev.ASK:
                worker.signalled = True
                worker.killed = command.how == ev.KILL
            elif worker.struck == place:
                key = (command.worker_id, command.message_id, command.job_id, command.index)
                self.inbox.append(ev.RecallHeard(*key))
            elif worker.asked == place or current.message_id % 3:
                worker.struck = place
            worker.asked = place  # sometimes the first signal is lost

    def deliver(self, command: ev.Deliver, answered: list[Chunk] | None) -> None:
        assert answered is not None, "delivered without an answer"
        count = command.stop - command.start
        assert answered[command.offset : command.offset + count] == [
            (command.job_id, index) for index in range(command.start, command.stop)
        ], "a result goes to the wrong chunk"
        for index in range(command.start, command.stop):
            self.settle(command.job_id, index)

    def settle(self, job_id: int, index: int) -> None:
        job = self.jobs[job_id]
        assert job.state == "open", f"an outcome for a job that is {job.state}"
        job.outcomes[index] += 1
        assert job.outcomes[index] == 1, "two outcomes for one chunk"

    def do_FailChunk(self, command: ev.FailChunk) -> None:
        worker = self.dying
        assert worker is not None and worker.current is not None
        assert worker.current.running == (command.job_id, command.index), "it was not running"
        job = self.jobs[command.job_id]
        unwanted = job.dropped | job.recalled
        assert job.lost[command.index] > job.event.retries or command.index in unwanted
        if command.timed_out:
            assert worker.timed == (command.job_id, command.index), "another one was too late"
            assert job.event.timeout is not None
            begun = max(self.sent_at[worker.current.message_id], worker.ready_at or 0.0)
            assert self.now >= begun + job.event.timeout, "it was not late yet"
        self.settle(command.job_id, command.index)

    def do_DropChunk(self, command: ev.DropChunk) -> None:
        job = self.jobs[command.job_id]
        assert command.index in job.recalled
        assert job.begun[command.index] == job.lost[command.index], "it has begun"
        self.settle(command.job_id, command.index)

    def do_FinishJob(self, command: ev.FinishJob) -> None:
        job = self.jobs[command.job_id]
        assert job.state == "open"
        assert job.final
        settled = set(job.outcomes) | job.dropped
        assert settled == set(range(job.chunks)), "finished with chunks missing"
        job.state = "finished"

    def do_AbortJobs(self, command: ev.AbortJobs) -> None:
        for job_id in command.job_ids:
            assert self.jobs[job_id].state == "open"
            self.jobs[job_id].state = "aborted"

    def lend(self) -> None:
        """Use an idle worker past the scheduler, if it has one to lend."""
        worker_id = self.scheduler.loans.lendable()
        if worker_id is None:
            return
        worker = self.workers[worker_id]
        assert worker.ready_at is not None and not worker.sent and not worker.signalled
        self.handle(ev.WorkerLent(worker_id))
        self.next_loan -= 1
        worker.loan = SimMessage(self.next_loan, [(0, 0)])
        worker.sent[self.next_loan] = worker.loan
        worker.mail.append(worker.loan)

    def give_back(self, worker: SimWorker, failed: bool) -> None:
        loan = worker.loan
        assert loan is not None
        worker.current = None
        loan.finished = 1

        def answer() -> None:
            worker.loan = None
            del worker.sent[loan.message_id]
            self.handle(ev.WorkerReturned(worker.worker_id, loan.message_id, failed))

        worker.out.append(answer)

    def cancel_loan(self, worker: SimWorker) -> None:
        assert worker.loan is not None
        self.handle(ev.LoanCancelled(worker.worker_id, worker.loan.message_id))

    # ------------------------------------------------------------------ what users do

    def submit(self, chunks: int, final: bool, **more: Any) -> int:
        job_id = len(self.jobs) + 1
        event = ev.JobSubmitted(job_id, chunks, final, more.pop("cost_key", 0), **more)
        self.jobs[job_id] = SimJob(event)
        self.handle(event)
        return job_id

    def add(self, job_id: int, chunks: int, final: bool) -> None:
        job = self.jobs[job_id]
        job.chunks += chunks
        job.final = final
        self.handle(ev.ChunksAdded(job_id, chunks, final))

    def cancel(self, job_id: int) -> None:
        self.jobs[job_id].state = "cancelled"
        self.handle(ev.CancelRequested(job_id))

    def cancel_chunk(self, job_id: int, index: int) -> None:
        self.jobs[job_id].dropped.add(index)
        self.handle(ev.CancelRequested(job_id, index))

    def recall(self, job_id: int, index: int, force: bool) -> None:
        if index not in self.jobs[job_id].dropped:
            self.jobs[job_id].recalled.add(index)
            self.handle(ev.RecallRequested(job_id, index, force))

    def run_short(self, worker: SimWorker) -> None:
        """Find that memory is short and that this worker has most of it."""
        worker.condemned = True
        self.handle(ev.MemoryShort(worker.worker_id))
        assert worker.signalled

    def resize(self, processes: int) -> None:
        self.handle(ev.ProcessesChanged(processes))

    def close(self) -> None:
        self.closed = True
        self.handle(ev.PoolClosed())

    def terminate(self) -> None:
        self.closed = self.over = True
        self.handle(ev.PoolTerminated())

    def tick(self, seconds: float) -> None:
        self.now += seconds
        deadline = self.scheduler.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.handle(ev.DeadlinePassed())
            later = self.scheduler.next_deadline()
            assert later is None or later > self.now, "a deadline that has passed stays"

    # ------------------------------------------------------------------ what workers do

    def get_ready(self, worker: SimWorker) -> None:
        worker.state = "serving"

        def ready() -> None:
            worker.ready_at = self.now
            self.handle(ev.WorkerReady(worker.worker_id))

        worker.out.append(ready)

    def read(self, worker: SimWorker) -> None:
        mail = worker.mail.popleft()
        if isinstance(mail, str):
            worker.state = "dead"
            return
        worker.current = mail
        if mail is not worker.loan:
            self.begin(worker)

    def begin(self, worker: SimWorker) -> None:
        assert worker.current is not None
        job_id, index = worker.current.running
        job = self.jobs[job_id]
        # Whatever was begun before must have been lost, and each loss be covered by a retry.
        assert job.begun[index] == job.lost[index], "a chunk runs twice"
        assert job.begun[index] <= job.event.retries, "a chunk runs more often than allowed"
        job.begun[index] += 1

    def finish(self, worker: SimWorker, failed: bool, flush: bool, hand_back: bool) -> None:
        message = worker.current
        assert message is not None
        if message is worker.loan:
            self.give_back(worker, failed)
            return
        job_id, index = message.running
        if failed:
            self.flush(worker, final=False)
            self.jobs[job_id].lost[index] += 1
        message.finished += 1
        if worker.halt == (message.message_id, message.finished):
            # Sometimes it had looked just before it was told.
            hand_back |= message.message_id % 3 > 0
        last = message.finished == len(message.chunks)
        if failed or flush or last or hand_back:
            final = last or hand_back
            # Many chunks that fail are answered one by one, and the end follows separately.
            self.flush(worker, final=final and not (failed and flush), failed=failed)
            if final and failed and flush:
                self.flush(worker, final=True)
            if final:
                worker.current = None
                return
        self.begin(worker)

    def flush(self, worker: SimWorker, final: bool, failed: bool = False) -> None:
        message = worker.current
        assert message is not None
        done = message.finished - message.flushed
        if not done and not final:
            return
        answered = message.chunks[message.flushed : message.finished]
        message.flushed = message.finished

        def answer() -> None:
            skipped = min(done, message.harvested)
            message.harvested -= skipped
            new = done - skipped
            message.received += new
            if final:
                del worker.sent[message.message_id]
            # Sometimes quick, sometimes slow, so that messages of all sizes are made.
            elapsed = new * (1e-6 if message.message_id % 3 else 2e-3)
            event = ev.MessageAnswered(
                worker.worker_id, message.message_id, new, final, elapsed,
                (0,) if failed else (),
            )  # fmt: skip
            self.handle(event, answered[skipped:])

        worker.out.append(answer)

    def block(self, worker: SimWorker, chunks: int, cost_key: int) -> None:
        """Let the task submit a job and wait for it."""
        assert worker.current is not None
        depth = 1
        if worker.current is not worker.loan:
            depth += self.jobs[worker.current.running[0]].event.depth
        worker.blocked_on = 0
        message = worker.current
        if message is not worker.loan and len(message.chunks) > 1:
            self.flush(worker, final=False)
            del message.chunks[message.finished + 1 :]
            event = ev.RestReturned(worker.worker_id, message.message_id)
            worker.out.append(lambda: self.handle(event))

        def wait() -> None:
            worker.blocked_on = self.submit(chunks, True, depth=depth, cost_key=cost_key)
            self.handle(ev.WorkerBlocked(worker.worker_id))

        worker.out.append(wait)

    def unblock(self, worker: SimWorker) -> None:
        worker.blocked_on = None
        self.handle(ev.WorkerUnblocked(worker.worker_id))

    def hear(self, worker: SimWorker) -> None:
        worker.out.popleft()()

    dying: SimWorker | None = None

    def bury(self, worker: SimWorker) -> None:
        """Learn of a death, in the driver's order: answers, mailbox, journal, exit."""
        while worker.out:
            self.hear(worker)
        reclaimed = self.take_back(worker)
        if reclaimed:
            self.handle(ev.MessagesReclaimed(worker.worker_id, reclaimed))
        message = worker.current
        running = None
        if message is not None and message.message_id in worker.sent:
            running = message.message_id
        if running is not None and message is not worker.loan:
            assert message is not None
            while message.received < message.finished:
                answered = [message.chunks[message.received]]
                message.received += 1
                event = ev.MessageAnswered(worker.worker_id, running, 1, False, 0.0, ())
                self.handle(event, answered)
            if message.finished < len(message.chunks):
                job_id, index = message.running
                self.jobs[job_id].lost[index] += 1
        self.dying = worker
        self.handle(ev.WorkerExited(worker.worker_id, running))
        self.dying = None
        del self.workers[worker.worker_id]

    def put_off(self, worker: SimWorker) -> None:
        """Find that the system has no room for this worker; ask for it again some time later."""
        if self.scheduler.staff.can_put_off(worker.worker_id):
            del self.workers[worker.worker_id]
            self.missing = True
            self.handle(ev.StartPutOff(worker.worker_id))

    def want_missing(self) -> None:
        self.missing = False
        self.handle(ev.WorkersWanted())

    def refuse(self, worker: SimWorker) -> None:
        worker.state = "dead"
        worker.out.append(lambda: self.handle(ev.WorkerRefused(worker.worker_id)))

    # ------------------------------------------------------------------ what can happen now

    def may_unblock(self, worker: SimWorker) -> bool:
        return bool(worker.blocked_on) and self.jobs[worker.blocked_on or 0].state != "open"

    def progress(self) -> list[Callable[[], None]]:
        """Return what brings the world nearer to rest."""
        moves: list[Callable[[], None]] = []
        if self.inbox:
            moves.append(self.drain)
        for worker in self.workers.values():
            moves += [partial(move, worker) for move in self.moves_of(worker)]
        return moves

    def moves_of(self, worker: SimWorker) -> list[Callable[[SimWorker], None]]:
        moves: list[Callable[[SimWorker], None]] = []
        if worker.out:
            moves.append(self.hear)
        if worker.state == "dead":
            moves.append(self.bury)
        elif worker.signalled:
            moves.append(self.die)
        elif worker.state == "starting":
            moves.append(self.get_ready)
        elif worker.current is None:
            if worker.mail:
                moves.append(self.read)
        elif worker.blocked_on is None:
            moves.append(partial(self.finish, failed=False, flush=False, hand_back=False))
        elif self.may_unblock(worker):
            moves.append(self.unblock)
        return moves

    def die(self, worker: SimWorker) -> None:
        worker.state = "dead"

    def happenings(self, dice: random.Random) -> list[Callable[[], None]]:
        """Return everything that can happen, good or bad."""
        moves: list[Callable[[], None]] = []
        if self.inbox:
            moves.append(lambda: self.handle(self.inbox.popleft()))
        for worker in self.workers.values():
            chosen = [move for move in self.moves_of(worker) if not isinstance(move, partial)]
            if worker.state == "serving" and worker.current and worker.blocked_on is None:
                failed, flush, hand_back = (dice.random() < p for p in (0.2, 0.3, 0.2))
                chosen.append(partial(self.finish, failed=failed, flush=flush, hand_back=hand_back))
                if dice.random() < 0.2:
                    size, key = dice.randrange(4), dice.randrange(2)
                    chosen.append(partial(self.block, chunks=size, cost_key=key))
            moves += [partial(move, worker) for move in chosen]
        return moves

    # ------------------------------------------------------------------ the end

    def settle_down(self) -> None:
        """Drive the world to rest, without any more deaths and without the clock."""
        if not self.scheduler.processes:
            self.resize(1)  # for ever without a worker, nothing would end
        for job_id, job in self.jobs.items():
            if job.state == "open" and not job.final:
                self.add(job_id, 0, True)
        if self.missing:
            self.want_missing()
        for _ in range(100_000):
            self.drain()
            for worker in list(self.workers.values()):
                moves = self.moves_of(worker)
                if moves:
                    moves[0](worker)
                    break
            else:
                return
        raise AssertionError("no end in sight")

    def finish_all(self) -> None:
        if not self.over:
            self.settle_down()
            left = [job_id for job_id, job in self.jobs.items() if job.state == "open"]
            assert not left, f"jobs {left} never end"
            assert not self.scheduler.jobs
            if not self.closed:
                assert len(self.workers) == self.scheduler.processes or self.scheduler.broken
                self.close()
                self.settle_down()
            assert not self.workers, "workers that nobody ended"
            assert not self.scheduler.workers
        self.check_end()
        self.replay()

    def check_end(self) -> None:
        assert self.scheduler.queued == 0
        assert self.scheduler.next_deadline() is None
        for job_id, job in self.jobs.items():
            if job.state == "finished":
                for index in range(job.chunks):
                    assert job.outcomes[index] == 1 or index in job.dropped
                assert sum(job.begun.values()) <= job.chunks * (1 + job.event.retries), job_id

    def replay(self) -> None:
        again = Scheduler(*self.parameters)
        for event, now, commands in self.log:
            assert repr(again.handle(event, now)) == commands


# --- one seed, many events --------------------------------------------------------------


def play(seed: int, events: int = 150) -> World:
    dice = random.Random(seed)
    world = World(dice.randrange(1, 5), dice.choice([None, None, None, 1, 2, 7]))
    bad_luck = dice.choice([0.0, 0.01, 0.05])
    for _ in range(events):
        luck = dice.random()
        due = world.scheduler.next_deadline()
        if due is not None and dice.random() < 0.15:
            world.tick(max(0.0, due - world.now))
        elif luck < 0.12 and (not world.closed or dice.random() < 0.05):
            world.submit(
                dice.choice([0, 1, 1, 2, 5, 30]),
                dice.random() < 0.7,
                cost_key=dice.randrange(3),
                timeout=dice.choice([None, None, None, 0.5]),
                retries=dice.choice([0, 0, 0, 1, 3]),
            )
        elif luck < 0.12 + bad_luck:
            candidates = [worker for worker in world.workers.values() if worker.state != "dead"]
            if candidates:
                dice.choice([world.die, world.die, world.run_short])(dice.choice(candidates))
        elif luck < 0.20:
            jobs = [number for number, job in world.jobs.items() if job.state == "open"]
            if jobs and luck < 0.17:
                world.cancel(dice.choice(jobs))
            elif jobs and luck < 0.185:
                job_id = dice.choice(jobs)
                if world.jobs[job_id].chunks:
                    index = dice.randrange(world.jobs[job_id].chunks)
                    if dice.random() < 0.5:
                        world.cancel_chunk(job_id, index)
                    else:
                        world.recall(job_id, index, dice.random() < 0.5)
            lazy = [number for number in jobs if not world.jobs[number].final]
            if lazy and luck >= 0.185:
                world.add(dice.choice(lazy), dice.choice([0, 1, 4]), dice.random() < 0.3)
        elif luck < 0.22:
            loans = [worker for worker in world.workers.values() if worker.loan is not None]
            if loans and dice.random() < 0.8:
                world.cancel_loan(dice.choice(loans))
            else:
                world.lend()
        elif luck < 0.24:
            world.tick(dice.choice([0.0, 0.002, 0.1, 0.5, 1.0, 1.0]))
        elif luck < 0.242:
            world.resize(dice.randrange(5))
        elif luck < 0.2425:
            world.close()
        elif luck < 0.2427:
            world.terminate()
            break
        elif luck < 0.2445:
            starting = [w for w in world.workers.values() if w.state == "starting"]
            if starting:
                world.refuse(dice.choice(starting))
        elif luck < 0.26:
            starting = [w for w in world.workers.values() if w.state == "starting"]
            if world.missing:
                world.want_missing()
            elif starting:
                world.put_off(dice.choice(starting))
        else:
            moves = world.happenings(dice)
            if moves:
                dice.choice(moves)()
    world.finish_all()
    return world


COMMANDS = (
    "Reclaim(", "Interrupt(", "KillWorker(", "FailChunk(", "DropChunk(", "AbortJobs(", "Halt(",
    "TakeRest(",
)  # fmt: skip


@cache
def play_block(block: int) -> Counter[str]:
    """Play sixty courses of events; return how often each thing happened, and what can."""
    seen: Counter[str] = Counter()
    for seed in range(60 * block, 60 * block + 60):
        try:
            world = play(seed)
        except BaseException as error:
            error.add_note(f"play({seed}) shows it")
            raise
        for event, _, commands in world.log:
            seen[type(event).__name__] += 1
            for name in COMMANDS:
                seen[name] += name in commands
            seen["timed out"] += "timed_out=True" in commands
            seen["killed"] += f"how={ev.KILL}" in commands
            seen["ended itself"] += f"how={ev.EXIT}" in commands
        seen["harvested"] += world.harvests
        seen["retried"] += any(any(job.lost.values()) for job in world.jobs.values())
        seen["deep"] += any(job.event.depth > 2 for job in world.jobs.values())
    seen.update({cls.__name__: 0 for cls in world.scheduler._handlers})
    return seen


@pytest.mark.parametrize("block", range(10))
def test_any_course_of_events_ends_well(block: int) -> None:
    play_block(block)


def test_the_world_is_eventful_enough() -> None:
    """The fuzz means something only if the rare things do happen in it."""
    seen: Counter[str] = Counter()
    for block in range(10):
        seen.update(play_block(block))
    assert len(seen) > 20
    assert not [name for name in sorted(seen) if seen[name] < 3], seen


# --- hypothesis chooses, and shrinks what it finds --------------------------------------


class SchedulerMachine(RuleBasedStateMachine):
    """Let hypothesis choose what happens next."""

    world: World

    @initialize(processes=st.integers(1, 3), maxtasksperchild=st.sampled_from([None, None, 1, 3]))
    def open(self, processes: int, maxtasksperchild: int | None) -> None:
        self.world = World(processes, maxtasksperchild)

    def open_jobs(self) -> list[int]:
        return [number for number, job in self.world.jobs.items() if job.state == "open"]

    def running(self) -> list[SimWorker]:
        return [
            worker
            for worker in self.world.workers.values()
            if worker.state == "serving" and worker.current and worker.blocked_on is None
        ]

    @rule(
        chunks=st.sampled_from([1, 0, 2, 5, 40]),
        final=st.booleans(),
        cost_key=st.integers(0, 1),
        timeout=st.sampled_from([None, None, 0.5]),
        retries=st.sampled_from([0, 0, 2]),
    )
    def submit(
        self, chunks: int, final: bool, cost_key: int, timeout: float | None, retries: int
    ) -> None:
        self.world.submit(chunks, final, cost_key=cost_key, timeout=timeout, retries=retries)

    @precondition(lambda self: not self.world.over and self.open_jobs())
    @rule(pick=st.integers(0, 10), chunks=st.integers(0, 3), final=st.booleans())
    def add(self, pick: int, chunks: int, final: bool) -> None:
        jobs = [job for job in self.open_jobs() if not self.world.jobs[job].final]
        if jobs:
            self.world.add(jobs[pick % len(jobs)], chunks, final)

    @precondition(lambda self: not self.world.over and self.open_jobs())
    @rule(pick=st.integers(0, 10))
    def cancel(self, pick: int) -> None:
        jobs = self.open_jobs()
        self.world.cancel(jobs[pick % len(jobs)])

    @precondition(lambda self: not self.world.over and self.open_jobs())
    @rule(pick=st.integers(0, 10), index=st.integers(0, 4))
    def cancel_chunk(self, pick: int, index: int) -> None:
        jobs = self.open_jobs()
        job_id = jobs[pick % len(jobs)]
        if index < self.world.jobs[job_id].chunks:
            self.world.cancel_chunk(job_id, index)

    @precondition(lambda self: not self.world.over and self.open_jobs())
    @rule(pick=st.integers(0, 10), index=st.integers(0, 4), force=st.booleans())
    def recall(self, pick: int, index: int, force: bool) -> None:
        jobs = self.open_jobs()
        job_id = jobs[pick % len(jobs)]
        if index < self.world.jobs[job_id].chunks:
            self.world.recall(job_id, index, force)

    @precondition(lambda self: not self.world.over)
    @rule()
    def lend(self) -> None:
        self.world.lend()

    def loans(self) -> list[SimWorker]:
        return [worker for worker in self.world.workers.values() if worker.loan is not None]

    @precondition(lambda self: not self.world.over and self.loans())
    @rule()
    def cancel_loan(self) -> None:
        self.world.cancel_loan(self.loans()[0])

    @precondition(lambda self: not self.world.over)
    @rule(seconds=st.sampled_from([0.0, 0.002, 0.2, 0.5, 1.0]))
    def tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    @precondition(lambda self: not self.world.over and self.world.workers)
    @rule(pick=st.integers(0, 10))
    def die(self, pick: int) -> None:
        workers = list(self.world.workers.values())
        self.world.die(workers[pick % len(workers)])

    @precondition(lambda self: not self.world.over and self.world.workers)
    @rule(pick=st.integers(0, 10))
    def run_short(self, pick: int) -> None:
        workers = list(self.world.workers.values())
        self.world.run_short(workers[pick % len(workers)])

    @precondition(lambda self: not self.world.over and self.world.workers)
    @rule(pick=st.integers(0, 10))
    def put_off(self, pick: int) -> None:
        starting = [w for w in self.world.workers.values() if w.state == "starting"]
        if starting:
            self.world.put_off(starting[pick % len(starting)])

    @precondition(lambda self: not self.world.over and self.world.missing)
    @rule()
    def want_missing(self) -> None:
        self.world.want_missing()

    @precondition(lambda self: not self.world.over and self.running())
    @rule(
        pick=st.integers(0, 10), failed=st.booleans(), flush=st.booleans(), hand_back=st.booleans()
    )
    def finish(self, pick: int, failed: bool, flush: bool, hand_back: bool) -> None:
        workers = self.running()
        self.world.finish(workers[pick % len(workers)], failed, flush, hand_back)

    @precondition(lambda self: not self.world.over and self.running())
    @rule(pick=st.integers(0, 10), chunks=st.integers(0, 3))
    def block(self, pick: int, chunks: int) -> None:
        workers = self.running()
        self.world.block(workers[pick % len(workers)], chunks, 0)

    @precondition(lambda self: not self.world.over)
    @rule(picks=st.lists(st.integers(0, 30), min_size=1, max_size=8))
    def go_on(self, picks: list[int]) -> None:
        for pick in picks:
            moves = self.world.progress()
            if moves:
                moves[pick % len(moves)]()

    @precondition(lambda self: not self.world.over)
    @rule(processes=st.integers(0, 4))
    def resize(self, processes: int) -> None:
        self.world.resize(processes)

    @precondition(lambda self: not self.world.closed)
    @rule()
    def close(self) -> None:
        self.world.close()

    @precondition(lambda self: not self.world.over and len(self.world.log) > 30)
    @rule()
    def terminate(self) -> None:
        self.world.terminate()

    @invariant()
    def books_agree_with_the_world(self) -> None:
        if not hasattr(self, "world") or self.world.over:
            return
        scheduler = self.world.scheduler
        assert set(scheduler.workers) == set(self.world.workers)
        if not scheduler.broken:
            open_jobs = {n for n, job in self.world.jobs.items() if job.state == "open"}
            assert set(scheduler.jobs) == open_jobs

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish_all()


SchedulerMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestSchedulerMachine = SchedulerMachine.TestCase
