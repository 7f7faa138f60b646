"""Sources of chunks that are not read before they are needed.

`Windowed` opens a sequence step by step. `Fed` reads an iterator in a thread of its own,
as `multiprocessing` does: the iterator may block, or depend on results that the consumer
has not taken yet, so it must not be read by the thread that drives the pool.
"""

from __future__ import annotations

from itertools import islice

from pool._local._jobs import Items, Source, detached, encode_chunk
from pool._transport._messages import EACH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from pool._local._engine import LocalEngine

#: Bytes of pickled input that may wait; at least `Fed.least` chunks always may.
FED_NBYTES = 32 << 20

#: Chunks read between two announcements, at most: an announcement costs 5 us.
BURST = 256


class Windowed(Items):
    """Chunks of a sequence, made available step by step."""

    __slots__ = ("_total", "engine", "job_id")

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
        self.engine: LocalEngine | None = None
        self.job_id = 0

    def open(self, limit: int | None) -> None:
        """Make the chunks up to `limit` available (all if None)."""
        limit = self._total if limit is None else min(limit, self._total)
        added = limit - self.chunks
        if added <= 0 or self.final or self.engine is None:
            return
        self.chunks = limit
        self.final = limit == self._total
        self.engine.add_chunks(self.job_id, added, self.final)


class Fed(Source):
    """Chunks of an iterator, read and pickled by a thread.

    An item is pickled before the next one is asked for, so an iterator may yield the same
    buffer again and again with new contents.

    Parameters
    ----------
    iterator : iterator
    chunksize : int
    describe : callable
        Names an item by its index.
    window : int
        Chunks that may be read before `open` is called.
    least : int
        Chunks that may wait however large they are.
    on_error : callable
        Called with the exception that the iterator raised.
    """

    __slots__ = (
        "_blobs",
        "_bell",
        "_describe",
        "_iterator",
        "_least",
        "_limit",
        "_nbytes_done",
        "_nbytes_read",
        "_on_error",
        "_sleeps",
        "engine",
        "job_id",
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
        self._blobs: dict[int, list[Any]] = {}
        # Each one is written by one thread only.
        self._nbytes_read = self._nbytes_done = 0
        self._sleeps = False
        self.engine: LocalEngine | None = None
        self.job_id = 0
        import threading

        self._bell = threading.Semaphore(0)

    def start(self) -> None:
        """Begin to read; `engine` and `job_id` are set."""
        import threading

        threading.Thread(target=self._read, name="actorpool-input", daemon=True).start()

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        extra = []
        for index in range(start, stop):
            chunk = self._blobs[index]
            blobs.extend(chunk)
            extra.append(len(chunk) - 1)
        return EACH, tuple(extra) if any(extra) else None

    def done(self, start: int, stop: int) -> None:
        for index in range(start, stop):
            self._nbytes_done += sum(map(len, self._blobs.pop(index)))
        if self._sleeps:
            self._bell.release()

    def open(self, limit: int | None) -> None:
        """Let the thread read up to `limit` chunks in all (None: all)."""
        self._limit = limit
        self._bell.release()

    # ------------------------------------------------------------------ the thread

    def _read(self) -> None:
        engine = self.engine
        assert engine is not None
        read = announced = 0
        burst = 1
        error: BaseException | None = None
        try:
            while self._may_read(read):
                items = list(islice(self._iterator, self.chunksize))
                if not items:
                    break
                # Copied: the iterator may fill the same buffer anew for the next item.
                chunk = detached(
                    encode_chunk(items, read * self.chunksize, self._describe, self.inherited)
                )
                del items
                self._nbytes_read += sum(map(len, chunk))
                self._blobs[read] = chunk
                read += 1
                # Tell of the first ones at once, and of many together later.
                if read - announced >= burst or not self._free(read):
                    engine.add_chunks(self.job_id, read - announced, False)
                    engine.attend()
                    announced = read
                    burst = min(2 * burst, BURST)
        except BaseException as raised:
            error = raised
        if error is not None:
            # As in the standard, what an unfinished chunk had read so far is dropped.
            self._on_error(error)
        del self._iterator
        engine.add_chunks(self.job_id, read - announced, True)
        engine.attend()
        engine.driver.wake()

    def _free(self, read: int) -> bool:
        limit = self._limit
        if limit is not None and read >= limit:
            return False
        waiting = self._nbytes_read - self._nbytes_done
        return waiting < FED_NBYTES or len(self._blobs) < self._least

    def _may_read(self, read: int) -> bool:
        """Wait until one more chunk may be read; False if the job is over."""
        engine = self.engine
        assert engine is not None
        while not self._free(read):
            if self.job_id not in engine.driver.jobs:
                return False
            # In this order: whoever makes room from now on rings.
            self._sleeps = True
            if not self._free(read):
                self._bell.acquire()
            self._sleeps = False
        return self.job_id in engine.driver.jobs

    def stop(self) -> None:
        """End the thread as soon as the iterator lets it."""
        self._limit = 0
        self._bell.release()
