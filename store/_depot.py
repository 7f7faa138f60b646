"""The store of one process: its arena, the ledger, and the lock around both.

There is one depot per process; a forked child starts with an empty one of its own.
"""

from __future__ import annotations

import os
import sys
from collections import deque

from store import _finding, _forks, _handed, _mappings, _readers
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

    #: Of a reference in a note: start, span, delta, nbytes, number.
    Place = tuple[int, int, int, int, int]

#: Without numpy in the process, smaller ones are not worth importing ctypes.
LEAST_WITHOUT_NUMPY = 1 << 20

#: So much that was let go is given back without waiting for the next object.
LARGE_NBYTES = 64 << 20


class Depot:
    """Put objects, hand out references, and free what nobody holds.

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
        #: The numbers in the ledger, by segment and offset: an object that comes back
        #: must be found to be the one that was sent.
        self._numbers: dict[tuple[int, int], int] = {}
        #: Given back while this very thread was busy in here.
        self._late: deque[tuple[Hashable, Iterable[int]]] = deque()
        #: Own blocks that were let go in this process.
        self._dropped = Returned(self._settle_large, LARGE_NBYTES)
        #: Connections whose other end is gone, and whether its children are.
        self._leaving: list[tuple[Hashable, Callable[[], bool]]] = []
        self.copied = self.referred = self.puts = 0

    @property
    def least(self) -> int:
        """From how many bytes on an object is worth a block."""
        return OUT_OF_BAND_MIN if "numpy" in sys.modules else LEAST_WITHOUT_NUMPY

    def usable(self) -> bool:
        """Return whether something can be put: memory is shared, and this is the moment.

        A finalizer or signal handler that runs while this very thread is in here, with
        the books half written, must do without.
        """
        return self.mode != "frames" and not self._lock.held_here

    @property
    def arena(self) -> Arena:
        """The arena, made when first asked for."""
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
        """Allocate, and enter in the ledger what is about to be written.

        Whatever happens to who gets the block, the range is free again when that is gone.
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
        """Return an array of bytes in a new block, that writes to it; see `_mappings.Canvas`.

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
        """Have pages ready for `nbytes` in all."""
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
            None: send the bytes themselves.
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
            return None  # the other way has limits of its own, and tells them
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
        # Held by this process meanwhile: another thread may close that connection.
        block, segment = self._enter(len(view))
        self._write(segment, block.start, view)
        with self._lock:
            self.ledger.hold(block.number, link)
        return block.reader, (block.start, len(view), 0, len(view), block.number)

    # ------------------------------------------------------------------ in

    def receive(self, link: Any, blobs: list[Any], places: Iterable[Any]) -> None:
        """Put a block in the place of each reference."""
        for index, key, start, span, delta, nbytes, number in places:
            known = self._known(key, start, span)
            if known is not None:
                # It comes back. The hold of whoever sent it ends with that process, so
                # this one keeps its own.
                blobs[index] = known.part(delta, nbytes)
                link.returned.append((number, _forks.NEVER, None))
            else:
                reader = _readers.readers[key]
                block = Block(reader, start, span, delta, nbytes, number, link.returned)
                blobs[index] = self._moved(block) if crowded() else block

    def _moved(self, block: Block) -> Any:
        """Return the bytes of somebody else's block in memory of this process's own."""
        if len(block) >= _mappings.MAPPED_NBYTES and self.usable():
            try:
                return self.put(_mappings.shown(block))
            except (StoreFull, OSError):
                pass
        return block.copy()

    def _known(self, key: int, start: int, span: int) -> Block | None:
        """Return a hold on an object that was sent from here and is still held."""
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
            reader = thing[0].reader
            return Block(reader, start, span, 0, span, number, self._dropped)

    # ------------------------------------------------------------------ letting go

    def release(self, link: Hashable, numbers: Iterable[int]) -> None:
        """Take back references that the other end of a connection has let go."""
        if self._lock.held_here:
            self._late.append((link, numbers))
            return
        with self._lock:
            self._release(link, numbers)
            self._settle()

    def _release(self, link: Hashable, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._free(self.ledger.release(number, link))

    def drop(self, link: Hashable, alive: Callable[[], bool] | None) -> None:
        """Take back everything that a connection holds, as soon as nobody sees it."""
        if self._lock.held_here:
            self._leaving.append((link, alive or _not_alive))
            return
        with self._lock:
            if alive is not None and self.ledger.held_by(link):
                self._leaving.append((link, alive))
            else:
                self._free_all(self.ledger.drop(link))
            self._settle()

    def retire(self) -> None:
        """Give back what is not held, to the page, and put nothing more: this process is to end.

        What others look at stays as it is, and with it all that would be left here.
        """
        with self._lock:
            self._settle()
            self.mode = "frames"
            if self._arena is not None:
                self._arena.trim(0, whole=False)

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
                # Ranges of its own; blocks are others', held here for others still.
                "objects": sum(type(thing) is tuple for thing in self.ledger.things.values()),
                "held": {name: sum(counts.values()) for name, counts in held.items()},
                "pinned": _forks.pinned() + _handed.kept(),
                "puts": self.puts,
                "copied": self.copied,
                "referred": self.referred,
            }

    def take_back(self, dropped: deque[_forks.Dropped], waits: bool = True) -> list[int]:
        """Return what of a queue of things that were let go no forked child can see.

        None of it while this very thread is in here, or another one is, for which this shall
        not wait.
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
        """Take back what is held by nobody any more."""
        if not self._lock.held_here:
            with self._lock:
                self._settle()

    def _settle(self) -> None:
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
        """Take back what was let go; called by a finalizer.

        Which may run in a thread that holds any lock, so this one is not waited for: whoever has
        it looks when it comes here again.
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
        elif thing is not None:  # somebody else's, held here for others
            del self._numbers[thing.reader.key, thing.start]


def _not_alive() -> bool:
    return False


#: What there is to say of an arena that is not there yet.
_SIZES = ("segments", "live", "free", "peak", "resident", "spilled", "budget")

_depot: Depot | None = None


def shutdown() -> list[str]:
    """Let go of the memory of this process's store, if nothing is held.

    It would go with the process anyway; tests want to see nothing left.

    Returns
    -------
    list of str
        What is held, and by whom; empty if the memory is gone.
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
    """Give back what this process holds for nobody, before it ends."""
    if _depot is not None and not _depot._lock.held_here:
        _depot.retire()


def stored(blobs: Iterable[Any], strict: bool = False) -> list[Any]:
    """Return blobs that no longer are the caller's memory: large ones in the arena.

    Where that is not possible they are copied to ``bytes``.

    Parameters
    ----------
    blobs : iterable of bytes-like or Block
    strict : bool
        Raise `StoreFull` instead, if the reason is that there is no room.
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
        _depot = Depot()
    return _depot


#: The depot that was there when the fork began; another thread may make one meanwhile.
_forking: Depot | None = None
#: What to tell the shield when the fork is over.
_shielded = 0


def _before_fork() -> None:
    global _forking, _shielded
    found = _depot
    if found is not None:
        # An exception here would stop this, but not the fork.
        shielded = shield.enter()
        # Other threads wait until the fork is over, those that fork too.
        found._lock.acquire()
        _forking, _shielded = found, shielded
        _forks.before_fork()
        _mappings.seal_all()


def _after_fork_in_parent() -> None:
    global _forking
    found, _forking = _forking, None
    if found is not None:
        shielded = _shielded
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


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
