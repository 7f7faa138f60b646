"""Standard streams in whose place the program has put a file, or an object of its own.

``sys.stdout = open("log.txt", "w")``, or an object that writes to that file and to the terminal.
What notebooks, test runners and other packages put there belongs to this process, and is not
carried.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO, StringIO, TextIOWrapper

from pool._workers._warmup import is_library

from ._setting import Setting, packed, unpacked, write_at_the_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    # Name of the stream, and the pickled object in its place; None: the same as for the one before.
    _Stream = tuple[str, bytes | None]


class _Again:
    """A file that is open for writing; unpickled, it is the file opened again to append."""

    def __init__(self, file: TextIOWrapper) -> None:
        file.flush()
        write_at_the_end(file.fileno())
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        from pool._pickling._files import open_file

        file = self._file
        text = {"encoding": file.encoding, "errors": file.errors}
        return open_file, (os.path.abspath(file.name), "a", text, None)


class _Standard:
    """A stream that the interpreter has made; unpickled, it is the same stream of the worker.

    It is named ``__stdout__`` or ``__stderr__``: as ``sys.stdout``, where the program may have put
    the other one, it would arrive as whatever has that name in the worker.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (sys, self._name)


class _Nowhere:
    """Unpickled, it is a file that keeps nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (os.devnull, "w")


class _Own:
    """An object of one of the program's classes; each attribute is sent as `_sendable` says."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __reduce__(self) -> tuple[Any, ...]:
        stream = self._stream
        return _rebuild, (type(stream), {k: _sendable(v) for k, v in vars(stream).items()})


def _rebuild(kind: Any, state: dict[str, Any]) -> Any:
    stream = kind.__new__(kind)
    vars(stream).update(state)
    return stream


def _sendable(value: Any) -> Any:
    """Return what to pickle in place of a stream, or of an attribute of one of the program's."""
    kind = type(value)
    if value is not None and (value is sys.__stdout__ or value is sys.__stderr__):
        return _Standard("__stdout__" if value is sys.__stdout__ else "__stderr__")
    if kind is list or kind is tuple:
        return kind(map(_sendable, value))
    if isinstance(value, StringIO | BytesIO):
        return _Nowhere()  # a forked child would collect text there that nobody reads
    if kind is TextIOWrapper and _is_file(value):
        return _Again(value)
    return _Own(value) if _is_own(value) else value


def _is_own(value: Any) -> bool:
    """Return whether a stream is of one of the program's classes, and all its state attributes."""
    kind = type(value)
    top = kind.__module__.partition(".")[0]
    if is_library(top) or isinstance(value, TextIOWrapper):
        return False
    if any(vars(base).get("__slots__") for base in kind.__mro__):
        return False
    return callable(getattr(value, "write", None)) and hasattr(value, "__dict__")


def _is_file(stream: Any) -> bool:
    """Return whether a stream only writes, to a file that can be opened by its name."""
    if stream.closed or not stream.writable() or stream.readable():
        return False  # of a file that is read as well, the position matters
    path = stream.name
    if type(path) is not str:
        return False
    try:
        found = os.stat(path)
    except OSError:
        return False
    # Another file may have the name by now: after a log was rotated, or in another directory.
    same = os.path.samestat(found, os.fstat(stream.fileno()))
    return same and (path == os.devnull or os.path.isfile(path))


def _read(module: ModuleType) -> list[_Stream] | None:
    found: list[_Stream] = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            continue
        if name == "stderr" and stream is sys.stdout:
            found += [(name, None)] if found or stream is sys.__stdout__ else []
            continue
        sent = _sendable(stream)
        data = None if sent is stream else packed(sent)
        if data is not None:
            found.append((name, data))
    return found or None


def _write(module: ModuleType, value: list[_Stream]) -> None:
    for name, data in value:
        setattr(sys, name, sys.stdout if data is None else unpacked(data))


SETTINGS = {"io": Setting("io", _read, _write)}
