"""The few system calls on memory that Python's `mmap` module does not reach.

Addresses are plain integers. Nothing here keeps account of mappings: the caller that maps a range
unmaps it. Importing this module imports ctypes (4 ms), so nothing imports it before the first large
object.
"""

from __future__ import annotations

import ctypes
import errno
import mmap as _mmap
import os

from store._cgroups import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGE = _mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)
_map = _libc.mmap
_map.restype = ctypes.c_void_p
_map.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]  # fmt: skip
_unmap = _libc.munmap
_unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_advise = _libc.madvise
_advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_FAILED = ctypes.c_void_p(-1).value
_NONE, _READ, _WRITE = 0, 1, 2
_FIXED = 0x10
_FIXED_NOREPLACE = 0x100000
_NORESERVE = getattr(_mmap, "MAP_NORESERVE", 0)
_ANONYMOUS = _mmap.MAP_ANONYMOUS

_DONTNEED = 4
_REMOVE = 9
_DONTFORK = 10
_DOFORK = 11
_DONTNEED_LOCKED = 24  # Linux 5.18
_COLLAPSE = 25  # Linux 6.1


def _huge_page() -> int:
    """Return the size of a huge page, 0 if there are none or they are too large to waste.

    On arm64 with 64 KiB pages one is 512 MiB.
    """
    try:
        size = int(read("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"))
    except ValueError:
        return 0
    return size if size <= 1 << 21 else 0


HUGE = _huge_page()


def map_file(fd: int, offset: int, nbytes: int, private: bool) -> int:
    """Map a range of a file, readable and writable, and return the address.

    A range as large as a huge page is mapped at an address with the same remainder, by the size of
    huge pages, as its offset in the file: only then can the kernel map a huge page as one, and not
    as 512 small ones.

    Parameters
    ----------
    fd : int
        Open for writing unless `private`.
    offset, nbytes : int
        Multiples of `PAGE`.
    private : bool
        Whether what is written stays in this process (copy on write).

    Raises
    ------
    OSError
        ENOMEM: no address space (``ulimit -v``), or too many mappings.
    """
    if not HUGE or nbytes < HUGE:
        return _call_map(None, nbytes, _READ | _WRITE, _kind(private), fd, offset)
    reserved = nbytes + HUGE
    start = _call_map(None, reserved, _NONE, _mmap.MAP_PRIVATE | _ANONYMOUS | _NORESERVE, -1)
    address = start + (offset - start) % HUGE
    try:
        remap_file(address, fd, offset, nbytes, private)
    except OSError:
        _unmap(start, reserved)
        raise
    if address > start:
        _unmap(start, address - start)
    behind = address + nbytes
    if start + reserved > behind:
        _unmap(behind, start + reserved - behind)
    return address


def remap_file(address: int, fd: int, offset: int, nbytes: int, private: bool) -> None:
    """Map a range of a file in place of a mapping of the caller's."""
    _call_map(address, nbytes, _READ | _WRITE, _kind(private) | _FIXED, fd, offset)


def keep_open(fd: int) -> int:
    """Map a page of a file, which is never accessed, so that the file stays open.

    Returns
    -------
    int
        The address.
    """
    return _call_map(None, PAGE, _NONE, _mmap.MAP_SHARED, fd)


def _kind(private: bool) -> int:
    return _mmap.MAP_PRIVATE | _NORESERVE if private else _mmap.MAP_SHARED


def _call_map(
    address: int | None, nbytes: int, access: int, kind: int, fd: int, offset: int = 0
) -> int:
    found: int = _map(address, nbytes, access, kind, fd, offset)
    if found == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)} (mapping {nbytes} bytes)")
    return found


# Finalizers call what follows, down to the last moments of the interpreter, when the
# names of a module may be gone: everything needed is bound to the function.


def unmap(address: int, nbytes: int, _unmap: Any = _unmap) -> None:
    """Remove a mapping."""
    _unmap(address, nbytes)


def reset(
    address: int,
    nbytes: int,
    _advise: Any = _advise,
    _ways: tuple[int, ...] = (_DONTNEED, _DONTNEED_LOCKED),
) -> bool:
    """Drop the private pages of a private mapping, which then shows the file again.

    Pages that were locked (`mlock`, `mlockall`) need a newer request.

    Returns
    -------
    bool
        Whether the system did so.
    """
    for way in _ways:
        if _advise(address, nbytes, way) == 0:
            return True
    return False


def keep_from_children(address: int, nbytes: int) -> None:
    """Leave a mapping out of forked children."""
    _advise(address, nbytes, _DONTFORK)


def give_to_children(address: int, nbytes: int) -> None:
    """Undo `keep_from_children`."""
    _advise(address, nbytes, _DOFORK)


def occupy(address: int, nbytes: int) -> bool:
    """Reserve a range of addresses, so that nothing else is mapped there.

    Returns
    -------
    bool
        Whether it was free, and is reserved now.
    """
    kind = _mmap.MAP_PRIVATE | _ANONYMOUS | _NORESERVE | _FIXED_NOREPLACE
    try:
        found = _call_map(address, nbytes, _NONE, kind, -1)
    except OSError:
        return False
    if found != address:  # before Linux 4.17 the address is only a hint
        _unmap(found, nbytes)
    return found == address


def remove(address: int, nbytes: int) -> bool:
    """Give the pages of a shared mapping back to the system, in the file too."""
    done: int = _advise(address, nbytes, _REMOVE)
    return done == 0


def collapse(address: int, nbytes: int) -> int:
    """Back a range with huge pages; in each, at least one byte must have been written.

    Unlike a huge-page policy this needs no administrator: the kernel documents that it
    ignores ``transparent_hugepage/shmem_enabled``.

    Returns
    -------
    int
        0, or the error number: EINVAL where the system cannot.

    References
    ----------
    madvise(2), MADV_COLLAPSE; Linux commit 34488399fa08.
    """
    if _advise(address, nbytes, _COLLAPSE) == 0:
        return 0
    return ctypes.get_errno() or errno.EINVAL


def is_untouched(address: int, nbytes: int) -> bool:
    """Return whether no page of a private mapping has been written to.

    Also False where the system does not tell: the caller then copies.
    """
    first = address // PAGE
    count = (address + nbytes - 1) // PAGE - first + 1
    try:
        # Opened each time: the file tells of the process that opened it, not of the one that reads.
        file = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            table = os.pread(file, count * 8, first * 8)
        finally:
            os.close(file)
    except OSError:
        return False
    if len(table) != count * 8:
        return False
    if not table.strip(b"\0"):
        return True  # no page is present at all
    import numpy as np

    # The upper three bits: present, swapped out, page of a file. A private page is present and not
    # of the file, or swapped out.
    flags = np.frombuffer(table, np.uint64) >> np.uint64(61)
    return not bool(((flags == 4) | (flags & np.uint64(2) != 0)).any())
