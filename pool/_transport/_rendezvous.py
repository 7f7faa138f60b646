"""Where programs of one user find actors that belong to none of them.

A directory that only the user can enter holds one listening socket for each such actor,
under a name made from the actor's. Both ends check the other one's user by the kernel's
word (SO_PEERCRED). A socket on which nobody listens any more is stale, since its owner was
killed, and is removed by whoever meets it; the last one out removes the directory.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import select
import stat
import struct
import sys

from pool._transport._channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_KIND = _socket.SOCK_SEQPACKET
_CREDENTIALS = struct.Struct("iII")

#: Messages and pickles are understood by the same version of Python, and of them, only; so what
#: speaks another dialect is not found.
DIALECT = f".1-{sys.hexversion >> 16:x}"

#: Bytes that the path of a socket may have.
_PATH_MAX = 107

#: How often to make the directory anew that others, who leave, remove.
_ATTEMPTS = 100

#: Seconds to wait for an actor to say who it is; its door answers even while it works.
PATIENCE = 5.0

#: Seconds that a process may take from closing its first connection to its end.
ENDING = 1.0


def folder(make: bool = False) -> str:
    """Return the directory of the user's sockets.

    Parameters
    ----------
    make : bool
        Make it if it is not there.

    Raises
    ------
    PermissionError
        If somebody else owns it, or can enter it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        path = os.path.join(runtime, "actorpool")
    else:
        import tempfile

        path = os.path.join(tempfile.gettempdir(), f"actorpool-{os.getuid()}")
    if make:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # checked below like one of our own
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return path
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.getuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        raise PermissionError(
            f"{path} is not a directory that only user {os.getuid()} can enter; remove it, or "
            "set XDG_RUNTIME_DIR to a private directory"
        )
    return path


def address(namespace: str, name: str, make: bool = False) -> str:
    """Return the path of an actor's socket."""
    import hashlib

    # Names may be long and contain anything; a socket's path may not.
    digest = hashlib.sha256(f"{namespace}\0{name}".encode()).hexdigest()[:20]
    return os.path.join(folder(make), digest + DIALECT)


def listen(namespace: str, name: str) -> tuple[_socket.socket, str] | None:
    """Take a name; return the socket on which to listen and its path, None if it is taken."""
    for _ in range(_ATTEMPTS):
        try:
            return _listen(address(namespace, name, make=True))
        except FileNotFoundError:
            continue  # who left last has removed the directory in the midst of this
    return _listen(address(namespace, name, make=True))


def _listen(path: str) -> tuple[_socket.socket, str] | None:
    with _locked(os.path.dirname(path)):
        if _answers(path):
            return None
        _remove(path)
        door = _socket.socket(_socket.AF_UNIX, _KIND)
        try:
            with _Short(path) as short:
                door.bind(short)
            os.chmod(path, 0o600)
            door.listen(64)
        except BaseException:
            door.close()
            raise
        return door, path


def connect(path: str) -> tuple[Channel, int] | None:
    """Return a channel to an actor and its pid, None if there is none; sweep what is stale."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    line = _socket.socket(_socket.AF_UNIX, _KIND)
    _limit(line, PATIENCE)
    try:
        with _Short(path) as short:
            line.connect(short)
    except (ConnectionError, FileNotFoundError):
        line.close()
        _sweep(path, status.st_ino)
        return None
    except OSError:
        line.close()
        raise
    pid, uid = peer_of(line)
    if uid != os.getuid():
        line.close()
        raise PermissionError(f"{path} belongs to user {uid}, not to {os.getuid()}")
    return Channel(line), pid


def unlimited(channel: Channel) -> None:
    """Wait for messages as long as it takes, from now on."""
    _limit(channel.socket, 0)


def _limit(line: _socket.socket, seconds: float) -> None:
    """Have the kernel bound each wait at a socket, also that of `connect` for a place in a queue.

    Not a timeout of Python's, which would make the socket one that does not block.
    """
    packed = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (_socket.SO_RCVTIMEO, _socket.SO_SNDTIMEO):
        line.setsockopt(_socket.SOL_SOCKET, option, packed)


def accept(door: _socket.socket) -> Channel | None:
    """Wait for somebody; None if it is not the same user."""
    fd, _ = door._accept()  # type: ignore[attr-defined]  # what `socket.socket.accept` calls
    line = _socket.socket(_socket.AF_UNIX, _KIND, 0, fd)
    if peer_of(line)[1] != os.getuid():
        line.close()
        return None
    return Channel(line)


def peer_of(line: _socket.socket) -> tuple[int, int]:
    """Return pid and user of the other end."""
    data = line.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


def paths() -> list[str]:
    """Return the path of every socket behind which our dialect is spoken."""
    where = folder()
    return [os.path.join(where, name) for name in _names(where) if name.endswith(DIALECT)]


def strangers() -> int:
    """Return how many sockets there are of other versions of Python, or of this package."""
    return sum(not name.endswith(DIALECT) for name in _names(folder()))


def _names(where: str) -> list[str]:
    try:
        return sorted(os.listdir(where))
    except FileNotFoundError:
        return []


def sweep(path: str, *pids: int) -> None:
    """Remove the socket of an actor that has hung up, if it was killed.

    A process that is killed closes its connections one by one; until the last of them is
    closed it seems to listen still. So its end is waited for, and that of its keeper: milliseconds.
    """
    for pid in {pid for pid in pids if pid}:
        try:
            process = os.pidfd_open(pid)
        except OSError:
            continue  # it has ended
        poll = select.poll()
        poll.register(process, select.POLLIN)
        # One that only hung up lives on, and would be waited for in vain.
        poll.poll(ENDING * 1000)
        os.close(process)
    left = connect(path)  # removes the socket if nobody answers
    if left is not None:
        left[0].close()


def leave(path: str) -> None:
    """Remove the socket of an actor that ends, and the directory if it was the last."""
    _remove(path)
    try:
        os.rmdir(os.path.dirname(path))
    except OSError:
        return  # others are there, or somebody else was quicker


def _sweep(path: str, inode: int) -> None:
    try:
        with _locked(os.path.dirname(path)):
            # Not one that was bound to that name since.
            if os.lstat(path).st_ino == inode and not _answers(path):
                leave(path)
    except FileNotFoundError:
        return


def _answers(path: str) -> bool:
    line = _socket.socket(_socket.AF_UNIX, _KIND)
    _limit(line, PATIENCE)
    try:
        # An error of this says nothing about who listens.
        with _Short(path) as short:
            return _connects(line, short)
    finally:
        line.close()


def _connects(line: _socket.socket, path: str) -> bool:
    try:
        line.connect(path)
    except BlockingIOError:
        return True  # though others wait there already
    except OSError:
        return False
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


class _Short:
    """Lead to a socket by a path of bounded length, whatever the user's directory is called."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _PATH_MAX:
            return self._path
        folder, name = os.path.split(self._path)
        self._fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._fd}/{name}"

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class _Lock:
    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # Removed, and perhaps made anew, while this waited: then others lock another one.
            if not os.path.samestat(os.fstat(self._fd), os.stat(self._path)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *exc: object) -> None:
        # Not by closing it alone: another thread may have forked, and the child has a copy.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


def _locked(path: str) -> AbstractContextManager[None]:
    """Keep others from taking or sweeping names; held by the kernel, so it dies with us."""
    return _Lock(path)
