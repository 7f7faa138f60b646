"""Arrays on memory that processes share, so that the program sees what tasks write there.

A forked process shares such memory with the program: a view of a `RawArray`, of a block of
`multiprocessing.shared_memory`, of an anonymous `mmap`, a `numpy.memmap` that is written to.
A pickle of the bytes would be a copy, and what tasks write would be lost silently. So arrays that
a forked process would have inherited, globals above all, share the memory here too:

* Memory that has a name in the file system is opened again by that name.
* An array on other memory gets a number, under which workers that are forked later have it.

So does a class that cannot be defined anew elsewhere, see `_classes.is_accounted_for`, and what
`multiprocessing` shares by inheriting it: locks, queues, values, connections.

Arguments of tasks are always copies.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock
from _weakref import ref

from store._cgroups import read
from store._children import in_child
from store._codec import Encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._picklers import BasePickler

    Identity = tuple[int, int]

#: As `inherited`: all arrays on memory without a name get a number.
ALL = sys.maxsize

#: Bases of an array that are followed to find the owner of its memory, at most.
_DEPTH = 32

#: Types of owners whose memory no other process shares.
_PLAIN = frozenset({("array", "array"), ("builtins", "bytearray"), ("builtins", "bytes")})

#: Modules of `multiprocessing` whose objects can only be inherited.
_PRIMITIVES = frozenset(
    f"multiprocessing.{name}" for name in ("connection", "queues", "sharedctypes", "synchronize")
)

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Inheriting(Encoded):
    """A message with arrays that the receiver must have inherited.

    Attributes
    ----------
    inherits : int
        The receiver must have inherited all arrays with lower numbers.
    held : list
        The arrays. Kept alive here, so that workers which are forked for it inherit them.
    """

    __slots__ = ("held", "inherits")

    def __init__(self, data: bytes, buffers: list[Any], inherits: int, held: list[Any]) -> None:
        super().__init__(data, buffers)
        self.inherits = inherits
        self.held = held


def inherits(encoded: Encoded) -> int:
    """Return the number below which the receiver must have inherited all arrays."""
    return getattr(encoded, "inherits", 0)


class Sharing:
    """Decides how arrays on shared memory are sent in one pickle, and notes it.

    Parameters
    ----------
    inherited : int or None
        The receiver has inherited the arrays with lower numbers. Others are copied, unless their
        memory has a name. If None, all are copied.
    named : bool
        Whether memory may be opened by its name.

    Attributes
    ----------
    inherits : int
        The receiver must have inherited the arrays with lower numbers.
    held : list
        The arrays that were written as numbers.
    names : list
        For memory that was written as a name: the path, and the identity of the file.
    copied : bool
        Whether an array was copied that a receiver with a higher `inherited` could share.
    only_forks : bool
        Whether a table was written as a number; other receivers are to be sent it, see `_tables`.
    """

    __slots__ = ("copied", "held", "inherited", "inherits", "named", "names", "only_forks")

    def __init__(self, inherited: int | None, named: bool = True) -> None:
        self.inherited = inherited
        self.named = named
        self.inherits = 0
        self.held: list[Any] = []
        self.names: list[tuple[str, Identity]] = []
        self.copied = False
        self.only_forks = False

    def suits(self, inherited: int | None) -> bool:
        """Return whether a pickle for one receiver may go to another, which has `inherited`."""
        if not (self.held or self.names or self.copied):
            return True
        if inherited is None or self.inherited is None:
            return inherited is self.inherited
        if self.only_forks and inherited == ALL:
            return False
        return self.inherits <= inherited and not (self.copied and inherited > self.inherited)

    def standing(self) -> list[bool]:
        """Return for each name whether it is still that of the same file."""
        return [_identity(path) == identity for path, identity in self.names]

    def reduce(self, obj: Any) -> Any:
        """Reduce an array on shared memory, a lock or the like, or return NotImplemented."""
        if is_primitive(obj):
            return self.inherit(obj)
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
        reduced = self.inherit(obj)
        if reduced is NotImplemented:
            self.copied = True
        return reduced

    def inherit(self, obj: Any) -> Any:
        """Reduce an object to its number; NotImplemented if the receiver does not have it."""
        number = number_of(obj)
        if self.inherited is None or number >= self.inherited:
            return NotImplemented
        self.held.append(obj)
        self.inherits = max(self.inherits, number + 1)
        return inherited_object, (number,)


class Reduced:
    """Is pickled in place of an object that the pickler would not reduce like this by itself."""

    __slots__ = ("_reduced",)

    def __init__(self, reduced: tuple[Any, ...]) -> None:
        self._reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def captured(pickler: BasePickler, value: Any) -> Any:
    """Return what is to be pickled for a variable that a function has captured."""
    if pickler.sharing is None or pickler.throughout:
        return value  # `throughout`: the pickler itself asks `sharing` for each array
    if not (is_array(value) or is_primitive(value)):
        return value
    reduced = pickler.sharing.reduce(value)
    return value if reduced is NotImplemented else Reduced(reduced)


def is_array(value: Any) -> bool:
    """Return whether `value` is an array of numpy's, or of a class made of these."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(type(value), getattr(numpy, "ndarray", ()))


def is_primitive(value: Any) -> bool:
    """Return whether `value` is a lock, a queue, a value, a connection of `multiprocessing`."""
    kind: Any = type(value)
    if kind.__module__ in _PRIMITIVES:
        return True
    # A `RawValue` or `RawArray`: an ordinary object of ctypes, in memory that is shared.
    return type(kind).__module__ == "_ctypes" and hasattr(value, "_wrapper")


# ---------------------------------------------------------------- numbers


#: Reentrant: a finalizer may need it that runs while its own thread holds it.
_lock = RLock()
_next = 1
#: By id: the number, and a reference to the object, to see that the id is still its own.
_numbers: dict[int, tuple[int, ref[Any]]] = {}
#: In workers that were forked from the program: the objects that they have inherited, by number.
_inherited: dict[int, Any] = {}


def number_of(obj: Any) -> int:
    """Return the number under which workers that are forked from now on have an object."""
    global _next
    key = id(obj)
    with _lock:
        known = _numbers.get(key)
        if known is not None and known[1]() is obj:
            return known[0]
        number = _next
        _next += 1
        _numbers[key] = number, ref(obj, lambda dead: _forget(key, dead))
        return number


def _forget(key: int, dead: object) -> None:
    known = _numbers.get(key)
    if known is not None and known[1] is dead:
        del _numbers[key]


def upcoming() -> int:
    """Return the next number: a fork inherits the arrays with lower ones."""
    with _lock:
        return _next


def number_arrays() -> None:
    """Give numbers to what the main module has that workers are to share, before a fork."""
    for value in list(vars(sys.modules["__main__"]).values()):
        if is_primitive(value) or (is_array(value) and _place_of(value) is not None):
            number_of(value)


def keep_inherited() -> None:
    """Keep the objects that have numbers, in a process that was forked to fork workers."""
    for number, reference in list(_numbers.values()):
        obj = reference()
        if obj is not None:
            _inherited[number] = obj


def inherited_object(number: int) -> Any:
    """Return the array or class of this number, in a worker that has inherited it."""
    return _inherited[number]


def _after_fork_in_child() -> None:
    global _lock
    _lock = RLock()


in_child(_after_fork_in_child)


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
    """Return where an array lies, if it lies on memory that other processes may share."""
    if not is_array(array) or not array.nbytes or _is_ordinary(array):
        return None
    address = array.__array_interface__["data"][0]
    low = high = 0
    for length, stride in zip(array.shape, array.strides, strict=True):
        reach = (length - 1) * stride
        low, high = (low + reach, high) if reach < 0 else (low, high + reach)
    low, high = address + low, address + high + array.itemsize
    mapping = _mapping_at(address)
    if mapping is None or mapping[2][1:2] != "w" or mapping[2][3:4] != "s":
        return None
    begin, end, _, offset, device, inode, name = mapping
    identity = os.makedev(*(int(part, 16) for part in device.split(":"))), int(inode)
    path = name if begin <= low and high <= end else ""
    if path.startswith("/dev/") and not path.startswith("/dev/shm/") and "(deleted)" not in path:
        return None  # the memory of a device, which is not opened again
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
    # Blocks that the store maps shared become private as soon as they are sent.
    return kind.__module__ == "store._mappings" or (kind.__module__, kind.__qualname__) in _PLAIN


def _mapping_at(address: int) -> Any:
    """Return the fields of ``/proc/self/maps`` for the mapping of an address, or None."""
    # Without such a file, in some containers, all is taken for private memory.
    for line in read("/proc/self/maps").split("\n")[:-1]:
        span, flags, offset, device, inode, *name = line.split(None, 5)
        begin, _, end = span.partition("-")
        if int(begin, 16) <= address < int(end, 16):
            path = os.fsdecode(name[0].encode(errors="surrogateescape")) if name else ""
            return int(begin, 16), int(end, 16), flags, offset, device, inode, path
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
        If another file has that name by now.
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
