"""What the operating system knows: memory and CPU time of process trees, and the machine itself."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Distributions whose versions matter for the figures.
VERSIONS = (
    "numpy", "pandas", "pyarrow", "loky", "joblib", "mpire", "pebble", "multiprocess",
    "distributed", "ray",
)  # fmt: skip


def machine() -> dict[str, str]:
    """Describe the machine and the versions; nothing that tells whose it is."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    import pool

    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "actorpool": pool.__version__,
        **versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def tree() -> list[psutil.Process]:
    """Return this process and all its descendants."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def children_cpu_seconds() -> float:
    """Return the CPU time that all descendants have used so far, with this process's own."""
    total = 0.0
    for process in tree():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def tree_pss() -> int:
    """Return the memory of this process and its descendants, shared pages counted once."""
    total = 0
    for process in tree():
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def uss(pid: int) -> int:
    """Return the bytes that would be free if this process ended."""
    return int(psutil.Process(pid).memory_full_info().uss)


class Peak:
    """The most that `tree_pss` was seen to be, by two looks in a row.

    One process is read after the other. Shares of a page that a second process has begun to
    read meanwhile would be counted with the old and with the new number of sharers.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._before = 0

    def look(self) -> None:
        """Look once more."""
        now = tree_pss()
        self.nbytes = max(self.nbytes, min(now, self._before))
        self._before = now


@contextmanager
def peak_pss(interval: float = 0.02) -> Iterator[Peak]:
    """Watch the memory of the process tree while the block runs.

    The watching costs CPU time: never in a block that is timed.
    """
    peak = Peak()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(interval):
            peak.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
        peak.look()


def interpreter() -> str:
    """Return this Python, to start others like it."""
    return sys.executable
