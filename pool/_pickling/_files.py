"""Reducers for files and standard streams: the receiver opens them again."""

from __future__ import annotations

import _pickle
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._picklers import BasePickler


def stream_name(obj: Any) -> str:
    """Return which of the standard streams an object is; empty if it is none."""
    for name in ("stdout", "stderr", "stdin", "__stdout__", "__stderr__", "__stdin__"):
        if obj is getattr(sys, name, None):
            return name
    return ""


def reduce_stream(pickler: BasePickler, stream: Any) -> Any:
    """Reduce a standard stream to its name: the receiver has its own."""
    return getattr, (sys, stream_name(stream))


def reduce_file(pickler: BasePickler, file: Any) -> Any:
    """Reduce an open file to its name, mode and position."""
    if stream_name(file):
        return reduce_stream(pickler, file)
    if file.closed:
        return _closed_file, (_mode_for(file),)
    name = file.name
    if not isinstance(name, str | bytes):
        raise _pickle.PicklingError(f"cannot pickle an open file without a name: {file!r}")
    if file.writable():
        # Flushed, so that the receiver sees what was written, and a forked process that inherits
        # the buffer does not write it again.
        file.flush()
        _refuse_position(file)
    position = file.tell() if file.seekable() else None
    text = {}
    if hasattr(file, "encoding"):
        text = {"encoding": file.encoding, "errors": file.errors}
    return open_file, (_absolute(name), _mode_for(file), text, position)


def _refuse_position(file: Any) -> None:
    """Refuse a file that is open for writing, unless for appending.

    Each process would have a position of its own, and write over what others have written. Forked
    children, in contrast, share one position. It will be inherited by them now, and what their
    tasks write is written out as with files that were opened again.
    """
    if "a" not in file.mode:
        _flush_later(file)
        raise _pickle.PicklingError(
            f"cannot pickle {file.name!r}, which is open for writing (mode {file.mode!r}): "
            "processes that open it again would write over each other's data; open it with "
            "mode 'a', or in the function"
        )


def _absolute(name: str | bytes) -> str | bytes:
    from os.path import abspath

    return abspath(name)


def _mode_for(file: Any) -> str:
    mode: str = file.mode
    return mode if hasattr(file, "encoding") or "b" in mode else mode + "b"


def open_file(name: Any, mode: str, text: dict[str, str], position: int | None) -> Any:
    """Open a file as it is open in the sender; `flush_files` flushes what is appended to it."""
    file = open(name, mode, **text)  # type: ignore[call-overload]  # the caller's
    if "a" in mode:
        _flush_later(file)
    if position is not None:
        file.seek(position)  # to read from
    return file


#: Files to which tasks may write: those opened here to be appended to, and those inherited.
_written: Any = ()


def _flush_later(file: Any) -> None:
    global _written
    if not _written:
        from weakref import WeakSet

        _written = WeakSet()
    _written.add(file)


def flush_files() -> None:
    """Flush files that tasks were sent, so that the program sees their text with the results."""
    for file in list(_written):
        try:
            if not file.closed:
                file.flush()
        except ValueError:
            continue  # the task has detached its buffer
        except OSError as error:
            from pool._unraisable import report

            report(error, f"raised while what a task wrote to {file.name!r} was written out")


def _closed_file(mode: str) -> Any:
    from os import devnull

    file = open(devnull, mode.replace("x", "w"))  # closed by the next line
    file.close()
    return file


def reduce_raw_file(pickler: BasePickler, file: Any) -> Any:
    """Reduce an unbuffered file, as `reduce_file` does."""
    if file.closed or not isinstance(file.name, str | bytes):
        return reduce_file(pickler, file)
    if file.writable():
        _refuse_position(file)
    position = file.tell() if file.seekable() else 0
    return _open_raw_file, (_absolute(file.name), _mode_for(file), position)


def _open_raw_file(name: Any, mode: str, position: int) -> Any:
    from io import FileIO

    file = FileIO(name, mode)
    if position:
        file.seek(position)
    return file


def reduce_temporary_file(pickler: BasePickler, wrapper: Any) -> Any:
    """Reduce a temporary file, which only the process that made it deletes."""
    return _wrap_temporary_file, (wrapper.file, wrapper.name)


def _wrap_temporary_file(file: Any, name: str) -> Any:
    import tempfile

    return tempfile._TemporaryFileWrapper(file, name, delete=False)
