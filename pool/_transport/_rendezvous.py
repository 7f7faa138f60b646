"""Where programs of one user find actors that belong to none of them.

A directory that only the user can enter holds one listening socket for each such actor,
under a name made from the actor's. Each end asks the kernel which user the other end is
(SO_PEERCRED). A socket on which no process listens is stale, since its owner was killed; any
process that comes across it removes it. The last actor that ends removes the directory.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import struct
import sys

from pool._transport._channel import Channel
from pool._transport._pidfds import wait_for_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_KIND = _socket.SOCK_SEQPACKET
_CREDENTIALS = struct.Struct("iII")

#: The end of a socket's name: version of the messages, and of Python. Both sides must have the same
#: ones to understand messages and pickles, so actors of another dialect are not found.
DIALECT = f".4-{sys.hexversion >> 16:x}"

#: Bytes that the path of a socket may have.
_PATH_MAX = 107

#: How often to make the directory anew if actors that end remove it at the same time.
_ATTEMPTS = 100

#: Seconds to wait for an actor to answer a connection, which it does even while it works.
PATIENCE = 5.0

#: Seconds that a process may take to end after it has closed its first connection.
ENDING = 1.0


def folder(make: bool = False) -> str:
    """Return the directory of the user's sockets.

    Parameters
    ----------
    make : bool
        Make it if it does not exist.

    Raises
    ------
    PermissionError
        If another user owns it, or can enter it.
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
            pass  # checked below, as if it had been made here
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
            continue  # the last actor has ended, and removed the directory, in the midst of this
    return _listen(address(namespace, name, make=True))


def _listen(path: str) -> tuple[_socket.socket, str] | None:
    with _locked(os.path.dirname(path)):
        if _answers(path):
            return None
        _remove(path)
        listener = _socket.socket(_socket.AF_UNIX, _KIND)
        try:
            with _Short(path) as short:
                listener.bind(short)
            os.chmod(path, 0o600)
            listener.listen(64)
        except BaseException:
            listener.close()
            raise
        return listener, path


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
    """Have the kernel bound each wait at a socket, `connect` included; 0 seconds: no bound.

    Not by a timeout of Python's, which would make the socket non-blocking.
    """
    packed = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (_socket.SO_RCVTIMEO, _socket.SO_SNDTIMEO):
        line.setsockopt(_socket.SOL_SOCKET, option, packed)


def accept(listener: _socket.socket) -> Channel | None:
    """Wait for a connection, and return a channel; None if it comes from another user."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # what `socket.socket.accept` calls
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
    """Return the path of every socket with the dialect of this process."""
    where = folder()
    return [os.path.join(where, name) for name in _names(where) if name.endswith(DIALECT)]


def strangers() -> list[int]:
    """Return the pids of actors of other versions of Python, or of this package."""
    where = folder()
    pids = []
    for name in _names(where):
        # The kernel says who listens; what that process tells is not read.
        found = None if name.endswith(DIALECT) else connect(os.path.join(where, name))
        if found is not None:
            found[0].close()
            pids.append(found[1])
    return pids


def _names(where: str) -> list[str]:
    try:
        return sorted(os.listdir(where))
    except FileNotFoundError:
        return []


def sweep(path: str, *pids: int) -> None:
    """Remove the socket of an actor that has hung up, if it was killed.

    A process that is killed closes its connections one by one, and seems to listen until the last
    of them is closed. So this waits for its end, which takes milliseconds.

    Parameters
    ----------
    path : str
    *pids : int
        The actor's process and that of its keeper, which has the socket as well; 0: unknown.
    """
    for pid in {pid for pid in pids if pid}:
        wait_for_end(pid, ENDING)  # with a bound: an actor that has only hung up does not end
    left = connect(path)  # removes the socket if nobody answers
    if left is not None:
        left[0].close()


def leave(path: str) -> None:
    """Remove the socket of an actor that ends, and the directory if it was the last."""
    _remove(path)
    try:
        os.rmdir(os.path.dirname(path))
    except OSError:
        return  # it has other sockets, or another process was quicker


def _sweep(path: str, inode: int) -> None:
    try:
        with _locked(os.path.dirname(path)):
            # Not a socket that was bound to that path since.
            if os.lstat(path).st_ino == inode and not _answers(path):
                leave(path)
    except FileNotFoundError:
        return


def _answers(path: str) -> bool:
    line = _socket.socket(_socket.AF_UNIX, _KIND)
    _limit(line, PATIENCE)
    try:
        # Outside of `_connects`: an error of `_Short` does not mean that no process listens.
        with _Short(path) as short:
            return _connects(line, short)
    finally:
        line.close()


def _connects(line: _socket.socket, path: str) -> bool:
    try:
        line.connect(path)
    except BlockingIOError:
        return True  # a process listens, and its queue is full
    except OSError:
        return False
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


class _Short:
    """Context that gives a path of bounded length to a socket, however long its own path is."""

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
            # While this waited the directory may have been removed, and perhaps made anew: then
            # other processes lock another one.
            if not os.path.samestat(os.fstat(self._fd), os.stat(self._path)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *exc: object) -> None:
        # To close it does not suffice: another thread may have forked, and the child has a copy.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


def _locked(path: str) -> AbstractContextManager[None]:
    """Return a context in which no other process takes or sweeps names; a death ends it too."""
    return _Lock(path)
