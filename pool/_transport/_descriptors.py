"""Descriptors whose numbers are not those of standard streams.

In a program that has closed its standard streams, as daemons do, the next files to be opened get
their numbers: whatever is printed would be written there.
"""

from __future__ import annotations

import os
import select
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def above_streams(fd: int) -> int:
    """Return `fd`, or in place of 0, 1 or 2 a copy with another number; `fd` is then closed."""
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
    kind = unpatched("epoll")
    epoll: select.epoll = kind()
    if epoll.fileno() > 2:
        return epoll
    with epoll:
        copied: select.epoll = kind.fromfd(above_streams(os.dup(epoll.fileno())))
    return copied


def without_sockets() -> list[tuple[int, int]]:
    """Return the actions by which `os.posix_spawn` leaves a program's sockets to the program.

    Python's own sockets are not inherited by commands, but those of C code mostly are: under uWSGI
    those that it listens on, and the connection of the request that is being answered. A client
    might wait for the end of its connection as long as the new process lives.
    """
    actions = []
    try:
        entries = os.listdir("/proc/self/fd")
    except OSError:
        return []
    for fd in map(int, entries):
        try:
            if fd > 2 and os.get_inheritable(fd) and stat.S_ISSOCK(os.fstat(fd).st_mode):
                actions.append((os.POSIX_SPAWN_CLOSE, fd))
        except OSError:
            continue  # closed meanwhile, as the one that lists them is
    return actions


def unpatched(name: str) -> Any:
    """Return what `select` has under a name where gevent has not patched it.

    gevent removes `epoll`, and with its `poll` another greenlet could run within the few lines of
    a thread that drives a Pool.
    """
    gevent = sys.modules.get("gevent.monkey")
    return getattr(select, name) if gevent is None else gevent.get_original("select", name)


def is_closed(stream: int) -> bool:
    """Return whether programs that this one starts would not inherit a standard stream.

    It may be closed, or its number that of another file, which is not inherited.
    """
    try:
        return not os.get_inheritable(stream)
    except OSError:
        return True
