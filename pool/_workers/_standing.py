"""What a process inherits when it is started, and its parent may change afterwards.

By this it is seen whether a forkserver that was started earlier still fits the program.
"""

from __future__ import annotations

import os
import sys

from store._cgroups import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What pytest calls the test that runs. Each has another name, and packages only look whether it
#: is there.
_TEST = b"PYTEST_CURRENT_TEST"

_NAMESPACES = ("ipc", "mnt", "net", "pid_for_children", "user", "uts")


def standing() -> tuple[Any, ...]:
    """Return the user, the place and the privileges of this process.

    A program that has given up privileges must not get workers that still have them. Nor may one
    that has confined itself, by `os.chroot`, a filter of system calls or a namespace, get workers
    that are not confined.
    """
    root = os.stat("/")
    return (
        (root.st_dev, root.st_ino),
        os.getresuid(),
        os.getresgid(),
        os.getgroups(),
        os.sched_getaffinity(0),
        os.getpriority(os.PRIO_PROCESS, 0),
        _capabilities(),
        _namespaces(),
    )


def _capabilities() -> bytes:
    """Return the lines of this thread's status on capabilities, new privileges and system calls.

    It is this thread that starts the process, so what holds for it is what counts.
    """
    try:
        fd = os.open("/proc/thread-self/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        text = os.read(fd, 1 << 13)
    finally:
        os.close(fd)
    start = text.find(b"\nCapInh:")
    return text[start : text.find(b"\nCpus_allowed:", start)]


def _namespaces() -> list[str]:
    try:
        fd = os.open("/proc/thread-self/ns", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return [os.readlink(name, dir_fd=fd) for name in _NAMESPACES]
    except OSError:
        return []  # an older kernel
    finally:
        os.close(fd)


def rlimits() -> str:
    """Return the resource limits of this process."""
    return read("/proc/self/limits")


def place() -> tuple[dict[bytes, bytes], list[str]]:
    """Return what packages may look at when they are imported."""
    environment = dict(os.environb)
    if _TEST in environment:
        environment[_TEST] = b""  # whether it is there, not which test it is
    return environment, [str(entry) for entry in sys.path]
