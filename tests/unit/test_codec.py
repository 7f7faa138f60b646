"""What goes through the codec comes out equal, of the same type, writable and private."""

from __future__ import annotations

import _pickle
import array
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import store._depot
from store import OUT_OF_BAND_MIN, Encoded, decode, encode
from store._codec import BYTES_OUT_OF_BAND_MIN, reduce_large

ROOT = Path(__file__).parents[2]


class Pickler(_pickle.Pickler):
    """Ask the reducers, as the picklers of a pool do."""

    def reducer_override(self, obj: Any) -> Any:
        return reduce_large(obj)


def trip(obj: Any, pickler: Any = Pickler) -> tuple[Any, Encoded]:
    encoded = encode(obj, pickler)
    return decode(encoded.data, [bytearray(buffer) for buffer in encoded.buffers]), encoded


def out_of_band(encoded: Encoded) -> int:
    return sum(buffer.nbytes for buffer in encoded.buffers)


def check_array(sent: np.ndarray[Any, Any]) -> Encoded:
    got, encoded = trip(sent)
    # What multiprocessing sends, whose pickles are of protocol 4.
    wanted = _pickle.loads(_pickle.dumps(sent, 4))
    assert type(got) is type(sent)
    assert got.dtype.str == wanted.dtype.str and got.dtype == wanted.dtype
    assert got.shape == sent.shape and got.strides == wanted.strides
    assert got.tobytes() == wanted.tobytes()
    assert got.flags.writeable
    if got.size:
        got[...] = got.copy()  # really
    return encoded


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(max_len=5),
    hnp.unicode_string_dtypes(max_len=5),
)
SCALARS = st.one_of(DTYPES, hnp.array_dtypes(subtype_strategy=DTYPES, max_size=3))


def filled(dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Make an array of small whole numbers of any kind: every byte pattern is valid there."""
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 2, size=int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
    return np.frombuffer(raw.tobytes(), dtype=dtype).reshape(shape).copy()


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_arrays_of_any_dtype_shape_order_and_stride(data: st.DataObject) -> None:
    dtype = data.draw(SCALARS)
    assume(dtype.itemsize > 0 and not dtype.hasobject)
    # Some below the threshold, some above it.
    count = data.draw(st.sampled_from([0, 3, 4 * OUT_OF_BAND_MIN // dtype.itemsize]))
    side = data.draw(st.sampled_from([1, 2, 3]))
    array_ = filled(dtype, (count // side, side))
    if data.draw(st.booleans()):
        array_ = np.asfortranarray(array_)
    if data.draw(st.booleans()):
        array_ = array_.T
    step = data.draw(st.sampled_from([1, 2, -1, -3]))
    array_ = array_[::step]
    if data.draw(st.booleans()):
        array_.flags.writeable = False
    encoded = check_array(array_)
    if array_.nbytes >= OUT_OF_BAND_MIN:
        assert out_of_band(encoded) == array_.nbytes
        assert len(encoded.data) < 4096


@pytest.mark.parametrize("kind", ["M8[ns]", "m8[s]", ">M8[D]"])
def test_dates_go_out_of_band(kind: str) -> None:
    sent = np.arange(20_000).astype(kind)
    encoded = check_array(sent)
    assert out_of_band(encoded) == sent.nbytes
    # Plain numpy would not, or the reducer were for nothing.
    assert out_of_band(encode(sent)) == 0


def test_fields_of_dates_go_out_of_band() -> None:
    sent = np.zeros(20_000, [("when", "M8[s]"), ("what", "f8")])
    sent["what"] = np.arange(20_000)
    assert out_of_band(check_array(sent)) == sent.nbytes


CUBE = np.arange(24 * 40 * 50.0).reshape(24, 40, 50)
PLANE = CUBE.reshape(240, 200)
FIELDS = np.zeros((200, 90), [("a", "f8"), ("b", ">i4"), ("when", "M8[s]")])


@pytest.mark.parametrize(
    "sent",
    [
        CUBE.transpose(1, 2, 0),
        CUBE[::2].transpose(1, 2, 0),
        CUBE.T,
        CUBE.T[::-1],
        CUBE[:, ::-1],
        CUBE[:, None].T,
        CUBE[:12, :30].transpose(2, 0, 1),
        PLANE.T.astype(">c16"),
        CUBE[::-3].astype(">U4"),
        PLANE.astype(">M8[D]")[::2],
        PLANE.T.astype("m8[s]")[::2],
        np.broadcast_to(np.arange(10.0), (5_000, 10)),
        np.broadcast_to(np.arange(5_000.0)[:, None], (5_000, 10)),
        FIELDS.T,
        FIELDS[::2],
        FIELDS["a"].T,
        FIELDS[["a", "when"]],
    ],
    ids=range(17),
)
@pytest.mark.parametrize("large", [True, False])
def test_order_of_axes_and_bytes(sent: Any, large: bool) -> None:
    if not large:
        sent = sent[tuple(slice(3) for _ in sent.shape)]
    assert (sent.nbytes >= OUT_OF_BAND_MIN) == large
    encoded = check_array(sent)
    assert out_of_band(encoded) == (sent.nbytes if large else 0)


@pytest.mark.parametrize("count", [3, OUT_OF_BAND_MIN])
def test_read_only_array_arrives_writable(count: int) -> None:
    # As through multiprocessing, whose pickles are of protocol 4.
    sent = np.arange(count)
    sent.flags.writeable = False
    check_array(sent)
    assert not sent.flags.writeable


def test_object_array() -> None:
    sent = np.array([{"a": 1}, None, "x"] * 10_000, dtype=object)
    got, encoded = trip(sent)
    assert got.tolist() == sent.tolist() and not encoded.buffers


def test_same_array_twice_is_one() -> None:
    sent = np.arange(100_000)[::2]
    (one, other), encoded = trip([sent, sent])
    assert one is other and len(encoded.buffers) == 1


def test_subclasses_stay_what_they_are() -> None:
    sent = np.rec.array([(1, 2.0)] * 10_000, dtype=[("a", int), ("b", float)])
    got, _ = trip(sent)
    assert type(got) is np.recarray and (got.a == 1).all()
    masked = np.ma.masked_array(np.arange(20_000), mask=np.arange(20_000) % 2)
    got, _ = trip(masked)
    assert type(got) is np.ma.MaskedArray and got.sum() == masked.sum()


def test_small_buffers_stay_in_the_pickle() -> None:
    sent = np.arange(OUT_OF_BAND_MIN // 8 - 1)
    assert not check_array(sent).buffers
    assert len(check_array(np.arange(OUT_OF_BAND_MIN // 8)).buffers) == 1


def test_buffers_are_views_of_the_senders_memory() -> None:
    sent = np.zeros(100_000)
    encoded = encode(sent, Pickler)
    sent[0] = 7  # no copy was made: whoever carries the buffers makes it
    got = decode(encoded.data, [bytearray(buffer) for buffer in encoded.buffers])
    assert got[0] == 7


def test_receivers_do_not_share() -> None:
    sent = np.zeros(100_000)
    encoded = encode(sent, Pickler)
    buffers = [bytearray(buffer) for buffer in encoded.buffers]
    one = decode(encoded.data, buffers)
    other = decode(encoded.data, [bytearray(buffer) for buffer in encoded.buffers])
    one += 1
    assert not other.any() and not sent.any()
    assert np.shares_memory(one, np.frombuffer(buffers[0]))  # nor was it copied again


class Wrapped(bytes):
    """Not exactly bytes."""


@pytest.mark.parametrize("wrap", [lambda b: b, lambda b: [1, b, b], lambda b: (b, "x")])
def test_large_bytes(wrap: Any) -> None:
    value = bytes(BYTES_OUT_OF_BAND_MIN)
    got, encoded = trip(wrap(value))
    assert got == wrap(value) and type(got) is type(wrap(value))
    assert out_of_band(encoded) == len(value)
    if isinstance(got, list):
        assert got[1] is got[2] and type(got[1]) is bytes


def test_large_bytes_stay_the_same_object_wherever_they_are() -> None:
    one, other = bytes(BYTES_OUT_OF_BAND_MIN), b"x" * BYTES_OUT_OF_BAND_MIN
    sent: Any = [one, {"one": one, "other": other}, other, "x", one, "x"]
    sent.append(sent)
    got, encoded = trip(sent)
    assert got[0] is got[1]["one"] is got[4] and got[2] is got[1]["other"] and got[6] is got
    assert (got[0], got[2], got[3], got[5]) == (one, other, "x", "x")
    assert out_of_band(encoded) == 2 * len(one) and len(encoded.data) < 500


def test_what_is_not_lifted() -> None:
    small = [bytes(100), Wrapped(BYTES_OUT_OF_BAND_MIN)]
    got, encoded = trip(small)
    assert got == small and type(got[1]) is Wrapped and not encoded.buffers


@pytest.mark.parametrize("typecode", "bBhHiIlLqQfd")
def test_array_array(typecode: str) -> None:
    sent = array.array(typecode, [1, 2, 3]) * (BYTES_OUT_OF_BAND_MIN // 3 + 1)
    got, encoded = trip(sent)
    assert got == sent and type(got) is array.array and got.typecode == typecode
    assert out_of_band(encoded) == len(sent) * sent.itemsize
    got.append(1)
    sent.append(1)  # not locked by the pickle, which lives on
    assert encoded.buffers


def test_small_array_array_and_bytearray() -> None:
    got, encoded = trip([array.array("d", [1.0]), bytearray(b"abc"), bytearray(2_000_000)])
    assert got == [array.array("d", [1.0]), bytearray(b"abc"), bytearray(2_000_000)]
    assert not encoded.buffers


def frames() -> dict[str, pd.DataFrame]:
    rows = 12_000
    numbers = np.arange(rows)
    when = pd.date_range("2020-01-01", periods=rows, freq="h")
    return {
        "numbers": pd.DataFrame({"i": numbers, "f": numbers / 3, "b": numbers % 2 == 0}),
        "datetime": pd.DataFrame({"when": when, "delta": when - when[0]}),
        "timezone": pd.DataFrame({"when": when.tz_localize(UTC).tz_convert("Europe/Berlin")}),
        "utc": pd.DataFrame({"x": numbers}, index=when.tz_localize(UTC)),
        "categorical": pd.DataFrame({"c": pd.Categorical(list("abcd") * (rows // 4))}),
        "str": pd.DataFrame({"s": [f"text {n}" for n in numbers]}),
        "object": pd.DataFrame({"o": pd.Series([datetime(2020, 1, 1), None, 3] * (rows // 3))}),
        "nullable": pd.DataFrame(
            {
                "i": pd.array([1, None, 3] * (rows // 3), dtype="Int64"),
                "b": pd.array([True, None, False] * (rows // 3), dtype="boolean"),
                "s": pd.array(["x", None, "z"] * (rows // 3), dtype="string"),
            }
        ),
        "multiindex": pd.DataFrame(
            {"x": numbers},
            index=pd.MultiIndex.from_product([range(rows // 4), list("abcd")], names=["n", "l"]),
        ),
        "period": pd.DataFrame({"p": pd.period_range("2000-01", periods=rows, freq="D")}),
        "interval": pd.DataFrame({"v": pd.interval_range(0, rows)}),
        "sparse": pd.DataFrame({"s": pd.arrays.SparseArray([0.0, 0.0, 1.0] * (rows // 3))}),
        "empty": pd.DataFrame(),
    }


@pytest.mark.parametrize("name", sorted(frames()))
def test_frames(name: str) -> None:
    sent = frames()[name]
    got, _ = trip(sent)
    pd.testing.assert_frame_equal(got, sent)
    sliced = sent.iloc[::2]
    got, _ = trip(sliced)
    pd.testing.assert_frame_equal(got, sliced)
    if len(got) and name != "sparse":  # which never can be assigned to
        got.iloc[0, 0] = got.iloc[1, 0]  # nothing in it is read-only


ROWS = 9_000  # of 8 bytes: a column of all of them goes out of band

KINDS = [
    "bool", "int8", "uint16", "int64", "float32", "float64", "complex128", "datetime64[ns]",
    "datetime64[s]", "timedelta64[ms]", "datetime64[ns, Asia/Tokyo]", "category", "period[D]",
    "Int16", "Float64", "boolean", "str", "string", "object", "Sparse[int64]",
]  # fmt: skip


@cache
def column(kind: str, missing: bool) -> pd.Series[Any]:
    """Make a column of a kind, with gaps where the kind has a word for that."""
    numbers = np.random.default_rng(len(kind)).integers(0, 2 if "bool" in kind else 100, ROWS)
    made = pd.Series(numbers)
    if kind in ("str", "string", "object"):
        made = made.astype(str)
    if kind == "period[D]":
        made = pd.Series(pd.PeriodIndex.from_ordinals(numbers, freq="D"))
    made = made.astype(kind)
    if missing and kind[0] in "dtIFpcs" and kind != "complex128":
        made[::7] = None
    return made


@cache
def index(kind: str) -> Any:
    numbers = np.arange(ROWS)
    if kind == "levels":
        return pd.MultiIndex.from_arrays([numbers // 30, numbers % 30], names=["a", None])
    if kind == "dates":
        return pd.date_range("2024", periods=ROWS, freq="min", tz="Europe/Berlin", name="when")
    return {"range": pd.RangeIndex(ROWS), "numbers": pd.Index(numbers[::-1] * 0.5, name=("x", 1)),
            "text": pd.Index(numbers.astype(str))}[kind]  # fmt: skip


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    labels=st.lists(st.sampled_from(["a", "b", 0, None]), min_size=5, max_size=5),
    rows=st.sampled_from(["range", "numbers", "dates", "levels", "text"]),
    part=st.sampled_from(
        [slice(None), slice(3, -3), slice(None, None, 2), slice(7, 8), slice(0, 0)]
    ),
    missing=st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_frames_of_any_columns_index_and_part(
    kinds: list[str], labels: list[Any], rows: str, part: slice, missing: bool
) -> None:
    frame = pd.concat([column(kind, missing) for kind in kinds], axis=1)
    frame.index = index(rows)
    frame.columns = pd.Index(labels[: len(kinds)], dtype=object)
    frame = frame.iloc[part]
    frame.attrs["unit"] = rows
    before = frame.copy(deep=True)
    for sent in (frame, frame.iloc[:, 0], frame.index):
        got, _ = trip(sent)
        assert type(got) is type(sent)
        if isinstance(sent, pd.DataFrame):
            pd.testing.assert_frame_equal(got, sent, check_freq=True, check_flags=True)
            assert got.attrs == sent.attrs
        elif isinstance(sent, pd.Series):
            pd.testing.assert_series_equal(got, sent, check_freq=True, check_flags=True)
        else:
            pd.testing.assert_index_equal(got, sent, exact=True)
    pd.testing.assert_frame_equal(frame, before)  # sending changes nothing here


@pytest.mark.parametrize("name", ["numbers", "datetime", "timezone"])
def test_columns_of_frames_go_out_of_band(name: str) -> None:
    sent = frames()[name]
    _, encoded = trip(sent)
    assert out_of_band(encoded) >= sent.memory_usage(index=False).sum() * 0.9


def test_frequency_of_an_index_survives() -> None:
    sent = pd.Series(range(20_000), index=pd.date_range("2020", periods=20_000, freq="15min"))
    got, _ = trip(sent)
    pd.testing.assert_series_equal(got, sent, check_freq=True)


def test_encoded_unpacks_and_says_its_sizes() -> None:
    encoded = encode(np.zeros(10_000), Pickler)
    data, buffers = encoded
    assert data is encoded.data and buffers is encoded.buffers
    assert repr(encoded) == f"<Encoded: {len(data)} bytes, buffers [80000]>"
    block = store._depot.depot().put(bytes(100_000))
    assert repr(Encoded(b"12", [b"123", bytearray(4), block])) == (
        "<Encoded: 2 bytes, buffers [3, 4, 100000]>"
    )


def test_plain_objects_need_no_buffers() -> None:
    sent = {"a": [1, 2.5, None], "b": ("x", b"y")}
    got, encoded = trip(sent, _pickle.Pickler)
    assert got == sent and encoded.buffers == []


def test_codec_imports_nothing_heavy() -> None:
    code = (
        "import sys; from store import encode, decode; encode([1]);"
        "print({'numpy', 'pandas', 'typing', 'dataclasses', 'pool'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_store_has_nothing_else() -> None:
    import store

    assert set(store.__all__) <= set(dir(store))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        store.nothing  # noqa: B018 - looking is the test
