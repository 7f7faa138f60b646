"""Workers die with their forkserver, however it ends: the kernel kills them."""

from __future__ import annotations

import _signal
import errno
import fcntl
import os


class Lifeline:
    """Let the kernel kill the workers when their forkserver is gone.

    The forkserver has the only write end of a pipe. Each worker opens the read end anew and asks,
    by ``F_SETSIG``, for SIGKILL upon an event there; the only event that can ever come is the
    closing of the write end. That works while the worker is in C code, needs no ctypes, and does
    not depend on which thread forked, as ``PR_SET_PDEATHSIG`` does.
    """

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        #: The read end that was opened anew, which ties the life of a worker; -1 if it cannot.
        self.held = -1

    def prepare(self) -> None:
        """Open the read end anew for the next worker: before the fork, where that is cheaper."""
        self.held = _listen(self.read)

    def discard(self) -> None:
        """Close the forkserver's copy of what `prepare` has opened: the worker has it now."""
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
        A descriptor; to close it takes the request back. -1 if the system does not know such
        requests, or has no /proc: then workers still end when their socket closes.
    """
    fd = _listen(read)
    if fd >= 0:
        _own(fd)
    return fd


def _listen(read: int) -> int:
    """Open the read end of a pipe anew and ask for SIGKILL upon events; see `tie`."""
    try:
        fd = os.open(f"/proc/self/fd/{read}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM):
            raise  # there is a /proc, but no descriptor is left, for example
        return -1
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, _signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    except OSError:  # a sandbox that plays Linux
        os.close(fd)
        return -1
    return fd


def _own(fd: int) -> None:
    """Have the signal sent to this process; end at once if the write end is closed already."""
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    try:
        if not os.read(fd, 1):
            os._exit(1)  # closed before the request
    except BlockingIOError:
        return  # the write end is open
