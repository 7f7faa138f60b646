"""Values on their way: what a call brings along, and what is kept of a result.

A *packet* is one pickled object: a blob of pickle bytes followed by its out-of-band
buffers. A `Sealed` value is a packet and the references inside it. A `Parcel` is the
arguments of a call, with one more packet for each argument that was a reference: the
receiver puts the value in its place. Nothing is unpickled on the way.
"""

from __future__ import annotations

import sys
from _pickle import PickleBuffer, dumps

from pool._objects._home import current
from pool._objects._refs import Collecting, Known, ObjectRef
from pool._pickling import ATOMS, CannotSend, dumps_to_worker, loads, with_names
from store._codec import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pool._objects._refs import Ref

    Packet = list[Any]

#: Longer strings are stored as bytes of a pickle, so that each `get` has its own copy.
ATOM_MAX = 4096


def is_atom(value: Any) -> bool:
    """Return whether `value` is immutable, small, and can be kept as it is."""
    kind = type(value)
    return kind in ATOMS and ((kind is not str and kind is not bytes) or len(value) <= ATOM_MAX)


class Sealed:
    """A stored value.

    Attributes
    ----------
    data : bytes
    buffers : list of bytes or Block
        Nobody writes to them any more.
    refs : list of Ref
        The references in the value; held, so that what they stand for is there.
    """

    __slots__ = ("buffers", "data", "refs")

    def __init__(self, data: Any, buffers: list[Any], refs: Sequence[Ref]) -> None:
        self.data = data
        self.buffers = buffers
        self.refs = refs

    @property
    def packet(self) -> Packet:
        """The blobs."""
        return [self.data, *self.buffers]

    def open(self) -> Any:
        """Return a new copy of the value, writable and the caller's own."""
        if self.refs:
            with Known(self.refs):
                return loads(self.data, private(self.buffers))
        return loads(self.data, private(self.buffers))

    def __reduce__(self) -> tuple[Any, ...]:
        refs = [Lent(ref) for ref in self.refs]
        return _arrived, (self.data, views(self.buffers), refs)


def _arrived(data: Any, buffers: list[Any], refs: list[Ref]) -> Sealed:
    return Sealed(data, stored(buffers), refs)


class Broken:
    """What stands among several values of a call for one that could not be made.

    Parameters
    ----------
    title : str
        Of the call.
    data, buffers
        The pickled exception.
    """

    __slots__ = ("buffers", "data", "title")

    def __init__(self, title: str, data: Any, buffers: list[Any]) -> None:
        self.title = title
        self.data = data
        self.buffers = buffers

    def open(self) -> BaseException:
        """Return the exception; what that raises if it cannot be made here."""
        try:
            error: BaseException = loads(self.data, private(self.buffers))
        except BaseException as failure:
            return failure
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return Broken, (self.title, self.data, [bytes(opened(buffer)) for buffer in self.buffers])


def views(buffers: Sequence[Any]) -> list[PickleBuffer]:
    """Return buffers as they go beside the pickle of a message, not into it."""
    return [PickleBuffer(opened(buffer)) for buffer in buffers]


def private(buffers: Sequence[Any]) -> list[Any]:
    """Return buffers on which objects can be built that nobody else sees.

    Blocks of the store are mapped anew each time; the rest is copied.
    """
    return [bytearray(buffer) if type(buffer) in _BYTES else buffer for buffer in buffers]


_BYTES = frozenset({bytes, bytearray, memoryview})


def writable(buffers: Sequence[Any]) -> list[Any]:
    """Return buffers that came in a message as those of whoever received it.

    What was bytes where it was sent arrives as bytes, or beside the pickle as a view that is
    read-only; arrays on top of them would be so, too.
    """
    return [
        bytearray(buffer)
        if type(buffer) is bytes or (type(buffer) is memoryview and buffer.readonly)
        else buffer
        for buffer in buffers
    ]


def stored(buffers: Sequence[Any]) -> list[Any]:
    """Return buffers that are nobody else's: bytes, or blocks of the store."""
    if not buffers:
        return []
    # Not before there is something to store: it takes longer to import than all of this.
    from store._depot import stored

    return stored(buffers)


class Lent:
    """A reference in a message whose sender has noted that the receiver holds it.

    Arrives as the reference itself. One that a user's pickle contains is different: the
    receiver has to say that it holds it, see `BorrowedRuntime.arrived`.
    """

    __slots__ = ("ref",)

    def __init__(self, ref: Ref) -> None:
        self.ref = ref

    def __reduce__(self) -> tuple[Any, ...]:
        ref = self.ref
        return _lent, (ref._kind, ref.binary(), getattr(ref, "facts", None))


def _lent(kind: str, name: bytes, facts: Any) -> Ref:
    return current().lent(kind, name, facts)


def seal(value: object) -> Any:
    """Return `value` as it is stored: itself if it is an atom, or `Sealed`.

    Copied: nothing of the result is shared with `value`.
    """
    if is_atom(value):
        return value
    with Collecting() as refs:
        # As for a worker even where the parent is to have it: it may go on to another
        # worker, which must find every definition in it.
        encoded = dumps_to_worker(value)
    return Sealed(encoded.data, stored(encoded.buffers), refs)


def unseal(kept: Any) -> Any:
    """Return the value of what `seal` returned."""
    return kept.open() if kept.__class__ is Sealed else kept


def packet_of(kept: Any) -> Packet:
    """Return the blobs of what `seal` returned."""
    if kept.__class__ is Sealed:
        return list(kept.packet)
    return [dumps_to_worker(kept).data]


def is_of_store(value: object) -> bool:
    """Return whether `value` is a reference that `store.put` returned."""
    module = sys.modules.get("store._refs")
    return module is not None and isinstance(value, module.ObjectRef)


def of_runtime(ref: Any) -> ObjectRef:
    """Return a reference of the runtime to what a reference of the store names; no copy."""
    from store._refs import blobs_of, names_of

    data, *buffers = blobs_of(ref)
    if type(data) is not bytes:
        data = bytes(opened(data))
    encoded = with_names(data, buffers, names_of(ref))
    # What is in the store already stays there.
    return current().put_stored(Sealed(encoded.data, stored(encoded.buffers), ()))


class Hole:
    """Stand in the arguments where the value of a reference belongs."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return Hole, (self.index,)


class Parcel:
    """The arguments of one call.

    Attributes
    ----------
    packets : list
        That of ``(args, kwargs)``, then the values of `needs`.
    needs : list of ObjectRef
        Arguments that were references. Not sent.
    refs : list of Ref
        References deeper inside; held until the call is over. Not sent.
    """

    __slots__ = ("needs", "packets", "refs")

    def __init__(
        self,
        packets: list[Packet],
        needs: Sequence[ObjectRef] = (),
        refs: Sequence[Ref] = (),
    ) -> None:
        self.packets = packets
        self.needs = needs
        self.refs = refs

    def fill(self) -> None:
        """Add the values of `needs`, all of which are ready; let the references go."""
        for need in self.needs:
            kept = need._value
            if kept.__class__ is Sealed and kept.refs:
                self.refs = [*self.refs, *kept.refs]
            self.packets.append(packet_of(kept))
        self.needs = ()

    def open(self) -> tuple[Any, Any]:
        """Return ``(args, kwargs)``."""
        (args, kwargs), *values = map(_opened, self.packets)
        if values:
            args = [values[arg.index] if arg.__class__ is Hole else arg for arg in args]
            kwargs = {
                key: values[arg.index] if arg.__class__ is Hole else arg
                for key, arg in kwargs.items()
            }
        return args, kwargs

    @property
    def nbytes(self) -> int:
        """Size of all blobs together."""
        return sum(len(blob) for packet in self.packets for blob in packet)

    def __reduce__(self) -> tuple[Any, ...]:
        return Parcel, (self._views(),)

    def _views(self) -> list[Packet]:
        return [[packet[0], *views(packet[1:])] for packet in self.packets]

    def in_full(self) -> FullParcel:
        """Return what makes a runtime hold the references, too."""
        return FullParcel(self)


class FullParcel:
    """A parcel on its way from a borrower to the runtime; arrives as a `Parcel`."""

    __slots__ = ("parcel",)

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel

    def __reduce__(self) -> tuple[Any, ...]:
        parcel = self.parcel
        return Parcel, (parcel._views(), list(parcel.needs), list(parcel.refs))


def _opened(packet: Packet) -> Any:
    return loads(packet[0], writable(packet[1:]))


def pack(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Parcel:
    """Pickle the arguments of a call, now.

    Raises
    ------
    CannotSend
        It names the path to what cannot be sent.
    """
    if not kwargs and all(map(is_atom, args)):
        # What most calls have; nothing in it needs a pickler of ours.
        return Parcel([[dumps((args, {}), 5)]])
    needs: list[ObjectRef] = []

    def held(arg: Any) -> Any:
        if not isinstance(arg, ObjectRef):
            if not is_of_store(arg):
                return arg
            arg = of_runtime(arg)
        needs.append(arg)
        return Hole(len(needs) - 1)

    sent = ([held(arg) for arg in args], {key: held(arg) for key, arg in kwargs.items()})
    with Collecting() as refs:
        try:
            encoded = dumps_to_worker(sent)
        except CannotSend as error:
            raise _located(error, args, kwargs) from error.__cause__
    # Copies: the caller may write to its arrays as soon as it has called.
    packet = [encoded.data, *stored(encoded.buffers)]
    return Parcel([packet], needs, refs)


def _located(error: CannotSend, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CannotSend:
    """Name the argument by its place in the call, not in what is pickled."""
    for where, name in (
        *((f"[0][{index}]", f"argument {index + 1}") for index in range(len(args))),
        *((f"[1][{name!r}]", f"argument {name}") for name in kwargs),
    ):
        if error.path.startswith(where):
            path = error.path[len(where) :].lstrip(":. ")
            return CannotSend(path, error.culprit_type, error.reason).about(name)
    return error


def flatten(packets: Sequence[Packet]) -> tuple[tuple[int, ...], list[Any]]:
    """Return the number of blobs of each packet, and all blobs."""
    return tuple(map(len, packets)), [blob for packet in packets for blob in packet]


def unflatten(layout: Sequence[int], blobs: list[Any], start: int = 0) -> list[Packet]:
    """Undo `flatten`, from blob number `start` on."""
    packets = []
    for size in layout:
        packets.append(blobs[start : start + size])
        start += size
    return packets
