"""From what is stored of an object to what `get` returns or raises."""

from __future__ import annotations

import copy

from pool._objects._parcels import unseal
from pool._objects._refs import FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

    from pool._objects._refs import ObjectRef


def value_of(state: int, stored: Any) -> Any:
    """Return a new copy of the value, or raise the error that is stored in its place."""
    if state == FAILED:
        told(stored)
        raise raisable(stored)
    return unseal(stored)


def disown(ref: ObjectRef) -> None:
    """Put an error in place of a value that was promised to the process that was forked."""
    if ref._state or not ref._home.foreign:
        return
    from pool.exceptions import OwnerDiedError

    ref._watchers = None  # they are of the parent's books
    ref._value = OwnerDiedError(
        f"{ref!r} was promised to the process that was forked; here nobody will keep "
        "that promise: pass values to children, or get() them before the fork"
    )
    ref._state = FAILED


def told(error: BaseException) -> None:
    """Note that somebody meets an error, and its cause, so that the program need not tell of it."""
    for met in (error, error.__cause__):
        untold = getattr(met, "_untold", None)
        if untold is not None:
            untold.told()


def raisable(error: BaseException) -> BaseException:
    """Return `error` anew: raising one object twice would mix the two tracebacks."""
    from pool.exceptions import RayError, RayTaskError

    if isinstance(error, RayTaskError):
        return error.as_instanceof_cause()
    if isinstance(error, RayError):
        again = copy.copy(error)
        again.__cause__ = error.__cause__
        return again
    return error


def resolve_future(future: Future[Any], state: int, stored: Any) -> None:
    """Give a future its outcome."""
    try:
        value = value_of(state, stored)
    except BaseException as error:
        future.set_exception(_awaitable(error))
    else:
        future.set_result(value)


def _awaitable(error: BaseException) -> BaseException:
    """Return what a coroutine may raise: it takes a `StopIteration` for what it waits for."""
    from pool.exceptions import RayTaskError

    if not (isinstance(error, StopIteration) and isinstance(error, RayTaskError)):
        return error
    plain = RayTaskError(error.function_name, error.cause)
    plain.__cause__ = error.cause
    return plain
