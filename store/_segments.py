"""Segments: files without a name, of fixed size, that their owner writes and others map.

Guarantees
----------
* Nothing is left by any death: there is no name, and the last descriptor or mapping that
  goes takes the memory along.
* A segment never shrinks (its size is sealed where the system can), so a reader cannot meet SIGBUS.
  Pages are made by writing or reserving, whose failure is an exception, and never by storing
  through a mapping, whose failure would be SIGBUS.
* Readers get a read-only descriptor: only the owner changes what they see.

Storing through a mapping is the fastest way into pages that exist and the slowest into those that
do not. So each segment knows its populated pages. Where the system has huge pages, fresh pages are
made in steps of one (`_memory.collapse`); elsewhere a page is first written by ``pwrite``.
"""

from __future__ import annotations

import errno
import os
import sys
from _thread import RLock

from store import _copying, _memory
from store._memory import HUGE, PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Sizes of segments are multiples of this, so that huge pages fit.
STEP = 1 << 21

#: Bytes of fresh huge pages that are made and then written to, before more are made. The kernel
#: clears them, and what it cleared last is in the processor's cache: a first `put` of 100 MB takes
#: 10 ms instead of 12.
FRESH = 1 << 22


class Segment:
    """One file, as its owner sees it.

    Parameters
    ----------
    key : int
        Names the segment, unique among all processes.
    nbytes : int
        Its size, a multiple of `STEP`.
    mode : str
        ``"memfd+huge"``, ``"memfd"`` or ``"tmpfile"``.
    folder : str, optional
        Where to make a file on disk; None: in memory.

    Attributes
    ----------
    fd, reader_fd : int
        Its descriptors; the second one is read-only.
    resident : int
        Bytes of its populated pages.
    on_disk : bool
        Whether it has a folder.

    Raises
    ------
    OSError
        ENOSPC, EFBIG (``ulimit -f``), EMFILE, ENOMEM (``ulimit -v``).
    """

    __slots__ = (
        "_counting", "_huge", "_populated", "address", "array", "fd", "key", "nbytes", "on_disk",
        "owner_pid", "reader", "reader_fd", "resident",
    )  # fmt: skip

    def __init__(self, key: int, nbytes: int, mode: str, folder: str | None = None) -> None:
        self.key = key
        self.nbytes = nbytes
        self.resident = 0
        self.on_disk = folder is not None
        self.owner_pid = os.getpid()
        self._huge = mode == "memfd+huge" and HUGE > 0 and not self.on_disk
        self._populated = bytearray(nbytes // PAGE)
        #: Held while `resident` is set, since threads write without the depot's lock. Reentrant: a
        #: finalizer may put an object meanwhile.
        self._counting = RLock()
        self.array: Any = None
        #: The `Reader` with which this process sees it privately; made when it is needed.
        self.reader: Any = None
        in_memory = mode != "tmpfile" and not self.on_disk
        self.fd = _memory_file() if in_memory else _unlinked_file(folder)
        self.reader_fd = -1
        try:
            os.ftruncate(self.fd, nbytes)
            if in_memory:
                _seal(self.fd)
            self.reader_fd = _reopened(self.fd)
            self.address = _memory.map_file(self.fd, 0, nbytes, private=False)
        except BaseException:
            self._close_files()
            raise
        # A forked child must not write here. And as it does not map the segment, it keeps no more
        # memory than its own views show.
        _memory.keep_from_children(self.address, nbytes)

    def _close_files(self) -> None:
        os.close(self.fd)
        if self.reader_fd >= 0:
            os.close(self.reader_fd)

    def close(self) -> None:
        """Unmap and close; readers keep what they mapped."""
        self.array = self.reader = None
        if os.getpid() == self.owner_pid:
            _memory.unmap(self.address, self.nbytes)
        self._close_files()

    # ------------------------------------------------------------------ contents

    def missing(self, offset: int, nbytes: int) -> int:
        """Return how many bytes of a range have no pages yet."""
        return self._populated.count(0, offset // PAGE, -(-(offset + nbytes) // PAGE)) * PAGE

    def write(self, offset: int, data: memoryview) -> None:
        """Copy `data` to a range that only the caller uses.

        Other threads run meanwhile, and may write to other ranges.

        Raises
        ------
        OSError
            If there is no memory or disk space for it.
        """
        if "numpy" not in sys.modules:
            self.populate(offset, len(data))
            self._write_fresh(offset, data)
        elif self.on_disk:
            self._write_part(offset, data)
        else:
            _copying.copy(self._write_part, offset, data)

    def _write_part(self, offset: int, data: memoryview) -> None:
        import numpy as np

        array = self._as_array(np)
        step = FRESH if self._huge and self.missing(offset, len(data)) else len(data) or 1
        for at in range(0, len(data), step):
            part = data[at : at + step]
            begin = offset + at
            if not self.populate(begin, len(part)):
                self._write_fresh(begin, data[at:])
                return
            np.copyto(array[begin : begin + len(part)], np.frombuffer(part, np.uint8))

    def populate(self, offset: int, nbytes: int) -> bool:
        """Try to make the pages of a range that only the caller uses; return whether all exist."""
        if not self.missing(offset, nbytes):
            return True
        if self.on_disk:
            os.posix_fallocate(self.fd, offset, nbytes)
            return False
        if not self._huge:
            return False
        end = offset + nbytes
        first = offset // HUGE * HUGE
        last = min(-(-end // HUGE) * HUGE, self.nbytes)
        at = first
        while at < last:
            if not self.missing(at, HUGE):
                at += HUGE
                continue
            stop = at
            while stop < last and self.missing(stop, HUGE):
                # Writes one byte in each huge page: the kernel does not collapse one that is all
                # hole. It must be a byte of the caller's range, for other threads may be writing
                # to theirs.
                os.pwrite(self.fd, b"\0", max(stop, offset))
                stop += HUGE
            failure = _memory.collapse(self.address + at, stop - at)
            if failure:
                # EINVAL: the system cannot. Other errors: memory is too fragmented just now.
                self._huge = failure != errno.EINVAL
                return False
            self._mark(at, stop)
            at = stop
        return True

    def _write_fresh(self, offset: int, data: memoryview) -> None:
        at = offset
        try:
            while len(data):
                written = os.pwrite(self.fd, data, at)
                at += written
                data = data[written:]
        finally:
            # The last page as well: no other range uses the rest of it.
            self._mark(offset // PAGE * PAGE, -(-at // PAGE) * PAGE)

    def reserve(self, offset: int, nbytes: int) -> None:
        """Make the pages of a range that will be stored to; new ones are zeros."""
        if self.populate(offset, nbytes):
            return
        zeros = memoryview(bytes(min(nbytes, 1 << 20)))
        for at in range(offset, offset + nbytes, len(zeros)):
            part = zeros[: offset + nbytes - at]
            if self.missing(at, len(part)):
                self._write_fresh(at, part)

    def _mark(self, start: int, end: int) -> None:
        first, last = start // PAGE, end // PAGE
        with self._counting:
            fresh = self._populated.count(0, first, last) * PAGE
            self._populated[first:last] = b"\1" * (last - first)
            self.resident += fresh

    def _as_array(self, np: Any) -> Any:
        if self.array is None:
            self.array = np.asarray(_Memory(self.address, self.nbytes))
        return self.array

    def last_page(self, start: int, end: int) -> int:
        """Return where the last populated page of a range ends; `start` if none is populated."""
        found = self._populated.rfind(1, start // PAGE, end // PAGE)
        return start if found < 0 else (found + 1) * PAGE

    def punch(self, start: int, end: int, whole: bool = True) -> int:
        """Give the pages of a free range back to the system.

        Parameters
        ----------
        start, end : int
        whole : bool
            Only whole huge pages, which are not split.

        Returns
        -------
        int
            Bytes given back.
        """
        size = HUGE if self._huge and whole else PAGE
        start, end = -(-start // size) * size, end // size * size
        if start >= end:
            return 0
        first, last = start // PAGE, end // PAGE
        present = (last - first - self._populated.count(0, first, last)) * PAGE
        # On a disk there may be room reserved that was never written to.
        if not (present or self.on_disk) or not _memory.remove(self.address + start, end - start):
            return 0
        with self._counting:
            self._populated[first:last] = bytes(last - first)
            self.resident -= present
        return present


class _Memory:
    """Show a range of memory to numpy."""

    __slots__ = ("__array_interface__",)

    def __init__(self, address: int, nbytes: int) -> None:
        self.__array_interface__ = {
            "shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3,
        }  # fmt: skip


def _memory_file() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # Needed where vm.memfd_noexec is set; not known before Linux 6.3.
        fd = os.memfd_create("actorpool-store", flags | _NOEXEC_SEAL)
    except OSError:
        fd = os.memfd_create("actorpool-store", flags)
    os.fchmod(fd, 0o600)
    return fd


_NOEXEC_SEAL = 0x8


def _unlinked_file(folder: str | None) -> int:
    if hasattr(os, "O_TMPFILE"):
        from tempfile import gettempdir

        try:
            return os.open(folder or gettempdir(), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                raise
    from tempfile import TemporaryFile

    with TemporaryFile(prefix="actorpool-store", dir=folder) as file:
        return os.dup(file.fileno())


def _seal(fd: int) -> None:
    """Fix the size of a file. Its contents are not sealed: the owner uses the memory again."""
    import fcntl

    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def _reopened(fd: int) -> int:
    """Return a read-only descriptor of an open file."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # no /proc: readers map privately all the same
        return os.dup(fd)
