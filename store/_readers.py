"""The segments that a process can see, each of which it maps once, privately."""

from __future__ import annotations

import os
from _thread import RLock
from weakref import WeakValueDictionary

from store._anonymous import identity
from store._children import in_child
from store._errors import StoreError
from store._memory import map_file, unmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from weakref import ref

    from store._mappings import Lease

_lock = RLock()

#: The segments that this process can see, by key.
readers: WeakValueDictionary[int, Reader] = WeakValueDictionary()
#: Of these, segments of processes that are gone: the connections that they came over have ended.
orphans: WeakValueDictionary[int, Reader] = WeakValueDictionary()


def _close(
    fd: int, file: tuple[int, int], _identity: Any = identity, _close: Any = os.close
) -> None:
    """Close a descriptor, unless it was closed before: its number may be another file's by now."""
    try:
        if _identity(fd) == file:
            _close(fd)
    except OSError:
        pass


class Reader:
    """One segment, as seen by a process that may only read it.

    Parameters
    ----------
    key : int
    fd : int
        Owned by the reader from now on.
    nbytes : int
        Size of the segment.

    Attributes
    ----------
    keepers : int
        How many links keep it, whether any object in it is held or not; see `attach`.
    leased : dict
        By offset of the object, the leases in the mapping of the whole segment.
    """

    __slots__ = ("__weakref__", "_address", "_file", "fd", "keepers", "key", "leased", "nbytes")

    def __init__(self, key: int, fd: int, nbytes: int) -> None:
        self.key = key
        self.fd = fd
        self._file = identity(fd)
        self.nbytes = nbytes
        self.keepers = 0
        self._address = 0
        self.leased: dict[int, ref[Lease]] = {}

    @property
    def address(self) -> int:
        """Address at which the segment is mapped, which is done when it is first asked for."""
        if not self._address:
            with _lock:
                if not self._address:
                    self._address = map_file(self.fd, 0, self.nbytes, private=True)
        return self._address

    def check(self) -> None:
        """Raise StoreError if the descriptor is not that of the segment any more."""
        try:
            if identity(self.fd) == self._file:
                return
        except OSError:
            pass
        raise StoreError(
            "the descriptors that this process inherited were closed, and with them the memory of "
            "this object; copy what is still needed before closing them, or leave them open"
        )

    def __del__(self, _unmap: Any = unmap, _close: Any = _close) -> None:
        # In a cycle of garbage other objects may still use this one: they are to find neither a
        # descriptor nor an address.
        fd, self.fd = self.fd, -1
        address, self._address = self._address, 0
        if address:
            _unmap(address, self.nbytes)
        _close(fd, self._file)


def attach(key: int, fd: int, nbytes: int) -> Reader:
    """Return the reader of a segment, with one more keeper.

    Parameters
    ----------
    key : int
    fd : int
        A read-only descriptor of it; owned by the reader, or closed, from now on.
    nbytes : int
    """
    with _lock:
        reader = readers.get(key)
        # One that a finalizer in another thread is just letting go of has no descriptor any more.
        if reader is None or reader.fd < 0:
            reader = readers[key] = Reader(key, fd, nbytes)
        else:
            os.close(fd)
            orphans.pop(key, None)
        reader.keepers += 1
        return reader


def leave(reader: Reader) -> None:
    """Note that a reader has one keeper less; objects that are held in it still keep it."""
    with _lock:
        reader.keepers -= 1
        if not reader.keepers:
            orphans[reader.key] = reader


def _after_fork_in_child() -> None:
    """Renew the lock: a thread that is not there any more may have held it."""
    global _lock
    _lock = RLock()


in_child(_after_fork_in_child)
