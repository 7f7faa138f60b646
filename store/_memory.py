"""The few system calls on memory that Python's `mmap` module does not reach.

Addresses are plain integers. Nothing here remembers anything: who maps a range unmaps it.
Importing this module imports ctypes (4 ms), so nothing imports it before the first large
object.
"""

from __future__ import annotations

import ctypes
import errno
import mmap as _mmap
import os

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
        with open("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "rb") as file:
            size = int(file.read())
    except (OSError, ValueError):
        return 0
    return size if size <= 1 << 21 else 0


HUGE = _huge_page()


def map_file(fd: int, offset: int, nbytes: int, private: bool) -> int:
    """Map a range of a file, readable and writable, and return the address.

    What is as large as a huge page is mapped at the same distance from one as it has in the
    file: only then the kernel can map such a page as one, not as 512 small ones.

    Parameters
    ----------
    fd : int
        Open for writing unless `private`.
    offset, nbytes : int
        Multiples of `PAGE`.
    private : bool
        What is written stays in this process (copy on write).

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
    """Put a range of a file at an address that is the caller's, in place of what is there."""
    _call_map(address, nbytes, _READ | _WRITE, _kind(private) | _FIXED, fd, offset)


def keep_open(fd: int) -> int:
    """Map a page of a file that nobody looks at, so that it stays open; return the address."""
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
    """Take a mapping away."""
    _unmap(address, nbytes)


def reset(
    address: int,
    nbytes: int,
    _advise: Any = _advise,
    _ways: tuple[int, ...] = (_DONTNEED, _DONTNEED_LOCKED),
) -> bool:
    """Drop what this process has of its own in a private mapping: the file shows through again.

    Pages that were locked (`mlock`, `mlockall`) are another thing to the system.

    Returns
    -------
    bool
        Whether that could be done.
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
    """Let nothing be mapped where nothing is; return whether there was nothing."""
    kind = _mmap.MAP_PRIVATE | _ANONYMOUS | _NORESERVE | _FIXED_NOREPLACE
    try:
        found = _call_map(address, nbytes, _NONE, kind, -1)
    except OSError:
        return False
    if found != address:  # before Linux 4.17 it is but a wish
        _unmap(found, nbytes)
    return found == address


def remove(address: int, nbytes: int) -> bool:
    """Give the pages of a shared mapping back to the system, in the file too."""
    done: int = _advise(address, nbytes, _REMOVE)
    return done == 0


def collapse(address: int, nbytes: int) -> int:
    """Back a range with huge pages, each of which has at least one byte written.

    Unlike a huge-page policy this needs no administrator: the kernel documents that it
    ignores ``transparent_hugepage/shmem_enabled``.

    Returns
    -------
    int
        0, or the error number: EINVAL where there is no such thing.

    References
    ----------
    madvise(2), MADV_COLLAPSE; Linux commit 34488399fa08.
    """
    if _advise(address, nbytes, _COLLAPSE) == 0:
        return 0
    return ctypes.get_errno() or errno.EINVAL


def is_untouched(address: int, nbytes: int) -> bool:
    """Return whether no page of a private mapping has been written to.

    False also where the system does not tell: the caller then copies.
    """
    first = address // PAGE
    count = (address + nbytes - 1) // PAGE - first + 1
    try:
        # Opened each time: it is about the process that opened it, not the one that reads it.
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
        return True  # nor read from
    import numpy as np

    # The upper three bits: present, swapped out, page of a file. An own page is present
    # and not of the file, or swapped out.
    flags = np.frombuffer(table, np.uint64) >> np.uint64(61)
    return not bool(((flags == 4) | (flags & np.uint64(2) != 0)).any())
