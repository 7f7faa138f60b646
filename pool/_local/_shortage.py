"""Decide what is to be done about memory: when to look again, and which worker to end.

Pure: readings come in, decisions go out. `pool._local._guard` reads and carries out.
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

#: A worker that holds less is never ended: nothing is won by it.
WORTHWHILE = 16 << 20

#: Workers are measured until the largest found is at least this part of what the others may be:
#: measuring takes long, and which of two equals is ended matters little.
CLOSE_ENOUGH = 0.9


def shortest(rooms: Sequence[Room]) -> Room | None:
    """Return the room of which the least is left, if memory is short."""
    short = [room for room in rooms if room.available < room.reserve]
    return min(short, key=lambda room: room.available - room.reserve, default=None)


def patience(rooms: Sequence[Room], fillers: int) -> float:
    """Return for how many seconds memory cannot become short, however fast it is filled.

    So with ample memory hardly anybody ever looks, and nobody looks too late.

    Parameters
    ----------
    rooms : sequence of Room
    fillers : int
        Processes of ours that can run at the same time.
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
        By worker, bytes that it holds for itself at most.
    measure : callable
        ``measure(worker)`` returns how many these are; takes long, and is asked for as few
        workers as possible.
    room : Room
        What is short.
    """
    least = max(WORTHWHILE, room.reserve // 4)
    best = None
    for worker in sorted(bounds, key=lambda worker: bounds[worker], reverse=True):
        if bounds[worker] < least or best is not None and best[1] >= CLOSE_ENOUGH * bounds[worker]:
            break
        nbytes = measure(worker)
        if nbytes >= least and (best is None or nbytes > best[1]):
            best = (worker, nbytes)
    return best
