"""Arrays on memory that processes share: what a task writes there, the program is to see.

A fork has such memory in common with the program: a view of a `RawArray`, of a block of
`multiprocessing.shared_memory`, of an anonymous `mmap`, a `numpy.memmap` that is written to.
A pickle of the bytes would be a copy, and what tasks write would be lost without a word. So
what a fork would have inherited, globals above all, shares it here too:

* Memory that has a name in the file system is opened again by that name.
* What has none gets a number, under which workers forked from now on have it.

Arguments of tasks are copies, as everywhere.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock
from _weakref import ref

from store._codec import Encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._picklers import BasePickler

    Identity = tuple[int, int]

#: Ask for a number for everything that has no name.
ALL = sys.maxsize

#: How many objects are looked through for the one that owns an array's memory.
_DEPTH = 32

#: What owns memory of its own, which nobody shares.
_PLAIN = frozenset({("array", "array"), ("builtins", "bytearray"), ("builtins", "bytes")})

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Inheriting(Encoded):
    """A message with arrays that the receiver must have inherited.

    Attributes
    ----------
    inherits : int
        Those numbered below.
    held : list
        The arrays: who forks next must have them.
    """

    __slots__ = ("held", "inherits")

    def __init__(self, data: bytes, buffers: list[Any], inherits: int, held: list[Any]) -> None:
        super().__init__(data, buffers)
        self.inherits = inherits
        self.held = held


def inherits(encoded: Encoded) -> int:
    """Return below which number the receiver of a message must have inherited everything."""
    return getattr(encoded, "inherits", 0)


class Sharing:
    """What becomes of shared memory in one pickle.

    Parameters
    ----------
    inherited : int or None
        The receiver has what is numbered below. What has a higher number, and no name, is copied;
        everything is if this is None.
    named : bool
        Whether memory may be opened by its name.

    Attributes
    ----------
    inherits : int
        The receiver must have what is numbered below.
    held : list
        What was written as a number.
    names : list
        What was written as a name: path, and the identity of the file.
    copied : bool
        Whether anything was copied that a receiver of more could share.
    """

    __slots__ = ("copied", "held", "inherited", "inherits", "named", "names")

    def __init__(self, inherited: int | None, named: bool = True) -> None:
        self.inherited = inherited
        self.named = named
        self.inherits = 0
        self.held: list[Any] = []
        self.names: list[tuple[str, Identity]] = []
        self.copied = False

    def suits(self, inherited: int | None) -> bool:
        """Return whether a pickle for one receiver may go to another, which has `inherited`."""
        if not (self.held or self.names or self.copied):
            return True
        if inherited is None or self.inherited is None:
            return inherited is self.inherited
        return self.inherits <= inherited and not (self.copied and inherited > self.inherited)

    def standing(self) -> list[bool]:
        """Return of each name whether it is still that of the file that was meant."""
        return [_identity(path) == identity for path, identity in self.names]

    def reduce(self, obj: Any) -> Any:
        """Reduce an array on shared memory, or return NotImplemented."""
        place = _place_of(obj)
        if place is None:
            return NotImplemented
        if self.inherited is None:
            self.copied = True
            return NotImplemented
        if self.named and place.path:
            reduced = _by_name(obj, place)
            if reduced is not None:
                self.names.append((place.path, place.identity))
                return reduced
        number = number_of(obj)
        if number >= self.inherited:
            self.copied = True
            return NotImplemented
        self.held.append(obj)
        self.inherits = max(self.inherits, number + 1)
        return inherited_array, (number,)


class _Shared:
    """Stand for a value for which the pickler would ask only in a global."""

    __slots__ = ("_reduced",)

    def __init__(self, reduced: tuple[Any, ...]) -> None:
        self._reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def captured(pickler: BasePickler, value: Any) -> Any:
    """Return what is to be pickled for a variable that a function has captured."""
    if pickler.sharing is None or pickler.throughout or not is_array(value):
        return value  # in a global it is asked for in any case
    reduced = pickler.sharing.reduce(value)
    return value if reduced is NotImplemented else _Shared(reduced)


def is_array(value: Any) -> bool:
    """Return whether `value` is an array of numpy's, or of a class made of these."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(type(value), getattr(numpy, "ndarray", ()))


# ---------------------------------------------------------------- numbers


#: One that a finalizer can take which runs while its thread holds it.
_lock = RLock()
_next = 1
#: By id: number, and what says that the id is still that of the same array.
_numbers: dict[int, tuple[int, ref[Any]]] = {}
#: In workers that were forked from the program: what they have inherited.
_inherited: dict[int, Any] = {}


def number_of(array: Any) -> int:
    """Return the number under which workers that are forked from now on have an array."""
    global _next
    key = id(array)
    with _lock:
        known = _numbers.get(key)
        if known is not None and known[1]() is array:
            return known[0]
        number = _next
        _next += 1
        _numbers[key] = number, ref(array, lambda dead: _forget(key, dead))
        return number


def _forget(key: int, dead: object) -> None:
    known = _numbers.get(key)
    if known is not None and known[1] is dead:
        del _numbers[key]


def upcoming() -> int:
    """Return the next number: a fork has what is numbered below."""
    with _lock:
        return _next


def number_globals() -> None:
    """Give numbers to the arrays on shared memory that the main module has, before a fork."""
    for value in list(vars(sys.modules["__main__"]).values()):
        if is_array(value) and _place_of(value) is not None:
            number_of(value)


def keep_inherited() -> None:
    """Keep what has a number, in a process that was forked to fork workers."""
    for number, reference in list(_numbers.values()):
        array = reference()
        if array is not None:
            _inherited[number] = array


def inherited_array(number: int) -> Any:
    """Return the array of this number, in a worker that has inherited it."""
    return _inherited[number]


def _after_fork_in_child() -> None:
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)


# ---------------------------------------------------------------- where an array lies


class _Place:
    """A shared, writable mapping under an array.

    Attributes
    ----------
    path : str
        Of the file, if the whole array lies in it and it can be opened by that name; or "".
    identity : tuple
        Of the file.
    start, nbytes : int
        The array's bytes in the file.
    first : int
        Its first element, counted from there.
    """

    __slots__ = ("first", "identity", "nbytes", "path", "start")

    def __init__(self, path: str, identity: Identity, start: int, nbytes: int, first: int) -> None:
        self.path = path
        self.identity = identity
        self.start = start
        self.nbytes = nbytes
        self.first = first


def _place_of(array: Any) -> _Place | None:
    """Return where an array lies, if others may see what is written there."""
    if not is_array(array) or not array.nbytes or _is_ordinary(array):
        return None
    address = array.__array_interface__["data"][0]
    low = high = 0
    for length, stride in zip(array.shape, array.strides, strict=True):
        reach = (length - 1) * stride
        low, high = (low + reach, high) if reach < 0 else (low, high + reach)
    low, high = address + low, address + high + array.itemsize
    mapping = _mapping_at(address)
    if mapping is None or mapping[2][1:2] != b"w" or mapping[2][3:4] != b"s":
        return None
    begin, end, _, offset, device, inode, name = mapping
    identity = os.makedev(*(int(part, 16) for part in device.split(b":"))), int(inode)
    path = os.fsdecode(name) if begin <= low and high <= end else ""
    if path.startswith("/dev/") and not path.startswith("/dev/shm/") and "(deleted)" not in path:
        return None  # a device: who maps it knows what for
    if _identity(path) != identity or not os.access(path, os.R_OK | os.W_OK):
        path = ""
    return _Place(path, identity, int(offset, 16) + low - begin, high - low, address - low)


def _is_ordinary(array: Any) -> bool:
    """Return whether an array can be seen to lie on memory of this process's own."""
    found: Any = array
    for _ in range(_DEPTH):
        if is_array(found):
            if found.base is None:
                return bool(found.flags.owndata)
            found = found.base
        elif type(found) is memoryview:
            found = found.obj
        else:
            break
    kind = type(found)
    # What the store maps shared is private as soon as it is sent.
    return kind.__module__ == "store._mappings" or (kind.__module__, kind.__qualname__) in _PLAIN


def _mapping_at(address: int) -> Any:
    """Return what the kernel says of the mapping that has an address, or None."""
    try:
        with open("/proc/self/maps", "rb") as lines:
            for line in lines:
                span, flags, offset, device, inode, *name = line.rstrip(b"\n").split(None, 5)
                begin, _, end = span.partition(b"-")
                if int(begin, 16) <= address < int(end, 16):
                    path = name[0] if name else b""
                    return int(begin, 16), int(end, 16), flags, offset, device, inode, path
    except OSError:
        pass  # no such file in this container: nobody can tell
    return None


def _identity(path: str) -> Identity | None:
    from stat import S_ISREG

    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if S_ISREG(found.st_mode) else None


# ---------------------------------------------------------------- names


def _by_name(array: Any, place: _Place) -> Any:
    numpy = sys.modules["numpy"]
    kind = type(array)
    if kind not in (numpy.ndarray, numpy.memmap, numpy.matrix, numpy.recarray):
        return None
    details = None
    if kind is numpy.memmap and array._mmap is not None:
        details = {"filename": array.filename, "offset": array.offset, "mode": array.mode}
    layout = (array.shape, array.dtype, array.strides, bool(array.flags.writeable))
    where = (place.path, place.identity, place.start, place.nbytes, place.first)
    return reopen, (kind, *where, *layout, details)


def reopen(
    kind: Any,
    path: str,
    identity: Identity,
    start: int,
    nbytes: int,
    first: int,
    shape: tuple[int, ...],
    dtype: Any,
    strides: tuple[int, ...],
    writeable: bool,
    details: dict[str, Any] | None,
) -> Any:
    """Return an array on the same memory, opened by its name.

    Raises
    ------
    FileNotFoundError
        If it does not bear that name any more.
    """
    import mmap

    import numpy as np

    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != identity:
            raise FileNotFoundError(
                f"{path!r} is another file by now than the one that an array lies in"
            )
        gap = start % _PAGE
        memory = mmap.mmap(fd, gap + nbytes, offset=start - gap)
    finally:
        os.close(fd)
    made = np.ndarray.__new__(
        np.memmap if kind is np.memmap else np.ndarray,
        shape,
        dtype,
        memory,
        gap + first,
        strides,
    )
    made.flags.writeable = writeable
    if kind is np.memmap:
        if details is not None:
            vars(made).update(details, _mmap=memory)
        return made
    return made if kind is np.ndarray else made.view(kind)
