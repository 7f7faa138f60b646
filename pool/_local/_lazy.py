"""Sources of chunks that are not read before they are needed.

`Windowed` opens a sequence step by step. `Fed` reads an iterator in a thread of its own,
as `multiprocessing` does: the iterator may block, or depend on results that the consumer
has not taken yet, so it must not be read by the thread that drives the pool.

The reading thread *offers* each chunk (`LocalEngine.offer`) before it asks the iterator for more,
since that may block for any time: even until the chunk just read has its result.
"""

from __future__ import annotations

import _thread
import sys
from collections import deque
from itertools import islice

from pool._local import _events as ev
from pool._local._jobs import Items, Source, append_each, detached, encode_chunk
from pool._local._waiting import raise_unless_exiting, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from pool._local._engine import LocalEngine

#: Bytes of pickled input that may wait; `least` chunks of a `Fed` may wait however large they are.
FED_NBYTES = 32 << 20

#: Chunks of which the scheduler is told together, at most, while all workers have something to do:
#: telling it takes 5 us.
BURST = 256

#: A name, since from a literal ``()`` a type checker would conclude that there are no slots at all.
_NO_SLOTS: tuple[str, ...] = ()


class Growing:
    """What sources have in common that get more chunks while their jobs are under way.

    Attributes
    ----------
    engine : LocalEngine or None
        The engine that runs the job; set, like `job_id`, before there are any new chunks.
    job_id : int
    offered : bool
        Whether this is in `Driver.dirty`: the driver will ask for news.
    """

    # Subclasses declare the slots: a class cannot have two bases with slots of their own.
    __slots__ = _NO_SLOTS

    chunks: int
    final: bool
    engine: LocalEngine | None
    job_id: int
    offered: bool

    def news(self) -> tuple[int, bool]:
        """Return how many chunks came since the last call, and whether the end has come.

        Called by one thread at a time. The end is news once; after it there is no more news.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Tell the scheduler of new chunks; under the driver's lock."""
        # Cleared before the chunks are counted: a thread that finds it set knows that the chunk
        # which it has just added will be counted.
        self.offered = False
        added, final = self.news()
        if added or final:
            assert self.engine is not None
            self.engine.driver.inbox.append(ev.ChunksAdded(self.job_id, added, final))

    def abort(self, error: BaseException) -> tuple[()]:
        """Do nothing: the job is given up as a whole."""
        return ()


class Windowed(Growing, Items):
    """Chunks of a sequence, made available step by step.

    Parameters
    ----------
    items, chunksize, describe
        As for `Items`.
    window : int
        Chunks that are available before `open` is called.
    """

    __slots__ = ("_total", "_wanted", "engine", "job_id", "offered")

    def __init__(
        self,
        items: Sequence[Any],
        chunksize: int,
        describe: Callable[[int], str],
        window: int,
    ) -> None:
        super().__init__(items, chunksize, describe)
        self._total = self.chunks
        self.chunks = min(window, self._total)
        self.final = self.chunks == self._total
        #: Limits that `open` was given since `news` was last asked.
        self._wanted: deque[int] = deque()
        self.offered = False
        self.engine = None
        self.job_id = 0

    def open(self, limit: int | None) -> None:
        """Make the first `limit` chunks available (all if None); from any thread."""
        if self.final or self.engine is None:
            return
        self._wanted.append(self._total if limit is None else min(limit, self._total))
        # The chunks are counted under the lock: of two threads that counted here, the one with the
        # lower limit might be the last to tell the scheduler.
        self.engine.offer(self, True)

    def news(self) -> tuple[int, bool]:
        """Make the chunks available that `open` was asked for; see `Growing.news`."""
        before, told = self.chunks, self.final
        while self._wanted:
            self.chunks = max(self.chunks, self._wanted.popleft())
        self.final = self.chunks == self._total
        return self.chunks - before, self.final and not told


class Fed(Growing, Source):
    """Chunks of an iterator, read and pickled by a thread.

    An item is pickled before the next one is asked for, so an iterator may yield the same
    buffer again and again with new contents.

    Parameters
    ----------
    iterator : iterator
    chunksize : int
    describe : callable
        ``describe(index)`` names an item for error messages.
    window : int
        Chunks that may be read before `open` is called.
    least : int
        Chunks that may wait however large they are.
    on_error : callable
        Called, in the reading thread, with the exception that the iterator raised.
    """

    __slots__ = (
        "_blobs",
        "_bell",
        "_describe",
        "_ended",
        "_iterator",
        "_least",
        "_limit",
        "_nbytes_done",
        "_nbytes_read",
        "_on_error",
        "_read",
        "_sleeps",
        "engine",
        "job_id",
        "offered",
    )

    def __init__(
        self,
        iterator: Iterator[Any],
        chunksize: int,
        describe: Callable[[int], str],
        window: int,
        least: int,
        on_error: Callable[[BaseException], None],
    ) -> None:
        super().__init__(0, False, chunksize)
        self._iterator = iterator
        self._describe = describe
        self._limit: int | None = window
        self._least = least
        self._on_error = on_error
        #: By index, the payloads of chunks that have been read and have no outcome.
        self._blobs: dict[int, list[Any]] = {}
        # Bytes of all chunks read, written by the reading thread only; and of those with outcomes,
        # written only under the driver's lock.
        self._nbytes_read = self._nbytes_done = 0
        #: Whether the reading thread sleeps until there is room, or is about to.
        self._sleeps = False
        #: Chunks read so far, and whether there will be no more; `chunks` and `final` are those
        #: of which the scheduler was told.
        self._read = 0
        self._ended = False
        self.offered = False
        self.engine = None
        self.job_id = 0
        # No semaphore: a signal handler that interrupts a thread in `_ring` may ring as well.
        self._bell = _thread.allocate_lock()
        self._bell.acquire()

    def start(self) -> None:
        """Start the reading thread; `engine` and `job_id` must be set."""
        try:
            start_thread(self._run, "actorpool-input")
        except RuntimeError as error:
            raise_unless_exiting(error)
            self._limit, self._least = None, sys.maxsize
            self._run()  # reads it all, here and now

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        return append_each(map(self._blobs.__getitem__, range(start, stop)), blobs)

    def done(self, start: int, stop: int) -> None:
        for index in range(start, stop):
            self._nbytes_done += sum(map(len, self._blobs.pop(index)))
        if self._sleeps:
            self._ring()

    def open(self, limit: int | None) -> None:
        """Let the thread read up to `limit` chunks in all (None: all); from any thread."""
        known = self._limit
        # By two threads at a time, what comes last might be less.
        if known is not None and (limit is None or limit > known):
            self._limit = limit
        self._ring()

    def news(self) -> tuple[int, bool]:
        """Make the chunks available that were read; see `Growing.news`."""
        # `_ended` before `_read`: chunks counted after the end was seen are all there are.
        final = self._ended and not self.final
        added = self._read - self.chunks
        self.chunks += added
        self.final = self.final or final
        return added, final

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        engine = self.engine
        assert engine is not None
        burst = 1
        error: BaseException | None = None
        try:
            while self._may_read():
                items = list(islice(self._iterator, self.chunksize))
                if not items:
                    break
                first = self._read * self.chunksize
                # Copied: the iterator may fill the same buffer anew for the next item.
                payload = encode_chunk(items, first, self._describe, self.inherited, self.captured)
                chunk = detached(payload)
                del items
                self._nbytes_read += sum(map(len, chunk))
                self._blobs[self._read] = chunk
                self._read += 1
                # Told at once, so that workers that are busy now have something to go on with.
                at_once = self._read - self.chunks >= burst or not self._has_room()
                engine.offer(self, at_once)
                if at_once:
                    burst = min(2 * burst, BURST)
        except BaseException as raised:
            error = raised
        if error is not None:
            # As in `multiprocessing`, the items of a chunk that was not complete are dropped.
            self._on_error(error)
            error = None  # its traceback holds this frame: a cycle
        del self._iterator
        self._ended = True
        engine.offer(self, True)
        engine.driver.wake()

    def _has_room(self) -> bool:
        """Return whether limit and memory allow one more chunk to be read."""
        limit = self._limit
        if limit is not None and self._read >= limit:
            return False
        waiting = self._nbytes_read - self._nbytes_done
        return waiting < FED_NBYTES or len(self._blobs) < self._least

    def _may_read(self) -> bool:
        """Wait until one more chunk may be read; False if the job is over."""
        engine = self.engine
        assert engine is not None
        while not self._has_room():
            if self.job_id not in engine.driver.jobs:
                return False
            # Set before looking again: a thread that makes room from now on rings.
            self._sleeps = True
            if not self._has_room():
                self._bell.acquire()
            self._sleeps = False
        return self.job_id in engine.driver.jobs

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # rung already

    def stop(self) -> None:
        """End the reading thread as soon as the iterator returns."""
        self._limit = 0
        self._ring()
