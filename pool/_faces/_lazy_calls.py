"""Start the lazy calls of `Pool`: imap, imap_unordered and their starred forms."""

from __future__ import annotations

from pool._faces._calls import progress_of
from pool._faces._iterators import Flow, IMapIterator, IMapUnorderedIterator, Window
from pool._faces._maps import dumps_once, needed_by_first
from pool._faces._options import Label, count_of, options
from pool._faces._references import any_refs, has_refs
from pool._local._lazy import Fed, Windowed
from pool._pickling import CannotSend, dumps_function
from pool._transport._messages import CAUGHT, MAP, STAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, NoReturn

    from pool._faces._options import Options
    from pool._faces._pool import Pool
    from pool._local._engine import LocalEngine
    from pool._local._jobs import Function

#: Packages whose containers have all their items in memory. Others may load them one by one.
_CONTAINERS = frozenset({"builtins", "collections", "array", "numpy", "pandas"})

#: Classes of which all items are known when the call is made.
_SNAPSHOT = (list, tuple)

#: Of Python's own containers, those that are iterated over as they are: mostly they cannot change,
#: and each item as an object of its own would take more memory than they do.
_AS_THEY_ARE = (tuple, range, str, bytes, bytearray, memoryview)


def start_imap(
    pool: Pool,
    method: str,
    func: Callable[..., Any],
    iterable: Iterable[Any],
    chunksize: int,
    mode: int,
    ordered: bool,
    extra: Mapping[str, Any],
) -> IMapIterator:
    """Submit a lazy job and return the iterator over its results.

    Parameters
    ----------
    pool : Pool
    method : str
        The method of the Pool that was called, for error messages.
    func, iterable, chunksize
        As for `Pool.imap`.
    mode : int
        MAP or STAR.
    ordered : bool
        Whether results come in the order of the input.
    extra : mapping
        The keyword arguments beyond the standard's.

    Raises
    ------
    ValueError
        If `chunksize` is less than 1.
    """
    chunksize = count_of(chunksize, "chunksize", "Chunksize must be 1+")
    label = Label(method, func)
    chosen = options(extra)
    if chosen.single:
        chunksize = 1
    in_memory = _is_in_memory(iterable)
    if in_memory:
        iterable = _snapshot(iterable)
    progress = progress_of(chosen, _length(iterable), label) if chosen.progress else None
    if chosen.seed is not None:
        from pool._faces._seeding import seeded_map

        func, iterable = seeded_map(func, iterable, chosen.seed, mode == STAR)
        mode = STAR
    if chosen.return_exceptions:
        mode |= CAUGHT
    engine, function, func = _sendable(pool, func, iterable)
    kind = IMapIterator if ordered else IMapUnorderedIterator
    flow = Flow(engine, ordered, Window(pool._processes, chunksize), chunksize)
    flow.progress = progress
    flow.caught = chosen.return_exceptions
    flow.bounded = in_memory
    flow.cost_key = (function.function_id, chunksize)
    if iterable.__class__ in _SNAPSHOT and has_refs(iterable):
        _submit_with_refs(func, iterable, chunksize, mode, flow, label, chosen)
        return kind(pool, flow, chunksize)
    source = _source_of(iterable, chunksize, mode, flow, label, 2 * pool._processes)
    source.engine = engine
    source.captured = function.captured
    flow.source = source
    flow.open = source.open
    iterator = kind(pool, flow, chunksize)
    flow.job_id = source.job_id = engine.submit(
        function, mode, source, flow, label, chosen.timeout, chosen.retries
    )
    try:
        # Only after `submit`: another thread that finds the flow there may open all its input.
        engine.lazies.add(flow)
        if in_memory and not source.final:
            flow.watch()
        if isinstance(source, Fed):
            source.start()
    except BaseException:
        iterator.cancel()  # nothing reads the input, so the job would never finish
        raise
    return iterator


def start_made(
    pool: Pool, iterator: IMapIterator, func: Callable[..., Any], iterable: Iterable[Any]
) -> None:
    """Start to work on the items of an iterator that a program has made, one by one."""
    ordered = not isinstance(iterator, IMapUnorderedIterator)
    started = start_imap(pool, "imap", func, iterable, 1, MAP, ordered, {})
    iterator._flow, started._flow = started._flow, iterator._flow


def _is_in_memory(iterable: Iterable[Any]) -> bool:
    """Return whether all items are in memory already, so that reading ahead needs no more."""
    kind = type(iterable)
    library = kind.__module__.partition(".")[0]
    return hasattr(kind, "__len__") and library in _CONTAINERS


def _snapshot(iterable: Iterable[Any]) -> Iterable[Any]:
    """Return what is in a container of Python's own now: the caller goes on, and may change it.

    A loop over the results may take each item from the set of those that are still to be done.
    """
    kind = type(iterable)
    own = kind.__module__ in ("builtins", "collections") and kind not in _AS_THEY_ARE
    return list(iterable) if own else iterable


def _sendable(
    pool: Pool, func: Callable[..., Any], iterable: Iterable[Any]
) -> tuple[LocalEngine, Function, Callable[..., Any]]:
    """Return an engine, the function as it knows it, and the callable that workers call.

    The callable is usually `func`. One that cannot be pickled is inherited by the workers of an
    engine made for this call.
    """
    engine = pool._engine
    try:
        payload = dumps_once(func, engine)
        needed = max(payload.inherits, _needed_by_first(iterable, engine.asks))
        engine = pool._engines.sharing(engine, needed)
        return engine, engine.function(payload), func
    except CannotSend as error:
        refusal = error  # not handled here, see `_maps._sendable`
    from pool._faces._inherit import hold_function

    func = hold_function(func)  # before `inheriting` forks the workers that inherit it
    try:
        engine = pool._engines.inheriting(refusal)
    finally:
        del refusal  # as there
    return engine, engine.function(dumps_function(func)), func


def _submit_with_refs(
    func: Callable[..., Any],
    items: Iterable[Any],
    chunksize: int,
    mode: int,
    flow: Flow,
    label: Label,
    chosen: Options,
) -> None:
    from pool._faces import _awaited

    flow.open = lambda limit: None  # nothing left to read: all items are pickled here
    parcels = _awaited.parcels_of(list(items), bool(mode & STAR))
    mode = MAP | mode & CAUGHT
    flow.job_id = _awaited.submit(
        flow.engine, func, parcels, chunksize, mode, flow, label, chosen.timeout, chosen.retries
    )


def _source_of(
    iterable: Any, chunksize: int, mode: int, flow: Flow, label: Label, least: int
) -> Windowed | Fed:
    """Return the source of the chunks: over a sequence that is in memory, or an iterator."""
    kind = iterable.__class__
    window = flow.window.size
    if kind is range or kind in _SNAPSHOT:
        return Windowed(iterable, chunksize, label.item, window)
    if any_refs():
        from pool._faces._awaited import resolved_one_by_one

        iterable = resolved_one_by_one(iterable, bool(mode & STAR))
    return Fed(_iterator_of(iterable), chunksize, label.item, window, least, flow.end_with)


def _iterator_of(iterable: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator over the input; if there is none, one that raises why.

    So that it is raised where the first result is taken, like what the input raises later.
    """
    try:
        return iter(iterable)
    except Exception as error:
        return map(_raise, (error,))


def _raise(error: Exception) -> NoReturn:
    raise error


def _needed_by_first(items: Any, asks: int) -> int:
    if items.__class__ not in _SNAPSHOT:
        return 0
    try:
        return needed_by_first(items, asks)
    except CannotSend:
        return 0  # its chunk will fail with this error


def _length(iterable: Iterable[Any]) -> int | None:
    try:
        return len(iterable)  # type: ignore[arg-type]  # the except clause is the check
    except TypeError:
        return None
