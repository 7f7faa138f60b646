"""What enters the scheduler (events) and what leaves it (commands).

Both are plain immutable tuples: they are made a hundred thousand times a second, and a
frozen dataclass costs three times as much to make. Nothing here knows of pids, sockets
or pickles; ids are integers that are never used again, times are seconds of one
monotonic clock.

A *run* is a contiguous range of chunks of one job, ``(job_id, start, stop)``. A *message*
is what a worker receives at one go: one or more runs. An `index` is a chunk's place in its job.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import NamedTuple

    Run = tuple[int, int, int]

    class JobSubmitted(NamedTuple):
        job_id: int
        chunks: int
        final: bool
        cost_key: Hashable
        depth: int = 0
        timeout: float | None = None
        retries: int = 0

    class ChunksAdded(NamedTuple):
        job_id: int
        chunks: int
        final: bool

    class CancelRequested(NamedTuple):
        job_id: int
        index: int | None = None  # type: ignore[assignment]  # no event is searched like a tuple

    class RecallRequested(NamedTuple):
        job_id: int
        index: int  # type: ignore[assignment]  # as above
        force: bool

    class RecallHeard(NamedTuple):
        worker_id: int
        message_id: int
        job_id: int
        index: int | None  # type: ignore[assignment]  # as above

    class InterruptMissed(NamedTuple):
        worker_id: int
        message_id: int
        job_id: int
        index: int | None  # type: ignore[assignment]  # as above

    class WorkerReady(NamedTuple):
        worker_id: int

    class WorkerRefused(NamedTuple):
        worker_id: int

    class MessageAnswered(NamedTuple):
        worker_id: int
        message_id: int
        done: int
        final: bool
        elapsed: float
        failed: tuple[int, ...] = ()

    class RestReturned(NamedTuple):
        worker_id: int
        message_id: int
        kept: int = 1

    class MessagesReclaimed(NamedTuple):
        worker_id: int
        message_ids: tuple[int, ...]

    class WorkerExited(NamedTuple):
        worker_id: int
        running: int | None = None
        alone: bool = True
        unbegun: int | None = None

    class StartPutOff(NamedTuple):
        worker_id: int

    class WorkerLent(NamedTuple):
        worker_id: int

    class WorkerReturned(NamedTuple):
        worker_id: int
        message_id: int
        failed: bool

    class LoanCancelled(NamedTuple):
        worker_id: int
        message_id: int

    class MemoryShort(NamedTuple):
        worker_id: int

    class WorkerBlocked(NamedTuple):
        worker_id: int

    class WorkerUnblocked(NamedTuple):
        worker_id: int

    class DeadlinePassed(NamedTuple):
        pass

    class ProcessesChanged(NamedTuple):
        processes: int

    class WorkersWanted(NamedTuple):
        pass

    class PoolClosed(NamedTuple):
        pass

    class PoolTerminated(NamedTuple):
        pass

    class StartWorker(NamedTuple):
        worker_id: int

    class StopWorker(NamedTuple):
        worker_id: int

    class KillWorker(NamedTuple):
        worker_id: int

    class Send(NamedTuple):
        worker_id: int
        message_id: int
        runs: list[Run]

    class Reclaim(NamedTuple):
        worker_id: int

    class Halt(NamedTuple):
        worker_id: int
        message_id: int

    class TakeRest(NamedTuple):
        worker_id: int
        message_id: int

    class Interrupt(NamedTuple):
        worker_id: int
        message_id: int
        job_id: int
        index: int | None  # type: ignore[assignment]  # as above
        how: int

    class Deliver(NamedTuple):
        job_id: int
        start: int
        stop: int
        offset: int

    class FailChunk(NamedTuple):
        job_id: int
        index: int  # type: ignore[assignment]  # as above
        timed_out: bool
        begun: bool = True

    class DropChunk(NamedTuple):
        job_id: int
        index: int  # type: ignore[assignment]  # as above

    class FinishJob(NamedTuple):
        job_id: int

    class AbortJobs(NamedTuple):
        job_ids: tuple[int, ...]

    Event = (
        JobSubmitted
        | ChunksAdded
        | CancelRequested
        | RecallRequested
        | RecallHeard
        | InterruptMissed
        | WorkerReady
        | WorkerRefused
        | MessageAnswered
        | RestReturned
        | MessagesReclaimed
        | WorkerExited
        | StartPutOff
        | WorkerLent
        | WorkerReturned
        | LoanCancelled
        | MemoryShort
        | WorkerBlocked
        | WorkerUnblocked
        | DeadlinePassed
        | ProcessesChanged
        | WorkersWanted
        | PoolClosed
        | PoolTerminated
    )
    Command = (
        StartWorker
        | StopWorker
        | KillWorker
        | Send
        | Reclaim
        | Halt
        | TakeRest
        | Interrupt
        | Deliver
        | FailChunk
        | DropChunk
        | FinishJob
        | AbortJobs
    )
else:
    # Not as classes: typing takes 7 ms to import, a third of the time of a whole short program.

    # --- events -----------------------------------------------------------------------
    # `chunks` can be sent now; more come with ChunksAdded unless `final`. Jobs with the
    # same `cost_key` run the same function and share an estimate of its run time. `depth` is
    # the number of tasks between the program and the job; deeper jobs go first.
    JobSubmitted = namedtuple(
        "JobSubmitted",
        "job_id chunks final cost_key depth timeout retries",
        defaults=(0, None, 0),
    )
    ChunksAdded = namedtuple("ChunksAdded", "job_id chunks final")
    # Nobody wants the outcomes of the job, or of one chunk of it.
    CancelRequested = namedtuple("CancelRequested", "job_id index", defaults=(None,))
    # One chunk is to end soon, or not to begin. Unlike a cancelled one it has an outcome.
    RecallRequested = namedtuple("RecallRequested", "job_id index force")
    # The worker has raised KeyboardInterrupt in the chunk that was recalled.
    RecallHeard = namedtuple("RecallHeard", "worker_id message_id job_id index")
    # The chunk runs, and its worker was about to be killed for it; but when it was asked to stop it
    # had not begun, so that it was never interrupted.
    InterruptMissed = namedtuple("InterruptMissed", "worker_id message_id job_id index")
    WorkerReady = namedtuple("WorkerReady", "worker_id")
    # The worker's initializer raised: the pool can never work.
    WorkerRefused = namedtuple("WorkerRefused", "worker_id")
    # `done` more chunks of the message have outcomes, in `elapsed` seconds of run time; `failed`
    # are positions among them. If `final`, the worker hands back the chunks that are left.
    MessageAnswered = namedtuple(
        "MessageAnswered", "worker_id message_id done final elapsed failed", defaults=((),)
    )
    # Of the chunks of the message that are not answered, the worker keeps the first `kept`. The
    # others it has handed back, or the driver has taken them (TakeRest).
    RestReturned = namedtuple("RestReturned", "worker_id message_id kept", defaults=(1,))
    # These messages were taken back unread. Empty if the worker had read them by then.
    MessagesReclaimed = namedtuple("MessagesReclaimed", "worker_id message_ids")
    # `running` is the message of which one more chunk was under way when the worker ended; None if
    # none was. The outcomes that the worker left behind came before, as MessageAnswered. If not
    # `alone`, another event has told of what ended both, such as the end of their forkserver.
    # `unbegun` is a message that it had read and of which it had begun no chunk.
    WorkerExited = namedtuple(
        "WorkerExited", "worker_id running alone unbegun", defaults=(None, True, None)
    )
    # The system has no room for this worker now, which has not been and will not be; others go on.
    StartPutOff = namedtuple("StartPutOff", "worker_id")
    # The driver uses this idle worker for a single call that the scheduler does not place, and
    # returns it afterwards; LoanCancelled if the caller gives up waiting for the outcome.
    WorkerLent = namedtuple("WorkerLent", "worker_id")
    WorkerReturned = namedtuple("WorkerReturned", "worker_id message_id failed")
    LoanCancelled = namedtuple("LoanCancelled", "worker_id message_id")
    # Memory runs out, and to end this worker frees most.
    MemoryShort = namedtuple("MemoryShort", "worker_id")
    # A task in this worker waits for a job of this very pool; Unblocked when it goes on.
    WorkerBlocked = namedtuple("WorkerBlocked", "worker_id")
    WorkerUnblocked = namedtuple("WorkerUnblocked", "worker_id")
    # The time that `Scheduler.next_deadline` returned has come.
    DeadlinePassed = namedtuple("DeadlinePassed", "")
    # From now on `processes` workers may run tasks at the same time.
    ProcessesChanged = namedtuple("ProcessesChanged", "processes")
    # Those that are missing: all of a new pool, or those that could not be started a while ago.
    WorkersWanted = namedtuple("WorkersWanted", "")
    PoolClosed = namedtuple("PoolClosed", "")
    PoolTerminated = namedtuple("PoolTerminated", "")

    # --- commands ---------------------------------------------------------------------
    StartWorker = namedtuple("StartWorker", "worker_id")
    # Let the worker end in good order after the messages that it has.
    StopWorker = namedtuple("StopWorker", "worker_id")
    # End the worker at once, by SIGKILL.
    KillWorker = namedtuple("KillWorker", "worker_id")
    Send = namedtuple("Send", "worker_id message_id runs")
    # Take back the messages that the worker has not read; answer with MessagesReclaimed.
    Reclaim = namedtuple("Reclaim", "worker_id")
    # Have the worker begin no other chunk of this message than the one that it runs.
    Halt = namedtuple("Halt", "worker_id message_id")
    # Take the chunks behind the one at which the worker was told to halt; answer with RestReturned.
    # Do nothing if the worker has gone past that chunk.
    TakeRest = namedtuple("TakeRest", "worker_id message_id")
    # If the worker runs chunk `index` of the job (any of its chunks if None) now, interrupt it in
    # one of the ways below.
    Interrupt = namedtuple("Interrupt", "worker_id message_id job_id index how")
    # The outcomes of chunks start..stop of the job are those from `offset` on in the answer.
    Deliver = namedtuple("Deliver", "job_id start stop offset")
    # The worker of the chunk ended while running it; if `timed_out`, because of its time limit. If
    # not `begun`, several have ended when they had received it.
    FailChunk = namedtuple("FailChunk", "job_id index timed_out begun", defaults=(True,))
    # The chunk was recalled before it had begun.
    DropChunk = namedtuple("DropChunk", "job_id index")
    # Every chunk of the job was delivered, failed or dropped.
    FinishJob = namedtuple("FinishJob", "job_id")
    # The pool is broken: these jobs will never finish.
    AbortJobs = namedtuple("AbortJobs", "job_ids")

# How to interrupt a chunk.
ASK = 0  #: Raise KeyboardInterrupt in it.
KILL = 1  #: Kill its worker, which works even if the task ignores signals.
EXIT = 2  #: Have its worker end itself, which cannot hit a chunk that comes after it.
