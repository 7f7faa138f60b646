"""Arrow's arrays and tables, of which pickling a slice sends all of the parent.

And columns of pandas that are made of them, which are copied when they are pickled.
"""

from __future__ import annotations

import sys
from copyreg import __newobj__  # type: ignore[attr-defined]  # what protocol 2 calls

from store._codec import OUT_OF_BAND_MIN
from store._finding import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: What a column of pandas consists of, in the versions that are known here.
_STATE = frozenset({"_cache", "_dtype", "_pa_array", "_readonly"})


def reduce_arrow(obj: Any) -> Any:
    """Reduce an array, chunked array, batch or table that is a small part of its buffers.

    To a copy of what belongs to it, of exactly the same types and in the same pieces.
    """
    total = getattr(obj, "get_total_buffer_size", None)
    if total is None:
        return NotImplemented  # a type, a schema, a scalar
    try:
        nbytes = obj.nbytes
        if total() - nbytes < max(OUT_OF_BAND_MIN, nbytes) or _is_stored(obj):
            return NotImplemented
        dense = _dense(obj)
    except sys.modules["pyarrow"].ArrowException:
        # Of unions, by older versions; and many do not know the size of string views.
        return NotImplemented
    return dense.__reduce_ex__(5)


def _dense(obj: Any) -> Any:
    import pyarrow as pa

    if isinstance(obj, pa.Table | pa.RecordBatch):
        return type(obj).from_arrays([_dense(column) for column in obj.columns], schema=obj.schema)
    if isinstance(obj, pa.ChunkedArray):
        return pa.chunked_array([_dense(chunk) for chunk in obj.chunks], obj.type)
    return pa.concat_arrays([obj])  # copies, also if there is but one


def _is_stored(obj: Any) -> bool:
    """Return whether what is large of it is in the store: then all of it costs nothing."""
    large = [buffer for buffer in _buffers(obj) if buffer.size >= OUT_OF_BAND_MIN]
    return all(find(memoryview(buffer)) is not None for buffer in large)


def _buffers(obj: Any) -> Iterator[Any]:
    if hasattr(obj, "buffers"):
        yield from (buffer for buffer in obj.buffers() if buffer is not None)
        if getattr(obj, "dictionary", None) is not None:
            yield from _buffers(obj.dictionary)
        return
    parts: list[Any] = obj.chunks if hasattr(obj, "chunks") else obj.columns
    for part in parts:
        yield from _buffers(part)


def reduce_column(obj: Any) -> Any:
    """Reduce a column of pandas as pandas does, but without putting one piece together.

    That copies it, and what is in the store already would be copied there again.
    """
    base = sys.modules["pandas"].arrays.ArrowExtensionArray
    state = obj.__dict__
    if type(obj).__getstate__ is not base.__getstate__ or not state.keys() <= _STATE:
        return NotImplemented
    data = state.get("_pa_array")
    if getattr(data, "num_chunks", 0) != 1:
        return NotImplemented
    state = {**state, "_pa_array": data.chunk(0)}
    if "_cache" in state:
        state["_cache"] = {}  # can be computed again
    return __newobj__, (type(obj),), state
