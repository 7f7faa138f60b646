"""The segments that a process can see, each of which it maps once, privately."""

from __future__ import annotations

import os
from _thread import RLock
from weakref import WeakValueDictionary

from store._anonymous import identity
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
#: Those of which no more will come, since the connections over which they came have ended.
orphans: WeakValueDictionary[int, Reader] = WeakValueDictionary()


def _close(
    fd: int, file: tuple[int, int], _identity: Any = identity, _close: Any = os.close
) -> None:
    """Close a descriptor, unless somebody else has done so: it may be another file's by now."""
    try:
        if _identity(fd) == file:
            _close(fd)
    except OSError:
        pass


class Reader:
    """One segment, as a process sees it that may not change it.

    Parameters
    ----------
    key : int
    fd : int
        Owned from now on.
    nbytes : int

    Attributes
    ----------
    keepers : int
        How many keep it whether anything in it is held or not, see `attach`.
    leased : dict
        What is leased in the mapping of the segment, by the offset of the block.
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
        """Where the segment is mapped; it is mapped when first asked for."""
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
        # A collector may call this while others in a cycle still ask: they are to find nothing.
        fd, self.fd = self.fd, -1
        address, self._address = self._address, 0
        if address:
            _unmap(address, self.nbytes)
        _close(fd, self._file)


def attach(key: int, fd: int, nbytes: int) -> Reader:
    """Return the reader of a segment, for who keeps it; the descriptor is owned from now on."""
    with _lock:
        reader = readers.get(key)
        if reader is None:
            reader = readers[key] = Reader(key, fd, nbytes)
        else:
            os.close(fd)
            orphans.pop(key, None)
        reader.keepers += 1
        return reader


def leave(reader: Reader) -> None:
    """Note that one who kept a reader does so no more; what is held in it keeps it still."""
    with _lock:
        reader.keepers -= 1
        if not reader.keepers:
            orphans[reader.key] = reader


def _after_fork_in_child() -> None:
    """Renew the lock: a thread that is not there any more may have held it."""
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
