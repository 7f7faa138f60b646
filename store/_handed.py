"""References among the arguments of a process that `multiprocessing` starts.

Under ``spawn`` and ``forkserver`` these arguments are pickled, and the child gets descriptors
along with them. So it can get those of the segments, and map what a forked child inherits.

The parent *hands down* an object: it keeps it until the child has ended, and all of its
children that it has forked. It knows that by a tether, as with forks (see `_forks`): one end of
it goes to the child, which maps it. For the child the object is as inherited: it maps it,
and sends copies of it.
"""

from __future__ import annotations

import os
import sys
from weakref import ref

from store import _forks, _mappings, _memory
from store._anonymous import identity
from store._errors import StoreError
from store._mappings import Block
from store._readers import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Of a block that another process keeps for this one: see `_forks.is_inherited`.
_INHERITED = -1


class Handed:
    """What one child was handed down.

    Parameters
    ----------
    popen : object
        What starts the child, by the name that `multiprocessing` has for it.
    """

    def __init__(self, popen: Any) -> None:
        self.popen = ref(popen)
        self.holding, self.asking = _forks.tether()
        try:
            self.token = _duplicate(self.holding)
        except BaseException:
            os.close(self.holding)
            os.close(self.asking)
            raise
        #: Kept for the child.
        self.blocks: list[Block] = []
        #: The descriptors of segments, each to be passed only once.
        self.segments: dict[int, tuple[int, Any, int]] = {}

    def is_over(self) -> bool:
        """Return whether nobody has the other end of the tether any more."""
        popen = self.popen()
        if self.holding >= 0 and (popen is None or hasattr(popen, "pid")):
            # The child has its own by now, or was never started.
            os.close(self.holding)
            self.holding = -1
        return _forks.is_loose(self.asking)

    def close(self) -> None:
        """Close what is open, and let go of what was kept."""
        for fd in (self.holding, self.asking):
            if fd >= 0:
                os.close(fd)
        self.blocks.clear()


handed: list[Handed] = []


def _duplicate(fd: int) -> tuple[Any, tuple[int, int]]:
    """Return what becomes the descriptor in the child, and what it must be there."""
    return sys.modules["multiprocessing.reduction"].DupFd(fd), identity(fd)


def _detached(duplicate: Any, wanted: tuple[int, int]) -> int:
    """Return the descriptor that came along; any other of that number is not touched."""
    try:
        fd: int = duplicate.detach()
        if identity(fd) == wanted:
            os.set_inheritable(fd, False)
            return fd
    except (OSError, TypeError, IndexError):
        pass  # no such descriptor, or this process was started in another way
    raise StoreError(
        "a reference that was pickled for a process which was being started was read elsewhere; "
        "pickle it when no process is being started by the same thread"
    )


def starting() -> Any:
    """Return what starts a child for which this very thread is pickling, or None."""
    context = sys.modules.get("multiprocessing.context")
    return None if context is None else context.get_spawning_popen()


def hand_down(popen: Any, blobs: list[Any]) -> tuple[Any, ...] | None:
    """Keep blobs for a child that is being started.

    Returns
    -------
    tuple or None
        What `receive` makes them of. None: send the bytes themselves, since there are no
        blocks, or no descriptors left.
    """
    if not any(type(blob) is Block for blob in blobs):
        return None
    entry = next((entry for entry in handed if entry.popen() is popen), None)
    if entry is None:
        try:
            entry = Handed(popen)
        except OSError:
            return None
        handed.append(entry)
    return entry.token, [_hand_down(entry, blob) for blob in blobs]


def _hand_down(entry: Handed, blob: Any) -> Any:
    if type(blob) is not Block:
        return blob
    if _forks.is_inherited(blob.born):
        return bytes(blob.copy())
    entry.blocks.append(blob)
    reader = blob.reader
    segment = entry.segments.get(reader.key)
    if segment is None:
        segment = entry.segments[reader.key] = reader.key, _duplicate(reader.fd), reader.nbytes
    return segment, blob.start, blob.span, blob.delta, blob.nbytes


def kept() -> int:
    """Return how many blocks are kept for children."""
    return sum(len(entry.blocks) for entry in handed)


def sweep() -> None:
    """Let go of what was kept for children that have ended."""
    for entry in list(handed):
        if entry.is_over():
            handed.remove(entry)
            entry.close()


# ---------------------------------------------------------------- in the child

#: Tethers, which stay mapped, and segments: as long as this process lives.
_kept: set[tuple[int, int]] = set()
_segments: dict[int, Any] = {}


def receive(token: tuple[Any, tuple[int, int]], blobs: list[Any]) -> list[Any]:
    """Return the blobs that a parent has handed down.

    Raises
    ------
    StoreError
        If this is not the process that they were meant for.
    """
    if token[1] not in _kept:
        fd = _detached(*token)
        try:
            _memory.keep_open(fd)
        except OSError:
            pass  # no room: held by the descriptor alone
        else:
            os.close(fd)
        _kept.add(token[1])
    return [blob if type(blob) is bytes else _received(*blob) for blob in blobs]


def _received(
    segment: tuple[int, Any, int], start: int, span: int, delta: int, nbytes: int
) -> Block:
    key, descriptor, size = segment
    reader = _segments.get(key)
    if reader is None:
        reader = _segments[key] = attach(key, _detached(*descriptor), size)
    block = Block(reader, start, span, delta, nbytes, 0, _mappings.NOWHERE)
    block.born = _INHERITED
    return block


def _after_fork_in_child() -> None:
    for entry in handed:
        entry.close()
    handed.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
