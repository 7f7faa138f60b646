"""Descriptors that are none of the standard streams'.

In a program that has closed its streams, as daemons do, the next ones to be opened get their
numbers: whatever is printed would go there.
"""

from __future__ import annotations

import os


def above_streams(fd: int) -> int:
    """Return a descriptor that is none of the standard streams', in place of `fd`."""
    if not 0 <= fd <= 2:
        return fd
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def pipe_above_streams() -> tuple[int, int]:
    """Return the read end and the write end of a pipe."""
    read, write = os.pipe()
    return above_streams(read), above_streams(write)
