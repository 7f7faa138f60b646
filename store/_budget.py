"""How much memory the store of one process may take."""

from __future__ import annotations

import os

from store._settings import nbytes_of

#: Part of the memory that has to stay available when a store grows.
RESERVE = 0.1

#: Growing by less than this does not ask the system how much memory there is.
UNASKED_NBYTES = 16 << 20


class Budget:
    """Decide whether more pages may be populated.

    Attributes
    ----------
    nbytes : int
        Most that may be resident: ``POOL_STORE_MAX``, or half of the memory of the
        machine or the control group, whichever is less.
    """

    __slots__ = ("_keep", "_total", "nbytes")

    def __init__(self) -> None:
        self._total = min(machine_nbytes(), group_nbytes())
        most = nbytes_of("POOL_STORE_MAX", self._total)
        self.nbytes = self._total // 2 if most is None else most
        self._keep = nbytes_of("POOL_STORE_KEEP", self._total)

    def kept(self, peak: int) -> int:
        """Return how many bytes of free pages to keep for the next objects.

        Parameters
        ----------
        peak : int
            The most that was in use at once: who needs much needs it again. ``POOL_STORE_KEEP``
            is meant as it is.
        """
        if self._keep is not None:
            return self._keep
        return max(min(256 << 20, self.nbytes // 4), peak // 4)

    def allows(self, resident: int, more: int) -> bool:
        """Return whether `more` bytes may become resident beside `resident`."""
        if resident + more > self.nbytes:
            return False
        if more < UNASKED_NBYTES:
            return True
        return available_nbytes() - more >= RESERVE * self._total


def machine_nbytes() -> int:
    """Return the size of the physical memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def group_nbytes() -> int:
    """Return the memory limit of this process's control group, or a very large number."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, "rb") as file:
                return int(file.read())
        except (OSError, ValueError):  # "max", or no such hierarchy
            continue
    return 1 << 62


def available_nbytes() -> int:
    """Return how much memory could be had without swapping."""
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 1 << 62
