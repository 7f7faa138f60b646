"""Processes that are no children of this one: to see that they end, and to end them.

By descriptors, which unlike numbers are never another process's. Before Linux 5.3 there are none,
and some sandboxes forbid them; what then remains is said at each function.
"""

from __future__ import annotations

import _signal
import errno
import os
import select
from time import sleep

from pool._clock import monotonic
from pool._transport._descriptors import above_streams

#: Seconds between two looks at a process of which there is no descriptor.
LOOK = 5e-3


def pidfd(pid: int) -> int:
    """Return a descriptor that becomes readable when a process ends; -1 if the system has none.

    Raises
    ------
    OSError
        If there is no such process, or no room for a descriptor.
    """
    try:
        return above_streams(os.pidfd_open(pid))
    except AttributeError:
        return -1  # Python was built for an older system
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return -1
        raise


def pidfd_of_this() -> int:
    """Return a descriptor by which another process sees the end of this one; -1 if there is none.

    Workers end all the same, when their sockets close.
    """
    return pidfd(os.getpid())


def kill(pid: int, connection: int) -> None:
    """Kill a process to which there is a connection, unless it has ended.

    Parameters
    ----------
    pid : int
    connection : int
        A descriptor. As long as its other end is open, the pid has not been reused. Where the
        system has no descriptors of processes, or this process has no room for one, that may happen
        between the look and the signal.
    """
    try:
        process = pidfd(pid)
    except ProcessLookupError:
        return
    except OSError:
        process = -1
    try:
        poll = select.poll()
        poll.register(connection, 0)
        if poll.poll(0):
            return
        if process >= 0:
            _signal.pidfd_send_signal(process, _signal.SIGKILL)
        else:
            os.kill(pid, _signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        if process >= 0:
            os.close(process)


def wait_for_end(pid: int, seconds: float) -> None:
    """Wait until a process has ended, or for so long; it need not be a child, nor exist."""
    try:
        process = pidfd(pid)
    except ProcessLookupError:
        return
    except OSError:
        process = -1  # no room for a descriptor
    if process >= 0:
        try:
            poll = select.poll()
            poll.register(process, select.POLLIN)
            poll.poll(seconds * 1000)
        finally:
            os.close(process)
        return
    end = monotonic() + seconds
    while _runs(pid) and monotonic() < end:
        sleep(LOOK)  # nothing tells


def _runs(pid: int) -> bool:
    """Return whether a process runs; one that nobody has collected yet does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
