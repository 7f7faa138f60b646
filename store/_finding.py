"""Find the block that a buffer shows, so that it travels by reference instead of as a copy.

An array may be a slice of a column of a frame that arrived. The block under it is looked for by the
chain of views, or, where that ends early (Arrow's buffers), by address. It counts as found only if
the buffer shows what the block holds: the pages under it must not have been written to.
"""

from __future__ import annotations

import sys

from store import _forks
from store._mappings import Canvas, Lease, MmapLease, address_of, apart
from store._memory import is_untouched
from store._readers import readers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from store._mappings import Block

    class Shown(Protocol):
        """What makes the bytes of a block visible: `Lease`, `Canvas` or `MmapLease`."""

        block: Block
        readonly: bool

        @property
        def address(self) -> int:
            """Where the block's part is mapped."""
            ...


#: How many views of views `find` looks through; numpy keeps chains short.
_DEPTH = 12

#: Memory from `malloc` begins at multiples of this, which suits every type.
ALIGNED_NBYTES = 16

_LEASES = frozenset({Lease, Canvas, MmapLease})


def find(view: Any) -> tuple[Block, int] | None:
    """Return the block that a buffer is a view of, and where in its object the buffer begins.

    None if it is a view of no block; if it does not show what the object holds, because it was
    written to; if this process has inherited the block; or if an array sent by reference would not
    be aligned where it arrives, while a copy would.
    """
    found = base_of(view)
    if found is None or _forks.is_inherited(found.block.born) or not _is_aligned(view):
        return None
    if found.readonly and _is_all_of(found, view):
        return found.block, found.block.delta
    return None if _ndarray() is None else _unchanged(found, view)


def held(view: Any) -> Block | None:
    """Return the block that a buffer is a view of, as a whole or in part."""
    found = find(view)
    if found is None:
        return None
    block, delta = found
    return block.part(delta - block.delta, memoryview(view).nbytes)


def arrived(view: Any) -> Block | None:
    """Return the block that a buffer shows, for a buffer that was just decoded.

    It cannot have been written to, so its pages are not examined, which takes as long as reading a
    few of them. Unlike `held` this works without numpy.
    """
    found = base_of(view)
    if found is None or type(found) is Canvas or _forks.is_inherited(found.block.born):
        return held(view)
    return found.block if _is_all_of(found, view) else held(view)


def _is_all_of(shown: Shown, view: Any) -> bool:
    """Return whether a buffer is all that `shown` makes visible, and begins at the same place."""
    if memoryview(view).nbytes != shown.block.nbytes:
        return False
    return _ndarray() is None or address_of(view) == shown.address


def array_under(view: Any) -> Any:
    """Return the array of a whole block that a read-only buffer was made of, or None."""
    found: Any = view.obj if type(view) is memoryview else None
    ndarray = _ndarray()
    if ndarray is None or type(found) is not ndarray or type(found.base) is not Lease:
        return None
    return None if found.base.readonly else found


def base_of(view: Any) -> Shown | None:
    """Return the lease or canvas that a buffer is built on; None if it is built on other memory."""
    found: Any = view
    while type(found) is memoryview:
        found = found.obj
    ndarray = _ndarray()
    if ndarray is None:
        return found if type(found) is MmapLease else None
    for _ in range(_DEPTH):
        if type(found) is memoryview:
            found = found.obj
        elif isinstance(found, ndarray):
            found = found.base
        elif type(found) in _LEASES:
            shown: Shown = found
            return shown
        elif found is None or type(found) is bytes or type(found) is bytearray:
            return None  # these have memory of their own
        else:
            return lease_at(address_of(view))
    return None


def _ndarray() -> Any:
    """Return numpy's class if numpy is imported; None also while it is being imported."""
    return getattr(sys.modules.get("numpy"), "ndarray", None)


def lease_at(address: int) -> Shown | None:
    """Return the lease or canvas at an address, if there is one.

    For buffers of Arrow and others that do not tell what they are built on. They keep that alive,
    so the lease that is found there now is the one that they are built on.
    """
    for reference in readers.valuerefs():
        reader = reference()
        if reader is not None and 0 <= address - reader._address < reader.nbytes:
            return _showing(reader.leased, address - reader._address, address)
    return _showing(apart, address, address)


def _showing(leases: dict[int, Any], offset: int, address: int) -> Shown | None:
    ticket = leases.get(offset)
    if ticket is None:
        start = max((start for start in list(leases) if start <= offset), default=None)
        ticket = None if start is None else leases.get(start)
    found: Shown | None = None if ticket is None else ticket()
    # The last lease that begins before the address may also end before it.
    inside = found is not None and 0 <= address - found.address < found.block.nbytes
    return found if inside else None


def _is_aligned(view: Any) -> bool:
    """Return whether an array sent by reference is as well aligned as a copy would be.

    Its offset in a page is the same in every process. Bytes and packed records must be aligned for
    any type, since the receiver may view them as any type.
    """
    exporter = view.obj if type(view) is memoryview else view
    ndarray = _ndarray()
    if ndarray is None or not isinstance(exporter, ndarray):
        return True  # its type is not known
    if exporter.dtype.alignment > 1:
        return bool(exporter.flags.aligned)
    address: int = exporter.__array_interface__["data"][0]
    return address % ALIGNED_NBYTES == 0


def _unchanged(lease: Shown, view: Any) -> tuple[Block, int] | None:
    """Return block and offset as `find`, if the buffer lies in it and was not written to."""
    address = address_of(view)
    nbytes = memoryview(view).nbytes
    offset = address - lease.address
    block = lease.block
    if not (0 <= offset and offset + nbytes <= block.nbytes):
        return None
    if type(lease) is Canvas:
        if lease.seal():
            return block, block.delta + offset
        if not lease.sealed:
            return None
    if not lease.readonly and not is_untouched(address, nbytes):
        return None
    return block, block.delta + offset
