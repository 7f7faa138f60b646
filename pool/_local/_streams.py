"""Calls submitted one at a time, handled many at a time.

A loop over ``apply_async`` makes one job of one chunk per call; to decide on, send and
answer each of them alone would cost several times what the call itself does. Calls of one
function whose arguments are plain immutable values flow into a *stream* instead: the
calls that have gathered are one job, whose chunks are the calls. Each call still has its
own result handle, fails alone, and is a task of its own.

Calls of a pool begin in the order in which a thread submits them, whatever they are. So a stream is
*sealed* when something else is submitted: later calls of that function are a stream of their own.

A call is appended without a lock, and moved into the job under the driver's lock. So calls
can be submitted from any thread, from a signal handler, and while another thread drives.
"""

from __future__ import annotations

import _pickle
from _weakref import ref
from collections import deque

from pool._local import _events as ev
from pool._local._jobs import Job, Source
from pool._transport._messages import PACKED, STAR
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pool._local._driver import Driver
    from pool._local._jobs import Function
    from pool._local._protocols import CallHandle

#: Calls in one job, at most: the records of its calls are freed only with the job.
BATCH_MAX = 100_000

#: Streams that are remembered, at most, where calls need not begin in order.
STREAMS_KEPT = 256


class Streams:
    """The streams of an engine.

    Parameters
    ----------
    driver : Driver

    Attributes
    ----------
    in_order : bool
        Whether calls begin in the order of their submission, as those of a pool do: a pool of one
        worker is a queue, and tasks may wait for what earlier ones do. Then a stream takes calls
        only until something else is submitted.
    """

    __slots__ = ("_driver", "_open", "in_order")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.in_order = True
        #: By the ``id`` of their function's payload, with a weak reference to the payload.
        self._open: dict[int, tuple[CallStream, Any]] = {}

    def get(self, payload: Any) -> CallStream | None:
        """Return the stream that takes calls of a function."""
        known = self._open.get(id(payload))
        return None if known is None else known[0]

    def add(self, payload: Any, function: Function, label: Callable[[int, int], str]) -> CallStream:
        """Return a new stream."""
        if self.in_order:
            self.seal()
        elif len(self._open) > STREAMS_KEPT:
            self._open.clear()
        stream = CallStream(self._driver, function, label)
        key, streams = id(payload), self._open

        def drop(_: object) -> None:
            known = streams.pop(key, None)
            if known is not None:
                known[0].seal()

        # The stream is dropped with the payload, which is dropped with the user's function: a
        # function may hold large data.
        streams[key] = stream, ref(payload, drop)
        return stream

    def seal(self) -> None:
        """Let calls that are submitted from now on begin after what is submitted now."""
        while self.in_order and self._open:
            try:
                _, (stream, _) = self._open.popitem()
            except KeyError:
                return  # another thread took the last one
            stream.seal()


class CallStream:
    """The calls of one function.

    Parameters
    ----------
    driver : Driver
    function : Function
        Stateless: no call can tell that another one was in the same message.
    label : callable
        ``label(first call, last call)`` names these calls for error messages.
    """

    __slots__ = ("_batch", "_driver", "_function", "_label", "dirty", "pending", "sealed")

    def __init__(
        self, driver: Driver, function: Function, label: Callable[[int, int], str]
    ) -> None:
        self._driver = driver
        self._function = function
        self._label = label
        self._batch: Batch | None = None
        #: Calls, as (arguments, result), that the scheduler does not know of.
        self.pending: deque[tuple[tuple[Any, ...], CallHandle]] = deque()
        #: Whether this is in `Driver.dirty`: the driver will flush it.
        self.dirty = False
        #: Whether something else was submitted after these calls.
        self.sealed = False

    def add(self, args: tuple[Any, ...], result: CallHandle) -> None:
        """Append a call; from any thread."""
        self.pending.append((args, result))
        # The driver clears the flag before it empties the deque: seen set here, the
        # call just appended will be found.
        if not self.dirty:
            self.dirty = True
            self._driver.dirty.append(self)

    def seal(self) -> None:
        """Let what comes after other submissions begin after them: it is to be another job."""
        self.sealed = True  # first: the driver may flush this now, as in `add`
        if self._batch is not None and not self.dirty:
            self.dirty = True
            self._driver.dirty.append(self)

    def flush(self) -> None:
        """Tell the scheduler of the calls that were added; under the driver's lock."""
        self.dirty = False  # first, see `add`
        sealed = self.sealed
        if self.pending:
            self._take()
        if sealed and self._batch is not None:
            self._end(self._batch)

    def _take(self) -> None:
        batch = self._batch
        driver = self._driver
        pending = self.pending
        if batch is not None and len(batch.calls) < BATCH_MAX:
            before = batch.chunks
            batch.take(pending)
            driver.inbox.append(ev.ChunksAdded(batch.job_id, batch.chunks - before, False))
            return
        if batch is not None:
            self._end(batch)
        job_id = driver.jobs.new_id()
        batch = self._batch = Batch(self, job_id)
        batch.take(pending)
        driver.jobs.add(Job(job_id, self._function, STAR, batch, batch, self._label))
        key = (self._function.function_id, 1)
        driver.inbox.append(ev.JobSubmitted(job_id, batch.chunks, False, key))

    def _end(self, batch: Batch) -> None:
        """Let a job have no more calls than it has."""
        self._batch = batch.stream = None
        batch.final = True
        self._driver.inbox.append(ev.ChunksAdded(batch.job_id, 0, True))

    def complete(self, batch: Batch) -> None:
        """Let a job end all of whose calls have their outcomes; under the driver's lock."""
        if not self.pending and self._batch is batch:
            self._end(batch)

    def abort(self, error: BaseException) -> list[CallHandle]:
        """Fail the calls that the scheduler never knew; return those with callbacks."""
        self.dirty = False  # first, as in `flush`
        due = []
        while self.pending:
            try:
                _, result = self.pending.popleft()
            except IndexError:
                break  # another thread took the last one
            if result.abort(error):
                due.append(result)
        return due


class Batch(Source):
    """One job of a stream: its source and its sink.

    Parameters
    ----------
    stream : CallStream
    job_id : int

    Attributes
    ----------
    calls : list
        By index, the arguments of each call; None once it has its outcome.
    results : list of CallHandle or None
        By index, the handle of each call; None once it has its outcome or was cancelled.
    waiting : int
        How many calls have no outcome.
    """

    __slots__ = (
        "_due", "_driver", "_under_way", "calls", "job_id", "results", "stream", "waiting",
    )  # fmt: skip

    def __init__(self, stream: CallStream, job_id: int) -> None:
        super().__init__(0, False, 1)
        self.stream: CallStream | None = stream
        self._driver = stream._driver
        self.job_id = job_id
        self.calls: list[Any] = []
        self.results: list[CallHandle | None] = []
        self.waiting = 0
        #: Results whose callbacks are due, and those whose callbacks are running.
        self._due: deque[CallHandle] = deque()
        self._under_way: list[CallHandle] = []

    def take(self, pending: deque[tuple[tuple[Any, ...], CallHandle]]) -> None:
        """Move everything that is pending into this job."""
        first = len(self.calls)
        popleft = pending.popleft
        # As many as there are now: another thread may go on appending.
        for _ in range(len(pending)):
            args, result = popleft()
            result._job_id = self.job_id
            result._index = len(self.calls)
            self.calls.append(args)
            self.results.append(result)
        self.chunks = len(self.calls)
        self.waiting += self.chunks - first

    # ------------------------------------------------------------------ as a source

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        # The arguments are immutable, so one pickle of many cannot make calls share
        # anything, and pickling them now is the same as when they were submitted.
        blobs.append(_pickle.dumps(self.calls[start:stop], 5))
        return PACKED, None

    def done(self, start: int, stop: int) -> None:
        self.calls[start:stop] = [None] * (stop - start)

    # ------------------------------------------------------------------ as a sink

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        stop = start + len(values)
        results = self.results[start:stop]
        self.results[start:stop] = [None] * len(values)
        due = False
        for result, value in zip(results, values, strict=True):
            if result is None:
                continue  # cancelled
            self.waiting -= 1
            if failed:
                result._success = False
            result._value = value
            if result.finish():
                self._due.append(result)
                due = True
        self._complete()
        return due

    def _complete(self) -> None:
        if self.waiting:
            return
        if self.stream is not None:
            self.stream.complete(self)
        elif not self.final:
            self.final = True
            self._driver.inbox.append(ev.ChunksAdded(self.job_id, 0, True))

    def unfinished(self) -> list[tuple[int, CallHandle]]:
        """Return index and result of each call that has no outcome."""
        results = list(self.results)
        return [(index, result) for index, result in enumerate(results) if result is not None]

    def part(self, index: int) -> CallHandle | None:
        """Return the result of one call; None if it has its outcome."""
        # The list is empty when the job was given up.
        return self.results[index] if index < len(self.results) else None

    def drop(self, index: int) -> CallHandle | None:
        """Take a cancelled call out, under the driver's lock; return its result.

        None if the call has its outcome.
        """
        result = self.part(index)
        if result is not None:
            self.results[index] = None
            self.waiting -= 1
            self._driver.inbox.append(ev.CancelRequested(self.job_id, index))
            self._complete()
        return result

    def drop_later(self, index: int, error: BaseException) -> bool:
        """Have a call cancelled by the thread that has the lock; False if it has its outcome."""
        if self.part(index) is None:
            return False
        self._driver.dirty.append(_Dropped(self, index, error))
        self._driver.pump()
        return True

    def finish(self) -> bool:
        return bool(self._due)

    def abort(self, error: BaseException) -> bool:
        if self.stream is not None:
            self.stream._batch = None
        for result in self.results:
            if result is not None and result.abort(error):
                self._due.append(result)
        self.results.clear()
        return bool(self._due)

    def call_back(self) -> None:
        shield.closed(self._call_back)

    def _call_back(self) -> None:
        due = self._due
        while due:
            try:
                result = due.popleft()
            except IndexError:
                return  # another thread took the last one
            self._under_way.append(result)
            try:
                shield.opened(result.call_back)
            except BaseException:
                due.appendleft(result)  # as in `Driver.call_back`
                raise
            finally:
                self._under_way.remove(result)

    def called(self) -> list[CallHandle]:
        """Return the results whose callbacks are due, or under way."""
        return [*list(self._due), *self._under_way]


def single_calls(sinks: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return an identity and the result of each call, of sinks with callbacks due or under way.

    See `LocalEngine.unfinished`.
    """
    found: list[tuple[Any, Any]] = []
    for sink in sinks:
        results = sink.called() if isinstance(sink, Batch) else ()
        found += [((result._job_id, result._index), result) for result in results]
        if not results:  # no batch; or a batch that is between two of its callbacks
            found.append((getattr(sink, "_job_id", id(sink)), sink))
    return found


class _Dropped:
    """A call cancelled by a thread that was inside the driver, and so could not take its lock."""

    def __init__(self, batch: Batch, index: int, error: BaseException) -> None:
        self._batch = batch
        self._index = index
        self._error = error

    def flush(self) -> None:
        """Cancel the call; under the driver's lock."""
        result = self._batch.drop(self._index)
        if result is not None and result.abort(self._error):
            self._batch._driver.calling.append(result)

    def abort(self, error: BaseException) -> tuple[()]:
        """Do nothing: the call is given up with its job."""
        return ()
