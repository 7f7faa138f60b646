"""What the environment asks of the store, read once per process."""

from __future__ import annotations

import os

from store._anonymous import has_memfd

#: How segments are made, best first; see `store._segments`.
MODES = ("memfd+huge", "memfd", "tmpfile", "frames")

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def wanted_mode() -> str:
    """Return the mode that ``POOL_STORE`` asks for; ``auto`` is the best there is.

    ``off`` is another word for ``frames``: no memory is shared.

    Raises
    ------
    ValueError
        If it names no mode, or another variable of the store has no meaning: it shall be known
        at once, and not when memory is short.
    """
    _check()
    mode = os.environ.get("POOL_STORE", "auto")
    if mode == "off":
        return "frames"
    if mode == "auto":
        mode = "memfd+huge" if has_memfd() else "tmpfile"
    if mode not in MODES:
        raise ValueError(
            f"POOL_STORE={mode!r} is not a mode of the store; use auto, off, {', '.join(MODES)}"
        )
    if mode == "memfd+huge" and os.environ.get("POOL_STORE_HUGE", "auto") == "off":
        return "memfd"
    return mode


def _check() -> None:
    folder = spill_folder()
    if folder is not None and not os.path.isdir(folder):
        raise ValueError(
            f"POOL_STORE_SPILL={folder!r} is no folder; name one on a disk, or write off"
        )
    huge = os.environ.get("POOL_STORE_HUGE", "auto")
    if huge not in ("auto", "off"):
        raise ValueError(f"POOL_STORE_HUGE={huge!r} is neither auto nor off")
    if nbytes_of("POOL_STORE_MAX", 1 << 40) == 0:
        raise ValueError(
            f"POOL_STORE_MAX={os.environ['POOL_STORE_MAX']!r} leaves no memory; write 1000000, "
            "512M, 8G or 40%, or POOL_STORE=off to share none"
        )
    nbytes_of("POOL_STORE_KEEP", 1 << 40)


def spill_folder() -> str | None:
    """Return where objects go for which memory is short; None: nowhere."""
    folder = os.environ.get("POOL_STORE_SPILL", "")
    if folder.lower() == "off":
        return None
    if folder:
        return folder
    # /tmp is memory on many machines, /var/tmp is a disk by its definition.
    return "/var/tmp" if os.path.isdir("/var/tmp") else None


def nbytes_of(name: str, whole: int) -> int | None:
    """Return the size that a variable gives: one for `parse_size`, or ``40%`` of `whole`.

    Raises
    ------
    ValueError
        If it is none of these, negative or endless.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        if text.endswith("%"):
            return _whole_bytes(float(text[:-1]) / 100 * whole)
        return parse_size(text)
    except ValueError:
        raise ValueError(
            f"{name}={os.environ[name]!r} is no size; write 1000000, 512M, 8G or 40%"
        ) from None


def parse_size(text: str) -> int:
    """Return a size in bytes: "1000000", "500M", "8G", "8GiB", "1.5 TB"; units are powers of 1024.

    Raises
    ------
    ValueError
        If it is no size, negative or endless.
    """
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = _UNITS.get(number[-1:])
    return _whole_bytes(int(number) if unit is None else float(number[:-1]) * unit)


def _whole_bytes(nbytes: float) -> int:
    if not 0 <= nbytes < 1 << 62:
        raise ValueError(nbytes)
    return int(nbytes)
