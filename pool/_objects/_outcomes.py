"""Turn the stored value of an object into what `get` returns or raises."""

from __future__ import annotations

import copy

from pool._objects._parcels import unseal
from pool._objects._refs import FAILED
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

    from pool._objects._refs import ObjectRef


def value_of(state: int, stored: Any) -> Any:
    """Return a new copy of the value, or raise the error that is stored in its place."""
    if state == FAILED:
        mark_handled(stored)
        raise raisable(stored)
    return unseal(stored)


def disown(ref: ObjectRef) -> None:
    """In a forked child, fail an object whose value was promised to its parent."""
    if ref._state or not ref._home.foreign:
        return
    from pool.exceptions import OwnerDiedError

    ref._watchers = None  # they are in records of the parent
    ref._value = OwnerDiedError(
        f"{ref!r} was promised to the process that was forked; here nobody will keep "
        "that promise: pass values to children, or get() them before the fork"
    )
    ref._state = FAILED


def mark_handled(error: BaseException) -> None:
    """Note that an error, and its cause, reach the program: they are not reported as lost, too."""
    for met in (error, error.__cause__):
        unhandled = getattr(met, "_unhandled", None)
        if unhandled is not None:
            unhandled.handled()


def raisable(error: BaseException) -> BaseException:
    """Return a new copy of `error`: raising one object twice would mix the two tracebacks."""
    from pool.exceptions import RayError, RayTaskError

    if isinstance(error, RayTaskError):
        return error.as_instanceof_cause()
    if isinstance(error, RayError):
        again = copy.copy(error)
        again.__cause__ = error.__cause__
        return again
    return error


def resolve_future(future: Future[Any], state: int, stored: Any) -> None:
    """Give a future its outcome.

    An interrupt that comes while the value is unpickled is not that outcome: it is for whatever
    this thread does, which may wait for something else.
    """
    value: Any = None
    error: BaseException | None = None
    shielded = shield.enter()
    try:
        value = value_of(state, stored)
    except BaseException as raised:
        error = raised
    try:
        shield.leave(shielded)
    finally:
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(_awaitable(error))
        del error, future  # the traceback refers to this frame


def _awaitable(error: BaseException) -> BaseException:
    """Return `error`, but no `StopIteration`: awaiting it would return instead of raising."""
    from pool.exceptions import RayTaskError

    if not (isinstance(error, StopIteration) and isinstance(error, RayTaskError)):
        return error
    plain = RayTaskError(error.function_name, error.cause)
    plain.__cause__ = error.cause
    return plain
