"""Death of the workers with their forkserver, by the kernel's hand."""

from __future__ import annotations

import _signal
import errno
import fcntl
import os


class Lifeline:
    """Let the kernel kill the workers when their forkserver is gone.

    The forkserver holds the only write end of a pipe. Each worker opens the read end
    anew and asks for SIGKILL upon an event there; the only event that can ever come is
    the closing of the write end. That works while the worker is in C code and without
    ctypes, and does not depend on which thread forked.
    """

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        #: In a worker, the descriptor that its life is tied to; -1 without /proc.
        self.held = -1

    def prepare(self) -> None:
        """Open the read end anew for the next child: before the fork, where it is cheap."""
        self.held = _listen(self.read)

    def discard(self) -> None:
        """Close what was prepared, in the forkserver: it is the child's now."""
        if self.held >= 0:
            os.close(self.held)
            self.held = -1

    def hold(self) -> None:
        """Tie this worker's life to the forkserver's."""
        os.close(self.write)
        if self.held >= 0:
            _own(self.held)
        os.close(self.read)


def tie(read: int) -> int:
    """Ask for SIGKILL when the write end of the pipe `read` closes.

    Returns
    -------
    int
        Descriptor: to close it is to take that back. -1 without /proc.
    """
    fd = _listen(read)
    if fd >= 0:
        _own(fd)
    return fd


def _listen(read: int) -> int:
    """Return a descriptor of its own to the pipe, armed; -1 without /proc."""
    try:
        fd = os.open(f"/proc/self/fd/{read}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM):
            raise  # short of descriptors, say: there is a /proc
        return -1  # workers still end when their socket closes
    fcntl.fcntl(fd, fcntl.F_SETSIG, _signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    return fd


def _own(fd: int) -> None:
    """Have the signal sent to this process, or end if its cause was there before."""
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    try:
        if not os.read(fd, 1):
            os._exit(1)  # it closed before we asked
    except BlockingIOError:
        return  # open, and nothing in it: as it should be
