"""Start the lazy calls of `Pool`: imap, imap_unordered and their starred forms."""

from __future__ import annotations

from _operator import index

from pool._faces._calls import progress_of
from pool._faces._iterators import Flow, IMapIterator, IMapUnorderedIterator, Window
from pool._faces._maps import needed_by_first
from pool._faces._options import Label, options
from pool._faces._references import any_refs, has_refs
from pool._local._lazy import Fed, Windowed
from pool._pickling import CannotSend, dumps_function
from pool._transport._messages import CAUGHT, MAP, STAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from pool._faces._pool import Pool

#: Libraries whose classes hold what they contain. Others may load it item by item.
_CONTAINERS = frozenset({"builtins", "collections", "array", "numpy", "pandas"})


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

    Parameters are those of `Pool.imap`; `mode` is MAP or STAR.
    """
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
    chunksize = index(chunksize)
    label = Label(method, func)
    chosen = options(extra)
    limits = (chosen.timeout, chosen.retries)
    if chosen.single:
        chunksize = 1
    in_memory = _is_in_memory(iterable)
    progress = progress_of(chosen, _length(iterable), label) if chosen.progress else None
    if chosen.seed is not None:
        from pool._faces._seeding import seeded_map

        func, iterable = seeded_map(func, iterable, chosen.seed, mode == STAR)
        mode = STAR
    if chosen.return_exceptions:
        mode |= CAUGHT
    engine = pool._engine
    known = iterable.__class__ in (list, tuple)
    try:
        payload = dumps_function(func, engine.asks)
        needed = max(payload.inherits, _needed_by_first(iterable, engine.asks) if known else 0)
        engine = pool._engines.sharing(engine, needed)
        function = engine.function(payload)
    except CannotSend as error:
        from pool._faces._inherit import hold_function

        func = hold_function(func)  # before the fork: the workers inherit it
        engine = pool._engines.inheriting(error)
        function = engine.function(dumps_function(func))
    with_refs = known and has_refs(iterable)
    if not known and iterable.__class__ is not range and any_refs():
        from pool._faces._awaited import resolved_one_by_one

        iterable = resolved_one_by_one(iterable, bool(mode & STAR))
    kind = IMapIterator if ordered else IMapUnorderedIterator
    window = Window(pool._processes, chunksize)
    flow = Flow(engine, ordered, window, chunksize)
    flow.progress = progress
    flow.caught = chosen.return_exceptions
    flow.cost_key = (function.function_id, chunksize)
    if with_refs:
        from pool._faces import _awaited

        flow.open = lambda limit: None  # the list is there, and pickled
        parcels = _awaited.parcels_of(list(iterable), bool(mode & STAR))
        flow.job_id = _awaited.submit(
            engine, func, parcels, chunksize, MAP | mode & CAUGHT, flow, label, *limits
        )
        return kind(pool, flow, chunksize)
    source: Windowed | Fed
    if iterable.__class__ in (list, tuple, range):
        items = list(iterable) if iterable.__class__ is list else iterable
        source = Windowed(items, chunksize, label.item, window.size)
    else:
        source = Fed(
            iter(iterable), chunksize, label.item, window.size, 2 * pool._processes, flow.end_with
        )
    source.engine = engine
    flow.source = source
    flow.open = source.open
    iterator = kind(pool, flow, chunksize)
    flow.job_id = source.job_id = engine.submit(function, mode, source, flow, label, *limits)
    try:
        # Not before: other threads that find it there have the rest of its input read.
        engine.lazies.add(flow)
        if in_memory and not source.final:
            flow.watch()
        if isinstance(source, Fed):
            source.start()
    except BaseException:
        iterator.cancel()  # nobody reads its input: it would never be over
        raise
    return iterator


def _is_in_memory(iterable: Iterable[Any]) -> bool:
    """Return whether reading it takes no memory beyond what it has already."""
    kind = type(iterable)
    library = kind.__module__.partition(".")[0]
    return hasattr(kind, "__len__") and library in _CONTAINERS


def _needed_by_first(items: Any, asks: int) -> int:
    try:
        return needed_by_first(items, asks)
    except CannotSend:
        return 0  # the outcome of its chunk


def _length(iterable: Iterable[Any]) -> int | None:
    try:
        return len(iterable)  # type: ignore[arg-type]  # the except clause is the check
    except TypeError:
        return None
