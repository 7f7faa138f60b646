"""What a worker is doing, readable after it was killed.

Each worker has one slot, its *page*, in a memory file that it shares with its parent. Before a
chunk runs, the slot says which one; outcomes of cheap chunks, which are sent many at a time, are
kept there until they are sent. So when a worker dies the parent knows exactly which chunk was
running, loses no finished outcome, and runs nothing twice.

Workers of a runtime of tasks and actors also have a *trace* each, behind the slots: notes of what
has run and when. Slots for more workers than the file was made for follow behind the traces.

Each word has one writer: the parent for those about interrupts and halts, the worker for all
others. So nothing is locked. What the parent reads while the worker lives, it checks again, see
`pool._local._peers.Peer.harvest`.
"""

from __future__ import annotations

import mmap
import os

import store._anonymous as anonymous
from pool._transport._descriptors import above_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes of one slot, and of a trace; multiples of every page size in use.
SLOT_NBYTES = 64 * 1024
TRACE_NBYTES = 320 * 1024
HEADER_NBYTES = 128
#: Outcomes that are kept as machine words, at most: so many fit into a message in the socket.
WORDS_MAX = 4096

# Words of the header (64 bit each).
MESSAGE = 0  #: message_id being run
FINISHED = 1  #: chunks of it that have an outcome; so also the index of the running one
FLUSHED = 2  #: of these, how many were sent
USED = 3  #: bytes of pickled outcomes in the slot, of the chunks FLUSHED..FINISHED
TARGET = 4  #: message_id to interrupt, written by the parent
TARGET_CHUNK = 5  #: and the place of the chunk in it, written by the parent
#: In TARGET_CHUNK: whichever chunk of that message runs.
ALL_CHUNKS = 1 << 63
#: Flag of TARGET_CHUNK: the worker is to end itself in that chunk, instead of interrupting it.
EXIT_AT_ONCE = 1 << 62
#: In the page that all actors of a program share and only read: how many messages that cancel
#: calls the program has sent to any of them.
DROPS = TARGET
LAYOUT = 6  #: how the outcomes are stored: STREAM, INTS or FLOATS
TRACE_AT = 7  #: where in the file the slot's trace begins; 0: it has none
HALT = 8  #: which chunk of which message not to begin, see `chunk_word`; written by the parent
STRUCK = 9  #: in which chunk of which message an interrupt was raised last

#: Bits of a word for the place of a chunk in its message.
_CHUNK_BITS = 16
_WORD = (1 << 64) - 1

#: Bytes at the beginning of a trace that, if zero, say that it is empty; see
#: `pool._in_worker._trace`.
TRACE_HEADER_NBYTES = 16
_CLEAN = memoryview(bytes(HEADER_NBYTES)).cast("Q")


def chunk_word(message_id: int, chunk: int) -> int:
    """Return a chunk of a message as one word, so that it is written at one go.

    The upper bits of the message_id are cut off. Its lower bits tell messages apart: message_ids
    count up, those of loans down from 2**62.
    """
    return (message_id << _CHUNK_BITS | chunk) & _WORD


class JournalFile:
    """The memory file with the slots of all workers of one pool; the parent's view.

    Parameters
    ----------
    slots : int
        How many workers there is room for at first; more room is made when it is needed.
    traced : bool
        Have a trace for each of these slots, if files may be that large. It takes memory only as
        far as it is written.

    Raises
    ------
    OSError
        If there is no room for the file: raised now, rather than when a worker stores something.
    """

    fd = -1

    def __init__(self, slots: int, traced: bool = False) -> None:
        self.fd = above_streams(anonymous.create("actorpool-journal"))
        self._slots = slots
        self._traces = slots * SLOT_NBYTES
        size = self._traces
        try:
            anonymous.reserve(self.fd, size)
            if traced:
                try:
                    anonymous.reserve(self.fd, size + slots * TRACE_NBYTES)
                    size += slots * TRACE_NBYTES
                except OSError:
                    # A low `ulimit -f`, or a full disk: a missing trace is not worth an error.
                    os.ftruncate(self.fd, size)
                    traced = False
            self.traced = traced
            #: The mapped parts of the file, each with the number of its first slot.
            self._parts = [_Part(0, _mapped(self.fd, size, 0))]
        except BaseException:
            self._close_file()
            raise
        self._nbytes = size
        self._free = list(range(slots - 1, -1, -1))

    def acquire(self) -> int | None:
        """Return a free slot, zeroed, or None if all are in use and there is no room for more."""
        if not self._free:
            try:
                self._grow()
            except OSError:
                return None
        number = self._free.pop()
        slot = self.slot(number)
        slot.words[:] = _CLEAN
        if slot.trace is not None:
            slot.words[TRACE_AT] = self._trace_at(number)
            slot.trace[:TRACE_HEADER_NBYTES] = bytes(TRACE_HEADER_NBYTES)
        slot.release()
        return number

    def _grow(self) -> None:
        """Add as many slots as there were at first, behind all there is; they have no traces."""
        begin, size = self._nbytes, self._slots * SLOT_NBYTES
        anonymous.reserve(self.fd, begin + size)
        try:
            added = _mapped(self.fd, size, begin)
        except OSError:
            os.ftruncate(self.fd, begin)
            raise
        self._nbytes += size
        first = begin // SLOT_NBYTES
        self._parts.append(_Part(first, added))
        self._free.extend(range(first + self._slots - 1, first - 1, -1))

    def release(self, slot: int) -> None:
        """Give back the slot of a worker that has ended."""
        self._free.append(slot)

    def slot(self, slot: int) -> Slot:
        """Return the view of one slot."""
        part = self._parts[0]
        if slot >= self._slots:
            part = next(part for part in reversed(self._parts) if part.first <= slot)
        start = (slot - part.first) * SLOT_NBYTES
        view = part.view[start : start + SLOT_NBYTES]
        if not self.traced or slot >= self._slots:
            return Slot(view)
        start = self._trace_at(slot)
        return Slot(view, part.view[start : start + TRACE_NBYTES])

    def _trace_at(self, slot: int) -> int:
        return self._traces + slot * TRACE_NBYTES

    def close(self) -> None:
        """Unmap. Slot views must have been released."""
        if self.fd < 0:
            return
        self._close_file()
        for part in self._parts:
            part.close()

    def _close_file(self, _close: Any = os.close) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _close(fd)

    # A pool that could not be started may never close it.
    __del__ = _close_file


def _mapped(fd: int, size: int, begin: int) -> mmap.mmap:
    # The mapping keeps a descriptor of its own, which must not get the number of a closed standard
    # stream. So such numbers are occupied meanwhile.
    gaps = []
    try:
        while (copy := os.dup(fd)) <= 2:
            gaps.append(copy)
        os.close(copy)
        return mmap.mmap(fd, size, offset=begin)
    finally:
        for gap in gaps:
            os.close(gap)


class _Part:
    """A part of the file that was mapped at one go."""

    __slots__ = ("_map", "first", "view")

    def __init__(self, first: int, mapped: mmap.mmap) -> None:
        self.first = first
        self._map = mapped
        self.view = memoryview(mapped)

    def close(self) -> None:
        """Unmap it."""
        try:
            self.view.release()
            self._map.close()
        except BufferError:
            # A thread that was interrupted still has a slot; the part is unmapped after that.
            return


class Slot:
    """A view of one worker's page.

    Attributes
    ----------
    words : memoryview
        The header, as 64-bit words.
    data : memoryview
        The outcomes behind it.
    trace : memoryview or None
    """

    __slots__ = ("_view", "data", "trace", "words")

    def __init__(self, view: memoryview, trace: memoryview | None = None) -> None:
        self._view = view
        self.words = view[:HEADER_NBYTES].cast("Q")
        self.data = view[HEADER_NBYTES:]
        self.trace = trace

    def release(self) -> None:
        """Release all views, so that the file can be unmapped."""
        self.words.release()
        self.data.release()
        self._view.release()
        if self.trace is not None:
            self.trace.release()


def attach(fd: int, slot: int) -> Slot:
    """Map one slot of the memory file `fd` in the worker, and its trace."""
    page = Slot(memoryview(mmap.mmap(fd, SLOT_NBYTES, offset=slot * SLOT_NBYTES)))
    start = page.words[TRACE_AT]
    if start:
        page.trace = memoryview(mmap.mmap(fd, TRACE_NBYTES, offset=start))
    return page
