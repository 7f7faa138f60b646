"""One side of a connection over which blocks travel by reference.

A *note* goes with a message and says, in plain values, what its references mean:

``(places, returned, attached, segments)``
    *places*: ``(index, key, start, span, delta, nbytes, number)`` for each blob that is not
    in the message (`index` is its place there): the key of its segment; where its object is in
    the segment, and where the blob is in the object, see `store._mappings.Block`; and the
    sender's number for it, which is returned when the receiver lets go of it.
    *returned*: numbers of the receiver's that the sender has let go of.
    *attached*: keys of segments whose descriptors the sender has received.
    *segments*: ``(key, nbytes)`` of the descriptors that come with the message.

Guarantees
----------
* Every reference in a message counts in the sender's ledger from before it is sent until
  it is returned, or until the other end is gone.
* A descriptor comes along until the other end has said that it has it: a message that
  carried one may have been taken back unread.
"""

from __future__ import annotations

import os
from itertools import count

from store._depot import depot
from store._forks import NEVER, pending
from store._mappings import Block
from store._marks import is_marked, marked
from store._orphans import review
from store._readers import attach, leave, orphans
from store._returned import Returned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from store._readers import Reader

    Note = tuple[Any, ...]

#: New segments in one message, at most; receivers have room for that many descriptors.
SEGMENTS_MAX = 12

#: If more bytes of the other end's were let go of, it is told without waiting for a message.
URGENT_NBYTES = 256 << 20

#: Numbers by which `store.stats` tells links apart.
_numbers = count(1)


class Link:
    """One end's account of a connection: what it has sent by reference, and what it has received.

    Parameters
    ----------
    urge : callable
        ``urge()`` is to send a note at once: much memory of the other end was let go of here.
        Called by finalizers, so it must not wait.

    Attributes
    ----------
    returned : deque
        Blocks of the other end that were let go of here, and that it was not told of.
    """

    __slots__ = ("_attached", "_known", "_number", "_readers", "closed", "returned")

    def __init__(self, urge: Callable[[], None]) -> None:
        self.returned = Returned(urge, URGENT_NBYTES)
        self.closed = False
        self._number = next(_numbers)
        #: Keys of segments whose descriptors the other end is known to have.
        self._known: set[int] = set()
        #: By key, the segments that came from there: kept, for their descriptors come only once.
        self._readers: dict[int, Reader] = {}
        #: Keys of segments that came from there, and that the other end was not told of.
        self._attached: list[int] = []

    def __str__(self) -> str:
        return f"connection {self._number}"

    @property
    def due(self) -> bool:
        """Whether the other end should be told something."""
        return (bool(self.returned or self._attached) or pending()) and self.is_own

    @property
    def is_own(self) -> bool:
        """Whether this process made the link, and not its parent before a fork.

        The other end cannot tell the two apart. It would take numbers of the child's for the
        parent's, and think that both have let go of what the child lets go of.
        """
        return self.returned.pid == os.getpid()

    def pack(self, blobs: Sequence[Any], waits: bool = True) -> tuple[list[Any], Note, list[int]]:
        """Replace large blobs by references.

        Parameters
        ----------
        blobs : sequence of bytes-like or Block
        waits : bool
            Wait while another thread uses the store; otherwise blocks that were let go of may be
            returned with the next message only.

        Returns
        -------
        blobs : list
            With ``b""`` in place of each blob that travels by reference.
        note : tuple
        fds : list of int
            Descriptors of the segments in the note, for `opened`; they stay open here.
        """
        places: list[tuple[Any, ...]] = []
        returned: list[int] = []
        attached: list[int] = []
        try:
            left, segments = self._placed(blobs, places)
            if self.is_own:
                self.returned.taken()
                attached, self._attached = self._attached, []
                returned = depot().take_back(self.returned, waits)
        except BaseException:
            self.take_back((places, returned, attached, ()))
            raise
        note = (
            tuple(places),
            tuple(returned),
            tuple(attached),
            tuple((reader.key, reader.nbytes) for reader in segments.values()),
        )
        return left, note, [reader.fd for reader in segments.values()]

    def opened(self, note: Note, fds: Sequence[int]) -> list[int]:
        """Return, for each descriptor that `pack` gave, one to send in its place; -1: none.

        They mark the segments of this process, see `_marks`; the caller closes them. Those of other
        processes are sent as they came: with the marks of their owners.
        """
        own = depot().files() if fds else {}
        return [
            marked(fd, self._number) if key in own else -1
            for (key, _), fd in zip(note[3], fds, strict=True)
        ]

    def _placed(
        self, blobs: Sequence[Any], places: list[tuple[Any, ...]]
    ) -> tuple[list[Any], dict[int, Reader]]:
        """Append the places of large blobs; return all blobs as in `pack`, and segments to send."""
        left: list[Any] = []
        segments: dict[int, Reader] = {}
        store = depot()
        own = self.is_own
        least = store.least
        for index, blob in enumerate(blobs):
            placed = store.place(blob, self) if own and len(blob) >= least else None
            if placed is not None and not self._has_room(placed[0].key, segments):
                # The blobs are in more new segments than a message can carry descriptors for: the
                # others go by value this time, and by reference when these segments are known.
                store.release(self, (placed[1][-1],))
                placed = None
            if placed is None:
                left.append(blob.copy() if type(blob) is Block else blob)
                continue
            reader, place = placed
            if reader.key not in self._known:
                segments[reader.key] = reader
            places.append((index, reader.key, *place))
            left.append(b"")
        return left, segments

    def _has_room(self, key: int, segments: dict[int, Reader]) -> bool:
        """Return whether the other end knows a segment, or its descriptor can come along."""
        return key in self._known or key in segments or len(segments) < SEGMENTS_MAX

    def unpack(self, blobs: list[Any], note: Note, fds: list[int]) -> None:
        """Put blocks in place of references; takes the descriptors of the note's segments."""
        places, returned, attached, segments = note
        for (key, nbytes), fd in zip(segments, fds, strict=True):
            if key in self._readers:
                os.close(fd)
            else:
                self._readers[key] = attach(key, fd, nbytes)
            self._attached.append(key)
        self._known.update(attached)
        if returned:
            depot().release(self, returned)
        if places:
            depot().receive(self, blobs, places)

    def lost(self, note: Note) -> None:
        """Let go of the objects of a message that came without its descriptors."""
        places, returned, attached, _ = note
        self._known.update(attached)
        if returned:
            depot().release(self, returned)
        self.returned.extend((place[-1], NEVER, None) for place in places)

    def take_back(self, note: Note) -> None:
        """Undo `pack`: the message was not, and will not be, received."""
        places, returned, attached, _ = note
        depot().release(self, [place[-1] for place in places])
        # As if let go of just now. None of them is visible to a forked child: `pack` would not have
        # taken it.
        self.returned.extend((number, NEVER, None) for number in returned)
        self._attached.extend(attached)

    def sweep(self) -> None:
        """Free what the other end held, if this was closed and nobody can see it any more."""
        if self.is_own:
            depot().sweep()

    def close(self, alive: Callable[[], bool] | None = None) -> None:
        """Take back what the other end holds: it is gone.

        Parameters
        ----------
        alive : callable, optional
            ``alive()`` returns whether a process has the other end, such as a child of the one that
            is gone. It is called now and then, until it returns False; all is taken back then, and
            when no process has a segment any more that was sent to there.
        """
        if not self.closed:
            self.closed = True
            if not self.is_own:
                # This may be a hook of the fork: a lock may be held by a thread that is not here.
                self._readers.clear()
                return
            depot().drop(self, self._whether_seen(alive))
            while self._readers:
                leave(self._readers.popitem()[1])
            if orphans:
                review()

    def _whether_seen(self, alive: Callable[[], bool] | None) -> Callable[[], bool]:
        """Return a function that tells whether a process may still look at what was sent."""
        store, mark = depot(), self._number

        def is_seen() -> bool:
            # First the marks: `alive` is not to be asked again when it has said no.
            return any(is_marked(fd, mark) for fd in store.files().values()) or (
                alive is not None and alive()
            )

        return is_seen
