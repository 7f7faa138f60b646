"""The scheduler's own records of jobs, messages and workers."""

from __future__ import annotations

from bisect import bisect_left, insort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from pool._local._events import JobSubmitted, Run

#: Workers that may end, one after the other, when they have received a chunk and not begun it. As a
#: rule they have no descriptor or no memory for it, which the next one may have.
LOSSES = 3


class Job:
    """One user call, as far as scheduling is concerned."""

    __slots__ = (
        "attempts",
        "chunks",
        "cost_key",
        "depth",
        "enqueued",
        "final",
        "job_id",
        "lost",
        "next",
        "pending",
        "recalled",
        "retries",
        "returned",
        "skipped",
        "timeout",
        "unsent",
    )

    def __init__(self, event: JobSubmitted) -> None:
        self.job_id, self.chunks, self.final, self.cost_key, self.depth = event[:5]
        self.timeout = event.timeout
        self.retries = event.retries
        #: First chunk that was never sent.
        self.next = 0
        #: Chunks that could be sent now. Kept, since `returned` may be long: if every other call of
        #: a stream is cancelled, it has as many ranges as calls are left.
        self.unsent = self.chunks
        #: Chunks known so far that have no outcome yet.
        self.pending = self.chunks
        #: Ranges of chunks that came back unbegun, failed and are to be tried again, or were passed
        #: over when one behind them was dropped. The first one is last: they begin in their order.
        self.returned: list[tuple[int, int]] = []
        #: Chunks that were cancelled while a worker had them.
        self.skipped: set[int] | None = None
        #: Chunks that were recalled while a worker had them.
        self.recalled: frozenset[int] = frozenset()
        #: By index, how often a chunk has been tried; None before the first failure.
        self.attempts: dict[int, int] | None = None
        #: By index, how many workers have ended when they had received a chunk and not begun it;
        #: None before the first one. From then on chunks travel alone: it is not known which one of
        #: a message no worker has room for.
        self.lost: dict[int, int] | None = None
        #: Whether the job is in the `JobQueue`.
        self.enqueued = False

    def add(self, chunks: int) -> None:
        """Note that there are more chunks."""
        self.chunks += chunks
        self.pending += chunks
        self.unsent += chunks

    def take(self, limit: int) -> Run:
        """Cut off at most `limit` chunks that follow each other."""
        if self.returned:
            start, stop = self.returned.pop()
            if stop - start > limit:
                self.returned.append((start + limit, stop))
                stop = start + limit
        else:
            start = self.next
            self.next = stop = min(start + limit, self.chunks)
        self.unsent -= stop - start
        return (self.job_id, start, stop)

    def skip(self, index: int) -> bool:
        """Drop one chunk; return False if a worker has it, or had it."""
        if index >= self.next:
            if index > self.next:
                self.returned.insert(0, (self.next, index))
            self.next = index + 1
            self.unsent -= 1
            return True
        place = self._range_of(index)
        if place is None:
            return False
        start, stop = self.returned[place]
        parts = (index + 1, stop), (start, index)
        self.returned[place : place + 1] = [part for part in parts if part[0] < part[1]]
        self.unsent -= 1
        return True

    def waits(self, index: int) -> bool:
        """Return whether a chunk is there that no worker has, or had."""
        if index >= self.next:
            return index < self.chunks
        return self._range_of(index) is not None

    def _range_of(self, index: int) -> int | None:
        """Return which one of the ranges in `returned` has a chunk; None if none has."""
        place = bisect_left(self.returned, -index, key=_backwards)
        found = place < len(self.returned) and index < self.returned[place][1]
        return place if found else None

    def drop(self) -> int:
        """Drop all chunks that could be sent now; return how many."""
        dropped, self.unsent = self.unsent, 0
        self.next = self.chunks
        self.returned.clear()
        return dropped

    def give_back(self, start: int, stop: int) -> int:
        """Queue chunks again that were not begun; return how many."""
        count = stop - start
        insort(self.returned, (start, stop), key=_backwards)
        self.unsent += count
        if self.skipped or self.recalled:
            unwanted = self.recalled.union(self.skipped or ())
            for index in [index for index in unwanted if start <= index < stop]:
                if self.skipped:
                    self.skipped.discard(index)
                self.recalled -= {index}
                self.skip(index)
                self.pending -= 1
                count -= 1
        return count

    def try_again(self, index: int) -> bool:
        """Count a failed attempt at chunk `index`; return whether to make another one."""
        unwanted = index in self.recalled or (self.skipped and index in self.skipped)
        if not self.retries or unwanted:
            return False
        if self.attempts is None:
            self.attempts = {}
        done = self.attempts.get(index, 0) + 1
        self.attempts[index] = done
        return done <= self.retries

    def lose(self, index: int) -> bool:
        """Count a worker that ended before it began a chunk; return whether that is enough."""
        if self.lost is None:
            self.lost = {}
        self.lost[index] = lost = self.lost.get(index, 0) + 1
        return lost > LOSSES


def _backwards(chunks: tuple[int, int]) -> int:
    return -chunks[0]


class Message:
    """What a worker received at one go and has not fully answered."""

    __slots__ = ("chunks", "cost_keys", "deadline", "halted", "message_id", "runs", "timeout")

    def __init__(
        self, message_id: int, runs: list[Run], chunks: int, cost_keys: list[Hashable]
    ) -> None:
        self.message_id = message_id
        #: The chunks without outcome: answers cut the list down from the front.
        self.runs = runs
        #: How many chunks `runs` has.
        self.chunks = chunks
        #: Of its jobs, none of them twice.
        self.cost_keys = cost_keys
        #: Seconds that its only chunk may take, and when these are over. The clock starts
        #: when the worker is ready.
        self.timeout: float | None = None
        self.deadline: float | None = None
        #: When the worker was told to halt, see `pool._local._stragglers`; None if it was not.
        self.halted: float | None = None

    def cut(self, kept: int) -> list[Run]:
        """Keep the first `kept` chunks only; return the runs of the others."""
        rest: list[Run] = []
        left = kept
        for position, (job_id, start, stop) in enumerate(self.runs):
            middle = min(stop, start + left)
            left -= middle - start
            self.runs[position] = (job_id, start, middle)
            if middle < stop:
                rest.append((job_id, middle, stop))
        self.runs[:] = [run for run in self.runs if run[1] < run[2]]
        self.chunks = kept - left
        return rest

    def holds(self, job_id: int, index: int | None) -> bool:
        """Return whether chunk `index` of a job (any if None) is among those without outcome."""
        for run_job, start, stop in self.runs:
            if run_job == job_id and (index is None or start <= index < stop):
                return True
        return False


class Worker:
    """One worker from its start to its end."""

    __slots__ = (
        "blocked",
        "condemned",
        "heard",
        "lent",
        "messages",
        "ready",
        "reclaiming",
        "retiring",
        "stopping",
        "stuck",
        "tasks_done",
        "tasks_left",
        "timed_out",
        "worker_id",
    )

    def __init__(self, worker_id: int, tasks_left: int | None) -> None:
        self.worker_id = worker_id
        #: Chunks that it may still be sent, by `maxtasksperchild`; None: any number.
        self.tasks_left = tasks_left
        self.tasks_done = 0
        #: Oldest first: the worker runs the first one, if it is `ready`.
        self.messages: dict[int, Message] = {}
        #: Whether it has started, and run its initializer.
        self.ready = False
        #: When it last answered, or was given, the message that it runs.
        self.heard = 0.0
        #: It is to end, and is sent nothing more.
        self.stopping = False
        #: It is sent nothing more, and is to end when it has no message left, if not before.
        self.retiring = False
        #: How many waits for jobs of this pool are under way inside its task.
        self.blocked = 0
        #: The driver uses it for a single call, see `pool._local._loans`.
        self.lent = False
        #: The driver was asked to take back what it has not read, and has not answered.
        self.reclaiming = False
        #: It gave a message back that waited behind its task: nothing is sent after it until it has
        #: answered again, for that would come back, too.
        self.stuck = False
        #: Killed because its task exceeded a time limit.
        self.timed_out = False
        #: Killed because memory is short.
        self.condemned = False

    @property
    def exclusive(self) -> bool:
        """Whether it runs a task with a time limit, behind which nothing may wait."""
        return any(message.timeout is not None for message in self.messages.values())
