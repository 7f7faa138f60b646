"""The parent's side of the forkservers: start them, keep them, ask them for workers."""

from __future__ import annotations

import _socket
import _thread
import atexit
import os
import sys

from pool._transport._channel import FDS_MAX, Channel, socket_pair
from pool._transport._messages import AWAITED, CONNECT, LAUNCH, SIGNAL
from pool._workers import _carried
from pool._workers._settings import capture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: Modules that take long to import and are safe to have before a fork. The forkserver
#: imports those that the user's process has.
HEAVY = ("numpy", "pandas")


class _ForkServerProcess:
    """One running forkserver."""

    def __init__(self, pid: int, channel: Channel, preload: frozenset[str], limits: Any) -> None:
        self.pid = pid
        self.channel = channel
        self.preload = preload
        self.limits = limits
        #: What it has inherited.
        self.standing = _standing()
        self.rlimits = _rlimits()

    def fits(self, preload: frozenset[str], limits: Any) -> bool:
        """Return whether its workers would be as this process is now."""
        return (
            self.preload >= preload
            and self.limits == limits
            and self.standing == _standing()
            # Whoever has not imported this has not changed them.
            and ("resource" not in sys.modules or self.rlimits == _rlimits())
        )


_servers: list[_ForkServerProcess] = []
_lock = _thread.allocate_lock()
_unreaped: set[int] = set()


class Launcher:
    """Start, signal and lose the workers of one pool.

    Parameters
    ----------
    channel : Channel
        To the forkserver, as a client of it.
    child : int, optional
        pid of a forkserver that serves this pool alone.
    """

    def __init__(self, channel: Channel, child: int | None = None) -> None:
        self.channel = channel
        self._child = child

    def launch(self, workers: Sequence[tuple[int, int, int]]) -> None:
        """Fork workers, each one given by (worker_id, journal slot, socket)."""
        for start in range(0, len(workers), FDS_MAX):
            part = workers[start : start + FDS_MAX]
            names = tuple((worker_id, slot) for worker_id, slot, _ in part)
            self.channel.send((LAUNCH, names), fds=[fd for *_, fd in part])

    def signal(self, worker_id: int, number: int) -> None:
        """Send a signal to a worker, unless it has ended."""
        self.channel.send((SIGNAL, worker_id, number))

    def close(self) -> None:
        """End all workers of the pool: SIGTERM now, SIGKILL soon after."""
        try:
            # Only our direction: the forkserver closes the other one when the last
            # worker is gone, see `wait`.
            self.channel.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            pass  # the forkserver is gone, and the workers with it
        if self._child is not None:
            _unreaped.add(self._child)
        reap()

    def wait(self) -> None:
        """Wait until all workers have ended, after `close`."""
        try:
            while True:
                self.channel.receive()
        except (EOFError, OSError):
            self.channel.close()
        if self._child is not None:
            child, self._child = self._child, None
            reap_one(child)

    def __del__(self) -> None:
        # Nobody joined the pool after terminate: what is left of the connection goes now.
        self.channel.close()

    def forked(self) -> None:
        """Close a forked child's copy; the workers are the parent's."""
        self.channel.close()


def start_forkserver(limits: dict[str, str], preload: Sequence[str]) -> None:
    """Start the forkserver that `connect` will want, without waiting for it.

    Where there is one, `connect` finds out whether it will do.
    """
    with _lock:
        if not _servers:
            _server(_wanted(preload, _carried.changes()), limits)


def connect(
    method: str,
    payload: Any,
    journal: int,
    limits: dict[str, str],
    preload: Sequence[str] = (),
    pool: int = 0,
) -> Launcher:
    """Become a client of a forkserver, which is started if need be.

    Parameters
    ----------
    method : {"forkserver", "spawn"}
    payload : Encoded, None or AWAITED
        Initializer and its arguments.
    journal : int
        Descriptor of the journal file.
    limits : dict
        Environment variables that limit threads.
    preload : sequence of str
        Modules that the user asked to be preloaded.
    pool : int
        What tells this pool from others of this process.
    """
    ours, theirs = socket_pair()
    settings = capture(limits, pool)
    prefix = "ForkServer" if method == "forkserver" else "Spawn"
    blobs: Sequence[Any] = ()
    buffers = payload
    if payload is not None and payload != AWAITED:
        blobs = (payload.data, *payload.buffers)
        buffers = len(payload.buffers)
    # Descriptors of streams that a daemon has closed are left as they are.
    fds = [theirs.fileno(), journal, *(fd for fd in (1, 2) if _is_open(fd))]
    head = (CONNECT, settings, prefix, buffers)
    wanted = _wanted(preload, settings["carried"])
    with _lock:
        for attempt in (1, 2):
            server = _server(wanted, limits)
            try:
                server.channel.send(head, blobs, fds)
                break
            except OSError:
                _retire(server)  # it was killed since
                if attempt == 2:
                    raise
    theirs.close()
    return Launcher(Channel(ours))


def fork(
    run_initializer: Callable[[], object] | None,
    journal: int,
    limits: dict[str, str],
    pool: int = 0,
) -> Launcher:
    """Fork this process into a forkserver whose workers inherit everything.

    Parameters
    ----------
    run_initializer : callable, optional
        Called in each worker.
    """
    from pool._workers._inherited import fork_template

    ours, theirs = socket_pair()
    child = fork_template(
        theirs, ours, capture(limits, pool, inherited=True), run_initializer, journal
    )
    theirs.close()
    return Launcher(Channel(ours), child)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _wanted(preload: Sequence[str], carried: dict[str, Any]) -> frozenset[str]:
    """Return the modules that are to be loaded before workers are forked."""
    heavy = [name for name in HEAVY if name in sys.modules]
    return _carried.modules(carried).union(preload, heavy)


def _server(wanted: frozenset[str], limits: dict[str, str]) -> _ForkServerProcess:
    """Return a forkserver that has imported `wanted`."""
    for server in _servers:
        if server.fits(wanted, limits):
            return server
    # Those without clients end; the others end with their last client.
    for server in list(_servers):
        if server.limits == limits:
            _retire(server)
    server = _start(wanted, limits)
    _servers.append(server)
    return server


def _standing() -> tuple[Any, ...]:
    """Return what a process inherits by exec and may change: who it is, and where it runs.

    A program that has given up its privileges must not get workers that still have them.
    """
    return (
        os.getresuid() if hasattr(os, "getresuid") else os.getuid(),
        os.getresgid() if hasattr(os, "getresgid") else os.getgid(),
        os.getgroups(),
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        os.getpriority(os.PRIO_PROCESS, 0),
    )


def _rlimits() -> bytes:
    try:
        with open("/proc/self/limits", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _retire(server: _ForkServerProcess) -> None:
    if server in _servers:
        _servers.remove(server)
    server.channel.close()
    _unreaped.add(server.pid)
    reap()


def reap(wait: bool = False) -> None:
    """Collect the exit status of forkservers that have ended."""
    for pid in list(_unreaped):
        try:
            if os.waitpid(pid, 0 if wait else os.WNOHANG)[0]:
                _unreaped.discard(pid)
        except ChildProcessError:
            _unreaped.discard(pid)  # somebody else waited for all children


def reap_one(pid: int) -> None:
    """Wait for one child that is ending."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # somebody else waited for all children
    _unreaped.discard(pid)


def shutdown_forkservers() -> None:
    """End all forkservers of this process and wait until they have ended.

    They would end with the process anyway; tests want to see nothing left.
    """
    with _lock:
        for server in list(_servers):
            _retire(server)
        reap(wait=True)


def _start(preload: frozenset[str], limits: dict[str, str]) -> _ForkServerProcess:
    ours, theirs = socket_pair()
    control = _above_streams(theirs.detach())
    try:
        owner = os.pidfd_open(os.getpid()) if hasattr(os, "pidfd_open") else -1
    except BaseException:
        os.close(control)
        raise
    owner = _above_streams(owner)
    # Nobody types for a worker; and the same numbers of the others in the child.
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (control, owner) if fd >= 0]
    executable = interpreter()
    try:
        pid = os.posix_spawn(
            executable,
            forkserver_argv(control, owner, sorted(preload)),
            {**os.environ, **limits},
            file_actions=actions,
            # A group of its own: Ctrl-C in a terminal is the parent's to answer.
            setpgroup=0,
            setsigmask=[],
            setsigdef=_DEFAULT_SIGNALS,
        )
    except (OSError, ValueError) as error:
        ours.close()
        from pool._errors import StartError

        raise StartError(
            f"cannot start {executable!r} to fork workers: {error}; if this process may not "
            "run that, or Python is embedded in another program, name an interpreter by "
            '`multiprocessing.set_executable`, or use get_context("fork")'
        ) from error
    finally:
        for fd in (control, owner):
            if fd >= 0:
                os.close(fd)
    return _ForkServerProcess(pid, Channel(ours), preload, limits)


def _above_streams(fd: int) -> int:
    """Return a descriptor that is none of the standard streams', in place of `fd`.

    It is one of theirs if the program has closed them, as daemons do.
    """
    if not 0 <= fd <= 2:
        return fd
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def forkserver_argv(control: int, owner: int, preload: Sequence[str]) -> list[str]:
    """Return the command line of a forkserver."""
    code = (
        f"import sys; sys.path[:] = {[str(entry) for entry in sys.path]!r}; "
        f"from pool._workers._forkserver import main; main({control}, {owner}, {list(preload)!r})"
    )
    return [*interpreter_argv(), "-c", code]


def interpreter_argv() -> list[str]:
    """Return this interpreter and the options it was started with."""
    # Most programs run without options; do not import subprocess (10 ms) to learn that.
    if len(sys.orig_argv) > 1 and sys.orig_argv[1].startswith("-") and sys.orig_argv[1] != "-c":
        from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # as `multiprocessing` does

        return [interpreter(), *_args_from_interpreter_flags()]
    return [interpreter()]


def interpreter() -> str:
    """Return the path of this interpreter, or of the one that the user named."""
    spawn = sys.modules.get("multiprocessing.spawn")
    named = None if spawn is None else spawn.get_executable()
    return os.fsdecode(named or sys.executable or "")


def _let_go() -> None:
    """Close the connections to the forkservers as the interpreter goes down.

    They would end anyway; but a socket that nobody closed is a ResourceWarning.
    """
    with _lock:
        for server in list(_servers):
            _retire(server)


#: SIGINT, SIGQUIT, SIGTERM: a user's process that ignores them must not make workers deaf.
_DEFAULT_SIGNALS = [2, 3, 15]


def _forked() -> None:
    """Forget the parent's forkservers in a forked child, so that it starts its own."""
    global _lock
    _lock = _thread.allocate_lock()
    for server in _servers:
        server.channel.close()
    _servers.clear()
    _unreaped.clear()


# Registered before the pools' own, so called after these.
atexit.register(_let_go)
os.register_at_fork(after_in_child=_forked)
