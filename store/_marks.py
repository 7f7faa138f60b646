"""Marks on segments: whether any process still has what was sent over one connection.

A process that got a segment may leave it to others that its sender does not know: children, which
may close all descriptors and outlive it, and processes to which it sent references on. So a segment
is sent as a file opened anew, with a lock on it that stands for the connection. The lock belongs to
the open file, which all these processes share, and which a mapping keeps open as a descriptor does.

References
----------
``fcntl(2)``, "Open file description locks". Where a system has none, a connection leaves no marks.
"""

from __future__ import annotations

import fcntl
import os
import struct

#: The C library's ``struct flock``: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi")


def marked(fd: int, mark: int) -> int:
    """Open a file anew for reading, and mark it until the new file is open and mapped nowhere.

    Parameters
    ----------
    fd : int
    mark : int
        A number, not negative.

    Returns
    -------
    int
        The new descriptor; -1 if there is none left, or the system cannot mark files.
    """
    opened = -1
    try:
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        fcntl.fcntl(opened, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, 0, mark, 1, 0))
    except OSError:
        if opened >= 0:
            os.close(opened)
        return -1
    return opened


def is_marked(fd: int, mark: int) -> bool:
    """Return whether a file has this mark."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, 0, mark, 1, 0)
    try:
        found: bytes = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, wanted)
    except OSError:
        return False
    kind: int = _FLOCK.unpack(found)[0]
    return kind != fcntl.F_UNLCK
