"""Arrays of numpy's own classes, frames and Arrow's types: exact, and out of band."""

from __future__ import annotations

import _pickle
import tempfile
from typing import Any

import numpy as np
import pandas as pd
import pytest

from store import decode, encode
from store._arrow import reduce_arrow
from store._codec import reduce_large

N = 80_000


class Pickler(_pickle.Pickler):
    """Ask the reducers, as the picklers of a pool do."""

    def reducer_override(self, obj: Any) -> Any:
        return reduce_large(obj)


def trip(obj: Any, in_band: int = 3000) -> Any:
    """Return what arrives; no more than `in_band` bytes may be in the pickle."""
    encoded = encode(obj, Pickler)
    assert len(encoded.data) <= in_band, len(encoded.data)
    return decode(encoded.data, [bytearray(buffer) for buffer in encoded.buffers])


def memmap(mode: str) -> Any:
    with tempfile.TemporaryFile() as file:
        array = np.memmap(file, dtype="f8", shape=(N,), mode="w+")
        array[:] = np.arange(N)
        if mode == "r":
            array.flags.writeable = False
        return array


@pytest.mark.parametrize(
    "array",
    [
        np.rec.fromarrays([np.arange(N), np.arange(N) * 0.5], names="a,b"),
        memmap("w"),
        memmap("r"),
        np.arange(N * 2.0).reshape(2, N).view(np.matrix),
        np.arange(N * 2.0).reshape(2, N).view(np.matrix).T,
    ],
    ids=["recarray", "memmap", "read-only memmap", "matrix", "transposed matrix"],
)
def test_classes_of_numpy(array: Any) -> None:
    got = trip(array)
    assert type(got) is type(array) and got.dtype == array.dtype and got.shape == array.shape
    assert got.tobytes() == array.tobytes()
    assert got.flags.writeable and got.flags.f_contiguous == array.flags.f_contiguous
    if isinstance(array, np.recarray):
        assert (got.a == array.a).all() and type(got[0]) is type(array[0])


pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")


@pytest.mark.parametrize("mask", [True, False, "none"])
@pytest.mark.parametrize("fill", [None, -7])
def test_masked_arrays(mask: Any, fill: Any) -> None:
    chosen = np.ma.nomask if mask == "none" else np.arange(N) % 3 == int(mask)
    array = np.ma.masked_array(np.arange(N), mask=chosen, fill_value=fill)
    got = trip(array)
    wanted = _pickle.loads(_pickle.dumps(array))
    assert type(got) is np.ma.MaskedArray and got.dtype == array.dtype
    np.testing.assert_array_equal(got.data, array.data)
    np.testing.assert_array_equal(got.mask, wanted.mask)
    assert got.fill_value == wanted.fill_value
    got[0] = np.ma.masked
    got[1] = 5
    assert got.mask[0] and got[1] == 5


@pytest.mark.parametrize(
    "array",
    [
        np.ma.masked_array(np.ones((300, 300), order="F"), mask=np.eye(300, dtype=bool)),
        np.ma.masked_array(np.ones((300, 300)), mask=np.eye(300, dtype=bool, order="F")),
        np.ma.masked_array(np.ones((600, 300), ">f8"), mask=np.eye(600, 300, dtype=bool))[::2].T,
        np.ma.masked_array(np.ones(N, "f8,>i4"), mask=np.zeros(N, "?,?")),
        np.ma.masked_array(np.ones((300, 300))),
    ],
    ids=["order of data", "order of mask", "strided", "fields", "no mask"],
)
def test_masked_arrays_are_laid_out_as_by_numpy(array: Any) -> None:
    got = trip(array)
    wanted = _pickle.loads(_pickle.dumps(array, 4))
    for part in ("_data", "_mask"):
        one, other = getattr(got, part), getattr(wanted, part)
        assert (one.dtype.str, one.strides) == (other.dtype.str, other.strides)
        assert one.tobytes() == other.tobytes() and one.flags.writeable
    for name in ("_sharedmask", "_hardmask", "_isfield"):
        assert getattr(got, name) == getattr(wanted, name)
    assert repr(got._fill_value) == repr(wanted._fill_value)


def test_masked_arrays_with_the_same_mask_arrive_with_one_each() -> None:
    mask = np.arange(N) % 3 == 0
    one, other = (np.ma.array(np.ones(N), mask=mask, copy=False) for _ in range(2))
    assert one._mask is other._mask
    for got, neighbour in (trip([one, other]), _pickle.loads(_pickle.dumps([one, other], 4))):
        got[1] = np.ma.masked
        assert got.mask[1] and not neighbour.mask[1]


def test_masked_matrix_goes_the_usual_way() -> None:
    array = np.ma.masked_array(np.ones((200, 200)).view(np.matrix), mask=False)
    got = decode(encode(array, Pickler).data)
    assert type(got) is type(array) and got._baseclass is np.matrix


INDEX = pd.date_range("2024-03-31", periods=N, freq="s", tz="Europe/Berlin", name="when")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(np.arange(N * 3.0).reshape(N, 3), index=INDEX, columns=list("aab")),
        pd.DataFrame({"i": np.arange(N), "f": np.arange(N) / 2, "b": np.arange(N) % 2 == 0}),
        pd.DataFrame({"d": INDEX.tz_localize(None), "t": INDEX - INDEX[0], "z": INDEX}),
        pd.DataFrame({"n": pd.array(np.arange(N), dtype="Int64")}),
        pd.DataFrame({"c": pd.Categorical(np.array(["x", "y", "z"])[np.arange(N) % 3])}),
        pd.DataFrame({"p": pd.period_range("2020", periods=N, freq="D")}),
        pd.DataFrame({"s": pd.arrays.SparseArray(np.arange(N) % 2 * 1.0)}),
        pd.DataFrame({"v": np.arange(N)}, pd.MultiIndex.from_product([range(N // 50), range(50)])),
        pd.DataFrame(np.arange(N * 3.0).reshape(N, 3)).iloc[10:-10:2],
        pd.DataFrame(np.arange(N * 3.0).reshape(N // 100, 300)).T,
    ],
    ids=[
        "duplicate columns", "mixed", "dates", "nullable", "categorical", "periods", "sparse",
        "multiindex", "strided", "transposed",
    ],
)  # fmt: skip
def test_frames(frame: pd.DataFrame) -> None:
    frame.attrs["unit"] = "m"
    got = trip(frame, in_band=20_000)
    pd.testing.assert_frame_equal(got, frame, check_freq=True, check_flags=True)
    assert got.attrs == frame.attrs
    assert got.index.name == frame.index.name
    if isinstance(frame.index, pd.DatetimeIndex):
        assert got.index.freq == frame.index.freq
    if isinstance(frame.dtypes.iloc[0], pd.SparseDtype):
        return
    before = got.iloc[0, 0]
    got.iloc[0, 0] = got.iloc[1, 0]  # writable
    assert frame.iloc[0, 0] == before


COLUMNS = {
    "text": lambda: pd.array([f"text {number}" for number in range(N)], "str"),
    "text with gaps": lambda: pd.array(["one", "", None] * (N // 3), "str"),
    "nullable text": lambda: pd.array(["one", "", pd.NA] * (N // 3), "string"),
    "numbers": lambda: pd.array(range(N), "int64[pyarrow]"),
    "lists": lambda: pd.array([[1, 2], []] * (N // 2), pd.ArrowDtype(pa_list())),
}


def pa_list() -> Any:
    pa = pytest.importorskip("pyarrow")
    return pa.list_(pa.int64())


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize(
    "part", [slice(None), slice(12, 500), slice(12, -10), slice(0, 0)], ids=str
)
def test_columns_of_arrow(name: str, part: slice) -> None:
    """Text is Arrow's where pyarrow is installed, and objects where it is not."""
    if name not in ("text", "text with gaps", "nullable text"):
        pytest.importorskip("pyarrow")
    column = COLUMNS[name]()[part]
    frame = pd.DataFrame({"a": column, "b": np.arange(len(column))})
    got = trip(frame, in_band=10_000_000)
    pd.testing.assert_frame_equal(got, frame)
    assert type(got["a"].array) is type(frame["a"].array)
    pd.testing.assert_series_equal(trip(frame["a"], in_band=10_000_000), frame["a"])
    if len(got) and name != "lists":
        before = frame["a"].iloc[0]
        got.loc[0, "a"] = got.loc[1, "a"]  # writable
        assert got["a"].iloc[0] is got["a"].iloc[1] or got["a"].iloc[0] == got["a"].iloc[1]
        assert frame["a"].iloc[0] == before


def test_columns_in_several_pieces() -> None:
    pytest.importorskip("pyarrow")
    column = pd.concat([pd.Series(COLUMNS["text"]()), pd.Series(COLUMNS["text"]())])
    pd.testing.assert_series_equal(trip(column, in_band=10_000), column)


def test_a_column_of_arrow_is_not_copied_before_it_is_sent() -> None:
    pytest.importorskip("pyarrow")
    column = pd.Series(COLUMNS["text"]())
    sent = encode(column, Pickler).buffers
    data = column.array._pa_array.chunk(0)
    addresses = {buffer.address for buffer in data.buffers() if buffer is not None}
    assert {np.frombuffer(buffer, "u1").ctypes.data for buffer in sent} <= addresses
    # Pandas by itself copies, or the reducer were for nothing.
    assert not addresses & {
        np.frombuffer(buffer, "u1").ctypes.data for buffer in encode(column).buffers
    }


@pytest.mark.parametrize("name", ["array", "chunked", "table", "batch", "empty"])
def test_slices_of_arrow_are_sent_without_the_rest(name: str) -> None:
    pa = pytest.importorskip("pyarrow")
    whole = pa.array([f"text {number}" for number in range(N)])
    made = {
        "array": whole[5:1000],
        "chunked": pa.chunked_array([whole, whole])[N - 5 : N + 5],
        "table": pa.table({"a": whole, "b": range(N)})[7:900],
        "batch": pa.record_batch({"a": whole})[3:9],
        "empty": whole[5:5],
    }[name]
    encoded = encode(made, Pickler)
    assert len(encoded.data) + sum(map(len, encoded.buffers)) < 60_000
    got = decode(encoded.data, [bytearray(buffer) for buffer in encoded.buffers])
    assert type(got) is type(made) and got.equals(made)
    whole_again = trip(whole)
    assert whole_again.equals(whole)


def arrow_arrays() -> dict[str, Any]:
    """Return arrays whose types are more than their values tell."""
    pa = pytest.importorskip("pyarrow")
    numbers, halves = pa.array(range(N)), pa.array(np.arange(N) / 2)
    kinds = pa.array(np.arange(N) % 2, pa.int8())
    extension = pa.ExtensionArray.from_storage(extension_type(), numbers)
    return {
        "extension": extension,
        "extension in a struct": pa.StructArray.from_arrays([extension, halves], ["a", "b"]),
        "registered extension": pa.array(pd.period_range("2000", periods=N, freq="h")),
        "dictionary": pa.array(["a", "b", None, "c"] * (N // 4)).dictionary_encode(),
        "sparse union": pa.UnionArray.from_sparse(kinds, [numbers, halves]),
        "dense union": pa.UnionArray.from_dense(
            kinds, pa.array(np.arange(N) // 2, pa.int32()), [numbers, halves]
        ),
        "large list": pa.array([[1, None], []] * (N // 2), pa.large_list(pa.int16())),
        "decimal": pa.array(range(N), pa.decimal128(20, 2)),
        **arrow_views(),
    }


def arrow_views() -> dict[str, Any]:
    """Return arrays whose values lie anywhere in their buffers, which Arrow does not cut."""
    pa = pytest.importorskip("pyarrow")
    texts = [f"{number} is more than what fits into a view" for number in range(N)]
    return {
        "string view": pa.array(texts, pa.string_view()),
        "binary view": pa.array([text.encode() for text in texts], pa.binary_view()),
        "list view": pa.array([[1, None], []] * (N // 2), pa.list_view(pa.int16())),
        "large list view": pa.array([[1, None], []] * (N // 2), pa.large_list_view(pa.int16())),
    }


@pytest.mark.parametrize("part", [slice(None), slice(5, 15)], ids=str)
def test_arrow_arrays_whose_size_is_not_known(part: slice) -> None:
    pa = pytest.importorskip("pyarrow")

    class Unsized:
        """What is pickled: older versions do not know how large a view is."""

        def __init__(self, array: Any) -> None:
            self.get_total_buffer_size = array.get_total_buffer_size

        @property
        def nbytes(self) -> int:
            raise pa.ArrowTypeError("Extracting the size is not supported")

    for name, array in arrow_views().items():
        assert reduce_arrow(Unsized(array[part])) is NotImplemented
        encoded = encode(array[part], Pickler)
        got = decode(encoded.data, [bytearray(buffer) for buffer in encoded.buffers])
        assert got.type == array.type and got.equals(array[part]), name


def extension_type() -> Any:
    """Return a type that Arrow has not been told of: it cannot be found by its name."""
    import pyarrow as pa

    return UnknownType(pa.int64(), "actorpool.unknown")


try:
    from pyarrow import ExtensionType
except ImportError:
    UnknownType: Any = None
else:

    class UnknownType(ExtensionType):  # type: ignore[no-redef]  # in place of that None
        """Pickled by its class."""

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Any:
            return cls(storage, "actorpool.unknown")

        def __reduce__(self) -> tuple[Any, ...]:
            return type(self), (self.storage_type, self.extension_name)


@pytest.mark.parametrize("part", [slice(5, 15), slice(7, 7), slice(N - 3, N)], ids=str)
@pytest.mark.parametrize("within", ["itself", "chunks", "no chunks", "table", "batch"])
def test_slices_of_arrow_keep_their_types_and_pieces(part: slice, within: str) -> None:
    pa = pytest.importorskip("pyarrow")
    for name, array in arrow_arrays().items():
        piece = array[part]
        schema = pa.schema([pa.field("a", array.type, metadata={"unit": "m"})], {"from": "here"})
        sent = {
            "itself": piece,
            "chunks": pa.chunked_array([piece, array[:2], piece], array.type),
            "no chunks": pa.chunked_array([], array.type),
            "table": pa.Table.from_arrays([pa.chunked_array([piece, piece])], schema=schema),
            "batch": pa.RecordBatch.from_arrays([piece], schema=schema),
        }[within]
        encoded = encode(sent, Pickler)
        if name != "dense union" and not name.endswith("view"):  # Arrow does not cut those
            assert len(encoded.data) + sum(map(len, encoded.buffers)) < 6000, name
        got = decode(encoded.data, [bytearray(buffer) for buffer in encoded.buffers])
        assert type(got) is type(sent) and got.equals(sent), name
        if within in ("table", "batch"):
            assert got.schema.equals(sent.schema, check_metadata=True)
        else:
            assert got.type == sent.type, name
        if within == "chunks":
            assert list(map(len, got.chunks)) == list(map(len, sent.chunks))
        if name == "dictionary" and within == "itself":
            assert got.dictionary.equals(sent.dictionary)
