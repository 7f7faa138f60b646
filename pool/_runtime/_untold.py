"""Errors of tasks and calls that nobody asked for: told once, when nobody can ask any more.

An error is held by the references that failed with it and by nothing else. So it is enough that
the error holds something that tells of it when it is freed, unless somebody has met it before
(see `pool._objects._outcomes.told`). What succeeds pays nothing for that.

Cancelled calls, actors that are dead and what ends with the runtime are not told: whoever ended
them knows.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._runtime._runtime import Runtime
    from pool.exceptions import RayError

#: Ray's switch.
SILENCE = "RAY_IGNORE_UNHANDLED_ERRORS"


def watched(runtime: Runtime, error: RayError) -> RayError:
    """Return `error`; should it vanish before anybody meets it, the program tells of it."""
    if runtime.log_to_driver and SILENCE not in os.environ:
        error._untold = _Untold(runtime, type(error), error.args)
    return error


class _Untold:
    """Tell of an error when it is freed.

    Parameters
    ----------
    runtime : Runtime
    kind : type
        Of the error; not the error itself, which holds this.
    args : tuple
        Of the error.
    """

    __slots__ = ("_args", "_kind", "_runtime")

    def __init__(self, runtime: Runtime, kind: type[RayError], args: tuple[Any, ...]) -> None:
        self._runtime: Runtime | None = runtime
        self._kind = kind
        self._args = args

    def told(self) -> None:
        """Note that somebody knows."""
        self._runtime = None

    def __del__(self) -> None:
        runtime = self._runtime
        if runtime is None or runtime.driver.closed or runtime.foreign:
            return
        kind, args = self._kind, self._args
        # Later, since a collector may run this anywhere; and without the lock, for the text
        # is up to the exception's class.
        runtime.afterwards(lambda: _tell(runtime, kind(*args)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # who gets the error is told by that


def _tell(runtime: Runtime, error: RayError) -> None:
    try:
        text = str(error)
    except Exception:
        text = type(error).__name__
    runtime.logs.tell(f"Unhandled error (suppress with '{SILENCE}=1'): {text}")
