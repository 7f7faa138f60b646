"""The jobs of a driver that are not over: to enter, find and end them."""

from __future__ import annotations

from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._local._functions import FunctionTable
    from pool._local._jobs import Job
    from pool._local._peers import Peer
    from pool._local._protocols import CallsBack


class JobTable(dict[int, "Job"]):
    """Jobs by job_id. Used under the driver's lock, but for what says "from any thread".

    Parameters
    ----------
    functions : FunctionTable
        The functions that jobs call.
    peers : dict
        The workers, by worker_id.
    calling : list
        `Driver.calling`, to which sinks are appended whose callbacks are due.
    """

    __slots__ = ("_calling", "_functions", "_peers")

    def __init__(
        self, functions: FunctionTable, peers: dict[int, Peer], calling: list[CallsBack]
    ) -> None:
        super().__init__()
        self._functions = functions
        self._peers = peers
        self._calling = calling

    def new_id(self) -> int:
        """Return a number that no job of this process has had; from any thread."""
        return next(_job_ids)

    def add(self, job: Job) -> None:
        """Enter a job of which the scheduler is about to be told; from any thread."""
        if job.function is not None:
            self._functions.use(job.function)
        self[job.job_id] = job

    # ------------------------------------------------------------------ what is under way

    def of_worker(self, worker_id: int) -> list[Job]:
        """Return the jobs of the tasks that a worker has."""
        peer = self._peers.get(worker_id)
        if peer is None:
            return []
        numbers = {run[0] for sent in peer.sent.values() for run in sent.runs}
        # Looked up once each: another thread may take one out.
        return [job for job in map(self.get, numbers) if job is not None]

    def of_chunk(self, worker_id: int, message_id: int, chunk: int) -> tuple[Job, int] | None:
        """Return the job of a chunk and its index there; None if the message is over.

        Parameters
        ----------
        worker_id, message_id, chunk : int
            What the worker runs, by its journal; `chunk` is the place in the message.
        """
        peer = self._peers.get(worker_id)
        sent = None if peer is None else peer.sent.get(message_id)
        number, index = (None, 0) if sent is None else sent.locate(chunk)
        job = None if number is None else self.get(number)
        return None if job is None else (job, index)

    def depth_of(self, worker_id: int) -> int:
        """Return the depth of the deepest job of which a worker has tasks."""
        return max((job.depth for job in self.of_worker(worker_id)), default=0)

    # ------------------------------------------------------------------ ends

    def take_out(self, job_id: int) -> Job | None:
        """Take out a job that will not finish; None if another thread was quicker; any thread."""
        job = self.pop(job_id, None)
        if job is not None:
            job.source.stop()
            self._functions.forget(job.function)
        return job

    def finish(self, job_id: int) -> None:
        """End a job all of whose chunks have their outcomes."""
        job = self.pop(job_id, None)
        if job is None:
            return
        self._functions.forget(job.function)
        if job.sink.finish():
            self._calling.append(job.sink)

    def abort(self, job_id: int, error: BaseException) -> None:
        """End a job with an error; none of its chunks is sent any more."""
        job = self.pop(job_id, None)
        if job is None:
            return
        job.source.stop()
        if job.sink.abort(error):
            self._calling.append(job.sink)


_job_ids = count(1)
