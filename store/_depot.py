"""The store of one process: its arena, the ledger, and the lock around both.

There is one depot per process; a forked child starts with an empty one of its own.
"""

from __future__ import annotations

import os
import sys
from collections import deque

from store import _finding, _forks, _handed, _mappings, _readers
from store._children import in_child
from store._codec import OUT_OF_BAND_MIN
from store._errors import StoreFull
from store._interrupts import shield
from store._ledger import LOCAL, Ledger
from store._mappings import Block
from store._orphans import crowded
from store._returned import Returned
from store._settings import wanted_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Any

    from store._arena import Arena
    from store._readers import Reader
    from store._segments import Segment

    #: A reference in a note: start, span, delta, nbytes, number.
    Place = tuple[int, int, int, int, int]

#: Bytes from which an object is worth importing ctypes, in a process without numpy.
LEAST_WITHOUT_NUMPY = 1 << 20

#: If more bytes were let go of, they are given back without waiting for the next object.
LARGE_NBYTES = 64 << 20


class Depot:
    """Put objects, hand out references, and free objects without a holder.

    Attributes
    ----------
    mode : str
        See `store._settings.MODES`.
    copied, referred : int
        Bytes copied into the arena, and bytes sent that were there already.
    """

    def __init__(self) -> None:
        self.mode = wanted_mode()
        self.ledger = Ledger()
        self._lock = _mappings.books
        self._arena: Arena | None = None
        #: By key of the segment and offset, the numbers in the ledger: by them an object that comes
        #: back is known to be one that was sent.
        self._numbers: dict[tuple[int, int], int] = {}
        #: References given back by a finalizer or signal handler of a thread that holds the lock.
        self._late: deque[tuple[Hashable, Iterable[int]]] = deque()
        #: Blocks of this process that it has let go of itself.
        self._dropped = Returned(self._settle_large, LARGE_NBYTES)
        #: Connections whose other end is gone, and whether their objects may be seen or come back.
        self._leaving: list[tuple[Hashable, Callable[[], bool]]] = []
        self.copied = self.referred = self.puts = 0

    @property
    def least(self) -> int:
        """Bytes from which an object is worth a block."""
        return OUT_OF_BAND_MIN if "numpy" in sys.modules else LEAST_WITHOUT_NUMPY

    def usable(self) -> bool:
        """Return whether objects can be put, now and in this mode.

        Not by a finalizer or signal handler that runs while its own thread holds the lock: the
        records may be half written.
        """
        return self.mode != "frames" and not self._lock.held_here

    @property
    def arena(self) -> Arena:
        """The arena, which is made when it is first asked for."""
        if self._arena is None:
            from store._arena import Arena

            self._arena = Arena(self.mode)
        return self._arena

    # ------------------------------------------------------------------ out

    def put(self, data: Any) -> Block:
        """Copy bytes into the arena and return a block that holds them.

        Raises
        ------
        StoreFull
        """
        view = memoryview(data).cast("B")
        block, segment = self._enter(len(view))
        self._write(segment, block.start, view)
        return block

    def _enter(self, nbytes: int) -> tuple[Block, Segment]:
        """Allocate a range, and enter in the ledger the object that is about to be written to it.

        Whatever happens to the caller, the range is free again when the block is gone.
        """
        with self._lock:
            self._settle()
            place = segment, offset = self.arena.allocate(nbytes)
            try:
                reader = segment.reader or self._reader_of(segment)
            except BaseException as error:
                self.arena.free(place)
                if isinstance(error, OSError):  # no descriptor
                    raise self.arena.full(nbytes, str(error)) from error
                raise
            number = self._numbers[segment.key, offset] = self.ledger.add(place, LOCAL)
            return Block(reader, offset, nbytes, 0, nbytes, number, self._dropped), segment

    def _write(self, segment: Segment, offset: int, view: memoryview) -> None:
        self.arena.write((segment, offset), view)
        self.copied += len(view)
        self.puts += 1

    def canvas(self, nbytes: int) -> Any:
        """Return an array of bytes through which a new block is written; see `_mappings.Canvas`.

        Raises
        ------
        StoreFull
        """
        block, segment = self._enter(nbytes)
        self.arena.reserve((segment, block.start), nbytes)
        try:
            return _mappings.canvas(block, segment.fd)
        except OSError as error:  # no address space
            raise self.arena.full(nbytes, str(error)) from error

    def prefault(self, nbytes: int) -> None:
        """Make pages for `nbytes` in all, so that putting objects is quick."""
        with self._lock:
            self._settle()
            self.arena.prefault(nbytes)

    def _reader_of(self, segment: Segment) -> Reader:
        fd = os.dup(segment.reader_fd)
        segment.reader = reader = _readers.attach(segment.key, fd, segment.nbytes)
        return reader

    def place(self, blob: Any, link: Hashable) -> tuple[Reader, Place] | None:
        """Give `link` a reference to a blob, which is copied unless it is in a store already.

        Returns
        -------
        (Reader, tuple) or None
            None if the bytes themselves are to be sent.
        """
        if not self.usable():
            return None
        if type(blob) is not Block:
            found = _finding.find(blob)
        elif _forks.is_inherited(blob.born):
            found, blob = None, blob.copy()
        else:
            found = blob, blob.delta
        try:
            if found is None:
                return self._place_new(blob, link)
        except (StoreFull, OSError):
            return None  # to send the bytes has limits too, and raises if it reaches them
        block, delta = found
        with self._lock:
            self._settle()
            where = block.reader.key, block.start
            number = self._numbers.get(where)
            if number is None:
                number = self._numbers[where] = self.ledger.add(block, link)
            else:
                self.ledger.hold(number, link)
        self.referred += len(blob)
        return block.reader, (block.start, block.span, delta, len(blob), number)

    def _place_new(self, blob: Any, link: Hashable) -> tuple[Reader, Place]:
        view = memoryview(blob).cast("B")
        # Held by this process until the link holds it: another thread may close that connection.
        block, segment = self._enter(len(view))
        self._write(segment, block.start, view)
        with self._lock:
            self.ledger.hold(block.number, link)
        return block.reader, (block.start, len(view), 0, len(view), block.number)

    # ------------------------------------------------------------------ in

    def receive(self, link: Any, blobs: list[Any], places: Iterable[Any]) -> None:
        """Put a block in place of each reference that came over `link`."""
        for index, key, start, span, delta, nbytes, number in places:
            known = self._known(key, start, span)
            if known is not None:
                # An object of this process comes back. The sender's hold on it ends with that
                # process, so this one takes a hold of its own, and returns the sender's.
                blobs[index] = known.part(delta, nbytes)
                link.returned.append((number, _forks.NEVER, None))
            else:
                reader = _readers.readers[key]
                block = Block(reader, start, span, delta, nbytes, number, link.returned)
                blobs[index] = self._moved(block) if crowded() else block

    def _moved(self, block: Block) -> Any:
        """Return the bytes of another process's block in memory of this one, if there is any."""
        try:
            if len(block) >= _mappings.MAPPED_NBYTES and self.usable():
                return self.put(_mappings.shown(block))
        except (MemoryError, OSError):
            pass  # StoreFull is a MemoryError
        try:
            return block.copy()
        except MemoryError:
            return block

    def _known(self, key: int, start: int, span: int) -> Block | None:
        """Return a new hold on an object that this process has sent; None if it is not one."""
        if (key, start) not in self._numbers:
            return None
        with self._lock:
            number = self._numbers.get((key, start))
            if number is None:
                return None
            thing = self.ledger.things[number]
            if type(thing) is Block:
                return thing.whole()
            self.ledger.hold(number, LOCAL)
            return Block(thing[0].reader, start, span, 0, span, number, self._dropped)

    # ------------------------------------------------------------------ letting go

    def release(self, link: Hashable, numbers: Iterable[int]) -> None:
        """Take back references that the other end of a connection has let go of."""
        if self._lock.held_here:
            self._late.append((link, numbers))
            return
        with self._lock:
            self._release(link, numbers)
            self._settle()

    def _release(self, link: Hashable, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._free(self.ledger.release(number, link))

    def drop(self, link: Hashable, alive: Callable[[], bool]) -> None:
        """Take back everything that a connection holds, as soon as ``alive()`` returns False."""
        if self._lock.held_here:
            self._leaving.append((link, alive))
            return
        with self._lock:
            if self.ledger.held_by(link):
                self._leaving.append((link, alive))
            self._settle()

    def files(self) -> dict[int, int]:
        """Return descriptors of this process's own segments, by key."""
        if self._arena is None:
            return {}
        return {key: segment.fd for key, (segment, _) in list(self._arena.segments.items())}

    def retire(self) -> None:
        """Give back all memory that is not held, and put nothing more: this process is to end.

        Other processes may still map its segments, which then keep all of their pages: so each page
        is given back, even if that splits huge ones.
        """
        with self._lock:
            self._settle()
            self.mode = "frames"
            if self._arena is not None:
                self._arena.trim(whole=False)

    def stats(self) -> dict[str, Any]:
        """Return sizes and counts; see `store.stats`."""
        inside = self._lock.held_here
        with self._lock:
            if not inside:
                self._settle()
            numbers: dict[str, Any] = {"mode": self.mode, **dict.fromkeys(_SIZES, 0)}
            if self._arena is not None:
                numbers |= self._arena.stats()
            held = {str(holder): self.ledger.held_by(holder) for holder in self.ledger.holders()}
            return numbers | {
                # Tuples are ranges of this process; blocks are others' objects that it sent on.
                "objects": sum(type(thing) is tuple for thing in self.ledger.things.values()),
                "held": {name: sum(counts.values()) for name, counts in held.items()},
                "pinned": _forks.pinned() + _handed.kept(),
                "puts": self.puts,
                "copied": self.copied,
                "referred": self.referred,
            }

    def take_back(self, dropped: deque[_forks.Dropped], waits: bool = True) -> list[int]:
        """Empty a queue of things that were let go of; return the numbers that no child can see.

        Nothing, for now, if this very thread holds the lock, or if another one does and `waits` is
        not set.
        """
        if not (dropped or _forks.pins) or self._lock.held_here:
            return []
        if not self._lock.acquire(waits):
            return []
        try:
            _forks.sweep()
            return _forks.take_dropped(dropped)
        finally:
            self._lock.release()

    def sweep(self) -> None:
        """Free objects that have no holder any more."""
        if not self._lock.held_here:
            with self._lock:
                self._settle()

    def _settle(self) -> None:
        """Handle all that has been noted without the lock; called under it."""
        if _forks.pins:
            _forks.sweep()
        if _handed.handed:
            _handed.sweep()
        while self._late:
            self._release(*self._late.popleft())
        if self._dropped:
            self._take_dropped()
        if self._leaving:
            self._look_after_leaving()

    def _take_dropped(self) -> None:
        self._dropped.taken()
        self._release(LOCAL, _forks.take_dropped(self._dropped))

    def _settle_large(self, _is_over: Callable[[], bool] = sys.is_finalizing) -> None:
        """Take back blocks that were let go of; called by a finalizer.

        That may run in a thread that holds any lock, so this does not wait for the depot's. If
        another thread has it, the blocks are taken back with the next object.
        """
        if _is_over() or self._lock.held_here:
            return
        shielded = shield.enter()
        try:
            if self._lock.acquire(False):
                try:
                    _forks.sweep()  # children may have ended since
                    self._take_dropped()
                finally:
                    self._lock.release()
        finally:
            shield.leave_finalizer(shielded)

    def _look_after_leaving(self) -> None:
        for entry in list(self._leaving):
            link, alive = entry
            if not alive():
                self._leaving.remove(entry)
                self._free_all(self.ledger.drop(link))

    def _free_all(self, things: list[Any]) -> None:
        for thing in things:
            self._free(thing)

    def _free(self, thing: Any) -> None:
        if type(thing) is tuple:
            segment, offset = thing
            del self._numbers[segment.key, offset]
            self.arena.free(thing)
        elif thing is not None:  # a block of another process, which goes with this last reference
            del self._numbers[thing.reader.key, thing.start]


#: The sizes in `stats` of an arena that does not exist yet: all 0.
_SIZES = ("segments", "live", "free", "peak", "resident", "spilled", "budget")

_depot: Depot | None = None


def shutdown() -> list[str]:
    """Close this process's store, if nothing in it is held.

    Its memory goes with the process anyway; this is for tests, which look for what is left.

    Returns
    -------
    list of str
        What is held, and by which holder; empty if the store was closed.
    """
    global _depot
    if _depot is None:
        return []
    _depot.sweep()
    ledger = _depot.ledger
    held = [f"{ledger.held_by(holder)} by {holder!r}" for holder in ledger.holders()]
    if not held:
        if _depot._arena is not None:
            _depot._arena.close()
        _depot = None
    return held


def retire() -> None:
    """Give back memory in which nothing is held, before this process ends."""
    if _depot is not None and not _depot._lock.held_here:
        _depot.retire()


def stored(blobs: Iterable[Any], strict: bool = False) -> list[Any]:
    """Return copies of blobs that do not change with the caller's memory: large ones in the arena.

    Those that cannot be put there are copied to ``bytes``.

    Parameters
    ----------
    blobs : iterable of bytes-like or Block
    strict : bool
        Raise `StoreFull`, or OSError, instead.
    """
    return [
        blob if type(blob) is bytes and len(blob) < OUT_OF_BAND_MIN else _stored(blob, strict)
        for blob in blobs
    ]


def _stored(blob: Any, strict: bool) -> Any:
    if type(blob) is Block:
        return blob.copy() if _forks.is_inherited(blob.born) else blob
    store = depot()
    if len(blob) >= store.least and store.usable():
        found = _finding.find(blob)
        if found is not None:
            return found[0].part(found[1] - found[0].delta, len(blob))
        try:
            return store.put(blob)
        except (StoreFull, OSError):
            if strict:
                raise
    return bytes(blob)


def depot() -> Depot:
    """Return this process's depot."""
    global _depot
    if _depot is None:
        made = Depot()
        if _depot is None:  # no other thread comes before the next line: nothing is called
            _depot = made
    return _depot


#: The depot when the fork began; another thread may make one meanwhile, and fork, too.
_forking: Depot | None = None
#: The token for `Shield.leave` when the fork is over.
_shielded = 0


def _before_fork() -> None:
    global _forking, _shielded
    found = _depot
    if found is not None:
        # Shielded, since an exception here would end these steps, but not the fork.
        shielded = shield.enter()
        # Until the fork is over other threads wait, also those that want to fork.
        found._lock.acquire()
        _forking, _shielded = found, shielded
        _forks.before_fork()
        _mappings.seal_all()


def _after_fork_in_parent() -> None:
    global _forking
    found = _forking
    if found is not None and found._lock.held_here:
        _forking, shielded = None, _shielded
        _forks.after_fork_in_parent()
        _mappings.after_fork_in_parent()
        found._lock.release()
        shield.leave_finalizer(shielded)


def _after_fork_in_child() -> None:
    global _depot, _forking
    found, _forking = _forking, None
    if found is not None:
        _forks.after_fork_in_child()
        if found._arena is not None:
            found._arena.close()
    _mappings.after_fork_in_child()
    _depot = None
    if found is not None:
        shield.leave_finalizer(_shielded)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
in_child(_after_fork_in_child)
