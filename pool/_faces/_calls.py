"""From what the user passes to what an engine takes."""

from __future__ import annotations

import sys

from pool._pickling import CannotSend, dumps_function, dumps_to_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeVar

    from pool._faces._options import Label, Options
    from pool._faces._results import AsyncResult
    from pool._local._engine import LocalEngine
    from pool._local._jobs import Function

    R = TypeVar("R", bound=AsyncResult)


def encode_call(
    engine: LocalEngine, func: Callable[..., Any], args: tuple[Any, ...], kwds: Mapping[str, Any]
) -> tuple[Function | None, list[Any]]:
    """Pickle one call; return the function, None if the payload holds it, and the payload."""
    payload = dumps_function(func)
    if payload.stateless:
        encoded = dumps_to_worker((args, dict(kwds)))
        return engine.function(payload), [encoded.data, *encoded.buffers]
    # What the function holds may be among the arguments too: one pickle keeps that.
    encoded = dumps_to_worker((func, args, dict(kwds)))
    return None, [encoded.data, *encoded.buffers]


def has_refs(values: Iterable[Any]) -> bool:
    """Return whether there are references of the runtime among values; free if it has none."""
    if "pool._objects._refs" not in sys.modules:
        return False
    from pool._faces._awaited import found

    return found(values)


def hold_refs(value: object) -> bool:
    """Return whether references, inside of objects of the user's, are all that cannot be sent."""
    if "pool._objects._refs" not in sys.modules:
        return False
    from pool._faces._awaited import held

    return held(value)


def check_sendable(items: Sequence[Any]) -> None:
    """Raise CannotSend if the first item cannot be pickled, by nobody's fault."""
    if items.__class__ is range or not len(items):
        return
    try:
        dumps_to_worker(items[0])
    except CannotSend:
        raise
    except Exception:
        return  # raised by its own class: the outcome of its chunk


def fail(result: R, error: BaseException) -> R:
    """Return a result that has failed already."""
    if result.abort(error):
        result.call_back()
    return result


def as_sequence(iterable: Iterable[Any], awaited: bool) -> Sequence[Any]:
    """Return the items as a sequence that will not change while they are sent."""
    kind = iterable.__class__
    if kind is range or kind is tuple or (kind is list and awaited):
        return iterable  # type: ignore[return-value]  # one of these three
    # A snapshot: the caller goes on and may change its list.
    return list(iterable)


def progress_of(chosen: Options, total: int | None, label: Label) -> Any:
    """Return what shows the progress of a call."""
    from pool._faces._progress import make_progress

    return make_progress(chosen.progress, total, str(label))
