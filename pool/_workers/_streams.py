"""How standard output and standard error write: under ``python -u``, or after `reconfigure`.

What a task prints then appears at once, or in another encoding, as that of a forked child would.
"""

from __future__ import annotations

import sys
from _io import FileIO, TextIOWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    # Encoding, errors, whether it writes each line, whether it keeps nothing; and whether there
    # is no buffer behind it either.
    _Manner = tuple[str, str | None, bool, bool, bool]

_NAMES = ("__stdout__", "__stderr__")


def manners() -> tuple[_Manner | None, ...]:
    """Return how the streams that the interpreter has made write in this process."""
    return tuple(_manner(getattr(sys, name)) for name in _NAMES)


def _manner(stream: Any) -> _Manner | None:
    # No others: they have no such thing, or know it by other names.
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
            # Not in place of its buffer: handlers of modules that are loaded may have that one.
            if getattr(sys, name.strip("_")) is stream:
                setattr(sys, name.strip("_"), made)
            setattr(sys, name, made)
        else:
            stream.reconfigure(
                encoding=encoding, errors=errors, line_buffering=lines, write_through=through
            )
