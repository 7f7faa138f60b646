"""How a process sees segments, its own and others': read, and privately written.

Each segment is mapped once, privately (copy on write), see `_readers`. A `Block` is this
process's hold on one object in it; a *lease* makes its bytes visible to numpy or anything else
that takes buffers, writable, and private to the caller that got it:

* Two leases of one block at the same time never see each other's changes: the second one
  has a mapping of its own.
* When a lease ends, its private pages are dropped *before* the block is given back, or the next
  object there would be seen with the old changes in it. If the system does not drop them, that
  object gets a mapping of its own.

Leases end by themselves, with the last array, slice, column or memoryview on top of them.
Finalizers run at any moment in any thread, so here they take no lock: they append to a
queue, which is emptied when the next message is sent.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections import deque
from gc import is_finalized
from weakref import ref

from store import _forks
from store._interrupts import ShieldedLock, shield
from store._memory import (
    PAGE,
    give_to_children,
    keep_from_children,
    map_file,
    occupy,
    remap_file,
    reset,
    unmap,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from store._forks import Dropped
    from store._readers import Reader

#: Bytes from which blocks that were let go of count towards telling their owner at once.
LARGE_NBYTES = 1 << 20

#: Bytes from which an object is mapped. To copy less (5 us for 64 KiB) costs less than the page
#: faults of a mapping and its reset (17 us).
MAPPED_NBYTES = 128 << 10

#: The home of blocks that are parts of another one, which is given back in their place.
NOWHERE: deque[Dropped] = deque(maxlen=0)

#: Held while records of this process's store are changed: those of the depot, and which canvases
#: are sealed. It is one lock for both: with two, a fork that holds the one could wait for a thread
#: that holds the other, and whose finalizer waits for the fork.
books = ShieldedLock()

#: By address, the leases and canvases that have a mapping of their own.
apart: dict[int, ref[Lease] | ref[Canvas]] = {}


class Block:
    """A hold on one object in a segment, or on a part of it.

    The object stays as long as the block lives. ``len(block)`` is the size of the part.

    Parameters
    ----------
    reader : Reader
        The segment.
    start, span : int
        The object: its offset in the segment, a multiple of the page size, and its bytes.
    delta, nbytes : int
        The part: its offset in the object, and its bytes.
    number : int
        The number that the owner of the object has given it.
    home : deque
        The finalizer appends to it, by which the owner is told in the end.
    """

    __slots__ = (
        "__weakref__", "_home", "_whole", "born", "delta", "nbytes", "number", "reader", "span",
        "start",
    )  # fmt: skip

    def __init__(
        self,
        reader: Reader,
        start: int,
        span: int,
        delta: int,
        nbytes: int,
        number: int,
        home: deque[Dropped],
    ) -> None:
        self.reader = reader
        self.start = start
        self.span = span
        self.delta = delta
        self.nbytes = nbytes
        self.number = number
        self._home = home
        self._whole: Block | None = None
        self.born = _forks.generation

    def __len__(self) -> int:
        return self.nbytes

    def __repr__(self) -> str:
        return f"<Block of {self.nbytes} bytes>"

    def __del__(
        self, _large: int = LARGE_NBYTES, _collected: Any = is_finalized, _ref: Any = ref
    ) -> None:
        if _collected(self):
            # Finalized by the garbage collector, as part of a cycle: other finalizers of the cycle
            # may still use the block, or keep it alive. Whether it really goes is told by a weak
            # reference made now; the collector has cleared those made before.
            self._home.append((self.number, self.born, _ref(self)))
            return
        self._home.append((self.number, self.born, None))
        if self.span > _large:
            notice = getattr(self._home, "notice", None)
            if notice is not None:
                notice(self.span)

    def whole(self) -> Block:
        """Return a hold on the whole object."""
        whole = Block(self.reader, self.start, self.span, 0, self.span, self.number, NOWHERE)
        whole._whole = self
        whole.born = self.born
        return whole

    def part(self, offset: int, nbytes: int) -> Block:
        """Return a hold on a part of the object, which keeps this block alive."""
        if not offset and nbytes == self.nbytes:
            return self
        part = Block(
            self.reader, self.start, self.span, self.delta + offset, nbytes, self.number, NOWHERE
        )
        part._whole = self
        part.born = self.born
        return part

    def descriptor(self) -> int:
        """Return the descriptor of its segment.

        Raises
        ------
        StoreError
            If it was closed. A forked child may close all that it inherited, as daemons do, and the
            next file that it opens gets this number.
        """
        if _forks.is_inherited(self.born):
            self.reader.check()
        return self.reader.fd

    def view(self) -> Any:
        """Return a new writable buffer with the object's bytes, private to the caller.

        Mapped, not copied, unless it is small or address space is short. The block lives
        at least as long as a mapping of it.
        """
        if self.nbytes < MAPPED_NBYTES:
            return self.copy()
        try:
            if "numpy" not in sys.modules:
                # numpy is not imported for this: it takes 100 ms.
                return _mmap_lease(self)
            return lease(self)
        except OSError:
            return self.copy()

    def copy(self) -> bytearray:
        """Return a copy of the object's bytes."""
        copied = bytearray(self.nbytes)
        view = memoryview(copied)
        at = self.start + self.delta
        fd = self.descriptor()
        while view:
            count = os.preadv(fd, [view], at)
            if not count:
                raise EOFError("a segment of the store ends early")
            at += count
            view = view[count:]
        return copied


class Lease:
    """Memory under an array; numpy's base object, never seen by users.

    Attributes
    ----------
    block : Block
    address : int
        Where the block's part is mapped.
    readonly : bool
    """

    __slots__ = (
        "__array_interface__", "__weakref__", "_mapped", "_range", "_ticket", "address", "block",
        "readonly",
    )  # fmt: skip

    def __init__(self, block: Block, readonly: bool) -> None:
        self.readonly = readonly
        self._mapped: _Mapped | None = None
        self._ticket: ref[Lease] | None = None
        self.block = block
        reader = block.reader
        fd = block.descriptor()
        at = block.start + block.delta
        first = at // PAGE * PAGE
        nbytes = -(-(at + block.nbytes) // PAGE) * PAGE - first
        ticket = ref(self)
        if self._found_clean(ticket, first, nbytes):
            self._ticket = ticket
            self.address = reader.address + at
        else:
            # The place in the segment's mapping is in use, maybe by a view that was written to.
            self._mapped = _Mapped(fd, first, nbytes, private=True)
            self.address = self._mapped.address + at - first
            apart[self._mapped.address] = ticket
        self.__array_interface__ = {
            "shape": (block.nbytes,),
            "typestr": "|u1",
            "data": (self.address, readonly),
            "version": 3,
        }

    def _found_clean(self, ticket: ref[Lease], first: int, nbytes: int) -> bool:
        """Take the object's place in the mapping of the segment; return whether it can be used.

        Not if another lease has it. Nor if its private pages cannot be dropped: after `mlock` or
        `mlockall` a process has private copies of all mapped pages, and would not see what is put
        there later.
        """
        reader = self.block.reader
        if reader.leased.setdefault(self.block.start, ticket) is not ticket:
            return False
        try:
            self._range = reader.address + first, nbytes
            if reset(*self._range):
                return True
        except BaseException:
            reader.leased.pop(self.block.start, None)
            raise
        reader.leased.pop(self.block.start, None)
        return False

    def shows(self, block: Block) -> bool:
        """Return whether it shows the same part of the same object, and is not being finalized."""
        mine = self.block
        return self._ticket is not None and (mine.delta, mine.nbytes) == (block.delta, block.nbytes)

    def __del__(
        self, _reset: Any = reset, _shield: Any = shield, _is_over: Any = sys.is_finalizing
    ) -> None:
        # The weak reference in `leased` still works, and another thread may run meanwhile.
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            return
        # To give back what was written takes long, so Ctrl-C may well come meanwhile.
        shielded = 0 if _is_over() else _shield.enter()
        try:
            reader = self.block.reader
            if reader._address:
                _reset(*self._range)
            reader.leased.pop(self.block.start, None)
        finally:
            if shielded:
                _shield.leave_finalizer(shielded)


def lease(block: Block, readonly: bool = False) -> Any:
    """Return an array of bytes over a new lease of a block."""
    import numpy as np

    return np.asarray(Lease(block, readonly))


class _Mapped:
    """A mapping that only one canvas, or lease, uses; its finalizer unmaps it.

    A canvas has no finalizer itself. While that ran, weak references to it would still work, and
    another thread that forks would seal it, at an address where something else may be by then.
    """

    __slots__ = ("address", "nbytes")

    def __init__(self, fd: int, start: int, nbytes: int, private: bool) -> None:
        self.nbytes = 0
        self.address = map_file(fd, start, nbytes, private)
        self.nbytes = nbytes

    def __del__(
        self,
        _unmap: Any = unmap,
        _apart: dict[int, ref[Lease] | ref[Canvas]] = apart,
        _shield: Any = shield,
        _is_over: Any = sys.is_finalizing,
    ) -> None:
        if not self.nbytes:
            return
        # As in `Lease`.
        shielded = 0 if _is_over() else _shield.enter()
        try:
            # Removed before it is unmapped: then another thread may map something there at once.
            _apart.pop(self.address, None)
            _unmap(self.address, self.nbytes)
        finally:
            if shielded:
                _shield.leave_finalizer(shielded)


class Canvas:
    """Memory under an array that its owner fills; numpy's base object.

    Until it is *sealed*, what is written goes to the segment. Sealing, before the first reference
    is sent, puts a private mapping in the same place: the array keeps its contents, and later
    changes stay in this process. It is done once: a second mapping would drop what was written to
    the first.
    """

    __slots__ = (
        "__array_interface__", "__weakref__", "_begun", "_mapped", "address", "block", "readonly",
        "sealed",
    )  # fmt: skip

    def __init__(self, block: Block, fd: int) -> None:
        self.block = block
        self.readonly = False
        self.sealed = False
        self._begun = False
        self._mapped = _Mapped(fd, block.start, -(-block.nbytes // PAGE) * PAGE, private=False)
        self.address = self._mapped.address
        apart[self.address] = ref(self)
        self.__array_interface__ = {
            "shape": (block.nbytes,),
            "typestr": "|u1",
            "data": (self.address, False),
            "version": 3,
        }

    def seal(self) -> bool:
        """Make what is written from now on private; return whether this call did it.

        If not and `sealed` is set, another thread has, and the array may have changed since.
        If not and `sealed` is not set, there is no address space for the mapping, or this is a
        finalizer or signal handler that has interrupted this very method in its own thread.
        """
        if self.sealed:
            return False
        with books:
            if self._begun:
                return False
            self._begun = True
            try:
                nbytes = self._mapped.nbytes
                remap_file(self.address, self.block.reader.fd, self.block.start, nbytes, True)
            except OSError:
                self._begun = False
                return False
            self.sealed = True
        return True


def canvas(block: Block, fd: int) -> Any:
    """Return an array of bytes through which a block of this process is written."""
    import numpy as np

    return np.asarray(Canvas(block, fd))


#: While this process forks: the canvases that could not be sealed.
_unsealed: list[Canvas] = []


def seal_all() -> None:
    """Seal every canvas before a fork: a child must not see what is written later.

    The child does not get those that cannot be sealed. It is better that it ends by a signal when
    it looks there than that parent and child write to the same memory.
    """
    for reference in list(apart.values()):
        made = reference()
        if type(made) is Canvas and not made.seal() and not made.sealed:
            keep_from_children(made.address, made._mapped.nbytes)
            _unsealed.append(made)


def after_fork_in_parent() -> None:
    """Let the next child have the canvases that could not be sealed, in case they can be then."""
    while _unsealed:
        made = _unsealed.pop()
        give_to_children(made.address, made._mapped.nbytes)


def after_fork_in_child() -> None:
    """Renew the lock, which a thread that this child does not have may have held.

    Where canvases are missing, nothing else may be mapped: arrays would show it.
    """
    global books
    books = ShieldedLock()
    while _unsealed:
        made = _unsealed.pop()
        apart.pop(made.address, None)
        if not occupy(made.address, made._mapped.nbytes):
            made._mapped.nbytes = 0


class MmapLease(mmap.mmap):
    """A lease with a mapping of its own, without numpy; costs a descriptor as long as it lives."""

    block: Block
    readonly: bool

    @property
    def address(self) -> int:
        """Where the block's part is mapped; needs numpy, since `mmap` does not tell."""
        return address_of(self) + (self.block.start + self.block.delta) % PAGE


def shown(block: Block) -> Any:
    """Return a read-only buffer with the bytes of a block, for its pickle."""
    try:
        return _shown(block)
    except OSError:  # no address space, or no descriptor, for a mapping of its own
        return memoryview(block.copy()).toreadonly()


def _shown(block: Block) -> Any:
    if "numpy" not in sys.modules:
        return _mmap_lease(block, readonly=True)
    # A read-only lease that exists is used again: where many messages carry the same reference, a
    # mapping for each would cost more than all the rest.
    ticket = block.reader.leased.get(block.start)
    found = None if ticket is None else ticket()
    if found is None or not found.readonly or not found.shows(block):
        return lease(block, readonly=True)
    import numpy as np

    return np.asarray(found)


def _mmap_lease(block: Block, readonly: bool = False) -> Any:
    at = block.start + block.delta
    first = at // PAGE * PAGE
    mapped = MmapLease(
        block.descriptor(),
        at - first + block.nbytes,
        flags=mmap.MAP_PRIVATE,
        prot=mmap.PROT_READ | (0 if readonly else mmap.PROT_WRITE),
        offset=first,
    )
    mapped.block = block
    mapped.readonly = readonly
    return memoryview(mapped)[at - first :]


def fresh(buffer: Any, readonly: bool = False) -> Any:
    """Return bytes that only the caller can change: those of a block mapped, others copied."""
    if type(buffer) is Block:
        if not readonly:
            return buffer.view()
        try:
            return lease(buffer, readonly=True)
        except OSError:
            return memoryview(buffer.copy()).toreadonly()
    copied = bytearray(buffer)
    return memoryview(copied).toreadonly() if readonly else copied


def address_of(view: Any) -> int:
    """Return the address of a buffer's memory; imports numpy."""
    import numpy as np

    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address
