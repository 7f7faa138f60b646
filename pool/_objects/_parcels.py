"""Pickled values on their way between processes: arguments of calls, and results.

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
        Never written to.
    refs : list of Ref
        The references in the value. Held here, so that their objects exist.
    """

    __slots__ = ("buffers", "data", "refs")

    def __init__(self, data: Any, buffers: list[Any], refs: Sequence[Ref]) -> None:
        self.data = data
        self.buffers = buffers
        self.refs = refs

    @property
    def packet(self) -> Packet:
        """The value's blobs, as a packet."""
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
    """Stands among the values that a generator has yielded for the exception that ended it.

    Parameters
    ----------
    title : str
        Names the call in error messages.
    data, buffers
        The pickled exception.
    """

    __slots__ = ("buffers", "data", "title")

    def __init__(self, title: str, data: Any, buffers: list[Any]) -> None:
        self.title = title
        self.data = data
        self.buffers = buffers

    def open(self) -> BaseException:
        """Return the exception, or the one that its unpickling raises here."""
        try:
            error: BaseException = loads(self.data, private(self.buffers))
        except BaseException as failure:
            return failure
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return Broken, (self.title, self.data, [bytes(opened(buffer)) for buffer in self.buffers])


def views(buffers: Sequence[Any]) -> list[PickleBuffer]:
    """Return buffers wrapped so that they travel beside the pickle of a message, not in it."""
    return [PickleBuffer(opened(buffer)) for buffer in buffers]


def private(buffers: Sequence[Any]) -> list[Any]:
    """Return buffers for new objects that share no memory with others.

    Each unpickling maps blocks of the store anew, copy-on-write; other buffers are copied here.
    """
    return [bytearray(buffer) if type(buffer) in _BYTES else buffer for buffer in buffers]


_BYTES = frozenset({bytes, bytearray, memoryview})


def writable(buffers: Sequence[Any]) -> list[Any]:
    """Return buffers that came in a message, with read-only ones replaced by copies.

    Buffers that were bytes at the sender arrive as bytes, or as read-only views beside the
    pickle. Arrays on top of them would be read-only too.
    """
    return [
        bytearray(buffer)
        if type(buffer) is bytes or (type(buffer) is memoryview and buffer.readonly)
        else buffer
        for buffer in buffers
    ]


def stored(buffers: Sequence[Any]) -> list[Any]:
    """Return copies of buffers that no other code can change: bytes, or blocks of the store."""
    if not buffers:
        return []
    # Imported only when there is something to store: the import takes longer than a call.
    from store._depot import stored

    return stored(buffers)


class Lent:
    """A reference in a message, of which the sender has noted that the receiver holds it.

    The receiver unpickles it as the reference itself. A reference in a pickle of the user's is
    different: there the receiver has to say that it holds it, see `BorrowedRuntime.arrived`.
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
    """Return `value` as it is stored: itself if it is an atom, else a `Sealed` copy.

    Later changes of `value` do not reach the copy.
    """
    if is_atom(value):
        return value
    with Collecting() as refs:
        # Pickled as for a worker even if it goes to the program: from there it may go on to
        # another worker, which must find every definition in the pickle.
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
    """Return a reference of the runtime to the object of a reference of the store."""
    from store._refs import blobs_of, names_of

    data, *buffers = blobs_of(ref)
    if type(data) is not bytes:
        data = bytes(opened(data))
    encoded = with_names(data, buffers, names_of(ref))
    # Blocks that are in the store already are not copied.
    return current().put_stored(Sealed(encoded.data, stored(encoded.buffers), ()))


class Hole:
    """Stands in pickled arguments for one that was a reference, whose value replaces it.

    Parameters
    ----------
    index : int
        Of the value, in `Parcel.needs`.
    """

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
        The packet of ``(args, kwargs)``; after `fill`, also those of the values of `needs`.
    needs : list of ObjectRef
        Arguments that were references. Not sent.
    refs : list of Ref
        References deeper inside the arguments; held until the call is over. Not sent.
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
        """Add the values of `needs`, all of which exist, and drop those references."""
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
        """The size of all blobs together, in bytes."""
        return sum(len(blob) for packet in self.packets for blob in packet)

    def __reduce__(self) -> tuple[Any, ...]:
        return Parcel, (self._views(),)

    def _views(self) -> list[Packet]:
        return [[packet[0], *views(packet[1:])] for packet in self.packets]

    def in_full(self) -> FullParcel:
        """Return the parcel in a form that is sent with its references."""
        return FullParcel(self)


class FullParcel:
    """A parcel that a borrower sends to the runtime; unpickled as a `Parcel` with references."""

    __slots__ = ("parcel",)

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel

    def __reduce__(self) -> tuple[Any, ...]:
        parcel = self.parcel
        return Parcel, (parcel._views(), list(parcel.needs), list(parcel.refs))


def _opened(packet: Packet) -> Any:
    return loads(packet[0], writable(packet[1:]))


def pack(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Parcel:
    """Pickle the arguments of a call, so that later changes of them do not reach it.

    Raises
    ------
    CannotSend
        If something in an argument cannot be pickled; names the path to it.
    """
    if not kwargs and all(map(is_atom, args)):
        # As in most calls. The standard's pickler suffices for atoms.
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
    # `stored` copies: the caller may write to its arrays as soon as this returns.
    packet = [encoded.data, *stored(encoded.buffers)]
    return Parcel([packet], needs, refs)


def _located(error: CannotSend, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CannotSend:
    """Return `error` with the argument named as in the call, not by its place in the pickle."""
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


def unflatten(layout: Sequence[int], blobs: list[Any]) -> list[Packet]:
    """Undo `flatten`."""
    packets = []
    start = 0
    for size in layout:
        packets.append(blobs[start : start + size])
        start += size
    return packets
