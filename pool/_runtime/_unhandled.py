"""Unhandled errors: those of tasks and calls whose results nobody has asked for, nor can any more.

An error is held by the references that failed with it and by nothing else. So it is enough that
the error holds an object that reports it when it is freed, unless the program has seen the error
before (see `pool._objects._outcomes.mark_handled`). Calls that succeed pay nothing for that.

Not reported are errors of cancelled calls, of dead actors, and of what ends with the runtime: the
program has ended those itself, or is told in other ways.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._runtime._runtime import Runtime
    from pool.exceptions import RayError

#: Ray's environment variable; if it is set, nothing is reported.
SILENCE = "RAY_IGNORE_UNHANDLED_ERRORS"


def reported_if_unhandled(runtime: Runtime, error: RayError) -> RayError:
    """Return `error`, having it reported if it is freed before the program has seen it."""
    if runtime.log_to_driver and SILENCE not in os.environ:
        error._unhandled = _Unhandled(runtime, type(error), error.args)
    return error


class _Unhandled:
    """Reports an error when it is freed together with the error.

    Parameters
    ----------
    runtime : Runtime
    kind : type
        Class of the error. The error itself must not be held, since it holds this.
    args : tuple
        Arguments of the error.
    """

    __slots__ = ("_args", "_kind", "_runtime")

    def __init__(self, runtime: Runtime, kind: type[RayError], args: tuple[Any, ...]) -> None:
        self._runtime: Runtime | None = runtime
        self._kind = kind
        self._args = args

    def handled(self) -> None:
        """Note that the program has seen the error."""
        self._runtime = None

    def __del__(self) -> None:
        runtime = self._runtime
        if runtime is None or runtime.driver.closed or runtime.foreign:
            return
        kind, args = self._kind, self._args
        # Later, since the garbage collector may call this anywhere; and without the lock, since the
        # text of the error may be made by code of the user's.
        runtime.afterwards(lambda: _tell(runtime, kind(*args)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # the process that gets the error has seen it


def _tell(runtime: Runtime, error: RayError) -> None:
    try:
        text = str(error)
    except Exception:
        text = type(error).__name__
    runtime.logs.tell(f"Unhandled error (suppress with '{SILENCE}=1'): {text}")
