"""Arrow's arrays and tables, of which pickling a slice sends all of the parent."""

from __future__ import annotations

from store._codec import OUT_OF_BAND_MIN, PickleBuffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reduce_arrow(obj: Any) -> Any:
    """Reduce an array, chunked array, batch or table that is a small part of its buffers.

    Arrow's stream format, unlike its pickling, writes only what belongs to a slice.
    """
    total = getattr(obj, "get_total_buffer_size", None)
    if total is None:
        return NotImplemented  # a type, a schema, a scalar
    if total() - obj.nbytes < max(OUT_OF_BAND_MIN, obj.nbytes):
        return NotImplemented
    import pyarrow as pa

    table = obj if isinstance(obj, pa.Table | pa.RecordBatch) else pa.table({"": obj})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return _load, (_KINDS.get(type(obj).__name__, "Array"), PickleBuffer(sink.getvalue()))


_KINDS = {name: name for name in ("Table", "RecordBatch", "ChunkedArray")}


def _load(kind: str, buffer: Any) -> Any:
    import pyarrow as pa

    table = pa.ipc.open_stream(pa.py_buffer(buffer)).read_all()
    if kind == "Table":
        return table
    if kind == "RecordBatch":
        batches = table.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    column = table.column(0)
    return column if kind == "ChunkedArray" else column.combine_chunks()
