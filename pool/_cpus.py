"""Count the CPUs that this process may use.

A container or a job scheduler often grants fewer CPUs than the machine has: by an affinity mask,
or by a cgroup quota of CPU time. A Pool with one worker per CPU of the *machine* is then throttled
and slower than a small one, so `usable_cpus` takes the least of these limits.

The functions that read files take the file's text or a root folder, and know nothing of the
process they run in; `usable_cpus` and `cpu_count` put them together. Nothing here raises: a file
that is missing, unreadable or of an unknown form sets no limit.

References
----------
Linux kernel, ``admin-guide/cgroup-v2.rst`` ("cpu.max"), ``scheduler/sched-bwc.rst``
("cpu.cfs_quota_us"), ``proc(5)`` (``/proc/pid/mountinfo``), ``cgroups(7)``.
"""

from __future__ import annotations

import os
import sys

__all__ = ["cpu_count", "usable_cpus"]

# Where this process sits in the cgroup tree, found once: the files are read anew each time, but
# a process is hardly ever moved to another cgroup after it started.
_folders: list[tuple[str, bool]] | None = None


def usable_cpus() -> int:
    """Return how many CPUs this process may use, at least 1.

    The least of the affinity mask and the cgroup quota (rounded up), unless the user set a number
    by ``-X cpu_count=N`` or ``PYTHON_CPU_COUNT`` (known to Python from 3.13 on; obeyed here on
    every version).
    """
    override = _override()
    if override is not None:
        return override
    count = _affinity() or os.cpu_count() or 1
    quota = _quota()
    return count if quota is None else max(1, min(count, quota))


def cpu_count() -> int:
    """Return how many CPUs the machine has, as `multiprocessing.cpu_count` does.

    Where the system does not tell, the CPUs that this process may use are counted, instead of
    raising `NotImplementedError`.
    """
    return _override() or os.cpu_count() or usable_cpus()


def _override() -> int | None:
    option = sys._xoptions.get("cpu_count")
    if option is None and not sys.flags.ignore_environment:
        option = os.environ.get("PYTHON_CPU_COUNT")
    return parse_override(option)


def parse_override(option: str | bool | None) -> int | None:
    """Return the number in ``-X cpu_count`` or PYTHON_CPU_COUNT, or None if it sets none."""
    if not isinstance(option, str) or not option.isascii() or not option.isdigit():
        return None
    return int(option) or None


def _affinity() -> int | None:
    # Not every platform has it.
    affinity = getattr(os, "sched_getaffinity", None)
    try:
        return None if affinity is None else len(affinity(0))
    except OSError:
        return None


def _quota() -> int | None:
    global _folders
    if _folders is None:
        _folders = cgroup_folders(read("/proc/self/cgroup"), read("/proc/self/mountinfo"))
    return least_quota(_folders)


def read(path: str) -> str:
    """Return the text of a small file, or "" if it cannot be read."""
    try:
        # Unbuffered and undecoded reading takes a third of the time of `open(path).read()`.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return ""
    try:
        pieces = []
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
        return b"".join(pieces).decode(errors="surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def cgroup_folders(cgroup: str, mountinfo: str, controller: str = "cpu") -> list[tuple[str, bool]]:
    """Return the folders of the cgroups of one kind around this process, innermost first.

    Parameters
    ----------
    cgroup : str
        Text of ``/proc/self/cgroup``.
    mountinfo : str
        Text of ``/proc/self/mountinfo``.
    controller : str
        "cpu" or "memory": each may have a tree of its own in version 1.

    Returns
    -------
    list of (str, bool)
        Each folder, and whether it is of version 2. Every ancestor up to the mount point is
        among them, because a limit of any of them holds for all below it.
    """
    paths = _cgroup_paths(cgroup, controller)
    folders = []
    for root, mount_point, version2 in _cgroup_mounts(mountinfo, controller):
        path = paths.get(version2)
        if path is not None:
            folders += [(folder, version2) for folder in _ancestors(path, root, mount_point)]
    return folders


def _cgroup_paths(cgroup: str, controller: str) -> dict[bool, str]:
    """Return the path in the version 2 tree (True) and in version 1's own tree (False)."""
    paths = {}
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if number == "0" and not controllers:
            paths[True] = path
        elif controller in controllers.split(","):
            paths[False] = path
    return paths


def _cgroup_mounts(mountinfo: str, controller: str) -> list[tuple[str, str, bool]]:
    """Return root, mount point and whether version 2, of each mounted tree of that kind."""
    mounts = []
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        fields, kinds = left.split(" "), right.split(" ")
        if not dash or len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            mounts.append((_unescape(fields[3]), _unescape(fields[4]), True))
        elif kinds[0] == "cgroup" and controller in kinds[2].split(","):
            mounts.append((_unescape(fields[3]), _unescape(fields[4]), False))
    return mounts


def _unescape(field: str) -> str:
    """Undo what the kernel does to blanks and backslashes in a path of mountinfo."""
    if "\\" not in field:
        return field
    for octal, character in ("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"):
        field = field.replace(octal, character)
    return field


def _ancestors(path: str, root: str, mount_point: str) -> list[str]:
    """Return the folder of a cgroup under its mount point, and those above it.

    In a container the mount shows only the part of the tree below `root`; what lies outside it
    ("/.." paths, or another branch) cannot be read, and the mount point stands for it.
    """
    if root != "/":
        inside = path == root or path.startswith(root + "/")
        path = path[len(root) :] if inside else ""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    return ["/".join([mount_point, *parts[:end]]) for end in range(len(parts), -1, -1)]


def least_quota(folders: list[tuple[str, bool]]) -> int | None:
    """Return the smallest quota of these cgroup folders in CPUs, or None if none is set."""
    quotas = []
    for folder, version2 in folders:
        if version2:
            quota = parse_cpu_max(read(folder + "/cpu.max"))
        else:
            text = read(folder + "/cpu.cfs_quota_us") + " " + read(folder + "/cpu.cfs_period_us")
            quota = parse_cpu_max(text)
        if quota is not None:
            quotas.append(quota)
    return min(quotas, default=None)


def parse_cpu_max(text: str) -> int | None:
    """Return the CPUs that "QUOTA PERIOD" in microseconds amounts to, rounded up.

    None for "max", for version 1's -1, and for anything that is not two numbers.
    """
    fields = text.split()
    if len(fields) != 2 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    quota, period = int(fields[0]), int(fields[1])
    if quota == 0 or period == 0:
        return None
    return max(1, -(-quota // period))


cpu_count.__module__ = "pool"  # where users find it
