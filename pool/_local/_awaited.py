"""A job whose chunks become ready one by one, in any order.

The scheduler knows chunks by the order in which they became ready; the result handle knows
them by their places in the input. What stands between the two is here.
"""

from __future__ import annotations

from collections import deque

from pool._local._jobs import Source, each
from pool._local._lazy import Growing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._local._jobs import Sink


class Awaited(Growing, Source):
    """Chunks that are told of when they are ready.

    Parameters
    ----------
    total : int
        How many there will be.
    chunksize : int
    payload : callable
        ``payload(place)``: the pickle and buffers of a chunk that is ready.
    """

    __slots__ = ("_payload", "_ready", "_total", "engine", "job_id", "offered", "order")

    def __init__(self, total: int, chunksize: int, payload: Callable[[int], list[Any]]) -> None:
        super().__init__(0, not total, chunksize)
        self._total = total
        self._payload = payload
        #: The place of each chunk that is ready, as far as the scheduler was told.
        self.order: list[int] = []
        #: Those of which it was not told.
        self._ready: deque[int] = deque()
        self.offered = False
        self.engine = None
        self.job_id = 0

    def ready(self, places: list[int]) -> None:
        """Note that chunks are ready; from any thread, `engine` and `job_id` are set."""
        assert self.engine is not None
        self._ready.extend(places)
        # Counted under the lock: two threads might both take theirs for the last ones.
        self.engine.offer(self, True)

    def news(self) -> tuple[int, bool]:
        """Count those that are ready as chunks that there are."""
        before, told = self.chunks, self.final
        while self._ready:
            self.order.append(self._ready.popleft())
        self.chunks = len(self.order)
        self.final = self.chunks == self._total
        return self.chunks - before, self.final and not told

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        return each(map(self._payload, self.order[start:stop]), blobs)


class InPlace:
    """Hand outcomes on under the places of their chunks.

    Parameters
    ----------
    sink : Sink
    source : Awaited
    over : callable
        Called once, when nothing more will come.
    """

    def __init__(self, sink: Sink, source: Awaited, over: Callable[[], object]) -> None:
        self._sink = sink
        self._source = source
        self._over = over

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        """Take the outcomes of chunks."""
        places = self._source.order[start : start + len(values)]
        due = [
            self._sink.deliver(place, [value], failed)
            for place, value in zip(places, values, strict=True)
        ]
        return any(due)

    def finish(self) -> bool:
        """Note that every chunk has its outcome."""
        self._over()
        return self._sink.finish()

    def abort(self, error: BaseException) -> bool:
        """Note that nothing more will come."""
        self._over()
        return self._sink.abort(error)

    def call_back(self) -> None:
        """Run the user's callbacks."""
        self._sink.call_back()
