"""How much memory the store of one process may take."""

from __future__ import annotations

import os

from store._cgroups import group_memory, own_folders, read
from store._settings import nbytes_of

#: Part of the memory that has to stay available when a store grows.
RESERVE = 0.1

#: Each time a store has grown by so many bytes, the system is asked how much memory is available.
UNASKED_NBYTES = 16 << 20

#: Seconds for which a peak counts, at least; at most three times as many.
RECENT_S = 60.0


class RecentPeak:
    """The highest level of late.

    Two spans of time are enough for that, however often the level changes: what was the highest in
    the span before the last is forgotten.

    Attributes
    ----------
    value : int
    """

    __slots__ = ("_before", "_began", "_highest", "_level", "value")

    def __init__(self) -> None:
        self.value = self._level = self._highest = self._before = 0
        self._began = 0.0

    def note(self, level: int, now: float) -> None:
        """Take in that it is `level` from `now` (seconds) on; until then it was the one before."""
        passed = now - self._began
        if passed >= RECENT_S:
            self._before = self._highest if passed < 2 * RECENT_S else self._level
            self._highest = self._level
            self._began = now
        self._level = level
        self._highest = max(self._highest, level)
        self.value = max(self._highest, self._before)


class Budget:
    """Decide whether more pages may be populated.

    Attributes
    ----------
    nbytes : int
        Bytes that may be resident, at most: ``POOL_STORE_MAX``, or half of the memory of the
        machine or of the control group, whichever is less.
    """

    __slots__ = ("_groups", "_keep", "_share", "_total", "_unasked", "nbytes")

    def __init__(self) -> None:
        machine = machine_nbytes()
        self._groups = limiting_groups(machine)
        self._total = min([machine, *(limit for _, _, limit in self._groups)])
        #: Bytes by which the store has grown since the system was asked.
        self._unasked = 0
        most = nbytes_of("POOL_STORE_MAX", self._total)
        self.nbytes = self._total // 2 if most is None else most
        self._keep = nbytes_of("POOL_STORE_KEEP", self._total)
        # Each worker has a store; as a rule there are as many as CPUs.
        self._share = self.nbytes // 2 // len(os.sched_getaffinity(0))

    def kept(self, peak: int) -> int:
        """Return how many bytes of free pages to keep for the next objects.

        Parameters
        ----------
        peak : int
            The most bytes that were in use at once of late: a program that needed many will need
            them again. If less were kept, each round of its work would make the difference anew,
            which takes longer than to fill it. So all of it is kept where that is no more than a
            part of the budget. Not considered if ``POOL_STORE_KEEP`` is set.
        """
        if self._keep is not None:
            return self._keep
        least = min(256 << 20, self.nbytes // 4)
        return max(least, peak // 4, min(peak, self._share))

    def allows(self, resident: int, more: int) -> bool:
        """Return whether `more` bytes may become resident beside `resident`."""
        if resident + more > self.nbytes:
            return False
        self._unasked += more
        if self._unasked < UNASKED_NBYTES:
            return True
        if self._available() - more < RESERVE * self._total:
            return False
        self._unasked = 0
        return True

    def _available(self) -> int:
        available = available_nbytes()
        for folder, version2, _ in self._groups:
            memory = group_memory(folder, version2)
            if memory is not None:
                limit, used, reclaimable = memory
                available = min(available, limit - used + reclaimable)
        return available


def machine_nbytes() -> int:
    """Return the size of the physical memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def limiting_groups(machine: int) -> list[tuple[str, bool, int]]:
    """Return the control groups around this process that grant less than the machine has.

    Returns
    -------
    list of (str, bool, int)
        Folder, whether it is of version 2, and the limit.
    """
    folders = own_folders("memory")
    found = [(*folder, group_memory(*folder)) for folder in folders]
    return [
        (folder, version2, memory[0])
        for folder, version2, memory in found
        if memory is not None and memory[0] < machine
    ]


def available_nbytes() -> int:
    """Return how much memory the machine could give without swapping."""
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62
