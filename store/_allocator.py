"""Which ranges of one segment are free. Pure: numbers in, numbers out.

Best fit: the smallest free range that is large enough. Freed ranges, which have pages
already, are thereby preferred to the large untouched rest at the end of a segment.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import index

#: Ranges start and end at multiples of this, so that no page belongs to two of them.
GRAIN = 4096


class Allocator:
    """Hand out ranges of ``0..nbytes``.

    Parameters
    ----------
    nbytes : int
        A multiple of `grain`.
    grain : int

    Attributes
    ----------
    used : int
        Bytes handed out, rounded up to grains.
    """

    __slots__ = ("_by_size", "_ends", "_grain", "_starts", "_taken", "nbytes", "used")

    def __init__(self, nbytes: int, grain: int = GRAIN) -> None:
        self.nbytes = nbytes
        self.used = 0
        self._grain = grain
        #: Free ranges: size and start in order; end by start; start by end.
        self._by_size: list[tuple[int, int]] = []
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._add(0, nbytes)

    def allocate(self, nbytes: int) -> int | None:
        """Return where a range of `nbytes` (at least) begins; None if none is free.

        Raises
        ------
        TypeError
            If `nbytes` is no integer: no range must begin or end at anything else.
        """
        size = max(1, -(-index(nbytes) // self._grain)) * self._grain
        found = bisect_left(self._by_size, (size, 0))
        if found == len(self._by_size):
            return None
        _, start = self._by_size[found]
        end = self._remove(start)
        if start + size < end:
            self._add(start + size, end)
        self._taken[start] = size
        self.used += size
        return start

    def free(self, start: int) -> tuple[int, int]:
        """Take a range back.

        Returns
        -------
        start, end : int
            The free range that it is part of now.

        Raises
        ------
        KeyError
            If no range that was handed out begins there.
        """
        size = self._taken.pop(start)
        self.used -= size
        end = start + size
        if end in self._starts:
            end = self._remove(end)
        before = self._ends.get(start)
        if before is not None:
            self._remove(before)
            start = before
        self._add(start, end)
        return start, end

    def size_of(self, start: int) -> int:
        """Return how many bytes the range that begins there takes."""
        return self._taken[start]

    def free_ranges(self) -> list[tuple[int, int]]:
        """Return start and end of each free range, in order."""
        return sorted(self._starts.items())

    @property
    def largest(self) -> int:
        """The size of the largest free range."""
        return self._by_size[-1][0] if self._by_size else 0

    def _add(self, start: int, end: int) -> None:
        insort(self._by_size, (end - start, start))
        self._starts[start] = end
        self._ends[end] = start

    def _remove(self, start: int) -> int:
        end = self._starts.pop(start)
        del self._ends[end]
        del self._by_size[bisect_left(self._by_size, (end - start, start))]
        return end

    def check_invariants(self) -> None:
        """Raise AssertionError unless free and taken ranges tile the segment.

        No two free ranges touch, or the space of both could not be handed out as one.
        """
        free = self.free_ranges()
        taken = sorted((start, start + size) for start, size in self._taken.items())
        at = 0
        for start, end in sorted([*free, *taken]):
            assert start == at and end > start, (start, end, at)
            at = end
        assert at == self.nbytes
        assert all(one[1] < other[0] for one, other in zip(free, free[1:], strict=False))
        assert sorted(self._by_size) == self._by_size
        assert sorted((end - start, start) for start, end in free) == self._by_size
        assert self.used == sum(end - start for start, end in taken)
