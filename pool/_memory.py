"""Read how much memory is left, and how much a process holds for itself.

The limit is not always the machine's: a container or a job scheduler grants less, by cgroups, and
the user may set a limit by POOL_MEMORY_LIMIT. `rooms` returns a `Room` for each limit.

As in `pool._cpus`, functions that parse take text, and none raises because a file is missing: a
file that cannot be read sets no limit. Only a malformed POOL_MEMORY_LIMIT is an error.

References
----------
``proc(5)`` ("MemAvailable", ``/proc/pid/statm``, ``/proc/pid/smaps_rollup``); Linux kernel,
``admin-guide/cgroup-v2.rst`` ("memory.max"), ``admin-guide/cgroup-v1/memory.rst``.
"""

from __future__ import annotations

import os
from collections import namedtuple

from store._cgroups import group_memory, own_folders, parse_fields, parse_number, read
from store._settings import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Room(NamedTuple):
        """What is left under one limit, in bytes.

        Attributes
        ----------
        available, limit : int
        reserve : int
            With less than this available, memory is short.
        where : str
            Whose limit it is: "of the machine".
        """

        available: int
        limit: int
        reserve: int
        where: str

else:
    Room = namedtuple("Room", "available limit reserve where")

#: The environment variable by which users limit the memory of a program and its workers together.
VARIABLE = "POOL_MEMORY_LIMIT"

#: Memory that is kept free under each limit that the kernel enforces: one part in `RESERVED_PART`,
#: at least `RESERVE_LEAST` and at most `RESERVE_MOST` bytes. Enough to react in time: two CPUs fill
#: the least in some milliseconds. Not more, since a program should be able to use nearly as much
#: memory as without this package.
RESERVED_PART = 100
RESERVE_LEAST = 32 << 20
RESERVE_MOST = 1 << 30

_PAGE = os.sysconf("SC_PAGE_SIZE")

_SWAP = "memory.swap.max", "memory.swap.current"
#: Memory and swap together.
_SWAP_1 = "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"

# As in `_cpus`: found once, because a process is hardly ever moved after it started.
_folders: list[tuple[str, bool]] | None = None


def rooms() -> list[Room]:
    """Return what is left under the limits of the machine and of the cgroups around us."""
    global _folders
    machine, swap = machine_room(read("/proc/meminfo"))
    if machine is None:
        return []
    if _folders is None:
        _folders = own_folders("memory")
    groups = [group_room(folder, version2, swap) for folder, version2 in _folders]
    # A group that grants more than the machine has limits nothing.
    return [machine, *(room for room in groups if room is not None and room.limit < machine.limit)]


def reserve(limit: int) -> int:
    """Return how much of a limit is kept free; for a tiny limit no more than a tenth of it."""
    return min(max(RESERVE_LEAST, limit // RESERVED_PART), RESERVE_MOST, limit // 10)


def own_room(limit: int, used: int) -> Room:
    """Return what is left of the limit that the user has set; nothing is reserved of it."""
    return Room(limit - used, limit, 0, f"that {VARIABLE} sets")


def machine_room(meminfo: str) -> tuple[Room | None, int]:
    """Return what the machine has left, and how much of that is swap space.

    Parameters
    ----------
    meminfo : str
        Text of ``/proc/meminfo``.
    """
    fields = parse_fields(meminfo.replace(":", " "))
    if "MemTotal" not in fields or "MemAvailable" not in fields:
        return None, 0
    swap = fields.get("SwapFree", 0) * 1024
    # The kernel ends processes when there is no swap left either.
    available = fields["MemAvailable"] * 1024 + swap
    total = fields["MemTotal"] * 1024
    return Room(available, total, reserve(total), "of the machine"), swap


def group_room(folder: str, version2: bool, swap: int) -> Room | None:
    """Return what a cgroup has left, or None if it has no limit.

    Parameters
    ----------
    folder : str
    version2 : bool
    swap : int
        Bytes of swap space that the machine has left.
    """
    found = group_memory(folder, version2)
    if found is None:
        return None
    limit, used, cached = found
    left = limit - used + cached
    if swap:
        names = _SWAP if version2 else _SWAP_1
        most, swapped = (parse_number(read(f"{folder}/{name}")) for name in names)
        if most is not None and swapped is not None:
            # Version 1 counts memory and swap together.
            swap = min(swap, max(0, most - swapped - (0 if version2 else max(0, limit - used))))
        left += swap
    return Room(left, limit, reserve(limit), f"of the cgroup {folder}")


def parse_limit(text: str) -> int | None:
    """Return the limit in POOL_MEMORY_LIMIT in bytes, or None if it turns the guard off.

    Raises
    ------
    ValueError
        If it is neither "off" nor a size, see `store._settings.parse_size`; 0 is "off" as well.
    """
    if text.strip().upper() == "OFF":
        return None
    try:
        return parse_size(text) or None
    except ValueError:
        raise ValueError(
            f'{VARIABLE} is {text!r}; it takes a size such as "500M" or "8G", or "off"'
        ) from None


def resident(pid: int | str) -> int:
    """Return the anonymous memory that a process has in RAM, in bytes; 0 if it has ended.

    It includes memory that the process shares with its forkserver, so it is not less than `private`
    returns. It takes microseconds, `private` a second for each hundred gigabytes.
    """
    words = read(f"/proc/{pid}/statm").split()
    return max(0, int(words[1]) - int(words[2])) * _PAGE if len(words) > 2 else 0


def private(pid: int | str) -> int:
    """Return the USS of a process in bytes: the memory that is freed when it ends.

    If the kernel does not tell it (another user's process), return what `resident` returns.
    """
    fields = parse_fields(read(f"/proc/{pid}/smaps_rollup").replace(":", " "))
    if "Private_Dirty" not in fields:
        return resident(pid)
    names = ("Private_Clean", "Private_Dirty", "Private_Hugetlb")
    return sum(fields.get(name, 0) for name in names) * 1024


def binary_size(nbytes: int) -> str:
    """Return a size as "9.1 GiB": limits of memory are given in powers of 1024."""
    size = nbytes / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if abs(size) < 999.5 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.1f} {unit}" if abs(size) < 99.95 else f"{size:.0f} {unit}"
