"""The forkservers of this process: start them, choose among them, let go of them.

A forkserver is kept as long as its workers would be as this process is: its user, limits and
CPUs, the threads each worker may have, the modules that are to be loaded before the fork.

It may have a *successor*, which has loaded besides what tasks had to import: installed packages
that this process has too, and that forked children would have for nothing. That takes a second
for some packages, and so does each worker's own import, of every pool. The successor is started
beside the pools that are in use, nobody waits for it, and later pools get their workers from it.
Modules that come with Python take milliseconds: a running forkserver loads these for the next pool.
"""

from __future__ import annotations

import _signal
import _socket
import _thread
import atexit
import errno
import os
import sys

from pool._transport._descriptors import (
    above_streams,
    is_closed,
    pidfd_of_this,
    pipe_above_streams,
)
from pool._transport._sockets import socket_pair
from pool._workers import _tracking
from pool._workers._argv import check_not_frozen, interpreter, interpreter_argv
from pool._workers._standing import place, rlimits, standing
from pool._workers._warmup import MANY, installed, is_of_python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pool._transport._channel import Channel

#: More successors than this that are never used, and there will be no other.
VAIN_MAX = 3

#: A user's process that ignores them must not make workers deaf, nor have the kernel reap for the
#: forkserver.
_DEFAULT_SIGNALS = [_signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGCHLD]
#: As in `pool._workers._forkserver.NOT_ASKED`, already while it loads modules.
_BLOCKED_SIGNALS = [_signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2]

#: What this process, or the machine, may be short of: that says nothing about a forkserver.
_SHORT = {
    *(errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
}


class ForkServerProcess:
    """One running forkserver.

    Parameters
    ----------
    pid : int
    socket : _socket.socket
        To it; owned by this object from now on.
    life : int
        Descriptor: when it closes while the forkserver still loads modules, that is its end.
    wanted : frozenset of str
        Modules that it loads.
    learned : sequence of str
        What a successor loads besides.
    limits : dict
        Environment variables that limit threads.
    """

    def __init__(
        self,
        pid: int,
        socket: _socket.socket,
        life: int,
        wanted: frozenset[str],
        learned: Sequence[str],
        limits: dict[str, str],
    ) -> None:
        self.pid = pid
        self._socket = socket
        self._channel: Channel | None = None
        self.life = life
        self.wanted = wanted
        self.learned = learned
        self.limits = limits
        #: Pools may be waiting for it, or have their workers from it.
        self.used = False
        #: What it has inherited.
        self._standing = standing()
        self._rlimits = rlimits()
        # What packages may have looked at when they were loaded.
        self._place = place()
        self._up = False

    @property
    def channel(self) -> Channel:
        """Over which it is told of pools."""
        channel = self._channel
        if channel is None:
            # Not at the top: what channels need is imported while the first forkserver boots.
            from pool._transport._channel import Channel

            channel = self._channel = Channel(self._socket)
        return channel

    def fits(self, wanted: frozenset[str], limits: dict[str, str]) -> bool:
        """Return whether its workers would be as this process is now."""
        return (
            self.wanted >= wanted
            and self.limits == limits
            and self._standing == standing()
            # Whoever has not imported this has not changed them.
            and ("resource" not in sys.modules or self._rlimits == rlimits())
        )

    def is_current(self) -> bool:
        """Return whether packages would be loaded again from the same place, to the same effect."""
        return self._place == place()

    def is_up(self) -> bool:
        """Return whether it has loaded its modules.

        Raises
        ------
        OSError
            It has ended.
        """
        if not self._up:
            try:
                self.channel.receive(_socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except EOFError as error:
                raise ConnectionError from error
            self._up = True
        return True

    def close(self) -> None:
        """Let go of it: it ends when its last pool is gone, at once if there was none."""
        self.forget()
        if not self.used:
            self.end()

    def forget(self) -> None:
        """Close this process's end of the connection."""
        self._socket.close()

    def end(self) -> None:
        """Close what it lives by while it loads modules."""
        if self.life >= 0:
            os.close(self.life)
            self.life = -1


_servers: list[ForkServerProcess] = []
_lock = _thread.allocate_lock()
#: Children that are ending, and forkservers among them.
_unreaped: dict[int, ForkServerProcess | None] = {}
#: What tasks had to import, in that order; and how many successors were of no use.
_learned: dict[str, None] = {}
_vain = 0
_of_python: dict[str, None] = {}
_seed = ""


def learn(names: Iterable[str], files: dict[str, str]) -> None:
    """Note what a worker had to import, as far as this process has the very same.

    Parameters
    ----------
    names : iterable of str
        Modules in the order of their import.
    files : dict
        Where the packages at the top of these names are.
    """
    here = {top for top, file in files.items() if installed(top) == file}
    for name in names:
        top = name.partition(".")[0]
        if top in here and name in sys.modules:
            (_of_python if is_of_python(top) else _learned)[name] = None


def learned_of_python() -> list[str]:
    """Return modules of Python's own among them: any forkserver loads these, in milliseconds."""
    return list(_of_python)


def is_first() -> bool:
    """Return whether there is no forkserver yet."""
    return not _servers


def prepare(wanted: frozenset[str], limits: dict[str, str]) -> None:
    """Start the first forkserver, without waiting for it."""
    with _lock:
        if not _servers:
            _add(wanted, limits)


def connect(
    wanted: frozenset[str],
    limits: dict[str, str],
    head: tuple[Any, ...],
    blobs: Sequence[Any],
    fds: Sequence[int],
) -> ForkServerProcess:
    """Send the message of a pool to the forkserver that is to start its workers.

    Parameters
    ----------
    wanted : frozenset of str
        Modules that are to be loaded before the fork.
    limits : dict
    head, blobs, fds
        The message.
    """
    with _lock:
        for attempt in (1, 2):
            server = _choose(wanted, limits)
            try:
                server.channel.send(head, blobs, fds)
            except OSError as error:
                if error.errno in _SHORT:
                    raise
                _retire(server)  # it was killed since
                if attempt == 2:
                    raise
            else:
                server.used = True
                return server
    raise AssertionError  # one of the two has returned or raised


def connect_better(
    than: ForkServerProcess,
    wanted: frozenset[str],
    limits: dict[str, str],
    head: tuple[Any, ...],
    blobs: Sequence[Any],
    fds: Sequence[int],
) -> ForkServerProcess | None:
    """Send the message to a forkserver that has loaded more than `than`, if there is one.

    Called for a pool that has its workers anyway: nothing here may fail it, or wait.
    """
    if not _lock.acquire(False):
        return None
    try:
        fitting = [server for server in _servers if server.fits(wanted, limits)]
        most = max((len(server.learned) for server in fitting), default=0)
        for server in fitting:
            if len(server.learned) > len(than.learned) and _is_ready(server):
                server.channel.send(head, blobs, fds)
                server.used = True
                return server
        if than in fitting:
            _succeed(most, than.wanted, limits)
    except OSError:
        pass  # it has ended
    finally:
        _lock.release()
    return None


def _choose(wanted: frozenset[str], limits: dict[str, str]) -> ForkServerProcess:
    fitting = []
    for server in list(_servers):
        if server.fits(wanted, limits):
            fitting.append(server)
        elif server.limits == limits:
            # Those without pools end; the others end with their last pool.
            _retire(server)
            wanted |= server.wanted  # or two kinds of pools would take turns
    chosen: ForkServerProcess | None = None
    most = 0
    for server in sorted(fitting, key=lambda server: len(server.learned), reverse=True):
        if chosen is not None:
            _retire(server)  # it has been succeeded
        elif _is_ready(server):
            chosen = server
        most = max(most, len(server.learned))
    if chosen is None:
        chosen = _add(wanted, limits)
    _succeed(most, chosen.wanted, limits)
    return chosen


def _succeed(most: int, wanted: frozenset[str], limits: dict[str, str]) -> None:
    """Start a successor, if there is more to load than the `most` that another one has."""
    global _vain
    if len(_learned) < most + MANY or _vain >= VAIN_MAX:
        return
    from pool._errors import StartError

    try:
        _add(wanted, limits, list(_learned))
    except (OSError, StartError):
        # Nobody has asked for it.
        _learned.clear()
        _vain += 1


def _is_ready(server: ForkServerProcess) -> bool:
    """Return whether new pools may use it; a successor only when they need not wait for it."""
    if not server.learned:
        return True
    try:
        if server.is_current():
            return server.is_up()
    except OSError:
        pass
    # It has ended, or its packages would be others by now.
    global _vain
    if not server.used:
        _vain += 1
    _learned.clear()
    _retire(server)
    return False


def _add(
    wanted: frozenset[str], limits: dict[str, str], learned: Sequence[str] = ()
) -> ForkServerProcess:
    server = _start(wanted, learned, limits)
    _servers.append(server)
    return server


def _retire(server: ForkServerProcess) -> None:
    if server in _servers:
        _servers.remove(server)
    server.close()
    _unreaped[server.pid] = server
    reap()


def _start(
    wanted: frozenset[str], learned: Sequence[str], limits: dict[str, str]
) -> ForkServerProcess:
    check_not_frozen()
    ours, theirs = socket_pair()
    life, write = pipe_above_streams()
    given = [theirs.detach(), life]
    executable = interpreter()
    try:
        given.append(above_streams(_written("\n".join(learned)) if learned else -1))
        given.append(pidfd_of_this())
        tracked = _tracking.shared()
        given.append(above_streams(os.dup(tracked)) if tracked >= 0 else -1)
        control, life, names, owner, tracked = given
        # Nobody types for a worker; and the same numbers of the others in the child. Whatever it
        # opened would have the number of a stream that is closed, and get what workers print.
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        actions += [
            (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2) if is_closed(fd)
        ]
        actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in given if fd >= 0]
        pid = os.posix_spawn(
            executable,
            forkserver_argv((control, owner, life, names, tracked), sorted(wanted)),
            {**os.environ, **limits, **_hash_seed()},
            file_actions=actions,
            # A group of its own: Ctrl-C in a terminal is the parent's to answer.
            setpgroup=0,
            setsigmask=_BLOCKED_SIGNALS,
            setsigdef=_DEFAULT_SIGNALS,
        )
    except BaseException as error:
        ours.close()
        os.close(write)
        if not isinstance(error, OSError | ValueError):
            raise
        from pool._errors import StartError

        raise StartError(
            f"cannot start {executable!r} to fork workers: {error}; if this process may not "
            "run that, or Python is embedded in another program, name an interpreter by "
            '`multiprocessing.set_executable`, or use get_context("fork")'
        ) from error
    finally:
        for fd in given:
            if fd >= 0:
                os.close(fd)
    return ForkServerProcess(pid, ours, write, wanted, learned, limits)


def forkserver_argv(
    fds: tuple[int, ...], preload: Sequence[str], without: Sequence[str] = ()
) -> list[str]:
    """Return the command line of a forkserver; for its parts see `_forkserver.main`."""
    code = (
        # A tenth of loading modules would be looking for garbage, and there is none.
        "import gc, sys; gc.disable(); "
        f"sys.path[:] = {[str(entry) for entry in sys.path]!r}; "
        "from pool._workers._forkserver import main; "
        f"main({fds!r}, {list(preload)!r}, {list(without)!r})"
    )
    return [*interpreter_argv(), "-c", code]


def _hash_seed() -> dict[str, str]:
    """Return the variable by which all workers agree on `hash`; nothing if the user has set it.

    They cannot have the program's own secret. But what one task has chosen by it must be found by
    others, whichever forkserver their workers are from.
    """
    global _seed
    if os.environ.get("PYTHONHASHSEED", "random") not in ("", "random"):
        return {}
    _seed = _seed or str(int.from_bytes(os.urandom(4), sys.byteorder) or 1)
    return {"PYTHONHASHSEED": _seed}


def _written(text: str) -> int:
    """Return the descriptor of a file with a text that may be too long for a command line."""
    fd = os.memfd_create("actorpool-modules")
    os.write(fd, text.encode())
    return fd


# ---------------------------------------------------------------- ends


def leave(child: int) -> None:
    """Note a child that is ending."""
    _unreaped[child] = None


def reap(wait: bool = False) -> None:
    """Collect the exit status of children that are ending."""
    for pid in list(_unreaped):
        try:
            if os.waitpid(pid, 0 if wait else os.WNOHANG)[0]:
                _reaped(pid)
        except ChildProcessError:
            _reaped(pid)  # somebody else waited for all children


def reap_one(pid: int) -> None:
    """Wait for one child that is ending."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # somebody else waited for all children
    _reaped(pid)


def _reaped(pid: int) -> None:
    server = _unreaped.pop(pid, None)
    if server is not None:
        server.end()


def shutdown_forkservers() -> None:
    """End all forkservers of this process and wait until they have ended.

    They would end with the process anyway; tests want to see nothing left.
    """
    global _vain
    with _lock:
        _learned.clear()
        _vain = 0
        for server in list(_servers):
            _retire(server)
        reap(wait=True)


def _let_go() -> None:
    """Close the connections to the forkservers as the interpreter goes down.

    They would end anyway; but a socket that nobody closed is a ResourceWarning.
    """
    with _lock:
        for server in list(_servers):
            _retire(server)


def _forked() -> None:
    """Forget the parent's forkservers in a forked child, so that it starts its own."""
    global _lock
    _lock = _thread.allocate_lock()
    for server in _servers:
        server.forget()
        server.end()
    for ending in _unreaped.values():
        if ending is not None:
            ending.end()
    _servers.clear()
    _unreaped.clear()


# Registered before the pools' own, so called after these.
atexit.register(_let_go)
os.register_at_fork(after_in_child=_forked)
