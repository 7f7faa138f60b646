"""The workers of one pool, and what each of them could take now."""

from __future__ import annotations

from pool._local._records import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Messages one worker may hold: one running, one waiting.
DEPTH = 2


class Roster:
    """All workers, those that are idle, and those with room for one more message.

    Attributes
    ----------
    workers : dict
        By worker_id, from the moment they are asked for until they have ended.
    idle : dict
        Those without a message; the last one in is the first one out, for its caches are warm.
    room : dict
        Those with a message that may be sent another one.
    """

    __slots__ = ("_next", "idle", "room", "workers")

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}
        self.room: dict[int, Worker] = {}
        self._next = 1

    def add(self, tasks_left: int | None) -> Worker:
        """Enter a new worker as idle: messages that it is sent wait until it has started."""
        worker = Worker(self._next, tasks_left)
        self._next += 1
        self.workers[worker.worker_id] = self.idle[worker.worker_id] = worker
        return worker

    def remove(self, worker_id: int) -> Worker | None:
        """Strike out a worker that has ended, and return it."""
        self.withdraw(worker_id)
        return self.workers.pop(worker_id, None)

    def withdraw(self, worker_id: int) -> None:
        """Let a worker be sent nothing more for now."""
        self.idle.pop(worker_id, None)
        self.room.pop(worker_id, None)

    def file(self, worker: Worker) -> None:
        """Enter a withdrawn worker as idle, or as one with room, if it is."""
        if not worker.messages:
            self.idle[worker.worker_id] = worker
        elif len(worker.messages) < DEPTH and not (worker.stuck or worker.exclusive):
            self.room[worker.worker_id] = worker

    @property
    def runnable(self) -> int:
        """How many workers run tasks, or could: neither blocked nor about to end."""
        return sum(not (worker.blocked or worker.stopping) for worker in self)

    def pick_idle(self) -> Worker:
        """Return the idle worker that was last used; if none is ready, one that is starting."""
        for worker in reversed(self.idle.values()):
            if worker.ready:
                return worker
        return next(iter(self.idle.values()))  # the one that was asked for first

    def straggler(self) -> Worker | None:
        """Return the worker with the oldest message, of those in whose mailbox another one waits.

        None if none waits. For a worker that has not started, its first message waits as well.
        """
        found, oldest = None, 0
        for worker in self:
            waiting = len(worker.messages) - (1 if worker.ready else 0)
            if waiting > 0 and not worker.reclaiming:
                first = next(iter(worker.messages))
                if found is None or first < oldest:
                    found, oldest = worker, first
        return found

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers.values())
