"""What the store raises.

::

    StoreError (RuntimeError)
    ├── StoreFull (also MemoryError)
    └── ObjectFreed (also LookupError)

There is none for an owner that died or a store that was closed: see docs/design/store.md.
"""

from __future__ import annotations


class StoreError(RuntimeError):
    """The base of the store's errors."""

    __module__ = "store"


class StoreFull(StoreError, MemoryError):
    """Say that neither memory nor disk has room for an object.

    Attributes
    ----------
    nbytes : int
        Bytes that were asked for.
    """

    __module__ = "store"

    def __init__(self, message: str, nbytes: int = 0) -> None:
        super().__init__(message, nbytes)
        self.nbytes = nbytes

    def __str__(self) -> str:
        return str(self.args[0])


class ObjectFreed(StoreError, LookupError):
    """Say that an object was given up by `store.free` before it was asked for."""

    __module__ = "store"
