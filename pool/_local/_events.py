"""What enters the scheduler (events) and what leaves it (commands).

Both are plain immutable tuples: they are made a hundred thousand times a second, and a
frozen dataclass costs three times as much to make. Nothing here knows of pids, sockets
or pickles; ids are integers that are never used again, times are seconds of one
monotonic clock.

A *run* is a contiguous range of chunks of one job, ``(job_id, start, stop)``. A *message*
is what a worker receives at one go: one or more runs.
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

    class PoolOpened(NamedTuple):
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
        | WorkerLent
        | WorkerReturned
        | LoanCancelled
        | MemoryShort
        | WorkerBlocked
        | WorkerUnblocked
        | DeadlinePassed
        | ProcessesChanged
        | PoolOpened
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
    # typing costs 7 ms to import, which is a third of a whole short program.

    # --- events -----------------------------------------------------------------------
    # `chunks` can be sent now; more come with ChunksAdded unless `final`. Jobs with the
    # same `cost_key` run the same function, so one learns from the other. `depth` counts
    # how many tasks up the job was submitted from; deeper jobs go first.
    JobSubmitted = namedtuple(
        "JobSubmitted",
        "job_id chunks final cost_key depth timeout retries",
        defaults=(0, None, 0),
    )
    ChunksAdded = namedtuple("ChunksAdded", "job_id chunks final")
    # The whole job, or one chunk of it.
    CancelRequested = namedtuple("CancelRequested", "job_id index", defaults=(None,))
    # One chunk shall end soon, or not begin; unlike with a cancellation it has an outcome.
    RecallRequested = namedtuple("RecallRequested", "job_id index force")
    # An interrupt has been raised in it.
    RecallHeard = namedtuple("RecallHeard", "worker_id message_id job_id index")
    # It was about to be ended by force, and was never asked: when it was to be, it had not begun.
    InterruptMissed = namedtuple("InterruptMissed", "worker_id message_id job_id index")
    WorkerReady = namedtuple("WorkerReady", "worker_id")
    # Its initializer raised: the pool can never work.
    WorkerRefused = namedtuple("WorkerRefused", "worker_id")
    # `done` more chunks of the message have outcomes; if `final`, the worker is through
    # with it and hands back what is left. `failed` are positions among the `done`.
    MessageAnswered = namedtuple(
        "MessageAnswered", "worker_id message_id done final elapsed failed", defaults=((),)
    )
    # The worker gives back all chunks of the message but the first `kept` of those that were not
    # answered, or they were taken from it.
    RestReturned = namedtuple("RestReturned", "worker_id message_id kept", defaults=(1,))
    # These were taken back unread. Empty when the worker was quicker.
    MessagesReclaimed = namedtuple("MessagesReclaimed", "worker_id message_ids")
    # The outcomes it left behind were answered before; `running` is the message whose
    # next chunk was under way when it ended.
    WorkerExited = namedtuple("WorkerExited", "worker_id running", defaults=(None,))
    # The driver uses this idle worker itself, for one call that nothing else has to know
    # of, and gives it back afterwards; or gives up waiting for that.
    WorkerLent = namedtuple("WorkerLent", "worker_id")
    WorkerReturned = namedtuple("WorkerReturned", "worker_id message_id failed")
    LoanCancelled = namedtuple("LoanCancelled", "worker_id message_id")
    # Memory runs out, and the end of this worker frees most.
    MemoryShort = namedtuple("MemoryShort", "worker_id")
    # A task in this worker waits for a job of this very pool.
    WorkerBlocked = namedtuple("WorkerBlocked", "worker_id")
    WorkerUnblocked = namedtuple("WorkerUnblocked", "worker_id")
    DeadlinePassed = namedtuple("DeadlinePassed", "")
    # So many workers may run tasks at the same time from now on.
    ProcessesChanged = namedtuple("ProcessesChanged", "processes")
    PoolOpened = namedtuple("PoolOpened", "")
    PoolClosed = namedtuple("PoolClosed", "")
    PoolTerminated = namedtuple("PoolTerminated", "")

    # --- commands ---------------------------------------------------------------------
    StartWorker = namedtuple("StartWorker", "worker_id")
    # Let it end in good order after what it has.
    StopWorker = namedtuple("StopWorker", "worker_id")
    KillWorker = namedtuple("KillWorker", "worker_id")
    Send = namedtuple("Send", "worker_id message_id runs")
    # Try to take unread messages back; answer with MessagesReclaimed.
    Reclaim = namedtuple("Reclaim", "worker_id")
    # Have the worker begin no other chunk of this message than the one that it runs.
    Halt = namedtuple("Halt", "worker_id message_id")
    # Take what it has not begun, and will not; answer with RestReturned. Nothing follows if
    # the worker has begun another one in spite of that.
    TakeRest = namedtuple("TakeRest", "worker_id message_id")
    # If a chunk of that job (that chunk) is what the worker runs now: do this to it, see below.
    Interrupt = namedtuple("Interrupt", "worker_id message_id job_id index how")
    # Chunks start..stop of the job have the outcomes found at `offset` of the answer.
    Deliver = namedtuple("Deliver", "job_id start stop offset")
    # Its worker ended while running it; or was ended, since it took too long.
    FailChunk = namedtuple("FailChunk", "job_id index timed_out")
    # It was recalled before it had begun.
    DropChunk = namedtuple("DropChunk", "job_id index")
    # Every chunk was delivered or failed.
    FinishJob = namedtuple("FinishJob", "job_id")
    # The pool is broken: these will never finish.
    AbortJobs = namedtuple("AbortJobs", "job_ids")

# How to interrupt.
ASK = 0  #: raise KeyboardInterrupt in the chunk
KILL = 1  #: end its worker, also if it does not listen
EXIT = 2  #: have its worker end itself, which cannot hit what comes after the chunk
