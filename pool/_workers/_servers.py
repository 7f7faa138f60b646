"""The forkservers of this process: to start them, choose among them, and end them.

A forkserver is kept as long as its workers would be like this process: have its user, limits and
CPUs, the number of threads that each worker may have, and the modules to be loaded before the fork.

It may have a *successor*, which also loads what tasks had to import: installed packages that this
process has too, and that forks of it would have for nothing. Some packages take a second to import,
in each worker of every pool. The successor is started while pools are in use, nothing waits for it,
and later pools get their workers from it. Modules that come with Python take milliseconds, so any
forkserver loads them when the next pool is made.
"""

from __future__ import annotations

import _signal
import _thread
import atexit
import errno
import os
import sys

import store._anonymous as anonymous
from pool._transport._descriptors import (
    above_streams,
    is_closed,
    pipe_above_streams,
    without_sockets,
)
from pool._transport._pidfds import pidfd_of_this
from pool._transport._sockets import socket_pair
from pool._workers import _tracking
from pool._workers._argv import check_not_frozen, forkserver_argv, interpreter, spawn
from pool._workers._server_process import ForkServerProcess
from pool._workers._warmup import MANY, installed, is_of_python, not_before_forks
from store._children import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: After so many successors that were never used no other one is started.
VAIN_MAX = 3

#: Signals that get their default action even if the user's process ignores them: else workers would
#: not react to them, and the kernel would reap workers in place of the forkserver.
_DEFAULT_SIGNALS = [_signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGCHLD]
#: As `pool._workers._forkserver.NOT_ASKED`, while the forkserver still loads modules.
_BLOCKED_SIGNALS = [_signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2]

#: Errors that say that this process, or the machine, is short of something, and not that the
#: forkserver has ended.
_SHORT = {
    *(errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
}


_servers: list[ForkServerProcess] = []
_lock = _thread.allocate_lock()
#: Children that are ending, by pid; None for one that is a fork of this process.
_unreaped: dict[int, ForkServerProcess | None] = {}
#: Descriptors of the connections of pools that have ended, to whatever forks their last workers.
ending: set[int] = set()
#: What tasks had to import, in that order: of installed packages, and of Python's own modules.
_learned: dict[str, None] = {}
_of_python: dict[str, None] = {}
#: How many successors were never used.
_vain = 0
#: The seed of `hash` for all workers, see `_hash_seed`; empty until it is drawn.
_seed = ""


def learn(names: list[str], files: dict[str, str]) -> None:
    """Note what a worker had to import, as far as this process has imported the same files.

    Parameters
    ----------
    names : list of str
        Modules in the order of their import.
    files : dict
        By name, the files of the top-level packages of these modules.
    """
    here = {top for top, file in files.items() if installed(top) == file}
    later = not_before_forks(names)
    for name in names:
        if (top := name.partition(".")[0]) in here and name in sys.modules and name not in later:
            (_of_python if is_of_python(top) else _learned)[name] = None


def learned_of_python() -> list[str]:
    """Return the modules among what tasks imported that come with Python."""
    return list(_of_python)


def is_first() -> bool:
    """Return whether there is no forkserver yet."""
    return not _servers


def is_awaited(wanted: frozenset[str], limits: dict[str, str]) -> bool:
    """Return whether a pool would wait for a forkserver: one to be started, or that still loads.

    Parameters
    ----------
    wanted, limits
        As for `connect`.
    """
    try:
        return not any(server.fits(wanted, limits) and server.is_up() for server in _servers)
    except OSError:
        return False  # it has ended; who wants it finds out


def descriptors() -> set[int]:
    """Return the descriptors of connections to forkservers, but for those of pools in use."""
    found = {*ending, *(server.channel.fileno() for server in _servers)}
    return found.union(server.life for server in _servers)


def prepare(wanted: frozenset[str], limits: dict[str, str], ahead: bool) -> None:
    """Start a forkserver, without waiting for it: the first one, or `ahead`.

    Parameters
    ----------
    wanted, limits
        As for `connect`.
    ahead : bool
        For pools to come, which do without it as long as it loads its modules.
    """
    with _lock:
        there = [server for server in _servers if not ahead or server.fits(wanted, limits)]
        if not there:
            _add(wanted, limits, ahead=ahead)


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
        Environment variables that limit threads.
    head, blobs, fds
        The message, see `pool._transport._channel.Channel.send`.

    Raises
    ------
    StartError
        If no forkserver can be started.
    """
    with _lock:
        for attempt in (1, 2):
            server = _choose(wanted, limits)
            try:
                server.channel.send(head, blobs, fds)
            except OSError as error:
                if error.errno in _SHORT:
                    raise
                _retire(server)  # it has been killed
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
    """Send the message to a forkserver that has loaded more than `than`; None if there is none.

    Called for a pool that has a forkserver anyway: never waits, and errors do not reach the pool.
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
        pass  # the better one has ended
    finally:
        _lock.release()
    return None


def _choose(wanted: frozenset[str], limits: dict[str, str]) -> ForkServerProcess:
    """Return the forkserver for a new pool: the one that has loaded most, or a new one."""
    fitting = []
    for server in list(_servers):
        if server.fits(wanted, limits):
            fitting.append(server)
        elif server.limits == limits:
            # It ends with its last pool, or now if it has none.
            _retire(server)
            wanted |= server.wanted  # else two kinds of pools would replace each other's forkserver
    chosen: ForkServerProcess | None = None
    most = 0
    for server in sorted(fitting, key=lambda server: len(server.learned), reverse=True):
        if chosen is not None:
            _retire(server)  # its successor is ready
        elif _is_ready(server):
            chosen = server
        most = max(most, len(server.learned))
    if chosen is None:
        chosen = _add(wanted, limits)
    _succeed(most, chosen.wanted, limits)
    return chosen


def _succeed(most: int, wanted: frozenset[str], limits: dict[str, str]) -> None:
    """Start a successor if tasks have imported many modules more than the `most` loaded by one."""
    global _vain
    if len(_learned) < most + MANY or _vain >= VAIN_MAX:
        return
    from pool._errors import StartError

    try:
        _add(wanted, limits, list(_learned), ahead=True)
    except (OSError, StartError):
        # No error: no pool has asked for it.
        _learned.clear()
        _vain += 1


def _is_ready(server: ForkServerProcess) -> bool:
    """Return whether a new pool may use a forkserver; a successor only once its modules are loaded.

    Retires a successor that has ended, or whose packages would be others by now.
    """
    if not server.learned:
        return True
    try:
        if server.is_current():
            return server.is_up()
    except OSError:
        pass
    global _vain
    if not server.used:
        _vain += 1
    _learned.clear()
    _retire(server)
    return False


def _add(
    wanted: frozenset[str],
    limits: dict[str, str],
    learned: Sequence[str] = (),
    ahead: bool = False,
) -> ForkServerProcess:
    server = _start(wanted, learned, limits, ahead)
    _servers.append(server)
    return server


def _retire(server: ForkServerProcess) -> None:
    """Use a forkserver for no other pool, and collect its exit status when it has ended."""
    if server in _servers:
        _servers.remove(server)
    server.close()
    _unreaped[server.pid] = server
    reap()


def _start(
    wanted: frozenset[str], learned: Sequence[str], limits: dict[str, str], ahead: bool
) -> ForkServerProcess:
    check_not_frozen()
    executable = interpreter()
    given: list[int] = []
    closes: list[Callable[[], object]] = []  # of what this process keeps, should this fail
    try:
        ours, theirs = socket_pair()
        given.append(theirs.detach())
        closes.append(ours.close)
        life, write = pipe_above_streams()
        given.append(life)
        closes.append(lambda: os.close(write))
        given.append(above_streams(_written("\n".join(learned)) if ahead else -1))
        given.append(pidfd_of_this())
        tracked = _tracking.shared()
        given.append(above_streams(os.dup(tracked)) if tracked >= 0 else -1)
        control, life, names, owner, tracked = given
        # Standard input is empty. Streams that are closed here are opened: else the first files of
        # the child would get their numbers, and what workers print. A dup2 to the same number makes
        # a descriptor inheritable.
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        shut = [fd for fd in (1, 2) if is_closed(fd)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in shut]
        actions += without_sockets()
        actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in given if fd >= 0]
        pid = spawn(
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
        for close in closes:
            close()
        if isinstance(error, OSError | ValueError):
            raise _start_error(executable, error) from error
        raise
    finally:
        for fd in given:
            if fd >= 0:
                os.close(fd)
    return ForkServerProcess(pid, ours, write, wanted, learned, limits, ahead)


def _start_error(executable: str, error: OSError | ValueError) -> Exception:
    from pool._errors import SHORTAGES, StartError

    number: int | None = getattr(error, "errno", None)
    usual = SHORTAGES.get(
        number,
        "if this process may not run that, or Python is embedded in another program, name an "
        'interpreter by `multiprocessing.set_executable`, or use get_context("fork")',
    )
    return StartError(f"cannot start {executable!r} to fork workers: {error}; {usual}", number)


def _hash_seed() -> dict[str, str]:
    """Return the variable by which all workers agree on `hash`; nothing if the user has set it.

    The program's own seed cannot be known. But if a task chooses a place by `hash`, tasks in other
    workers must find the same place, whichever forkserver these workers are from.
    """
    global _seed
    if os.environ.get("PYTHONHASHSEED", "random") not in ("", "random"):
        return {}
    _seed = _seed or str(int.from_bytes(os.urandom(4), sys.byteorder) or 1)
    return {"PYTHONHASHSEED": _seed}


def _written(text: str) -> int:
    """Return the descriptor of a file with `text`, which may be too long for a command line."""
    fd = anonymous.create("actorpool-modules")
    os.write(fd, text.encode())
    return fd


# ---------------------------------------------------------------- ends


def leave(child: int) -> None:
    """Note that a child is ending, whose exit status is to be collected."""
    _unreaped[child] = None


def reap(wait: bool = False) -> None:
    """Collect the exit status of children that are ending."""
    for pid in list(_unreaped):
        try:
            if os.waitpid(pid, 0 if wait else os.WNOHANG)[0]:
                _reaped(pid)
        except ChildProcessError:
            _reaped(pid)  # the program has waited for all its children


def reap_one(pid: int) -> None:
    """Wait for one child that is ending."""
    if pid not in _unreaped:
        return  # it has been reaped: by now another child of the program may have that number
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # the program has waited for all its children
    _reaped(pid)


def _reaped(pid: int) -> None:
    server = _unreaped.pop(pid, None)
    if server is not None:
        server.end()


def shutdown_forkservers() -> None:
    """End all forkservers of this process and wait until they have ended.

    They end with the process anyway; this is for tests, which look for what is left.
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

    They end with the process anyway; but a socket that was not closed is a ResourceWarning.
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
    for server in filter(None, _unreaped.values()):
        server.end()
    _servers.clear()
    _unreaped.clear()
    ending.clear()


# Registered before that of the engines, and so called after it.
atexit.register(_let_go)
in_child(_forked)
