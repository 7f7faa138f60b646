"""Descriptors that are none of the standard streams'.

In a program that has closed its streams, as daemons do, the next ones to be opened get their
numbers: whatever is printed would go there.
"""

from __future__ import annotations

import errno
import os
import select


def above_streams(fd: int) -> int:
    """Return a descriptor that is none of the standard streams', in place of `fd`."""
    if not 0 <= fd <= 2:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def pipe_above_streams() -> tuple[int, int]:
    """Return the read end and the write end of a pipe."""
    read, write = os.pipe()
    return above_streams(read), above_streams(write)


def epoll_above_streams() -> select.epoll:
    """Return a new epoll object."""
    epoll = select.epoll()
    if epoll.fileno() > 2:
        return epoll
    with epoll:
        return select.epoll.fromfd(above_streams(os.dup(epoll.fileno())))


def pidfd_of_this() -> int:
    """Return a descriptor by which others see the end of this process; -1 if there is none.

    Older kernels do not know the call, and some sandboxes forbid it: workers end all the same, with
    their sockets.
    """
    try:
        return above_streams(os.pidfd_open(os.getpid()))
    except AttributeError:
        return -1
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return -1
        raise


def is_closed(stream: int) -> bool:
    """Return whether programs that this one starts have no such stream.

    It may be another descriptor that has got the number.
    """
    try:
        return not os.get_inheritable(stream)
    except OSError:
        return True
