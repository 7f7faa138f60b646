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
("cpu.cfs_quota_us").
"""

from __future__ import annotations

import os
import sys

from store._cgroups import own_folders, read

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
    try:
        return len(os.sched_getaffinity(0))
    except OSError:
        return None


def _quota() -> int | None:
    global _folders
    if _folders is None:
        _folders = own_folders("cpu")
    return least_quota(_folders)


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
