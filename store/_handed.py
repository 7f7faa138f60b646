"""References among the arguments of a process that `multiprocessing` starts.

Under ``spawn`` and ``forkserver`` these arguments are pickled, and the child gets descriptors
along with them. So it can get those of the segments, and map what a forked child inherits.

The parent *hands down* an object: it keeps the object until the child has ended, and all processes
that the child has forked. It sees that by a tether, as with forks (see `_forks`), whose first end
goes to the child. The child treats the object as one inherited by a fork: it maps it, and sends
only copies of it.
"""

from __future__ import annotations

import os
import sys
from weakref import ref

from store import _forks, _mappings, _memory
from store._anonymous import identity
from store._children import in_child
from store._errors import StoreError
from store._mappings import Block
from store._readers import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: In place of the number of forks, for blocks that count as inherited: see `_forks.is_inherited`.
_INHERITED = -1


class Handed:
    """What one child was handed down.

    Parameters
    ----------
    popen : object
        `multiprocessing`'s object that starts the child.
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
        #: Blocks that are kept for the child.
        self.blocks: list[Block] = []
        #: By key, how segments were passed to the child: each only once.
        self.segments: dict[int, tuple[int, Any, int]] = {}

    def is_over(self) -> bool:
        """Return whether the child, and all that it has forked, have ended."""
        popen = self.popen()
        if self.holding >= 0 and (popen is None or hasattr(popen, "pid")):
            # The child has a descriptor of its own by now, or was never started.
            os.close(self.holding)
            self.holding = -1
        return _forks.is_loose(self.asking)

    def close(self) -> None:
        """Close the tether, and let go of the blocks."""
        for fd in (self.holding, self.asking):
            if fd >= 0:
                os.close(fd)
        self.blocks.clear()


handed: list[Handed] = []


def _duplicate(fd: int) -> tuple[Any, tuple[int, int]]:
    """Return what is unpickled as a copy of a descriptor in the child, and the file's identity."""
    return sys.modules["multiprocessing.reduction"].DupFd(fd), identity(fd)


def _detached(duplicate: Any, wanted: tuple[int, int]) -> int:
    """Return the descriptor that came with a pickle; one of another file is left alone.

    Raises
    ------
    StoreError
        If there is no descriptor of that file.
    """
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
    """Return the object that starts a child for which this very thread pickles, or None."""
    context = sys.modules.get("multiprocessing.context")
    return None if context is None else context.get_spawning_popen()


def hand_down(popen: Any, blobs: list[Any]) -> tuple[Any, ...] | None:
    """Keep blobs for a child that is being started.

    Returns
    -------
    tuple or None
        The arguments of `receive` in the child. None if the bytes themselves are to be sent,
        because there are no blocks, or no descriptors are left.
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

#: The files of tethers, and the segments, that this process keeps as long as it lives.
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
            pass  # no address space: the descriptor stays open in place of a mapping
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


in_child(_after_fork_in_child)
