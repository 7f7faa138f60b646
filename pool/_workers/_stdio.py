"""How standard output and standard error buffer and encode, carried from a program to its workers.

After ``python -u``, or `reconfigure`, what a task prints appears at once, or in another encoding,
as what a fork of the program prints does.
"""

from __future__ import annotations

import sys
from _io import FileIO, TextIOWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    # Encoding, errors, whether it writes out each line, whether it writes through to its buffer at
    # once; and whether it has no buffer, so that each write is a system call.
    _Manner = tuple[str, str | None, bool, bool, bool]

_NAMES = ("__stdout__", "__stderr__")


def manners() -> tuple[_Manner | None, ...]:
    """Return how the streams that the interpreter has made write in this process."""
    return tuple(_manner(getattr(sys, name)) for name in _NAMES)


def _manner(stream: Any) -> _Manner | None:
    # Of other classes it is not known what they have, nor by which names.
    if type(stream) is not TextIOWrapper or stream.closed:
        return None
    return (
        *(stream.encoding, stream.errors, stream.line_buffering, stream.write_through),
        isinstance(stream.buffer, FileIO),
    )


def write_alike(manners: Sequence[_Manner | None]) -> None:
    """Have the streams of this process write as those of the program."""
    for name, manner in zip(_NAMES, manners, strict=True):
        stream = getattr(sys, name)
        own = _manner(stream)
        if manner is None or own is None or own == manner:
            continue
        encoding, errors, lines, through, unbuffered = manner
        if unbuffered and not own[4]:
            raw: Any = FileIO(stream.fileno(), "w", closefd=False)
            raw.name = stream.name
            made: Any = TextIOWrapper(raw, encoding, errors, "\n", lines, through)
            made.mode = stream.mode
            # A new object, without a change of the old one's buffer: loaded modules may hold that.
            if getattr(sys, name.strip("_")) is stream:
                setattr(sys, name.strip("_"), made)
            setattr(sys, name, made)
        else:
            stream.reconfigure(
                encoding=encoding, errors=errors, line_buffering=lines, write_through=through
            )
