"""Send what detached actors print, line by line, to the program whose call prints it."""

from __future__ import annotations

import _thread
import io
import sys
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: A line longer than this is sent in pieces.
LINE_MAX = 32 * 1024


class LineWriter(io.TextIOBase):
    """A stream that hands on whole lines.

    Parameters
    ----------
    send : callable
        ``send(text)`` with text that ends with a line break.
    fd : int
        Returned by `fileno`, for libraries that write to the descriptor themselves.
    """

    def __init__(self, send: Callable[[str], None], fd: int) -> None:
        self._send = send
        self._fd = fd
        self._lock = _thread.RLock()
        self._pending = ""

    encoding = "utf-8"
    errors = "backslashreplace"

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that this stands for."""
        return self._fd

    def write(self, text: str) -> int:
        """Keep `text` until its line is complete."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            pending = self._pending + text
            end = pending.rfind("\n") + 1
            if not end and len(pending) > LINE_MAX:
                pending, end = pending + "\n", len(pending) + 1
            self._pending = pending[end:]
            if end:
                self._send(pending[:end])
        return len(text)

    def flush(self) -> None:
        """Do nothing: half a line must not stand between those of others."""

    def complete(self) -> None:
        """Hand on the last line of a task even if it has no end."""
        if self._pending:
            with self._lock:
                pending, self._pending = self._pending, ""
                if pending:
                    self._send(pending + "\n")


def redirect(send: Callable[[int, str], Any]) -> None:
    """Have `sys.stdout` and `sys.stderr` of this process send what is written to them.

    Parameters
    ----------
    send : callable
        ``send(1 or 2, text)``.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        if not isinstance(getattr(sys, name), LineWriter):
            setattr(sys, name, LineWriter(partial(send, number), number))


def complete_lines() -> None:
    """Hand on what was printed without a line break; at the end of a call."""
    for stream in (sys.stdout, sys.stderr):
        if stream.__class__ is LineWriter and stream._pending:
            stream.complete()
