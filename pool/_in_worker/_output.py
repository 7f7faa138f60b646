"""What the workers of a runtime print, be it by Python, C code or a subprocess.

Descriptors 1 and 2 of such a worker are pipes, whose other ends the program has. So text that was
written survives the worker, and all of it comes in the order of writing. The author is named in the
stream itself, by a *signature* before the first byte of another author: C code does not name
itself.

A signature is a line: ``ESC _ pool:PID;NAME ESC \\`` is a command that terminals ignore, should
one ever be shown raw.
"""

from __future__ import annotations

import _thread
import io
import os
import sys

from pool._transport._messages import CLIENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._transport._channel import Channel

#: How a signature begins and ends.
BEGINNING = b"\x1b_pool:"
END = b"\x1b\\\n"
#: Characters of a name, at most: a signature is written in one piece, as pipes do with little.
NAME_MAX = 500


class WorkerStream(io.TextIOWrapper):
    """Standard output or error of a worker, which writes whole lines.

    Attributes
    ----------
    within_line : int
        The thread that wrote last, if that was no line break; 0 otherwise.
    """

    within_line = 0

    def write(self, text: str) -> int:
        """Write `text`, at once if a line ends in it."""
        try:
            written = super().write(text)
        except BrokenPipeError:
            # The program had no descriptor left for the other end, or is gone.
            _discard(self.fileno())
            return len(text)
        if text:
            self.within_line = 0 if text[-1] == "\n" else _thread.get_ident()
        return written


class _Author:
    """The author of what this process prints, by its last signature."""

    name: str | None = None
    #: Whether signatures are written: False if nothing is to be shown.
    told = False
    #: The streams of this process; user code may have put others into `sys`.
    streams: tuple[WorkerStream, ...] = ()


_author = _Author()


def connect(channel: Channel) -> None:
    """Send what this process prints to the program, from now on.

    Parameters
    ----------
    channel : Channel
        The worker's own, over which the reading ends are handed over.
    """
    if _author.told:
        return
    _occupy()
    reading = []
    for target in (1, 2):
        read, write = os.pipe()
        os.dup2(write, target)
        os.close(write)
        reading.append(read)
    channel.send((CLIENT, "output"), fds=reading)
    for fd in reading:
        os.close(fd)
    _author.told = True
    _replace_streams()
    _buffer_lines()


def _buffer_lines() -> None:
    """Have C code write each line at once: into a pipe it would write every 4 KiB."""
    try:
        # Not by `ctypes` itself, whose import would take a third of a worker's start.
        import _ctypes

        class Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]  # it takes none
            _type_ = "P"

        libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # typeshed knows names only
        stdout = Pointer.from_address(_ctypes.dlsym(libc, "stdout"))
        setvbuf = _ctypes.dlsym(libc, "setvbuf")
        _ctypes.call_function(setvbuf, (stdout, Pointer(), _IOLBF, Pointer()))
    except (ImportError, OSError, AttributeError):
        return  # another C library: as in any process that writes into a pipe


#: Of <stdio.h>: a buffer is written at the end of each line.
_IOLBF = 1


def silence() -> None:
    """Have this process show nothing."""
    if _author.streams:
        return
    _occupy()
    _discard(1, 2)
    _replace_streams()


def _discard(*targets: int) -> None:
    """Have what is written to these descriptors dropped."""
    null = os.open(os.devnull, os.O_WRONLY)
    for target in targets:
        os.dup2(null, target)
    os.close(null)


def _occupy() -> None:
    """Open descriptors 0 to 2 if they are closed, as in a daemon."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return


def _replace_streams() -> None:
    streams = []
    for fd, name in ((1, "stdout"), (2, "stderr")):
        raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
        stream = WorkerStream(raw, "utf-8", "backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        streams.append(stream)
    _author.streams = tuple(streams)


def sign(name: str) -> None:
    """Write a signature if `name` is another author than before."""
    if name != _author.name:
        _author.name = name
        if _author.told:
            _write_signature(" ".join(name.split())[:NAME_MAX])


def _write_signature(name: str) -> None:
    shown = name.replace("\x1b", "").encode("utf-8", "replace")
    signature = b"%s%d;%s%s" % (BEGINNING, os.getpid(), shown, END)
    for fd, stream in enumerate(_author.streams, 1):
        try:
            stream.flush()
            os.write(fd, signature)
        except (OSError, ValueError):
            continue  # the program is gone, or user code has closed it


def complete_lines() -> None:
    """End the last line of a call if the call did not."""
    for stream in _author.streams:
        # Not a line of another thread, which is about to end it itself.
        if stream.within_line and stream.within_line == _thread.get_ident():
            try:
                stream.write("\n")
            except (OSError, ValueError):
                continue  # the program is gone, or user code has closed it


def flush() -> None:
    """Write out what is buffered, such as bytes, which are not written by lines."""
    for stream in _author.streams:
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
