"""Pickle 5 with large buffers beside the pickle instead of inside it.

`encode` gives the bytes of the pickle and a list of raw buffers, each at least
`OUT_OF_BAND_MIN` bytes; whoever carries them may map them, share them or copy them.
`decode` puts both together again. What arrives is equal, of exactly the same type, and
private to the receiver, who may write to it if the buffers handed over are writable.

Knows nothing of how the bytes travel, and never imports numpy: it only looks whether
somebody else has.
"""

from __future__ import annotations

import _pickle
import sys
from io import SEEK_END, BytesIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Protocol

    class Pickler(Protocol):
        """What `encode` needs of a pickler."""

        #: By id: place in the pickle, and the object.
        memo: Any

        def dump(self, obj: object, /) -> None:
            """Write the pickle of `obj`."""

    PicklerFactory = Callable[..., Pickler]

#: Smaller buffers stay in the pickle: a buffer of its own costs a few microseconds in the
#: transport, which copying this much costs too.
OUT_OF_BAND_MIN = 64 * 1024

#: Whole ``bytes`` objects are copied once on arrival (nothing else gives the exact type),
#: so they are worth a buffer only when a second copy is what counts.
BYTES_OUT_OF_BAND_MIN = 1024 * 1024

#: How many items of a list or tuple are looked at for large ``bytes``.
_SHALLOW = 64

#: The instruction that drops what a pickle has made; in place of its end, another may follow.
_POP = b"0"

PickleBuffer = _pickle.PickleBuffer


class Encoded:
    """A pickle and what belongs to it.

    Attributes
    ----------
    data : bytes
        A complete pickle of protocol 5.
    buffers : list of bytes-like or Block
        Its out-of-band buffers in the order of their use: flat, C-contiguous, and views
        of the sender's memory, which must be carried or copied before the sender writes
        to it again; or what is in the store already.
    """

    __module__ = "store"

    __slots__ = ("buffers", "data")

    def __init__(self, data: bytes, buffers: list[Any]) -> None:
        self.data = data
        self.buffers = buffers

    @property
    def packet(self) -> list[Any]:
        """Both in one list, as transports carry it: the pickle first."""
        return [self.data, *self.buffers]

    def __iter__(self) -> Iterator[Any]:
        yield self.data
        yield self.buffers

    def __repr__(self) -> str:
        sizes = [len(buffer) for buffer in self.buffers]
        return f"<Encoded: {len(self.data)} bytes, buffers {sizes}>"


def encode(obj: object, pickler_class: PicklerFactory = _pickle.Pickler) -> Encoded:
    """Pickle `obj`, leaving large buffers where they are.

    Parameters
    ----------
    obj : object
    pickler_class : callable
        Called as ``pickler_class(file, 5, buffer_callback=...)``. The plain C pickler
        leaves in band what numpy cannot export; one whose ``reducer_override`` asks
        `reduce_large` does not.

    Returns
    -------
    Encoded
    """
    file = BytesIO()
    buffers: list[Any] = []
    pickler = pickler_class(file, 5, buffer_callback=collector(buffers))
    dump(pickler, file, obj)
    return Encoded(file.getvalue(), buffers)


def decode(data: Any, buffers: Iterable[Any] = ()) -> Any:
    """Rebuild what `encode` was given.

    Parameters
    ----------
    data : bytes-like
    buffers : iterable of bytes-like
        As many as `encode` returned. Objects are built on top of them without a copy, so
        they must not be used for anything else from then on. Blocks of the store are mapped,
        ``bytes`` are copied: what is built on top shall be writable.
    """
    return _pickle.loads(opened(data), buffers=[_writable(buffer) for buffer in buffers])


def _writable(buffer: Any) -> Any:
    return bytearray(buffer) if type(buffer) is bytes else opened(buffer)


def opened(blob: Any) -> Any:
    """Return the bytes of a blob; those of a block are mapped, anew at each call."""
    return blob if type(blob) in _PLAIN else blob.view()


_PLAIN = frozenset({bytes, bytearray, memoryview})


class _StandIn(bytes):
    """What a pickler is given in place of a block, whose bytes nobody needs to see.

    Read-only, so that what arrives is: a view of the array that is mapped for it.
    """

    block: Any


def beside(block: Any) -> Any:
    """Return what puts a block of the store beside a pickle, without mapping it.

    Only for a pickler that has a `collector`: for another one it would be empty.
    """
    stand_in = _StandIn()
    stand_in.block = block
    return PickleBuffer(stand_in)


def collector(buffers: list[Any]) -> Callable[[Any], bool]:
    """Return a buffer callback that appends what is large, or in the store, to `buffers`."""

    def collect(buffer: Any) -> bool:
        view: memoryview = buffer.raw()
        if type(view.obj) is _StandIn:
            buffers.append(view.obj.block)
            return False
        if view.nbytes < OUT_OF_BAND_MIN:
            return True  # true: into the pickle
        buffers.append(view)
        return False

    return collect


# ---------------------------------------------------------------- bytes


class _LargeBytes:
    """Stand for a large ``bytes`` object, for which the pickler asks no reducer."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (PickleBuffer(self.value),)


def dump(pickler: Pickler, file: BytesIO, obj: Any) -> None:
    """Write the pickle of `obj`, with large ``bytes`` that are easy to find out of band.

    Parameters
    ----------
    pickler : Pickler
        Has written nothing yet.
    file : BytesIO
        Where it writes to.
    obj : object
        It is looked at itself, or the items of a short list or tuple, not deeper: finding all
        would mean walking everything that is sent.
    """
    large = _large_bytes(obj)
    if large:
        # They go first, and what is written stays in the memo: then each is known wherever it
        # occurs, and `obj` is pickled as it is.
        standins = [_LargeBytes(value) for value in large]
        pickler.dump(standins)
        memo = pickler.memo.copy()
        for standin in standins:
            memo[id(standin.value)] = memo.pop(id(standin))[0], standin.value
        pickler.memo = memo
        file.seek(-1, SEEK_END)
        file.write(_POP)
    pickler.dump(obj)


def _large_bytes(obj: Any) -> list[bytes]:
    kind = type(obj)
    if kind is bytes:
        return [obj] if len(obj) >= BYTES_OUT_OF_BAND_MIN else []
    if (kind is list or kind is tuple) and len(obj) <= _SHALLOW:
        return list({id(item): item for item in obj if _is_large(item)}.values())
    return []


def _is_large(item: object) -> bool:
    return type(item) is bytes and len(item) >= BYTES_OUT_OF_BAND_MIN


# ---------------------------------------------------------------- arrays


def reduce_large(obj: Any) -> Any:
    """Reduce arrays that plain pickling leaves in band, or would make read-only.

    For a pickler's ``reducer_override``; cheap for everything that it is not about.

    Returns
    -------
    tuple or NotImplemented
        NotImplemented: pickle `obj` as usual.
    """
    reducer = _REDUCERS.get(type(obj))
    if reducer is not None:
        return reducer(obj)
    kind = type(obj)
    if kind.__name__ in _NAMES or kind.__module__ == "pyarrow.lib":
        # The modules that have large types may be imported at any time, by anybody.
        reducer = _find_reducer(kind)
        if reducer is not None:
            _REDUCERS[kind] = reducer
            return reducer(obj)
    return NotImplemented


#: Modules whose types `reduce_large` is about.
WATCHED = frozenset(
    {
        "array",
        "numpy",
        "numpy.ma",
        "numpy.ma.core",
        "numpy.rec",
        "pandas.arrays",
        "pandas.core.arrays.arrow.array",
        "pandas.core.arrays.string_arrow",
        "pyarrow.lib",
    }
)

#: Scalars that have the very value of a plain number. What a mean, a sum or a comparison
#: returns, so it is worth not pickling a function and a dtype with each.
_SCALARS = frozenset({"float64", "int64", "int32", "bool"})

#: Columns of pandas on top of Arrow's arrays.
_COLUMNS = frozenset({"ArrowExtensionArray", "ArrowStringArray", "ArrowStringArrayNumpySemantics"})

_NAMES = _SCALARS | _COLUMNS | {"array", "ndarray", "MaskedArray", "recarray", "memmap", "matrix"}


def _find_reducer(kind: type) -> Callable[[Any], Any] | None:
    if kind.__module__ == "pyarrow.lib":
        from store._arrow import reduce_arrow

        return reduce_arrow
    if kind.__name__ in _COLUMNS and kind.__module__ in WATCHED:
        from store._arrow import reduce_column

        return reduce_column
    array = sys.modules.get("array")
    if array is not None and kind is getattr(array, "array", None):
        return _reduce_array
    numpy = sys.modules.get("numpy")
    name = kind.__name__
    if numpy is None:
        return None
    if name == "MaskedArray":
        home = sys.modules.get("numpy.ma")
        return _reduce_masked if kind is getattr(home, name, None) else None
    if kind is not getattr(numpy, name, None):
        return None
    if name in _SCALARS:
        return _reduce_scalar
    if name != "ndarray":
        return _reduce_subclass
    _learn_codes(numpy)
    return _reduce_ndarray


_REDUCERS: dict[type, Callable[[Any], Any]] = {}


def _reduce_array(obj: Any) -> Any:
    nbytes = len(obj) * obj.itemsize
    if nbytes < BYTES_OUT_OF_BAND_MIN:
        return NotImplemented
    # A copy, because an exported array cannot be resized by its owner.
    return _load_array, (obj.typecode, PickleBuffer(obj.tobytes()))


def _load_array(typecode: str, buffer: Any) -> Any:
    from array import array

    loaded = array(typecode)
    loaded.frombytes(memoryview(buffer))
    return loaded


def _reduce_scalar(obj: Any) -> Any:
    return type(obj), (obj.item(),)


def _reduce_ndarray(obj: Any) -> Any:
    flags = obj.flags
    dtype = obj.dtype
    code = _CODES.get(id(dtype))
    order: Any
    if code is not None and flags.writeable and flags.forc:
        # A class of C called with plain values: numpy's own form costs three times as much,
        # in Python on both sides, since it pickles a function and a dtype as well.
        order = "C" if flags.c_contiguous else "F"
        return type(obj), (obj.shape, code, PickleBuffer(obj), 0, None, order)
    if dtype.hasobject:
        return NotImplemented
    # Protocol 5 keeps the order of axes and bytes, and keeps an array read-only that the sender
    # only had a read-only view of. The older form, which multiprocessing sends up to Python 3.13,
    # brings a writable array in the byte order of the machine, in Fortran's order only what has
    # that, else in C's. So do we with every Python.
    swapped = not dtype.isnative and dtype.names is None
    kept = flags.writeable and flags.forc and not swapped
    if obj.nbytes < OUT_OF_BAND_MIN:
        return NotImplemented if kept else obj.__reduce__()
    if not kept:
        # As that form, with the bytes beside it: one copy, which a writable buffer needs anyway.
        order = "F" if flags.fnc else "C"
        obj = obj.astype(dtype.newbyteorder("="), order) if swapped else obj.copy(order)
        return _reduce_ndarray_view(obj) or obj.__reduce_ex__(5)
    return _reduce_ndarray_view(obj) or NotImplemented


#: The names of the dtypes of which there is one object each (without metadata, in native
#: byte order, with a buffer format), by the id of that object.
_CODES: dict[int, str] = {}


def _learn_codes(numpy: Any) -> None:
    for char in "?bBhHiIlLqQefdgFDG":
        dtype = numpy.dtype(char)
        # What a dtype's name leads to elsewhere: `l` and `q` are two types with one name.
        if numpy.dtype(dtype.str) is dtype:
            _CODES[id(dtype)] = dtype.str


def _reduce_ndarray_view(obj: Any) -> Any:
    """Reduce an array whose dtype has no buffer format (dates, fields of dates) to its bytes."""
    dtype = obj.dtype
    try:
        memoryview(obj)
    except (ValueError, BufferError, NotImplementedError):
        if dtype.kind in "mM":
            return _view, (obj.view("i8"), dtype)
        if dtype.names:
            return _view, (obj.view(f"V{dtype.itemsize}"), dtype)
    return None


def _view(array: Any, dtype: Any) -> Any:
    return array.view(dtype)


def _reduce_subclass(obj: Any) -> Any:
    """Reduce an array of a class of numpy's own to a plain one and its class."""
    if obj.nbytes < OUT_OF_BAND_MIN or obj.dtype.hasobject:
        return NotImplemented
    numpy = sys.modules["numpy"]
    return _as_class, (obj.view(numpy.ndarray), type(obj))


def _as_class(array: Any, kind: type) -> Any:
    return array.view(kind)


def _reduce_masked(obj: Any) -> Any:
    """Reduce a masked array to its data and its mask."""
    numpy = sys.modules["numpy"]
    plain = obj._baseclass is numpy.ndarray
    if obj.nbytes < OUT_OF_BAND_MIN or obj.dtype.hasobject or not plain:
        return NotImplemented
    # In the order of the data, as numpy's own form has it. And an object of its own: if two arrays
    # have the same mask, a pickle has it twice, and what one masks afterwards the other does not.
    order = "F" if obj.flags.fnc else "C"
    mask = numpy.asarray(sys.modules["numpy.ma"].getmaskarray(obj), order=order).view()
    return _as_masked, (obj.data, mask, obj._fill_value)


def _as_masked(data: Any, mask: Any, fill_value: Any) -> Any:
    from numpy.ma import MaskedArray

    array: Any = MaskedArray(data, mask=mask, copy=False)
    array.fill_value = fill_value
    array._sharedmask = True  # with structured data the constructor makes a mask of its own
    return array


# Where users find them.
for _public in (encode, decode):
    _public.__module__ = "store"
