"""What a process inherits from the one that starts it, and which that one may change later."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAMESPACES = ("ipc", "mnt", "net", "pid_for_children", "user", "uts")


def standing() -> tuple[Any, ...]:
    """Return who this process is, where it runs, and what it may do.

    A program that has given up its privileges must not get workers that still have them, nor one
    that has shut itself in, by `os.chroot`, a filter of system calls or a namespace of its own,
    workers outside.
    """
    root = os.stat("/")
    return (
        (root.st_dev, root.st_ino),
        os.getresuid() if hasattr(os, "getresuid") else os.getuid(),
        os.getresgid() if hasattr(os, "getresgid") else os.getgid(),
        os.getgroups(),
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        os.getpriority(os.PRIO_PROCESS, 0),
        _capabilities(),
        _namespaces(),
    )


def _capabilities() -> bytes:
    """Return the lines about capabilities, new privileges and filters of system calls.

    Of this thread, which is the one that starts a process.
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


def rlimits() -> bytes:
    """Return the limits of its resources."""
    try:
        with open("/proc/self/limits", "rb") as file:
            return file.read()
    except OSError:
        return b""


def place() -> tuple[dict[bytes, bytes], list[str]]:
    """Return what packages may look at when they are imported."""
    return dict(os.environb), [str(entry) for entry in sys.path]
