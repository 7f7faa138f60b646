"""The pool that a task runs in, as that task uses it: an engine that sends requests to the parent.

It has as much of the interface of `pool._local._engine.LocalEngine` as faces need, so that the
methods of `Pool` work unchanged on top of it. `pool._local._relay` is the parent's side.
"""

from __future__ import annotations

import weakref
from _thread import RLock
from itertools import count
from types import SimpleNamespace

from pool._local._costs import NEAR
from pool._local._jobs import Function, OneCall
from pool._local._peers import decode
from pool._local._receiver import Receiver
from pool._local._waiting import Lead
from pool._transport._channel import Channel
from pool._transport._messages import (
    BLOCKED,
    CALL,
    CANCEL,
    CAUGHT,
    CHUNKS,
    CLIENT,
    OUTCOME,
    RANGE,
    SUBMIT,
    UNBLOCKED,
)
from pool._transport._sockets import socket_pair
from pool._workers._worker import Worker
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._local._jobs import Sink, Source
    from pool._local._lazy import Growing


class _Request:
    """A job that this task has submitted."""

    def __init__(
        self, source: Source, sink: Sink, label: Callable[[int, int], str], sent: int, caught: bool
    ) -> None:
        self.source = source
        self.sink = sink
        self.label = label
        #: Whether errors are wanted as values, also that an outcome cannot be unpickled here.
        self.caught = caught
        #: How many chunks the parent has been sent.
        self.sent = sent


class NestedDriver(Receiver):
    """Receive outcomes from the parent; it is what a `Lead` drives in a task."""

    def __init__(self) -> None:
        worker = Worker.current
        assert worker is not None
        ours, theirs = socket_pair()
        worker.channel.send((CLIENT,), fds=[theirs.fileno()])
        theirs.close()
        super().__init__(Channel(ours, linked=True))
        self.jobs: dict[int, _Request] = {}

    @property
    def unanswered(self) -> bool:
        """Whether any job has not finished."""
        return bool(self.jobs)

    def pump(self) -> None:
        """Do nothing: requests are sent when they are made."""

    def on_message(self, head: Any, blobs: list[Any]) -> None:
        """Take an outcome, or the end of a job."""
        request = self.jobs.get(head[1])
        if request is None:
            return  # cancelled
        if head[0] == OUTCOME:
            self._outcome(request, head[2], bool(head[3]), blobs)
        else:
            del self.jobs[head[1]]
            if request.sink.finish():
                self.calling.append(request.sink)

    def _outcome(self, request: _Request, index: int, failed: bool, blobs: list[Any]) -> None:
        try:
            value = decode(blobs)
        except BaseException as error:
            failed, value = True, error
        if index < 0:
            request.sink.abort(value)
        elif request.sink.deliver(index, [value], failed and not request.caught):
            self.calling.append(request.sink)


class NestedEngine:
    """Run jobs on the pool that this task runs in.

    Parameters
    ----------
    processes : int
        How many workers that pool has.
    """

    method = "nested"
    near = True
    #: Nothing is sent as the number of an inherited array: arrays on shared memory are copied.
    inherited = asks = 0

    def __init__(self, processes: int) -> None:
        #: Whether the parent has not hung up, as far as this task has noticed.
        self.usable = True
        self.driver = NestedDriver()
        self.lead = Lead(self.driver)
        self.lazies: weakref.WeakSet[Any] = weakref.WeakSet()
        unknown = SimpleNamespace(seconds=lambda key: None)
        self.scheduler: Any = SimpleNamespace(
            processes=processes,
            costs=unknown,
            distance=NEAR,
            workers={},
            queued=0,
            restarts=0,
            tasks_done=0,
            tasks_failed=0,
        )
        self._offering = RLock()
        self._ids = count(1)
        self._function_ids = count(1)

    def function(self, payload: Any) -> Function:
        """Wrap a pickled function; it is sent with each job."""
        blobs = payload.encoded.packet
        function_id = next(self._function_ids)
        return Function(function_id, blobs, payload.stateless, False, payload.captured)

    def submit(
        self,
        function: Function | None,
        mode: int,
        source: Source,
        sink: Sink,
        label: Callable[[int, int], str],
        timeout: float | None = None,
        retries: int = 0,
        awaited: bool = False,
    ) -> int:
        """Start a job and return its id; see `LocalEngine.submit`."""
        job_id = next(self._ids)
        blobs: list[Any] = []
        described = None
        if function is not None:
            blobs.extend(function.blobs)
            described = (function.stateless, len(function.blobs) - 1)
        chunks = _payloads(source, 0, source.chunks, blobs)
        caught = bool(mode & CAUGHT)
        self.driver.jobs[job_id] = _Request(source, sink, label, source.chunks, caught)
        try:
            self._send(
                (
                    SUBMIT, job_id, mode, source.chunksize, timeout, retries, str(label),
                    described, chunks, source.final,
                ),
                blobs,
            )  # fmt: skip
        except BaseException:
            del self.driver.jobs[job_id]  # nobody will answer
            raise
        if not awaited:
            self.attend()
        return job_id

    def _send(self, head: Any, blobs: Sequence[Any] = ()) -> None:
        """Send a request; if the connection is lost, the next call makes another one."""
        try:
            self.driver.channel.send(head, blobs)
        except ConnectionError:
            # The parent had no descriptor for its end, or for what came over it.
            self.usable = False
            raise

    def add_chunks(self, job_id: int, chunks: int, final: bool) -> None:
        """Hand more chunks of a lazily read job to the parent."""
        request = self.driver.jobs.get(job_id)
        if request is None:
            return
        blobs: list[Any] = []
        sent = request.sent
        request.sent += chunks
        described = _payloads(request.source, sent, sent + chunks, blobs)
        request.source.done(sent, sent + chunks)
        self._send((CHUNKS, job_id, described, final), blobs)

    def unfinished(self) -> list[tuple[Any, Any]]:
        """Return an identity and the sink of each job that is not over, callbacks included."""
        driver = self.driver
        found: list[tuple[Any, Any]] = [
            (job_id, request.sink) for job_id, request in driver.jobs.copy().items()
        ]
        return found + [(getattr(sink, "_job_id", id(sink)), sink) for sink in list(driver.calling)]

    def offer(self, feed: Growing, at_once: bool) -> None:
        """Hand an input's new chunks to the parent, always at once.

        Whether its workers have something to do is not known here.
        """
        # One thread at a time, as under a driver's lock: chunks must be sent in their order.
        with self._offering:
            added, final = feed.news()
            if added or final:
                self.add_chunks(feed.job_id, added, final)
        self.attend()

    def call_now(self, payload: Any, blobs: list[Any], label: Any) -> None:
        """Return None, so that the call is submitted: the workers are the parent's to lend."""

    def call_soon(self, payload: Any, label: Any, named: Any, args: Any, result: Any) -> None:
        """Submit one call; see `LocalEngine.call_soon`."""
        from pool._pickling import dumps_to_worker

        source = OneCall([dumps_to_worker((args, {})).data])
        result._job_id = self.submit(self.function(payload), CALL, source, result, label(named))

    def attend(self) -> None:
        """See to it that callbacks run although no thread waits."""
        self.lead.ensure_stand_in()

    glance = attend

    def wait(
        self, ready: Callable[[], bool], timeout: float | None = None, eager: bool = False
    ) -> bool:
        """Block until ``ready()``; meanwhile a substitute may run in place of this worker."""
        if ready():
            return True
        if Worker.current is not None:
            Worker.current.hand_back()
        # Interrupts are let through only where this thread sleeps: UNBLOCKED must always follow.
        shielded = shield.enter()
        try:
            self._send((BLOCKED,))
            try:
                return self.lead.wait(ready, timeout, eager)
            finally:
                self._send((UNBLOCKED,))
        finally:
            shield.leave(shielded)

    def catch_up(self) -> None:
        """Do nothing: requests are sent when they are made."""

    def cancel(self, job_id: int, error: BaseException, index: int | None = None) -> bool:
        """Cancel a job; return False if it had finished."""
        request = self.driver.jobs.pop(job_id, None)
        if request is None:
            return False
        request.source.stop()
        self._send((CANCEL, job_id))
        if request.sink.abort(error):
            request.sink.call_back()
        self.driver.wake()
        return True


def _payloads(source: Source, start: int, stop: int, blobs: list[Any]) -> list[int]:
    """Append the payloads of chunks start..stop to `blobs`; return how many buffers each has."""
    from pool._pickling import dumps_to_worker

    buffers = []
    for index in range(start, stop):
        before = len(blobs)
        layout, extra = source.encode(index, index + 1, blobs)
        if layout == RANGE:
            blobs.append(dumps_to_worker(list(range(*extra))).data)
        buffers.append(len(blobs) - before - 1)
    return buffers
