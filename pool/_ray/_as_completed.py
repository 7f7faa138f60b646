"""Results as they come: of references that there are, and of calls that are made on the way."""

from __future__ import annotations

from pool._ray._api import get, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from pool._objects._refs import ObjectRef
    from pool._ray._functions import RemoteFunction


def as_completed(
    refs: Sequence[ObjectRef],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **options: Any,
) -> Iterator[Any]:
    """Yield results as they become available.

    Parameters
    ----------
    refs : sequence of ObjectRef
    chunk_size : int
        How many to wait for at a time; those are yielded in the order of `refs`.
    yield_obj_refs : bool
        Yield the references, not the results.
    **options
        For `wait`: ``timeout``, after which it is waited again, and ``fetch_local``.

    Raises
    ------
    ValueError
        With the first ``next``, if one of these cannot be meant.
    """
    _check(chunk_size, options)
    left = list(refs)
    while left:
        done, left = wait(left, num_returns=min(chunk_size, len(left)), **options)
        yield from done if yield_obj_refs else get(done)


def map_unordered(
    fn: RemoteFunction,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **options: Any,
) -> Iterator[Any]:
    """Call ``fn.remote(item)`` for each item, and yield results as they become available.

    Parameters
    ----------
    fn : RemoteFunction
    items : iterable
        Read as there is room for more calls.
    backpressure_size : int, optional
        How many calls may be under way. None: all at once.
    chunk_size, yield_obj_refs, **options
        As for `as_completed`.

    Raises
    ------
    ValueError
        With the first ``next``, if one of these cannot be meant.
    """
    if backpressure_size is not None and backpressure_size <= 0:
        raise ValueError(f"backpressure_size must be positive, not {backpressure_size}")
    _check(chunk_size, options)
    refs: list[ObjectRef] = []
    for item in items:
        refs.append(fn.remote(item))
        if backpressure_size is not None and len(refs) >= backpressure_size:
            done, refs = wait(refs, num_returns=min(chunk_size, len(refs)), **options)
            yield from done if yield_obj_refs else get(done)
    yield from as_completed(refs, chunk_size=chunk_size, yield_obj_refs=yield_obj_refs, **options)


def _check(chunk_size: int, options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    if "num_returns" in options:
        raise ValueError("num_returns is called chunk_size here")


for _public in (as_completed, map_unordered):
    _public.__module__ = "pool.util"  # where users find them
