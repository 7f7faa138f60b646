"""Start maps: what `Pool.map`, `starmap` and their async forms hand to the engine."""

from __future__ import annotations

from _weakref import ref
from types import MethodType

from pool._clock import perf_counter
from pool._faces._calls import fail, progress_of
from pool._faces._options import Label, count_of, options
from pool._faces._references import has_refs, held_back_by_refs
from pool._faces._results import MapResult
from pool._local._jobs import Items
from pool._pickling import CannotSend, dumps_function, dumps_to_worker, inherits, withdraw
from pool._transport._messages import CAUGHT, MAP, STAR
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from pool._faces._options import Options
    from pool._faces._pool import Pool
    from pool._local._engine import LocalEngine
    from pool._local._jobs import Function
    from pool._pickling._payloads import FunctionPayload


#: Seconds of pickling in vain after which a function is not pickled again.
LONG = 0.1

#: By id, what a function belongs to, and why it was refused.
_refused: dict[int, tuple[ref[Any], tuple[str, str, str, str]]] = {}


def start_map(
    pool: Pool,
    method: str,
    func: Callable[..., Any],
    iterable: Iterable[Any],
    chunksize: int | None,
    mode: int,
    extra: Mapping[str, Any],
    callback: Callable[[list[Any]], object] | None = None,
    error_callback: Callable[[BaseException], object] | None = None,
    awaited: bool = False,
) -> MapResult:
    """Submit a map and return its result.

    Parameters
    ----------
    pool : Pool
    method : str
        The method of the Pool that was called, for error messages.
    func, iterable, chunksize
        As for `Pool.map_async`.
    mode : int
        MAP or STAR.
    extra : mapping
        The keyword arguments beyond the standard's.
    callback, error_callback
        As for `Pool.map_async`.
    awaited : bool
        The caller waits for the result, so what it passed does not change meanwhile. Mostly the
        result is there when this returns.

    Raises
    ------
    CannotSend
        If `func` or the items can be neither pickled nor inherited.
    """
    chosen = options(extra)
    items = _as_sequence(iterable, awaited)
    length = len(items)
    chunksize = _chunksize(chunksize, length, pool._processes)
    label = Label(method, func)
    if not length:
        # As in the standard, nothing is called then; nor is the function pickled.
        func, callback, error_callback = bool, None, None
    if chosen.single:
        chunksize = 1
    if chosen.seed is not None:
        from pool._faces._seeding import seeded_map

        func, arguments = seeded_map(func, items, chosen.seed, mode == STAR)
        items, mode = list(arguments), STAR
    engine = pool._engine
    parcels = None
    try:
        if _need_runtime(items):
            from pool._faces import _awaited

            parcels = _awaited.parcels_of(items, mode == STAR)
        else:
            engine, function, items, mode = _sendable(pool, func, items, mode)
    except CannotSend:
        raise
    except Exception as error:
        # The user's own class raised it while being pickled: it is the outcome of the map.
        failed = MapResult(pool, engine, chunksize, length, callback, error_callback)
        return fail(failed, error)
    result = MapResult(pool, engine, chunksize, length, callback, error_callback)
    caught = CAUGHT if chosen.return_exceptions else 0
    if chosen.progress:
        result._progress = progress_of(chosen, length, label)
        result._caught = chosen.return_exceptions
    if parcels is not None:
        mode, limits = MAP | caught, (chosen.timeout, chosen.retries)
        result._job_id = _awaited.submit(
            engine, func, parcels, chunksize, mode, result, label, *limits
        )
        return result
    source = Items(items, chunksize, label.item)
    source.captured = function.captured
    _submit(engine, function, mode | caught, source, result, label, chosen, awaited)
    return result


def _submit(
    engine: LocalEngine,
    function: Function,
    mode: int,
    source: Items,
    result: MapResult,
    label: Label,
    chosen: Options,
    awaited: bool,
) -> None:
    """Hand a map to the engine; if `awaited`, wait for its result."""
    # An interrupt between the submission and the wait would leave the call to run, and those that
    # come next to wait behind it: the wait lets it through, and cancels the call.
    shielded = shield.enter() if awaited else 0
    try:
        result._job_id = engine.submit(
            function, mode, source, result, label, chosen.timeout, chosen.retries, awaited
        )
        if awaited:
            result.wait()
    finally:
        shield.leave(shielded)


def _chunksize(given: int | None, length: int, processes: int) -> int:
    """Return how many items a chunk has: by default a quarter of each worker's share.

    Of no items there are no chunks: a program that computes it, as ``len(items) // 8``, may say 0.
    """
    if given is None or not length:
        return max(1, -(-length // (processes * 4)))
    return count_of(given, "chunksize", "Chunksize must be 1+")


def mode_of(mapper: Any) -> int:
    """Return MAP or STAR for the `mapper` of `Pool._map_async`.

    Raises
    ------
    ValueError
        If `mapper` is neither MAP nor STAR, nor one of the standard's functions for these.
    """
    for mode, name in ((MAP, "mapstar"), (STAR, "starmapstar")):
        if mapper == mode or getattr(mapper, "__name__", None) == name:
            return mode
    raise ValueError(f"items cannot be mapped by {mapper!r}, only by mapstar and starmapstar")


def _as_sequence(iterable: Iterable[Any], awaited: bool) -> Sequence[Any]:
    """Return the items as a sequence that will not change while they are sent."""
    kind = iterable.__class__
    if kind is range or kind is tuple or (kind is list and awaited):
        return iterable  # type: ignore[return-value]  # one of these three
    # A snapshot: the caller goes on and may change its list.
    return list(iterable)


def _need_runtime(items: Sequence[Any]) -> bool:
    """Return whether items contain references, whose values only the runtime can send."""
    if items.__class__ is range or not len(items):
        return False
    return has_refs(items) or held_back_by_refs(items[0])


def _sendable(
    pool: Pool, func: Callable[..., Any], items: Sequence[Any], mode: int
) -> tuple[LocalEngine, Function, Sequence[Any], int]:
    """Return engine, function, items and mode such that workers can have them.

    Usually those given. If the function cannot be pickled, workers inherit it; if the first
    item cannot, they inherit function and items, and are sent indices.
    """
    engine = pool._engine
    try:
        payload = dumps_once(func, engine)
        needed = max(payload.inherits, needed_by_first(items, engine.asks))
        engine = pool._engines.sharing(engine, needed)
        return engine, engine.function(payload), items, mode
    except CannotSend as error:
        refusal = error
    from pool._faces._inherit import hold_function, hold_map

    # Not in the except clause: processes forked there handle that error for as long as they live,
    # and each error that a task catches has it as its context. And before `inheriting`, which
    # forks the workers: only what is held by then is inherited.
    try:
        needed_by_first(items, engine.asks)
        func = hold_function(func)
    except CannotSend:
        func = hold_map(func, items, mode)
        items, mode = range(len(items)), MAP
    try:
        engine = pool._engines.inheriting(refusal)
    finally:
        del refusal  # its traceback holds this frame, see `AsyncResult.get`
    return engine, engine.function(dumps_function(func)), items, mode


def dumps_once(func: Callable[..., Any], engine: LocalEngine) -> FunctionPayload:
    """Pickle a function for a call of several items, unless that has taken long in vain before.

    An object that holds a large table and a connection is pickled for seconds until the latter
    comes. It would be for each call; but workers may inherit it just as well if it has lost that.
    """
    # Not asked for by its name: objects may answer to any, or fail to.
    owner = func.__self__ if type(func) is MethodType else func
    known = _refused.get(id(owner)) if _refused and engine.near else None
    if known is not None and known[0]() is owner:
        raise CannotSend(*known[1])
    begun = perf_counter()
    try:
        return dumps_function(func, engine.asks, mapped=True)
    except CannotSend as error:
        if perf_counter() - begun > LONG:
            # Not the error itself, whose traceback would keep the object.
            told = error.path, error.culprit_type, error.reason, error.what
            key = id(owner)
            try:
                _refused[key] = ref(owner, lambda _: _refused.pop(key, None)), told
            except TypeError:
                pass  # not weakly referable
        raise


def needed_by_first(items: Sequence[Any], asks: int) -> int:
    """Return what workers must have inherited for the first item, see `pool._pickling._shared`.

    Raises
    ------
    CannotSend
        If the item cannot be pickled. What its own class raises is left to its chunk.
    """
    if items.__class__ is range or not len(items):
        return 0
    offers: list[Any] = []
    try:
        return inherits(dumps_to_worker(items[0], asks, offers=offers))
    except CannotSend:
        raise
    except Exception:
        return 0  # raised by the item's own class: its chunk will fail with it
    finally:
        withdraw(offers)
