"""References to objects that were put: small, picklable, and holding what they name.

An object is its pickle and the pickle's large buffers, each of which is a block of the
store, or plain bytes where it is small or no memory is shared. A reference holds these,
so the object lives as long as any reference to it, in any process.

Pickling a reference passes its buffers out of band. The object is not copied in messages of a
pool, whose receivers take buffers as blocks, nor among the arguments of a process that
`multiprocessing` starts. Anywhere else (a file, a queue or pipe of `multiprocessing`) the buffers
are part of the pickle. So a reference never dangles.
"""

from __future__ import annotations

import _pickle
import os
from itertools import count
from weakref import WeakValueDictionary

from store import _finding, _handed, _mappings
from store._children import in_child
from store._codec import Encoded, PickleBuffer, beside
from store._errors import ObjectFreed
from store._mappings import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from store._pickling import Name

#: The values of the argument `copy` of `get`.
COPY_MODES = ("cow", "readonly", "copy")

_numbers = count(1)
#: Random part of the names of this process's objects, new in each forked child: a pid may be used
#: again.
_process = os.urandom(6).hex()


def _after_fork_in_child() -> None:
    global _process
    _process = os.urandom(6).hex()


in_child(_after_fork_in_child)


class _Object:
    """What all references of one process to one object share."""

    __slots__ = ("__weakref__", "_arrived", "blobs", "names", "nbytes", "uid")

    def __init__(
        self, uid: str, names: tuple[Name, ...], blobs: list[Any], arrived: list[Any] | None
    ) -> None:
        self.uid = uid
        #: Names that a process which loads it must have, see `_pickling`.
        self.names = names
        #: The pickle and its large buffers; empty once freed.
        self.blobs = blobs
        #: The arrays over its blocks that came with a reference; the first `open` takes them.
        self._arrived = [] if arrived is None else [arrived]
        self.nbytes = sum(map(len, blobs))

    def free(self) -> None:
        """Let go of the object's memory."""
        self.blobs = []
        self._arrived.clear()

    def open(self, buffers: list[Any]) -> list[Any]:
        """Return its buffers, writable and private, for an object to be built on.

        The first call gets those that came with the reference: no other code has seen them, and to
        map the blocks again would cost as much as unpickling a small frame.

        Parameters
        ----------
        buffers : list
            As they are in `blobs`, which another thread may empty meanwhile.
        """
        try:
            arrived = self._arrived.pop() if self._arrived else None
        except IndexError:
            arrived = None  # another thread was quicker
        if arrived is None:
            return [_mappings.fresh(buffer) for buffer in buffers]
        return [
            _mappings.fresh(buffer) if mapped is None else mapped
            for buffer, mapped in zip(buffers, arrived, strict=True)
        ]


_objects: WeakValueDictionary[str, _Object] = WeakValueDictionary()


class ObjectRef:
    """Name an object in the store.

    Hashable, equal to every other reference to the same object, and picklable. As an
    argument of a pool's task it arrives as the object; inside of another object it
    arrives as a reference.
    """

    __module__ = "store"

    __slots__ = ("__weakref__", "_object")

    _object: _Object

    @classmethod
    def of(cls, encoded: Encoded, names: tuple[Name, ...] = ()) -> Self:
        """Return a reference to an object that was pickled already.

        Parameters
        ----------
        encoded : Encoded
            Its large buffers are copied into the store, unless they are there.
        names : tuple
            What its pickle relies on, see `_pickling`.

        Raises
        ------
        StoreFull
        """
        from store._depot import stored

        uid = f"{_process}-{os.getpid():x}-{next(_numbers):x}"
        return cls._new(uid, names, stored(encoded.packet, strict=True))

    @classmethod
    def _new(
        cls,
        uid: str,
        names: tuple[Name, ...],
        blobs: list[Any],
        arrived: list[Any] | None = None,
    ) -> Self:
        found = _objects.get(uid)
        if found is None or not found.blobs:
            # A new entry: references to what `free` was called for stay freed.
            found = _objects[uid] = _Object(uid, names, blobs, arrived)
        elif arrived is not None and not found._arrived:
            # The reference has come in another message: its arrays are as good as the first ones.
            found._arrived.append(arrived)
        ref = cls.__new__(cls)
        ref._object = found
        return ref

    @property
    def nbytes(self) -> int:
        """Size of the object as it is stored."""
        return self._object.nbytes

    def hex(self) -> str:
        """Return the name of the object, unique among all processes."""
        return self._object.uid

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectRef):
            return NotImplemented
        return self._object.uid == other._object.uid

    def __hash__(self) -> int:
        return hash(self._object.uid)

    def __repr__(self) -> str:
        state = f"{self.nbytes} bytes" if self._object.blobs else "freed"
        return f"<{type(self).__name__} {self._object.uid}: {state}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        popen = _handed.starting()
        parts = None if popen is None else _handed.hand_down(popen, blobs_of(self))
        if parts is not None:
            return _rebuild_handed, (*self._described(), *parts)
        return _rebuild, (*self._described(), *self._exported(protocol))

    def reduced_beside(self) -> Any:
        """Reduce it for a pickler with a `_codec.collector`, so that blocks are not even mapped."""
        if _handed.starting() is not None:
            return NotImplemented
        blobs = [beside(blob) if type(blob) is Block else blob for blob in blobs_of(self)]
        return _rebuild, (*self._described(), *blobs)

    def _described(self) -> tuple[Any, ...]:
        return type(self), self._object.uid, self._object.names

    def _exported(self, protocol: int) -> list[Any]:
        return [_exported(blob, protocol) for blob in blobs_of(self)]


def _exported(blob: Any, protocol: int) -> Any:
    if type(blob) is not Block:
        return blob
    if protocol < 5:
        return bytes(blob.copy())
    # Read-only, so that `_finding.find` need not examine whether it was written to.
    return PickleBuffer(_mappings.shown(blob))


def _rebuild(kind: type[ObjectRef], uid: str, names: tuple[Name, ...], *blobs: Any) -> ObjectRef:
    held = [_imported(blob) for blob in blobs]
    arrived = [
        _finding.array_under(blob) if type(block) is Block else None
        for block, blob in zip(held[1:], blobs[1:], strict=True)
    ]
    return kind._new(uid, names, held, arrived)


def _rebuild_handed(
    kind: type[ObjectRef], uid: str, names: tuple[Name, ...], *parts: Any
) -> ObjectRef:
    return kind._new(uid, names, _handed.receive(*parts))


def _imported(blob: Any) -> Any:
    return blob if type(blob) is bytes else _finding.arrived(blob) or bytes(blob)


def blobs_of(ref: ObjectRef) -> list[Any]:
    """Return the pickle of an object and its large buffers.

    Raises
    ------
    ObjectFreed
    """
    blobs = ref._object.blobs
    if not blobs:
        raise ObjectFreed(f"object {ref.hex()} was freed in this process; keep it, or put it anew")
    return blobs


def names_of(ref: ObjectRef) -> tuple[Name, ...]:
    """Return the names that a process which loads the object must have, see `_pickling`."""
    return ref._object.names


def load(ref: ObjectRef, copy: str = "cow") -> Any:
    """Return a new, independent object from a reference; see `store.get`."""
    blobs = blobs_of(ref)
    data = blobs[0]
    if copy == "cow":
        opened = ref._object.open(blobs[1:])
    elif copy == "readonly":
        opened = [_mappings.fresh(buffer, readonly=True) for buffer in blobs[1:]]
    elif copy == "copy":
        opened = [
            buffer.copy() if type(buffer) is Block else bytearray(buffer) for buffer in blobs[1:]
        ]
    else:
        raise ValueError(f"copy={copy!r} is not one of {', '.join(COPY_MODES)}")
    return _pickle.loads(data if type(data) is bytes else data.view(), buffers=opened)


def resolved(value: Any) -> Any:
    """Return the object that a reference names; anything else as it is."""
    return load(value) if isinstance(value, ObjectRef) else value
