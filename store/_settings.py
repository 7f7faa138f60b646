"""What the environment asks of the store, read once per process."""

from __future__ import annotations

import os

from store._anonymous import has_memfd

#: How segments are made, best first; see `store._segments`.
MODES = ("memfd+huge", "memfd", "tmpfile", "frames")

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


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
    """Return the size that a variable gives: bytes, ``512M``, ``8G`` or ``40%`` of `whole`.

    Raises
    ------
    ValueError
        If it is none of these, negative or endless.
    """
    text = os.environ.get(name, "").strip().lower()
    if not text:
        return None
    try:
        if text.endswith("%"):
            nbytes = int(float(text[:-1]) / 100 * whole)
        else:
            unit = _UNITS.get(text[-1])
            nbytes = int(text) if unit is None else int(float(text[:-1]) * unit)
    except (ValueError, OverflowError):
        nbytes = -1
    if nbytes < 0:
        raise ValueError(f"{name}={os.environ[name]!r} is no size; write 1000000, 512M, 8G or 40%")
    return nbytes
