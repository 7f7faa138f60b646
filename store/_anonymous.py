"""Files without a name: memory that vanishes with its last descriptor.

Large messages travel as one descriptor of such a file. Nothing has to be cleaned up
after any death, because there is no name that could be left behind.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: What the program wants: ``tmpfile`` is the portable variant, an unlinked file in the temporary
#: folder. The other words, see `store._settings`, make no difference here.
MODE = os.environ.get("POOL_STORE", "auto")


#: Whether the system has files that are memory; None before it was asked.
_has_memfd: bool | None = None


def has_memfd() -> bool:
    """Return whether the system has files that are memory: Linux 3.17, unless a sandbox forbids.

    Raises
    ------
    OSError
        If it has no descriptor or no memory for the file with which it is asked.
    """
    global _has_memfd
    if _has_memfd is None:
        try:
            os.close(os.memfd_create("actorpool", os.MFD_CLOEXEC))
            _has_memfd = True
        except AttributeError:
            _has_memfd = False  # Python was built for an older system
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES):
                raise
            _has_memfd = False
    return _has_memfd


def in_memory() -> bool:
    """Return whether such files are memory, and not on a filesystem that may be full."""
    return MODE != "tmpfile" and has_memfd()


def create(name: str = "actorpool") -> int:
    """Create an empty anonymous file and return its descriptor (close-on-exec).

    Parameters
    ----------
    name : str
        Shown in ``/proc/PID/fd`` only; needs not be unique.

    Returns
    -------
    int
        Read-write descriptor, owned by the caller.
    """
    if in_memory():
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        os.fchmod(fd, 0o600)
        return fd
    from tempfile import TemporaryFile

    with TemporaryFile(prefix=name) as file:
        return os.dup(file.fileno())


def identity(fd: int, _fstat: Callable[[int], os.stat_result] = os.fstat) -> tuple[int, int]:
    """Return which file a descriptor is of, whatever its number has been before.

    Called by finalizers, down to the last moments of the interpreter.
    """
    found = _fstat(fd)
    return found.st_dev, found.st_ino


def reserve(fd: int, nbytes: int) -> None:
    """Make the file `nbytes` long, zeros where it is new, so that it can be stored to by a mapping.

    On a filesystem that has no room, storing into a hole would be a SIGBUS.

    Raises
    ------
    OSError
        If there is no room (ENOSPC), or files may not be as large (EFBIG).
    """
    if in_memory():
        os.ftruncate(fd, nbytes)
        return
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        raise _located(error, nbytes) from None


def _located(error: OSError, nbytes: int) -> OSError:
    """Return an error about a file in the temporary folder that says where that is."""
    from tempfile import gettempdir

    text = f"{os.strerror(error.errno or 0)}: {nbytes} bytes in {gettempdir()} (see TMPDIR)"
    return OSError(error.errno, text)


def write_all(fd: int, parts: Iterable[bytes | bytearray | memoryview]) -> int:
    """Write `parts` one after the other at the start of the file.

    ``write`` copies into fresh pages in about a third of the time that storing through a
    new mapping takes, and a full disk or memory limit is an exception, never a SIGBUS.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    OSError
        If the file cannot grow (ENOSPC, EFBIG).
    """
    offset = 0
    for part in parts:
        view = memoryview(part).cast("B")
        while len(view):
            try:
                written = os.pwrite(fd, view, offset)
            except OSError as error:
                if in_memory():
                    raise
                raise _located(error, offset + len(view)) from None
            offset += written
            view = view[written:]
    return offset


def read_into(fd: int, buffer: bytearray | memoryview, offset: int) -> None:
    """Fill `buffer` from `offset` of the file.

    Raises
    ------
    EOFError
        If the file is shorter than that.
    """
    view = memoryview(buffer).cast("B")
    while len(view):
        count = os.preadv(fd, [view], offset)
        if count == 0:
            raise EOFError(f"anonymous file ends {len(view)} bytes early")
        offset += count
        view = view[count:]
