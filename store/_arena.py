"""The memory that this process hands out: its segments, and what is free in them.

Only the process that made an arena allocates in it, so there is no lock between processes, and a
process that is killed leaves nothing half done in shared memory. Not safe for threads: the depot
has the lock. Copying into a range that was allocated needs no lock.
"""

from __future__ import annotations

import errno
import os
from time import monotonic

from store._allocator import Allocator
from store._budget import Budget, RecentPeak
from store._errors import StoreFull
from store._memory import PAGE
from store._segments import STEP, Segment
from store._settings import spill_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Range = tuple[Segment, int]

#: Bytes of the first segment, and of the largest: each one is twice as large as the last, so that
#: there are few.
FIRST_NBYTES = 64 << 20
LARGEST_NBYTES = 1 << 30


class Arena:
    """Allocate ranges of segments, which are made as needed.

    Parameters
    ----------
    mode : str
        How segments are made; not ``"frames"``.

    Attributes
    ----------
    segments : dict
        By key, each segment and its allocator.
    live, peak : int
        Bytes handed out: now, and the most so far.
    spilled : int
        How many of the live bytes are on disk.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.budget = Budget()
        self.segments: dict[int, tuple[Segment, Allocator]] = {}
        self.live = self.peak = self.spilled = 0
        #: Of what is handed out in memory.
        self._recent = RecentPeak()
        self._next_nbytes = FIRST_NBYTES
        # Keys must differ among all processes that ever talk to each other, and outlive
        # the reuse of process ids.
        self._key = int.from_bytes(os.urandom(5), "big") << 20

    def allocate(self, nbytes: int) -> Range:
        """Return a segment, and the offset in it of `nbytes` bytes that are now the caller's.

        Raises
        ------
        StoreFull
            If neither the budget nor the disk has room.
        """
        found = self._fit(nbytes, on_disk=False)
        if found is None and self._allows(nbytes):
            found = self._grow(nbytes, None)
        if found is None:
            # Disk only as a last resort: it is slow, as long as the object lives.
            found = self._fit(nbytes, on_disk=True) or self._grow(nbytes, self._folder(nbytes))
        self._count(found, 1)
        self.peak = max(self.peak, self.live)
        self._recent.note(self.live - self.spilled, monotonic())
        return found

    def _count(self, place: Range, sign: int) -> None:
        segment, offset = place
        nbytes = sign * self.segments[segment.key][1].size_of(offset)
        self.live += nbytes
        if segment.on_disk:
            self.spilled += nbytes

    def _fit(self, nbytes: int, on_disk: bool) -> Range | None:
        """Allocate in a segment that there is, if the budget allows the pages that are missing."""
        for segment, allocator in self.segments.values():
            if segment.on_disk != on_disk or allocator.largest < nbytes:
                continue
            offset = allocator.allocate(nbytes)
            if offset is None:
                continue
            allowed = False
            try:
                allowed = on_disk or self._allows(segment.missing(offset, nbytes))
            finally:
                if not allowed:
                    allocator.free(offset)
            if allowed:
                return segment, offset
        return None

    def _allows(self, more: int) -> bool:
        if not more:
            return True
        # Besides the pages that are still missing where other threads are just writing.
        more += max(0, self.live - self.spilled - self.resident)
        if self.budget.allows(self.resident, more):
            return True
        # Free pages elsewhere can be given back first.
        return self.trim() > 0 and self.budget.allows(self.resident, more)

    def _folder(self, nbytes: int) -> str:
        folder = spill_folder()
        if folder is None:
            raise self.full(nbytes, "there is no folder to spill to")
        return folder

    def _grow(self, nbytes: int, folder: str | None) -> Range:
        """Make a segment, on disk if there is a folder, and allocate in it."""
        needed = -(-nbytes // STEP) * STEP
        # A power of two: else each one of a series of growing objects might need a new segment.
        # What is not written takes no memory.
        usual = max(self._next_nbytes, 1 << (needed - 1).bit_length())
        # Limits on address space or file size may leave room for a smaller one.
        for size in dict.fromkeys((usual, needed)):
            try:
                segment = Segment(self._key, size, self.mode, folder)
                break
            except (OSError, MemoryError, OverflowError) as error:
                if size == needed:
                    raise self.full(nbytes, str(error) or "no segment can be as large") from error
        self._key += 1
        if size >= self._next_nbytes:
            self._next_nbytes = min(2 * size, LARGEST_NBYTES)
        allocator = Allocator(size, PAGE)
        self.segments[segment.key] = segment, allocator
        offset = allocator.allocate(nbytes)
        assert offset is not None
        return segment, offset

    def full(self, nbytes: int, reason: str, place: Range | None = None) -> StoreFull:
        """Return the error that says that there is no room, and why.

        Parameters
        ----------
        nbytes : int
        reason : str
        place : tuple, optional
            Where the object was to be, if it was allocated: not counted.
        """
        live, spilled = self.live, self.spilled
        if place is not None:
            segment, offset = place
            own = self.segments[segment.key][1].size_of(offset)
            live -= own
            spilled -= own if segment.on_disk else 0
        used = f"{(live - spilled) / 1e6:.0f} MB of at most {self.budget.nbytes / 1e6:.0f} MB"
        if spilled:
            used += f" and {spilled / 1e6:.0f} MB on disk"
        # What is "in memory" in that mode is in the temporary folder.
        folders = "TMPDIR and POOL_STORE_SPILL" if self.mode == "tmpfile" else "POOL_STORE_SPILL"
        return StoreFull(
            f"no room for an object of {nbytes / 1e6:.0f} MB: {used} are in use; {reason}. Let go "
            f"of arrays and references, raise POOL_STORE_MAX, or set {folders} to a folder on a "
            "disk with room",
            nbytes,
        )

    def write(self, place: Range, data: memoryview) -> None:
        """Copy into a range that was allocated; needs no lock.

        Raises
        ------
        StoreFull
            If memory or the disk ran out. The range must still be freed.
        """
        segment, offset = place
        try:
            segment.write(offset, data)
        except OSError as error:
            self._undo(place)
            if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT):
                raise self.full(len(data), str(error), place) from error
            raise

    def reserve(self, place: Range, nbytes: int) -> None:
        """Make the pages of a range that will be stored to; needs no lock.

        Raises
        ------
        StoreFull
            If memory or the disk ran out.
        """
        segment, offset = place
        try:
            segment.reserve(offset, nbytes)
        except OSError as error:
            self._undo(place)
            raise self.full(nbytes, str(error), place) from error

    def _undo(self, place: Range) -> None:
        """Give back the pages that a range has got before there was no room for more."""
        segment, offset = place
        nbytes = self.segments[segment.key][1].size_of(offset)
        # Not of parts of huge pages, of which another thread may just be making the rest.
        segment.punch(offset, offset + nbytes)

    def free(self, place: Range) -> None:
        """Take back a range that no process can see any more."""
        segment, offset = place
        self._count(place, -1)
        start, end = self.segments[segment.key][1].free(offset)
        if segment.on_disk:
            segment.punch(start, end)
            return
        self._recent.note(self.live - self.spilled, monotonic())
        excess = self._unused - self.budget.kept(self._recent.value)
        if excess > 0:
            # Not the whole range: the next object would have to make its pages anew.
            end = segment.last_page(start, end)
            segment.punch(max(start, end - excess), end)

    def trim(self, whole: bool = True) -> int:
        """Give the pages of all that is free back to the system.

        Parameters
        ----------
        whole : bool
            Leave huge pages whole, for the next objects.

        Returns
        -------
        int
            Bytes given back.
        """
        given = 0
        for segment, allocator in self.segments.values():
            if segment.on_disk:
                continue  # nothing is kept there
            for start, end in allocator.free_ranges():
                if self._unused <= 0:
                    return given
                given += segment.punch(start, end, whole)
        return given

    @property
    def resident(self) -> int:
        """Bytes that have pages in memory."""
        return sum(segment.resident for segment, _ in self.segments.values() if not segment.on_disk)

    @property
    def _unused(self) -> int:
        """Bytes that have pages in memory and are not handed out."""
        return self.resident - (self.live - self.spilled)

    def prefault(self, nbytes: int) -> None:
        """Make free pages for an object of `nbytes`, so that putting it is quick.

        Raises
        ------
        StoreFull
            If there is no room for it.
        """
        place = segment, offset = self.allocate(nbytes)
        try:
            self.reserve(place, nbytes)
        finally:
            if segment.on_disk:
                self.free(place)
            else:
                # Not by `free`, which might give the pages back at once.
                self._count(place, -1)
                self.segments[segment.key][1].free(offset)

    def close(self) -> None:
        """Close all segments; readers keep what they have mapped."""
        for segment, _ in self.segments.values():
            segment.close()
        self.segments.clear()

    def stats(self) -> dict[str, Any]:
        """Return sizes in bytes."""
        segments = [segment for segment, _ in self.segments.values()]
        return {
            "segments": len(segments),
            "live": self.live,
            "free": sum(segment.resident for segment in segments) - self.live,
            "peak": self.peak,
            "resident": self.resident,
            "spilled": self.spilled,
            "budget": self.budget.nbytes,
        }
