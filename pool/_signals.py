"""The C half of `signal`: the module itself wraps it in enums, which take 3 ms to import."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as c_signal  # the C half has no annotations of its own
else:
    import _signal as c_signal

__all__ = ["c_signal"]
