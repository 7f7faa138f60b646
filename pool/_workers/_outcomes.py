"""What a task returned, raised or printed, prepared for the way to the parent."""

from __future__ import annotations

import _pickle
import os
import sys

from pool._pickling import ATOMS, Encoded, dumps_exception, dumps_to_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def encode(value: Any) -> tuple[int, Encoded]:
    """Pickle what a task returned.

    Returns
    -------
    failed : int
        1 if the value cannot be pickled, else 0.
    encoded : Encoded
        The pickled value; or, if `failed`, the pickled error that says so.
    """
    try:
        if value.__class__ in ATOMS:
            return 0, Encoded(_pickle.dumps(value, 5), [])
        return 0, dumps_to_parent(value)
    except BaseException as error:
        return 1, dumps_exception(_refusal(error, value))


def _refusal(error: BaseException, value: object) -> BaseException:
    """Return the error that says that a result cannot be pickled."""
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # missing in typeshed

    if isinstance(error, MemoryError):
        return error  # the text of the result would take still more
    try:
        refusal: BaseException = MaybeEncodingError(error, value)
        return refusal
    except BaseException:
        # A value that nests too deeply for pickle does so for repr.
        name = f"<{type(value).__name__} object whose repr cannot be had>"
        refusal = MaybeEncodingError(error, None)
        refusal.value = name  # type: ignore[attr-defined]  # of its class
        refusal.args = (repr(error), name)
        return refusal


def flush_streams() -> None:
    """Write out what was printed, so that nothing is lost with the worker, or printed twice."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            continue  # closed, or its reader is gone, or replaced by an object of the program's


def is_crash(error: BaseException) -> bool:
    """Return whether `sys.exit` was called with a status that says that something went wrong."""
    return isinstance(error, SystemExit) and error.code not in (None, 0)


def end_fork(error: BaseException | None) -> NoReturn:
    """End this process, which is not the worker but was forked by a task.

    In such a process `sys.exit` means its end, not the task's. And if the task returned there, the
    fork must not go on as a second worker: the parent would get answers from both.

    Parameters
    ----------
    error : BaseException or None
        What the task raised in this process.
    """
    status = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        status = error.code or 0
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    flush_streams()
    os._exit(status & 0xFF)
