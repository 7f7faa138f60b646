"""Start single calls: what `Pool.apply` and `apply_async` hand to the engine."""

from __future__ import annotations

import _pickle

from pool._faces._options import Label, options, stream_label
from pool._faces._references import has_refs, held_back_by_refs
from pool._faces._results import AsyncResult
from pool._local._jobs import OneCall, detached
from pool._pickling import (
    ATOMS,
    CannotSend,
    dumps_function,
    dumps_to_worker,
    inherits,
    withdraw,
)
from pool._transport._messages import CALL, CAUGHT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar

    from pool._faces._options import Options
    from pool._faces._pool import Pool
    from pool._local._engine import LocalEngine
    from pool._local._jobs import Function

    R = TypeVar("R", bound=AsyncResult)

_NO_KWDS: dict[str, Any] = {}

#: In place of the value of a call that has to be submitted.
NOT_NOW: Any = object()


def call_now(
    pool: Pool, func: Callable[..., Any], args: Iterable[Any], kwds: Mapping[str, Any]
) -> Any:
    """Run a call on an idle worker and return what it returns; `NOT_NOW` if this is not possible.

    It is possible if a worker is idle, the function has no state, and there are no references.
    """
    engine = pool._engine
    if args.__class__ is not tuple or kwds.__class__ is not dict or engine.driver.jobs:
        return NOT_NOW
    offers: list[Any] = []
    try:
        payload = dumps_function(func, engine.asks)
        if not payload.stateless or payload.inherits > engine.inherited:
            return NOT_NOW
        if not kwds and ATOMS.issuperset(map(type, args)):
            blobs = [_pickle.dumps((args, _NO_KWDS), 5)]
        elif has_refs((*args, *kwds.values())):
            return NOT_NOW
        else:
            encoded = dumps_to_worker((args, kwds), engine.asks, offers=offers)
            if inherits(encoded) > engine.inherited:
                withdraw(offers)
                return NOT_NOW
            blobs = encoded.packet
    except CannotSend:
        return NOT_NOW  # `call` will meet the same error; it may have the object inherited
    loan = engine.call_now(payload, blobs, Label("apply", func))
    if loan is None:
        withdraw(offers)
        return NOT_NOW
    try:
        if loan.failed:
            raise loan.value
        return loan.value
    finally:
        del loan  # as in `AsyncResult.get`


def call_soon(
    pool: Pool,
    func: Callable[..., Any],
    args: Iterable[Any],
    callback: Callable[[Any], object] | None,
    error_callback: Callable[[BaseException], object] | None,
) -> AsyncResult | None:
    """Submit a call together with others of the same function; None if this is not possible.

    It is possible if the function has no state and all arguments are of classes in `ATOMS`.
    """
    if args.__class__ is not tuple or not ATOMS.issuperset(map(type, args)):
        return None
    engine = pool._engine
    try:
        payload = dumps_function(func, engine.asks)
    except CannotSend:
        return None  # `call` will meet the same error; it may have the function inherited
    except Exception as error:
        return fail(AsyncResult(pool, engine, callback, error_callback), error)
    if not payload.stateless or payload.inherits > engine.inherited:
        return None
    result = AsyncResult(pool, engine, callback, error_callback)
    engine.call_soon(payload, stream_label, func, args, result)
    return result


def call(
    pool: Pool,
    method: str,
    func: Callable[..., Any],
    args: Iterable[Any],
    kwds: Mapping[str, Any],
    callback: Callable[[Any], object] | None = None,
    error_callback: Callable[[BaseException], object] | None = None,
    extra: Mapping[str, Any] = {},  # never changed
    awaited: bool = False,
) -> AsyncResult:
    """Submit a call with any function and any arguments.

    Parameters
    ----------
    pool : Pool
    method : str
        The method of the Pool that was called, for error messages.
    func, args, kwds, callback, error_callback
        As for `Pool.apply_async`.
    extra : mapping
        The keyword arguments beyond the standard's.
    awaited : bool
        The caller waits for the result, so what it passed does not change meanwhile.

    Returns
    -------
    AsyncResult
    """
    chosen = options(extra)
    label = Label(method, func)
    if chosen.seed is not None:
        from pool._faces._seeding import seeded_call

        func = seeded_call(func, chosen.seed)
    engine = pool._engine

    def made() -> AsyncResult:
        result = AsyncResult(pool, engine, callback, error_callback)
        if chosen.progress:
            result._progress = progress_of(chosen, 1, label)
            result._caught = chosen.return_exceptions
        return result

    try:
        args, kwds = _unpacked(label, args, kwds or {})
    except TypeError as error:
        # The outcome of the call, as in the standard: there the worker finds it.
        return fail(made(), error, chosen.return_exceptions)
    if has_refs((*args, *kwds.values())):
        return _call_with_refs(engine, made(), label, func, args, kwds, chosen)
    refusal = None
    try:
        engine, function, blobs = _encode(pool, engine, func, args, kwds)
    except CannotSend as error:
        if held_back_by_refs((args, kwds)):
            return _call_with_refs(engine, made(), label, func, args, kwds, chosen)
        refusal = error  # not handled here, see `_maps._sendable`
    except Exception as error:
        # The user's own class raised it while being pickled: it is the outcome of the call.
        return fail(made(), error, chosen.return_exceptions)
    if refusal is not None:
        try:
            engine, function, blobs = _encode_held(pool, func, args, kwds, refusal)
        finally:
            refusal = None  # its traceback holds this frame, see `AsyncResult.get`
    if len(blobs) > 1 and not awaited:
        blobs = detached(blobs)  # copies: the caller goes on and may change its arrays
    result = made()
    mode = CALL | CAUGHT if chosen.return_exceptions else CALL
    result._job_id = engine.submit(
        function, mode, OneCall(blobs), result, label, chosen.timeout, chosen.retries, awaited
    )
    return result


def _unpacked(label: Label, args: Any, kwds: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call as a tuple and a dict.

    Raises
    ------
    TypeError
        If they are not such that a function can be called with ``*args, **kwds``.
    """
    if not (hasattr(args, "__iter__") or hasattr(args, "__getitem__")):
        kind = type(args).__name__
        raise TypeError(f"{label}: argument after * must be an iterable, not {kind}")
    if not hasattr(kwds, "keys"):
        kind = type(kwds).__name__
        raise TypeError(f"{label}: argument after ** must be a mapping, not {kind}")
    return tuple(args), dict(kwds)


def _call_with_refs(
    engine: LocalEngine,
    result: AsyncResult,
    label: Label,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwds: Mapping[str, Any],
    chosen: Options,
) -> AsyncResult:
    from pool._faces import _awaited
    from pool._objects._parcels import pack

    parcels = [pack(args, kwds)]
    mode = CALL | CAUGHT if chosen.return_exceptions else CALL
    result._job_id = _awaited.submit(
        engine, func, parcels, 1, mode, result, label, chosen.timeout, chosen.retries
    )
    return result


def _encode(
    pool: Pool,
    engine: LocalEngine,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwds: Mapping[str, Any],
) -> tuple[LocalEngine, Function | None, list[Any]]:
    """Pickle one call.

    Returns
    -------
    engine : LocalEngine
        The one given, or one whose workers share the memory that the call is about.
    function : Function or None
        None if the payload holds it.
    payload : list
    """
    payload = dumps_function(func, engine.asks)
    # What the function holds may be among the arguments too: pickled together they stay one object.
    call = (args, kwds) if payload.stateless else (func, args, kwds)
    encoded = dumps_to_worker(call, engine.asks, offers=[])
    engine = pool._engines.sharing(engine, max(payload.inherits, inherits(encoded)))
    function = engine.function(payload) if payload.stateless else None
    return engine, function, encoded.packet


def _encode_held(
    pool: Pool,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwds: Mapping[str, Any],
    error: CannotSend,
) -> tuple[LocalEngine, Function | None, list[Any]]:
    """Do as `_encode` for a call of which workers must inherit a part by a fork.

    They inherit the arguments only if these cannot be pickled. Pickled ones are copies of the
    task's own, even where they lie on memory that the workers share.
    """
    from pool._faces._inherit import hold_call, hold_function

    # Before `inheriting`, which forks the workers: only what is held by then is inherited.
    try:
        dumps_to_worker((args, kwds))
        func = hold_function(func)
    except Exception:
        func, args, kwds = hold_call(func, args, kwds), (), {}
    return _encode(pool, pool._engines.inheriting(error), func, args, kwds)


def fail(result: R, error: BaseException, caught: bool = False) -> R:
    """Make `result` fail with `error` and return it; if `caught`, the error is its value.

    The thread that drives the engine runs the callback, as for other results. This thread must
    not: it may hold a lock that the callback takes.
    """
    if caught:
        result.deliver(0, [error], False)
    if result.finish() if caught else result.abort(error):
        engine = result._engine
        engine.driver.calling.append(result)
        engine.attend()
    return result


def progress_of(chosen: Options, total: int | None, label: Label) -> Any:
    """Return what shows the progress of a call."""
    from pool._faces._progress import make_progress

    return make_progress(chosen.progress, total, str(label))
