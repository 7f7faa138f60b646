"""Memory that processes hand to each other: a codec, and files without a name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._codec import OUT_OF_BAND_MIN, Encoded, decode, encode

__all__ = ["OUT_OF_BAND_MIN", "Encoded", "decode", "encode"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import _codec

        return getattr(_codec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
