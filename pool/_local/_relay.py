"""Jobs submitted by tasks of the pool itself: the parent's side.

A task that got its own pool as an argument, or in an attribute of ``self``, may use it: the
job is one of this pool like any other, only deeper. While the task waits, a substitute worker
runs in its place, so any depth of nesting works with any number of workers. The task's side is
`pool._local._nested`.
"""

from __future__ import annotations

import select
from _socket import MSG_DONTWAIT
from itertools import count

from pool._local import _events as ev
from pool._local._jobs import Function, Job, Source, append_each
from pool._pickling import dumps_exception, dumps_to_worker
from pool._transport._messages import (
    BLOCKED,
    CANCEL,
    CHUNKS,
    FINISHED,
    NAME,
    NAMED,
    OUTCOME,
    SUBMIT,
    UNBLOCKED,
)
from pool._transport._outbox import Outbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._driver import Driver
    from pool._transport._channel import Channel


class Client:
    """The tasks of one worker as users of the pool. Everything here runs under the driver's lock.

    Parameters
    ----------
    driver : Driver
    worker_id : int
    channel : Channel
        The parent's end of a socket that the tasks of this worker use for that.
    """

    def __init__(self, driver: Driver, worker_id: int, channel: Channel) -> None:
        self._driver = driver
        self.worker_id = worker_id
        self.channel = channel
        #: By request_id, the task's number for a job: the job_id, and where its chunks come from.
        self._jobs: dict[int, int] = {}
        self._sources: dict[int, Relayed] = {}
        self._outbox = Outbox(channel, self._wait_for_room, _refused)

    def on_ready(self) -> None:
        """Read requests, and send what the socket had no room for."""
        self._outbox.flush()
        while True:
            try:
                head, blobs = self.channel.receive(MSG_DONTWAIT)
            except BlockingIOError:
                return
            except (EOFError, OSError):
                self._gone()
                return
            self._on_request(head, blobs)

    def _gone(self) -> None:
        self._driver.arrivals.drop_client(self)
        for job_id in self._jobs.values():
            self._driver.cancel(job_id)

    def _on_request(self, head: Any, blobs: list[Any]) -> None:
        kind = head[0]
        driver = self._driver
        if kind == SUBMIT:
            self._submit(head, blobs)
        elif kind == CHUNKS:
            _, request_id, chunks, final = head
            source = self._sources.get(request_id)
            if source is not None:
                source.add(chunks, blobs, 0)
                driver.inbox.append(ev.ChunksAdded(self._jobs[request_id], len(chunks), final))
        elif kind == CANCEL:
            job_id = self._jobs.pop(head[1], None)
            self._sources.pop(head[1], None)
            if job_id is not None:
                driver.cancel(job_id)
        elif kind == NAME:
            self._answer(head[1], head[2])
        elif kind == BLOCKED:
            driver.inbox.append(ev.WorkerBlocked(self.worker_id))
        elif kind == UNBLOCKED:
            driver.inbox.append(ev.WorkerUnblocked(self.worker_id))

    def _answer(self, number: int, name: str) -> None:
        """Send the value of a global of the main module that a task has looked up."""
        from pool._pickling._lookups import dumps_name

        answer, encoded = dumps_name(name)
        blobs = [] if encoded is None else encoded.packet
        self.send((NAMED, number, answer), blobs)

    def _submit(self, head: Any, blobs: list[Any]) -> None:
        _, request_id, mode, chunksize, timeout, retries, label, function, chunks, final = head
        driver = self._driver
        used = 0
        known = None
        if function is not None:
            stateless, buffers = function
            used = 1 + buffers
            known = Function(next(_function_ids), blobs[:used], stateless, False)
        source = Relayed(chunksize, final)
        source.add(chunks, blobs, used)
        job_id = driver.jobs.new_id()
        sink = _Relay(self, request_id)
        job = Job(job_id, known, mode, source, sink, lambda first, last: f"{label}, nested")
        job.timeout = timeout
        job.retries = retries
        job.depth = 1 + driver.jobs.depth_of(self.worker_id)
        self._jobs[request_id] = job_id
        self._sources[request_id] = source
        driver.jobs.add(job)
        key = (label, chunksize)
        driver.inbox.append(
            ev.JobSubmitted(job_id, source.chunks, final, key, job.depth, timeout, retries)
        )

    # ------------------------------------------------------------------ outcomes

    def send(self, head: Any, blobs: Any = ()) -> None:
        """Send a message, now or when the socket has room; never waits."""
        self._outbox.send(head, blobs)

    def _wait_for_room(self, wanted: bool) -> None:
        fd = self.channel.fileno()
        if fd >= 0:
            events = select.EPOLLIN | select.EPOLLOUT if wanted else select.EPOLLIN
            self._driver.epoll.modify(fd, events)

    def finished(self, request_id: int) -> None:
        """Forget the job of a request that is over."""
        self._jobs.pop(request_id, None)
        self._sources.pop(request_id, None)


class Relayed(Source):
    """Chunks that a task has pickled already."""

    __slots__ = ("_payloads",)

    def __init__(self, chunksize: int, final: bool) -> None:
        super().__init__(0, final, chunksize)
        self._payloads: dict[int, list[Any]] = {}

    def add(self, chunks: Any, blobs: list[Any], position: int) -> None:
        """Take the payloads of more chunks.

        Parameters
        ----------
        chunks : sequence of int
            How many buffers the payload of each chunk has.
        blobs : list
            Holds the payloads, from `position` on.
        position : int
        """
        for buffers in chunks:
            end = position + 1 + buffers
            self._payloads[self.chunks] = blobs[position:end]
            self.chunks += 1
            position = end

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        return append_each(map(self._payloads.__getitem__, range(start, stop)), blobs)

    def done(self, start: int, stop: int) -> None:
        for index in range(start, stop):
            self._payloads.pop(index, None)


class _Relay:
    """A sink that passes outcomes on to the task that asked for them."""

    def __init__(self, client: Client, request_id: int) -> None:
        self._client = client
        self._request_id = request_id

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        for index, value in enumerate(values, start):
            this_failed = int(failed)
            try:
                encoded = dumps_exception(value) if failed else dumps_to_worker(value)
            except BaseException as error:
                # Only this value failed: those that came with it are sent as they are.
                encoded, this_failed = dumps_exception(error), 1
            self._client.send(
                (OUTCOME, self._request_id, index, this_failed),
                encoded.packet,
            )
        return False

    def finish(self) -> bool:
        self._client.finished(self._request_id)
        self._client.send((FINISHED, self._request_id))
        return False

    def abort(self, error: BaseException) -> bool:
        encoded = dumps_exception(error)
        self._client.send((OUTCOME, self._request_id, -1, 1), encoded.packet)
        return self.finish()

    def call_back(self) -> None:
        """Do nothing: the callbacks are in the task's process."""


def _refused(head: Any, error: BaseException) -> Any:
    """Return what a task gets in place of an outcome that cannot be sent to it."""
    if head[0] == NAMED:
        from pool._pickling._lookups import REFUSED

        encoded = dumps_exception(error)
        return (NAMED, head[1], REFUSED), encoded.packet
    if head[0] != OUTCOME:
        return None  # the message is small, so the failure is that its receiver is gone
    _, request_id, index, _ = head
    error.add_note("raised while sending the result to the task that waits for it")
    encoded = dumps_exception(error)
    return (OUTCOME, request_id, index, 1), encoded.packet


# Numbers that those of the program's own functions, which count from 1, will not reach.
_function_ids = count(1 << 40)
