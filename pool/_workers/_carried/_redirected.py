"""Standard streams in whose place the program has put a file, or an object of its own.

``sys.stdout = open("log.txt", "w")``, or an object that writes both there and to the terminal. What
notebooks, test runners and other packages put there belongs to this process and stays here.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO, StringIO, TextIOWrapper

from pool._workers._warmup import installed

from ._setting import Setting, packed, unpacked, write_at_the_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    # Name, and what stands there, pickled; None: the same object as in the place before.
    _Stream = tuple[str, bytes | None]


class _Again:
    """A file that is open for writing; arrives opened once more, to append."""

    def __init__(self, file: TextIOWrapper) -> None:
        file.flush()
        write_at_the_end(file.fileno())
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        from pool._pickling._reducers import open_file

        file = self._file
        text = {"encoding": file.encoding, "errors": file.errors}
        return open_file, (os.path.abspath(file.name), "a", text, None)


class _Standard:
    """One of the streams that the interpreter has made; arrives as that of the worker.

    By another of its names, that under which it stands in a place of the other's, it would arrive
    as what is there in a worker.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (sys, self._name)


class _Nowhere:
    """Arrives as a file that keeps nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (os.devnull, "w")


class _Own:
    """An object of a class of the program's; arrives with attributes that can be sent."""

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
    """Return what arrives in place of a stream, or of what an own one has."""
    kind = type(value)
    if value is not None and (value is sys.__stdout__ or value is sys.__stderr__):
        return _Standard("__stdout__" if value is sys.__stdout__ else "__stderr__")
    if kind is list or kind is tuple:
        return kind(map(_sendable, value))
    if isinstance(value, StringIO | BytesIO):
        return _Nowhere()  # a forked child would collect what nobody sees
    if kind is TextIOWrapper and _is_file(value):
        return _Again(value)
    return _Own(value) if _is_own(value) else value


def _is_own(value: Any) -> bool:
    """Return whether it is a stream of a class of the program's, and all of it is attributes."""
    kind = type(value)
    top = kind.__module__.partition(".")[0]
    if top in sys.stdlib_module_names or installed(top) or isinstance(value, TextIOWrapper):
        return False
    if any(vars(base).get("__slots__") for base in kind.__mro__):
        return False
    return callable(getattr(value, "write", None)) and hasattr(value, "__dict__")


def _is_file(stream: Any) -> bool:
    """Return whether it only writes, to a file that can be opened by its name."""
    if stream.closed or not stream.writable() or stream.readable():
        return False  # what is read as well has a position that means something
    path = stream.name
    if type(path) is not str:
        return False
    try:
        found = os.stat(path)
    except OSError:
        return False
    # Not another one, that has the name since the log was rotated, or in another folder.
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
