"""Death of the workers with their forkserver, by the kernel's hand."""

from __future__ import annotations

import _signal
import fcntl
import os
import select


class Lifeline:
    """Let the kernel kill the workers when their forkserver is gone.

    The forkserver holds the only write end of a pipe. Each worker opens the read end
    anew and asks for SIGKILL upon an event there; the only event that can ever come is
    the closing of the write end. That works while the worker is in C code and without
    ctypes, and does not depend on which thread forked.
    """

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def hold(self) -> None:
        """Tie this worker's life to the forkserver's."""
        os.close(self.write)
        tie(self.read)
        os.close(self.read)


def tie(read: int) -> None:
    """Ask for SIGKILL when the write end of the pipe `read` closes."""
    try:
        fd = os.open(f"/proc/self/fd/{read}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # no /proc: workers still end when their socket closes
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, _signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    poll = select.poll()
    poll.register(fd, 0)
    if poll.poll(0):
        os._exit(1)  # it closed before we asked
