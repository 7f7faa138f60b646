"""Take the chunks of a message apart."""

from __future__ import annotations

from pool._pickling import loads
from pool._transport._messages import EACH, PACKED, RANGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def chunks_of(runs: Any, blobs: list[Any], position: int) -> Iterator[Any]:
    """Yield ``[function_id, mode, size, items or payload]`` for each chunk of some runs.

    Parameters
    ----------
    runs : sequence
        Entries of a RUN message, see `pool._transport._messages`.
    blobs : list
        The blobs of that message; those of chunks that were yielded are replaced by None.
    position : int
        Where the payloads of the first run begin in `blobs`.
    """
    for function_id, mode, layout, chunks, size, extra in runs:
        if layout == RANGE:
            items: Any = range(*extra)
        elif layout == PACKED:
            items = loads(blobs[position])
            position += 1
        else:
            for index in range(chunks):
                buffers = 0 if extra is None else extra[index]
                end = position + 1 + buffers
                yield [function_id, mode, size, taken(blobs, position, end)]
                position = end
            continue
        for start in range(0, chunks * size, size):
            yield [function_id, mode, size, items[start : start + size]]


def taken(blobs: list[Any], start: int, end: int) -> tuple[Any, list[Any]]:
    """Take a payload out of a message, so that its blocks are released with the payload."""
    payload = (blobs[start], blobs[start + 1 : end])
    blobs[start:end] = [None] * (end - start)
    return payload


def blobs_of(run: Any) -> int:
    """Return how many blobs the payloads of a run take."""
    chunks: int
    _, _, layout, chunks, _, extra = run
    if layout == EACH:
        return chunks + (0 if extra is None else sum(extra))
    return 1 if layout == PACKED else 0
