"""What workers write to descriptors 1 and 2, read in the program.

Each worker has two pipes, see `pool._in_worker._output`. They are in an epoll object of their own,
which is in that of the driver: so the thread that drives reads them, and one call tells whether
there is anything to be read, however many workers there are. As long as there are pipes some thread
drives (the stand-in, if none waits), so no worker is held up by a full one.

Everything here but the printing runs under the driver's lock.
"""

from __future__ import annotations

import os
import select

from pool._in_worker._output import BEGINNING, END
from pool._transport._descriptors import epoll_above_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pool._local._driver import Driver
    from pool._runtime._logs import Logs

#: Bytes that a pipe holds.
PIPE_NBYTES = 64 * 1024
#: Reads of one pipe between two looks at the others: a worker may write faster than this prints.
READS_AT_ONCE = 16
#: Bytes of a line, at most; a longer one is shown in pieces.
LINE_MAX = 32 * 1024
#: Bytes of a signature, at most, since names are cut; what is longer is none.
SIGNATURE_MAX = 4096


class Lines:
    """Takes the bytes of one pipe apart into lines, each with its author.

    Parameters
    ----------
    show : callable
        ``show(name, pid, text)`` with text that ends with a line break.
    """

    def __init__(self, show: Callable[[str, int, str], None]) -> None:
        self._show = show
        self._name = ""
        self._pid = 0
        #: The beginning of a line whose end has not come.
        self._pending = b""

    @property
    def within_line(self) -> bool:
        """Whether the end of a line is missing."""
        return bool(self._pending)

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        data = self._pending + data
        # A signature may follow half a line; itself it always ends one.
        while (start := data.find(BEGINNING)) >= 0:
            end = data.find(END, start)
            if end < 0:
                break
            self._pass_on(data[:start])
            self._sign(data[start + len(BEGINNING) : end])
            data = data[end + len(END) :]
        if start < 0 or len(data) - start > SIGNATURE_MAX:
            start = len(data)
        whole = data.rfind(b"\n", 0, start) + 1
        if not whole and start > LINE_MAX:
            # The line is not cut within the beginning of a signature, if it ends with one.
            escape = data.rfind(BEGINNING[:1], start - len(BEGINNING), start)
            whole = start if escape < 0 else escape
        self._pending = data[whole:]
        self._pass_on(data[:whole])

    def _sign(self, signature: bytes) -> None:
        pid, _, name = signature.partition(b";")
        if pid.isdigit():
            self._pid, self._name = int(pid), name.decode("utf-8", "replace")

    def _pass_on(self, data: bytes) -> None:
        if data:
            text = data.decode("utf-8", "replace")
            self._show(self._name, self._pid, text if text.endswith("\n") else text + "\n")

    def complete(self) -> None:
        """Show the last line although it has no end."""
        pending, self._pending = self._pending, b""
        self._pass_on(pending)


class _Pipe:
    """The reading end of one pipe."""

    def __init__(self, fd: int, lines: Lines, is_idle: Callable[[], bool]) -> None:
        self.fd = fd
        self.lines = lines
        self.is_idle = is_idle

    def read(self) -> bool:
        """Read what has come; return False if no process can write to the pipe any more."""
        for _ in range(READS_AT_ONCE):
            try:
                data = os.read(self.fd, PIPE_NBYTES)
            except BlockingIOError:
                return True
            if not data:
                self.lines.complete()
                return False
            self.lines.feed(data)
            if len(data) < PIPE_NBYTES:
                return True
        return True


class Outputs:
    """The output of all workers of a runtime.

    Parameters
    ----------
    driver : Driver
    logs : Logs
    """

    def __init__(self, driver: Driver, logs: Logs) -> None:
        self._driver = driver
        self._logs = logs
        self._pipes: dict[int, _Pipe] = {}
        #: Pipes of which the end of a line is missing.
        self._within: set[_Pipe] = set()
        self._epoll: select.epoll | None = None

    @property
    def open(self) -> bool:
        """Whether there is any pipe that a worker may write to."""
        return bool(self._pipes)

    def add(self, fds: list[int], is_idle: Callable[[], bool]) -> None:
        """Read the output of one more worker.

        Parameters
        ----------
        fds : list of int
            The reading ends of standard output and standard error; owned by this from now on.
        is_idle : callable
            ``is_idle()`` returns whether the worker runs nothing, so that a line gets no end.
        """
        if self._epoll is None:
            self._epoll = epoll_above_streams()
            fd = self._epoll.fileno()
            self._driver.clients[fd] = self
            self._driver.epoll.register(fd, select.EPOLLIN)
        for stream, fd in enumerate(fds, 1):
            os.set_blocking(fd, False)
            self._pipes[fd] = _Pipe(fd, Lines(self._shower(stream)), is_idle)
            self._epoll.register(fd, select.EPOLLIN)

    def _shower(self, stream: int) -> Callable[[str, int, str], None]:
        def show(name: str, pid: int, text: str) -> None:
            self._logs.add(name, pid, stream, text)
            driver = self._driver
            if not (driver.calling or driver.closed):
                # The thread that drives prints, and may be asleep while this one submits.
                driver.wake()
            driver.calling.append(self._logs)

        return show

    @property
    def channel(self) -> Any:
        """The object that the driver closes when it closes all its clients: this one."""
        return self

    def on_ready(self) -> None:
        """Read what has come."""
        if self._epoll is None:
            return
        for fd, _ in self._epoll.poll(0, len(self._pipes) or 1):
            pipe = self._pipes[fd]
            if not pipe.read():
                self._epoll.unregister(fd)
                del self._pipes[fd]
                os.close(fd)
            if pipe.lines.within_line:
                self._within.add(pipe)
            elif self._within:
                self._within.discard(pipe)

    def catch_up(self) -> None:
        """Read what was written before the outcome of a call that has just come."""
        self.on_ready()
        if self._within:
            self.complete([pipe for pipe in self._within if pipe.is_idle()])

    def complete(self, pipes: Iterable[_Pipe] | None = None) -> None:
        """Show lines that will get no end: those of `pipes`, or all."""
        for pipe in list(self._within if pipes is None else pipes):
            pipe.lines.complete()
            self._within.discard(pipe)

    def close(self) -> None:
        """Do nothing: `finish` reads what is left, when all workers are gone."""

    def finish(self, forked: bool = False) -> None:
        """Show what is left, and close everything.

        Parameters
        ----------
        forked : bool
            Whether this is a forked child, where what is left is not shown: the parent does that.
        """
        if self._epoll is None:
            return
        epoll, self._epoll = self._epoll, None
        for fd, pipe in self._pipes.items():
            if not forked and pipe.read():
                pipe.lines.complete()
            os.close(fd)
        self._pipes.clear()
        self._within.clear()
        epoll.close()
