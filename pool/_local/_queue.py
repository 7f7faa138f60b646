"""The chunks that wait for a worker, in the order in which jobs have their turn."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from pool._local._events import Run
    from pool._local._records import Job


class JobQueue:
    """Jobs with chunks that could be sent: deeper ones first, else first come, first served.

    Deeper jobs (submitted by tasks) are what blocked workers wait for, and depth-first
    order bounds how many workers can be blocked at once.

    Attributes
    ----------
    chunks : int
        How many chunks wait, of all jobs together.
    """

    __slots__ = ("_depths", "_levels", "chunks")

    def __init__(self) -> None:
        self.chunks = 0
        self._levels: dict[int, deque[Job]] = {}
        #: The keys of `_levels`, deepest first.
        self._depths: list[int] = []

    def add(self, job: Job, chunks: int) -> None:
        """Queue more chunks of a job; the job waits behind those that wait already."""
        self.chunks += chunks
        if not job.enqueued:
            job.enqueued = True
            self._level(job.depth).append(job)

    def give_back(self, job: Job, start: int, stop: int) -> None:
        """Queue chunks again that were not begun; the job is the next of its depth."""
        self.chunks += job.give_back(start, stop)
        if not job.enqueued and job.unsent:
            job.enqueued = True
            self._level(job.depth).appendleft(job)

    def skip(self, job: Job, index: int) -> bool:
        """Drop one chunk; return False if it does not wait."""
        if not job.skip(index):
            return False
        self.chunks -= 1
        return True

    def drop(self, job: Job) -> None:
        """Drop all chunks of a job that wait."""
        self.chunks -= job.drop()

    def clear(self) -> None:
        """Drop everything."""
        self.chunks = 0
        self._levels.clear()
        self._depths.clear()

    def head(self) -> Job:
        """Return the job whose turn it is; there must be one."""
        while True:
            depth = self._depths[0]
            level = self._levels[depth]
            while level:
                job = level[0]
                if job.unsent:
                    return job
                job.enqueued = False
                level.popleft()
            del self._levels[depth]
            self._depths.pop(0)

    def take(
        self, limit: int, limit_of: Callable[[Hashable], int] | None = None
    ) -> tuple[list[Run], int, list[Hashable]]:
        """Cut off chunks for one message: of the head, and of jobs like it that follow.

        Parameters
        ----------
        limit : int
            Chunks at most.
        limit_of : callable, optional
            Returns how many chunks a message may have with some of another `cost_key` among them.
            None: jobs with another key are not taken.

        Returns
        -------
        runs : list of (job_id, start, stop)
        taken : int
            Chunks in them.
        keys : list
            The `cost_key` of each job, none of them twice.
        """
        first = job = self.head()
        runs: list[Run] = []
        keys = [job.cost_key]
        taken = 0
        while True:
            run = job.take(limit - taken)
            runs.append(run)
            count = run[2] - run[1]
            taken += count
            self.chunks -= count
            if taken >= limit or not self.chunks:
                break
            job = job if job.unsent else self.head()
            # A chunk with a time limit travels alone, see `Dispatch._send`.
            if job.timeout is not None or job.lost or job.depth != first.depth:
                break
            if job.cost_key not in keys:
                if limit_of is None:
                    break
                limit = min(limit, limit_of(job.cost_key))
                if taken >= limit:
                    break
                keys.append(job.cost_key)
        self._take_turns(first)
        return runs, taken, keys

    def _take_turns(self, job: Job) -> None:
        """Move a job that may grow for ever behind the others of its depth."""
        level = self._levels.get(job.depth)
        if not job.final and level is not None and len(level) > 1 and level[0] is job:
            level.rotate(-1)

    def _level(self, depth: int) -> deque[Job]:
        level = self._levels.get(depth)
        if level is None:
            level = self._levels[depth] = deque()
            self._depths = sorted(self._levels, reverse=True)
        return level
