"""Decide about memory: when to look at it again, and which worker to end.

Pure functions of readings; `pool._local._guard` reads, and carries the decisions out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pool._memory import Room

#: Bytes that one CPU can fill in a second: the kernel clears fresh pages at 5-10 GB/s.
FILL_RATE = 8e9

#: Seconds between two looks, at least and at most.
PATIENCE_LEAST = 0.02
PATIENCE_MOST = 5.0

#: A worker that holds fewer bytes is never ended: it would free too little.
WORTHWHILE = 16 << 20

#: Workers are measured until the largest found holds at least this part of what any other may hold:
#: to measure takes long, and which of two workers of one size is ended matters little.
CLOSE_ENOUGH = 0.9


def shortest(rooms: Sequence[Room]) -> Room | None:
    """Return the room that is furthest below its reserve; None if none is below it."""
    short = [room for room in rooms if room.available < room.reserve]
    return min(short, key=lambda room: room.available - room.reserve, default=None)


def patience(rooms: Sequence[Room], fillers: int) -> float:
    """Return for how many seconds memory cannot become short, however fast it is filled.

    So with ample memory it is looked at rarely, and yet never too late.

    Parameters
    ----------
    rooms : sequence of Room
    fillers : int
        How many of the pool's processes can run at the same time.
    """
    spare = min((room.available - room.reserve for room in rooms), default=1 << 62)
    return min(max(PATIENCE_LEAST, spare / (FILL_RATE * fillers)), PATIENCE_MOST)


def largest(
    bounds: Mapping[int, int], measure: Callable[[int], int], room: Room
) -> tuple[int, int] | None:
    """Return the worker whose end frees most, and how many bytes, or None if none frees enough.

    Parameters
    ----------
    bounds : mapping
        By worker, an upper bound of the bytes that it holds for itself.
    measure : callable
        ``measure(worker)`` returns how many bytes these are; it takes long, and is called for as
        few workers as possible.
    room : Room
        The kind of memory that is short.
    """
    least = max(WORTHWHILE, room.reserve // 4)
    best = None
    for worker in sorted(bounds, key=lambda worker: bounds[worker], reverse=True):
        most = bounds[worker]
        if most < least or (best is not None and best[1] >= CLOSE_ENOUGH * most):
            break
        nbytes = measure(worker)
        if nbytes >= least and (best is None or nbytes > best[1]):
            best = (worker, nbytes)
    return best
