"""How much memory the store of one process may take."""

from __future__ import annotations

import os

from store._cgroups import group_memory, own_folders, read
from store._settings import nbytes_of

#: Part of the memory that has to stay available when a store grows.
RESERVE = 0.1

#: Each time a store has grown by so many bytes, the system is asked how much memory is available.
UNASKED_NBYTES = 16 << 20


class Budget:
    """Decide whether more pages may be populated.

    Attributes
    ----------
    nbytes : int
        Bytes that may be resident, at most: ``POOL_STORE_MAX``, or half of the memory of the
        machine or of the control group, whichever is less.
    """

    __slots__ = ("_groups", "_keep", "_total", "_unasked", "nbytes")

    def __init__(self) -> None:
        machine = machine_nbytes()
        self._groups = limiting_groups(machine)
        self._total = min([machine, *(limit for _, _, limit in self._groups)])
        #: Bytes by which the store has grown since the system was asked.
        self._unasked = 0
        most = nbytes_of("POOL_STORE_MAX", self._total)
        self.nbytes = self._total // 2 if most is None else most
        self._keep = nbytes_of("POOL_STORE_KEEP", self._total)

    def kept(self, peak: int) -> int:
        """Return how many bytes of free pages to keep for the next objects.

        Parameters
        ----------
        peak : int
            The most bytes that were in use at once: a program that needed many will need them
            again. Not considered if ``POOL_STORE_KEEP`` is set.
        """
        if self._keep is not None:
            return self._keep
        return max(min(256 << 20, self.nbytes // 4), peak // 4)

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
