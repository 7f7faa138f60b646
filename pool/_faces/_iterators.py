"""The iterators of ``imap`` and ``imap_unordered``: lazy at both ends.

Input is read ahead by a bounded window only, and the window moves as results are taken.
So an endless input works, and memory stays flat. In `multiprocessing` all tasks run even if no
result is ever taken. So the rest of the input is read when the iterator is dropped, when the pool
is joined, and, where the input is in memory anyway, when no result is taken for a while. A pool to
which nothing else refers is kept for that if it was closed, or if the input is certain to have an
end.
"""

from __future__ import annotations

import _thread
import sys
import weakref
from collections import deque

from pool._faces._results import cancellation, failures
from pool._faces._standard import StandardIterator
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from pool._faces._progress import Progress
    from pool._local._engine import LocalEngine
    from pool._local._jobs import Source

#: Items that may be running or waiting to be taken, at most.
WINDOW_ITEMS = 4096

#: Whether one thread runs at a time.
_HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()  # of 3.13

#: Seconds without a result being taken, after which an input that is in memory is read to its end.
UNWATCHED = 0.25


class _Raised:
    """An outcome that is raised; a class of its own, since a value may be an exception too."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        if isinstance(error, StopIteration):
            # `next` raising it would look like the end, and the other results be lost (PEP 479).
            self.error: BaseException = RuntimeError("a task raised StopIteration")
            self.error.__cause__ = error
        else:
            self.error = error


class Window:
    """The number of chunks that may be ahead of the consumer.

    Parameters
    ----------
    processes, chunksize : int
    """

    __slots__ = ("_largest", "_smallest", "size")

    def __init__(self, processes: int, chunksize: int) -> None:
        self._smallest = 4 * processes
        self._largest = max(self._smallest, WINDOW_ITEMS // chunksize)
        self.size = self._smallest

    def adapt(self, seconds_per_chunk: float | None, work: float) -> None:
        """Set the size by the measured run time of one chunk.

        Parameters
        ----------
        seconds_per_chunk : float, optional
            None if not measured yet.
        work : float
            Seconds of work that the window should hold.
        """
        if seconds_per_chunk:
            wanted = int(work / seconds_per_chunk)
            self.size = max(self._smallest, min(wanted, self._largest))


class Flow:
    """The sink of a lazy job: orders outcomes, and lets the input be read as they are taken.

    Parameters
    ----------
    engine : LocalEngine
    ordered : bool
        Whether outcomes are handed out in the order of the input.
    window : Window
    chunksize : int
        If it is 1, the outcome of a chunk is the value itself, else a list of values.

    Attributes
    ----------
    ready : deque
        Outcomes of chunks that the consumer may take.
    finished : bool
        Whether all outcomes are in `ready` or were taken.
    job_id : int
    cost_key : tuple
        Under which the scheduler keeps the measured run time of a chunk.
    """

    def __init__(self, engine: LocalEngine, ordered: bool, window: Window, chunksize: int) -> None:
        self._single = chunksize == 1
        self._chunksize = chunksize
        self.engine = engine
        self.window = window
        self.ready: deque[Any] = deque()
        self.finished = False
        self.job_id = 0
        self.cost_key: Any = None
        self.progress: Progress | None = None
        #: Whether exceptions are wanted as values.
        self.caught = False
        #: Called with the number of chunks that may be read in all; None: without limit.
        self.open: Callable[[int | None], None] | None = None
        #: Where the chunks come from.
        self.source: Source | None = None
        #: Whether its input has an end for certain.
        self.bounded = False
        #: The pool, which is to be there until all has run.
        self._kept: object = None
        self._ordered = ordered
        #: Outcomes that came before their turn, by the number of their first chunk.
        self._parts: dict[int, tuple[list[Any], bool]] = {}
        #: The chunk whose outcome goes to `ready` next, if ordered.
        self._next = 0
        #: Chunks that have arrived, and those of them that the consumer has taken.
        self._delivered = 0
        self._taken = 0
        #: Chunks that `open` has allowed to be read.
        self._opened = window.size
        #: Whether the iterator has gone, so that outcomes are dropped.
        self._abandoned = False
        #: Whether `open` has allowed to read to the end.
        self._unlimited = False
        #: What `_taken` was at the last look, see `watch`.
        self._seen = 0
        #: Items, and failures among them, that the progress has not been told of.
        self._unreported = 0
        self._errors = 0
        #: The error of the input, which comes after all outcomes.
        self._tail: list[Any] = []

    # ------------------------------------------------------------------ from the driver

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        if self.progress is not None:
            self._count(values, failed)
        self._delivered += len(values)
        if self._abandoned:
            pass  # nobody will look at it
        elif not self._ordered:
            self._put(values, failed)
        elif start == self._next:
            self._next += len(values)
            self._put(values, failed)
            while self._parts and (part := self._parts.pop(self._next, None)) is not None:
                self._next += len(part[0])
                self._put(*part)
        else:
            self._parts[start] = (values, failed)
        return self._abandoned or self.progress is not None

    def _count(self, values: list[Any], failed: bool) -> None:
        """Count items for the progress; a chunk that failed counts as a full one."""
        self._errors += failures(values, failed, self.caught)
        if failed:
            self._unreported += self._chunksize
        else:
            self._unreported += len(values) if self._single else sum(map(len, values))

    def _put(self, values: list[Any], failed: bool) -> None:
        if failed:
            self.ready.append(self._mark(values[0]))
        else:
            self.ready.extend(values)

    def _mark(self, error: BaseException) -> Any:
        """Return `error` as the outcome of a chunk."""
        return _Raised(error) if self._single else (_Raised(error),)

    def end_with(self, error: BaseException) -> None:
        """Raise `error`, which the input raised, after the results of the items read before."""
        self._tail.append(self._mark(error))

    def finish(self) -> bool:
        self.ready.extend(self._tail)
        self._tail = [None] * len(self._tail)  # `length` counts them; they are the consumer's now
        return self._end()

    def abort(self, error: BaseException) -> bool:
        self.ready.append(self._mark(error))
        return self._end()

    def _end(self) -> bool:
        self.finished = True
        self._kept = None
        return self.progress is not None

    def call_back(self) -> None:
        if self._abandoned:
            self._discard()
            self.widen()
        if self.progress is not None:
            done, self._unreported = self._unreported, 0
            errors, self._errors = self._errors, 0
            if done or errors:
                self.progress.update(done, errors)
            if self.finished:
                self.progress.close()

    # ------------------------------------------------------------------ from the consumer

    def taken(self, chunks: int) -> None:
        """Note that the consumer took chunks; read on when a quarter of the window is free."""
        self._taken += chunks
        if self._opened - self._taken <= self.window.size * 3 // 4:
            self.widen()

    def widen(self) -> None:
        """Let the input be read as far as the window reaches."""
        if self._unlimited or self.open is None:
            return
        scheduler = self.engine.scheduler
        self.window.adapt(
            scheduler.costs.seconds(self.cost_key),
            scheduler.distance.window_work * scheduler.processes,
        )
        limit = self._passed + self.window.size
        if limit > self._opened:
            self._opened = limit
            self.open(limit)

    def lift(self) -> None:
        """Let the rest of the input be read without waiting for a consumer."""
        if not self._unlimited and self.open is not None:
            self._unlimited = True
            self.open(None)

    def watch(self) -> None:
        """Have all tasks run even if no results are taken, or a slow one holds up the others.

        For input that is in memory already. As in `multiprocessing`, a program may want what the
        tasks do and not what they return: it calls `imap` and goes on with something else.
        """
        if self.engine.method != "nested":
            driver = self.engine.driver
            if driver.held_here:
                # This thread drives: the pickling of a task, or a finalizer, has called `imap`.
                self._look_later()
            else:
                driver.locked(self._look_later)
        elif self.open is not None:
            # A task's engine has no timers, and sends all chunks that are open to its parent: so
            # many chunks are opened at once, and no more.
            self._opened = WINDOW_ITEMS
            self.open(WINDOW_ITEMS)

    def _look_later(self) -> None:
        this = weakref.ref(self)  # the timer must not keep the flow alive

        def look() -> None:
            flow = this()
            if flow is not None:
                flow._look()

        self.engine.driver.after(UNWATCHED, look)

    def _look(self) -> None:
        """Read on without limit if no result was taken since the last look; under the lock."""
        if self.finished or self._unlimited or self.length is not None:
            return
        if self._taken == self._seen and (self.ready or self._parts):
            self.lift()
        else:
            self._seen = self._taken
            self._look_later()

    def work_off(self) -> None:
        """Do as `lift` and drive the engine, for a program that polls for progress."""
        if not self.finished:
            self.lift()
            self.engine.attend()

    @property
    def arrived(self) -> int:
        """The number of outcomes that were taken or can be taken."""
        return self._passed + len(self.ready)

    @property
    def _passed(self) -> int:
        """The number of outcomes that were taken, or dropped since nobody will take them."""
        return self._delivered if self._abandoned else self._taken

    @property
    def length(self) -> int | None:
        """The number of outcomes that there will be; None while it is not known."""
        source = self.source
        return source.chunks + len(self._tail) if source is not None and source.final else None

    def keep(self, pool: object) -> None:
        """Keep the pool until all tasks have run, whether or not anything else refers to it."""
        self._kept = pool
        if self.finished:  # perhaps since this was called
            self._kept = None

    def abandon(self, pool: object) -> None:
        """Drop the results, since the iterator is gone, but run all tasks nevertheless."""
        if self.bounded:
            self.keep(pool)
        self._abandoned = True
        self._discard()
        if not self.finished:
            self.widen()
            self.engine.attend()

    def _discard(self) -> None:
        """Drop what came before anybody could know that nobody will look at it."""
        self.ready.clear()
        self._parts.clear()

    def is_ready(self) -> bool:
        """Return whether `next` would not have to wait."""
        return bool(self.ready) or self.finished


class _Ended(Flow):
    """Replaces the flow of an iterator that an error has ended: nothing more comes."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow.engine, True, flow.window, 1)
        self.job_id = flow.job_id
        self.finished = True
        self._outcomes = flow.arrived

    @property
    def arrived(self) -> int:
        return self._outcomes

    @property
    def length(self) -> int | None:
        return self._outcomes


class IMapIterator(StandardIterator):
    """Iterate over the results of ``imap``.

    Returned by `Pool.imap` and `Pool.istarmap`. Any number of threads may take from it.
    All items are worked on even if nobody takes the results, unless it is cancelled.
    """

    _as_standard = "IMapIterator"

    def __init__(self, pool: Any, flow: Flow | None = None, chunksize: int = 1) -> None:
        if flow is None:  # a program makes it, and gives it tasks by `_taskqueue.put`
            flow = Flow(pool._engine, True, Window(pool._processes, 1), 1)
            flow.finished = True
        # Kept until the end: a pool that only this iterator refers to must not be collected.
        self._pool: object = pool
        self._flow = flow
        self._chunk: Any = iter(())
        self._single = chunksize == 1
        self._lock = _thread.allocate_lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self, timeout: float | None = None) -> Any:
        if not self._single or not _HAS_GIL:
            return self.next(timeout)
        flow = self._flow
        try:
            value = flow.ready.popleft()
        except IndexError:
            pass  # none is ready; what `next` raises below has nothing to do with that
        except KeyboardInterrupt:
            self._interrupted()
            raise
        else:
            # As `Flow.taken`, without the call, and without the lock: the GIL suffices.
            flow._taken += 1
            if flow._opened - flow._taken <= flow.window.size * 3 // 4:
                flow.widen()
            if value.__class__ is _Raised:
                try:
                    raise value.error
                finally:
                    del value  # as in `AsyncResult.get`
            return value
        return self.next(timeout)

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Raises
        ------
        StopIteration
            After the last one.
        multiprocessing.TimeoutError
            If it has not arrived in time.
        """
        try:
            return self._next(timeout)
        except KeyboardInterrupt:
            self._interrupted()
            raise

    def _next(self, timeout: float | None) -> Any:
        flow = self._flow
        while True:
            with self._lock:
                for value in self._chunk:
                    if value.__class__ is _Raised:
                        try:
                            raise self._error_of(value)
                        finally:
                            del value  # as in `AsyncResult.get`
                    return value
                finished = flow.finished  # before `ready`: the last outcome may come just now
                if self._take_chunk(flow):
                    continue
                if finished:
                    self._pool = None
                    raise StopIteration
            if not flow.engine.wait(flow.is_ready, timeout):
                from multiprocessing import TimeoutError

                raise TimeoutError(
                    f"{self!r} has no result after {timeout} s; it goes on: wait again, or "
                    "cancel() it"
                )

    def _take_chunk(self, flow: Flow) -> bool:
        """Go on with the outcome of the next chunk; return False if none is ready."""
        try:
            outcome = flow.ready.popleft()
        except IndexError:
            return False  # perhaps `__next__` of another thread, which takes no lock, was quicker
        self._chunk = iter((outcome,) if self._single else outcome)
        flow.taken(1)
        return True

    def _error_of(self, outcome: _Raised) -> BaseException:
        """Return the error of an outcome, which ends the iterator if a chunk has several items."""
        if self._single:
            self._chunk = iter(())  # the other one would hold the error
        else:
            self._exhaust()
        return outcome.error

    def _interrupted(self) -> None:
        """Cancel the rest: Ctrl-C came while the consumer waited."""
        self.cancel()

    def _exhaust(self) -> None:
        """End after an error, as the standard's generator over chunks does."""
        self._chunk = iter(())
        self._flow.abandon(self._pool)
        self._flow = _Ended(self._flow)

    def cancel(self) -> bool:
        """Cancel the items that have not been computed.

        Returns
        -------
        bool
            False if all had been.
        """
        flow = self._flow
        return flow.engine.cancel(flow.job_id, cancellation(flow.engine, flow.job_id))

    def __del__(self) -> None:
        try:
            shield.finalize(lambda: self._flow.abandon(self._pool))
        except Exception:
            return  # the interpreter is going down

    def __repr__(self) -> str:
        flow = self._flow
        state = "finished" if flow.finished else "running"
        return f"<{type(self).__name__} {flow.job_id}: {state}, {len(flow.ready)} ready>"


class IMapUnorderedIterator(IMapIterator):
    """Iterate over the results of ``imap_unordered``, as they come."""

    _as_standard = "IMapUnorderedIterator"
