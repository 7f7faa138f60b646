"""Segments of processes that have ended, and how many of them to be content with.

Results of a worker stay where it has put them when it has ended, and a view cannot be moved. Each
such segment takes a descriptor, address space, and all of its memory, of which little may be looked
at. So there is a bound: beyond it what arrives is copied into this process's own segments, whoever
has sent it, until enough was let go.

The bound is looked at where a connection ends, not where a message arrives.
"""

from __future__ import annotations

import os

from store._readers import orphans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from store._readers import Reader

#: So many of them are no trouble. Each has a descriptor, so fewer where there are few of those.
COUNT_MAX = 64
DESCRIPTORS_PART = 8

#: So much memory that nobody looks at is no trouble, besides as much as is looked at.
SPARE_NBYTES = 64 << 20

_crowded = False
#: How many there were when that was found.
_counted = 0


def crowded() -> bool:
    """Return whether what arrives should not stay in the segments of others."""
    if _crowded and len(orphans) != _counted:
        review()
    return _crowded


def review() -> None:
    """Look again whether there are too many; to be called when there are more."""
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
    """Return how much of a segment there are views of."""
    leases = [reference() for reference in list(reader.leased.values())]
    return sum(lease.block.span for lease in leases if lease is not None)
