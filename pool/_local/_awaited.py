"""A job whose chunks become ready one by one, in any order.

The scheduler numbers chunks in the order in which they became ready, the result handle by their
places in the input. `Awaited` and `ReorderingSink` translate between the two.
"""

from __future__ import annotations

from collections import deque

from pool._local._jobs import Source, append_each
from pool._local._lazy import Growing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._local._jobs import Sink


class Awaited(Growing, Source):
    """Chunks that the scheduler is told of when they are ready.

    Parameters
    ----------
    total : int
        How many chunks there will be.
    chunksize : int
    payload : callable
        ``payload(place)`` returns the pickle and the buffers of a chunk that is ready.
    """

    __slots__ = ("_payload", "_ready", "_total", "engine", "job_id", "offered", "order")

    def __init__(self, total: int, chunksize: int, payload: Callable[[int], list[Any]]) -> None:
        super().__init__(0, not total, chunksize)
        self._total = total
        self._payload = payload
        #: The places of the chunks that the scheduler was told of, in its order.
        self.order: list[int] = []
        #: The places of chunks that are ready, and of which it was not told.
        self._ready: deque[int] = deque()
        self.offered = False
        self.engine = None
        self.job_id = 0

    def ready(self, places: list[int]) -> None:
        """Note that chunks are ready; from any thread, once `engine` and `job_id` are set."""
        assert self.engine is not None
        self._ready.extend(places)
        # The chunks are counted under the lock: of two threads that counted here, both might take
        # their chunks for the last ones.
        self.engine.offer(self, True)

    def news(self) -> tuple[int, bool]:
        """Make the chunks available that are ready; see `Growing.news`."""
        before, told = self.chunks, self.final
        while self._ready:
            self.order.append(self._ready.popleft())
        self.chunks = len(self.order)
        self.final = self.chunks == self._total
        return self.chunks - before, self.final and not told

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        return append_each(map(self._payload, self.order[start:stop]), blobs)


class ReorderingSink:
    """Hand outcomes on to a sink under the places of their chunks in the input.

    Parameters
    ----------
    sink : Sink
    source : Awaited
    over : callable
        ``over()`` is called once, when no more outcomes will come.
    """

    def __init__(self, sink: Sink, source: Awaited, over: Callable[[], object]) -> None:
        self._sink = sink
        self._source = source
        self._over = over

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        """Take the outcomes of chunks, numbered as the scheduler does."""
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
        """Note that no more outcomes will come."""
        self._over()
        return self._sink.abort(error)

    def call_back(self) -> None:
        """Run the user's callbacks."""
        self._sink.call_back()
