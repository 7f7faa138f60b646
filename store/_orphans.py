"""A bound for segments of processes that have ended.

When a worker has ended, its results stay where it has put them, since a view cannot be moved. Each
such segment takes a descriptor, address space, and all of its memory, even if little of it is still
used. So there is a bound: beyond it, objects that arrive are copied into this process's own
segments, whichever process they come from, until enough of the others was let go of.

Whether it is exceeded is determined when a connection ends, not with each message.
"""

from __future__ import annotations

import os

from store._readers import orphans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from store._readers import Reader

#: Segments of ended processes, at most; and at most this part of the descriptors that this process
#: may have, since each segment has one.
COUNT_MAX = 64
DESCRIPTORS_PART = 8

#: Bytes in them that no view shows, at most, besides as many as views show.
SPARE_NBYTES = 64 << 20

#: Whether the bound is exceeded, and how many segments there were when that was determined.
_crowded = False
_counted = 0


def crowded() -> bool:
    """Return whether objects that arrive are to be copied into segments of this process."""
    if _crowded and len(orphans) != _counted:
        review()
    return _crowded


def review() -> None:
    """Determine anew whether the bound is exceeded; must be called when there are more segments."""
    global _counted, _crowded
    found = [reader for reference in orphans.valuerefs() if (reader := reference()) is not None]
    _counted = len(orphans)
    _crowded = len(found) >= _count_max() or (
        sum(map(_taken, found)) > 2 * sum(map(_looked_at, found)) + SPARE_NBYTES
    )


def _count_max() -> int:
    descriptors = os.sysconf("SC_OPEN_MAX")
    return COUNT_MAX if descriptors < 0 else min(COUNT_MAX, descriptors // DESCRIPTORS_PART)


def _taken(reader: Reader) -> int:
    """Return how much memory a segment takes."""
    try:
        return os.fstat(reader.fd).st_blocks * 512
    except OSError:
        return 0  # a weak reference still works while a finalizer in another thread closes it


def _looked_at(reader: Reader) -> int:
    """Return how many bytes of a segment views show."""
    leases = [reference() for reference in list(reader.leased.values())]
    return sum(lease.block.span for lease in leases if lease is not None)
