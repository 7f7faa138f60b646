"""A scheduler on the table, for tests that are one sequence of events each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from schedulerchecks import check_invariants

from pool._local._costs import PREFETCH_BELOW
from pool._local._events import (
    JobSubmitted,
    MessageAnswered,
    Send,
    StartPutOff,
    StartWorker,
    WorkerReady,
    WorkersWanted,
)
from pool._local._scheduler import Scheduler

# Long enough that a chunk travels alone and nothing is sent ahead of it.
SLOW = 10 * PREFETCH_BELOW
# Short enough that several travel together, and long enough that any of them is worth a
# message with one or two workers.
QUICK = 59e-6


class Table:
    """A scheduler on the table: feed it events, look at the commands.

    Every event is followed by a check of the invariants.
    """

    def __init__(
        self, processes: int = 2, maxtasksperchild: int | None = None, ready: bool = True
    ) -> None:
        self.scheduler = Scheduler(processes, maxtasksperchild)
        self.now = 0.0
        self._put_off = False
        started = self(WorkersWanted())
        assert started == [StartWorker(number) for number in range(1, processes + 1)]
        if ready:
            for number in range(1, processes + 1):
                assert self(WorkerReady(number)) == []

    def __call__(self, event: Any) -> list[Any]:
        commands = self.scheduler.handle(event, self.now)
        self._put_off = isinstance(event, StartPutOff) or (
            self._put_off and not isinstance(event, WorkersWanted)
        )
        check_invariants(self.scheduler, self._put_off)
        return list(commands)

    def learn(self, key: Hashable, seconds: float, chunks: int = 1) -> None:
        """Let the function `key` be known to take `seconds` per chunk."""
        self.scheduler.costs.observe(key, chunks, seconds * chunks)

    def submit(
        self, job_id: int = 1, chunks: int = 1, final: bool = True, **more: Any
    ) -> list[Any]:
        """Submit a job; `more` are other fields of the event."""
        more.setdefault("cost_key", 0)
        return self(JobSubmitted(job_id, chunks, final, **more))

    def answer(
        self, send: Send, done: int = 1, final: bool = True, failed: tuple[int, ...] = ()
    ) -> list[Any]:
        """Answer chunks of a message."""
        # No time: what was learned stays as it is.
        return self(MessageAnswered(send.worker_id, send.message_id, done, final, 0.0, failed))


def only(commands: Iterable[Any], kind: Any) -> list[Any]:
    """Return the commands of one kind."""
    return [command for command in commands if isinstance(command, kind)]


def sent(commands: Iterable[Any]) -> dict[int, Any]:
    """Return the one Send to each worker."""
    sends = only(commands, Send)
    by_worker = {send.worker_id: send for send in sends}
    assert len(by_worker) == len(sends), f"two messages to one worker: {sends}"
    return by_worker


def chunks_of(commands: Iterable[Any]) -> list[tuple[int, int]]:
    """Return (job, chunk) of all that is sent."""
    return [
        (job_id, index)
        for send in only(commands, Send)
        for job_id, start, stop in send.runs
        for index in range(start, stop)
    ]
