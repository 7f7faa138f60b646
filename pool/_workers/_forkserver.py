"""The process that forks workers.

Started by exec and never by forking the user's program, it holds no user code and one
thread; a fork of it takes a fraction of a millisecond however large the user's process
is. The ``fork`` start method runs the same loop in one fork of the user's process, whose
workers then inherit everything.

Guarantees
----------
* It is the parent of all workers, so it alone reaps them: a signal asked for by a pool
  never hits a process that merely got the same pid.
* When a pool goes away (its socket closes), its workers end.
* When the user's process dies, by whatever death, all workers end, and the forkserver too. It
  polls a pidfd, which unlike ``PR_SET_PDEATHSIG`` does not depend on a thread.
* When it is killed itself, the kernel kills its workers: see `pool._workers._lifeline`.

Messages (see `pool._transport._messages` for the style)
    user -> forkserver: ``(CONNECT, settings, prefix, buffers, streams)`` with the initializer's
    payload; `buffers` is how many it has, None if there is no initializer, or AWAITED. With
    descriptors: the new client's socket, its journal, and stdout (1) and stderr (2) as far as
    `streams` lists them, which are open.
    client -> forkserver: ``(LAUNCH, ((worker_id, slot, number), ...))`` with a descriptor for each
    worker, its end of its socket; ``(SIGNAL, worker_id, number)``; ``(PIDS,)``: which processes the
    client's workers are.
    forkserver -> user: ``(UP,)`` from a successor (see `pool._workers._servers`), when its
    modules are loaded.
    forkserver -> client: ``(EXITED, ((worker_id, wait status, pid), ...))``, where a status below 0
    is minus the number of the system's error that kept the worker from being forked;
    ``(PIDS, ((worker_id, pid), ...))``, when all workers that were asked for are forked.
"""

from __future__ import annotations

import _signal
import errno
import gc
import os
import select
import sys
from _socket import MSG_DONTWAIT

from pool._clock import monotonic
from pool._transport._channel import BUFFER_NBYTES, Channel, DescriptorsLost
from pool._transport._messages import CONNECT, EXITED, LAUNCH, PIDS, SIGNAL, UP
from pool._transport._sockets import socket_from
from pool._workers import _boot, _tracking
from pool._workers._carried import not_set_here
from pool._workers._clients import EXIT_GRACE, TERM_GRACE, Client
from pool._workers._forking import fork
from pool._workers._heap import keep_freed
from pool._workers._lifeline import Lifeline, tie
from pool._workers._settings import apply_common
from pool._workers._warmup import load, load_missing, load_next

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

#: Signals that a service manager or a batch scheduler may send to all processes of a program at
#: once. The forkserver blocks them: the program and each worker decide how to answer, and this
#: process ends when the program does.
NOT_ASKED = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2)

#: Forks for one pool between two looks at the sockets: a pool that is closed right after it was
#: made must not wait for workers that it no longer needs.
FORKS_AT_ONCE = 2


class ForkServer:
    """Fork workers for any number of pools of one user process.

    Parameters
    ----------
    control : Channel, optional
        Pools connect over it. None in a fork of the user's process, which serves one pool only.
    owner : int
        pidfd of the user's process; -1 if the system has none.
    """

    def __init__(self, control: Channel | None, owner: int) -> None:
        self.control = control
        self.owner = owner
        self.clients: dict[int, Client] = {}
        #: By pid, the pool and the worker_id of each worker.
        self.children: dict[int, tuple[Client, int]] = {}
        self.lifeline = Lifeline()
        #: The earliest deadline of a client.
        self.deadline: float | None = None
        #: Signals that workers are to block, as the program does of which this is a fork.
        self._blocked: set[int] = set()
        #: Whether workers are to collect garbage: unless this is a fork of a program that does not.
        #: A process started by exec has it off only while it loads modules, see `forkserver_argv`.
        self._collects = control is not None or gc.isenabled()
        #: The seed of `hash` that spawned workers get too; the program's environment may have none.
        self._seed = os.environb.get(b"PYTHONHASHSEED", b"random")
        self._cpus = os.cpu_count() or 1
        #: The settings of the pool whose environment this process has.
        self._applied: dict[str, Any] | None = None
        #: What every worker receives into. Workers inherit it, so that it costs each one only the
        #: pages that it writes to.
        self._buffer = bytearray(BUFFER_NBYTES)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poll = select.poll()
        for fd in (self._wake_read, owner, -1 if control is None else control.fileno()):
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)

    # ------------------------------------------------------------------ the loop

    def run(self) -> NoReturn:
        """Serve until the user's process or every pool is gone."""
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
        _signal.signal(_signal.SIGCHLD, _nothing)
        # Workers are in the background of a terminal. A task that reads from it, or a program that
        # a task runs, gets an error: by default it would be stopped, and never continued.
        for number in (_signal.SIGTTIN, _signal.SIGTTOU):
            _signal.signal(number, _signal.SIG_IGN)
        _signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        # Blocked, not ignored: a signal to a worker that is just being forked would be lost.
        blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, NOT_ASKED)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGCHLD])
        if self.control is None:
            self._blocked = blocked
        keep_freed()
        # Without this the collector in a worker writes to all objects, and so copies shared pages.
        # It is not run before: that took 45 ms with pandas loaded, and freed next to nothing.
        gc.freeze()
        gc.disable()
        while self.control is not None or self.clients or self.children:
            self._step()
        os._exit(0)

    def _step(self) -> None:
        for fd, event in self._poll.poll(self._patience()):
            if fd == self._wake_read:
                os.read(fd, 65536)
            elif fd == self.owner:
                self._end()
            elif self.control is not None and fd == self.control.fileno():
                self._on_control()
            elif fd in self.clients and event & ~select.POLLOUT:
                # POLLOUT alone means room for notices, see `_notify`: there is nothing to receive.
                self._on_client(self.clients[fd])
        self._reap()
        self._fork_some()
        if self.deadline is not None and monotonic() >= self.deadline:
            self._end_stubborn()

    def _end_stubborn(self) -> None:
        """End the workers of vanished pools that have not ended by themselves in time."""
        now = monotonic()
        self.deadline = None
        for client in {client for client, _ in self.children.values()}:
            if client.deadline is not None and client.deadline <= now:
                client.end_stubborn(now)
            if client.deadline is not None:
                self.deadline = min(client.deadline, self.deadline or client.deadline)

    def _patience(self) -> int | None:
        """Return for how many milliseconds the next poll may sleep; None: without a limit."""
        if any(client.waiting for client in self.clients.values()):
            return 0
        if self.deadline is None:
            return None
        return max(0, int((self.deadline - monotonic()) * 1000) + 1)

    def _end(self) -> NoReturn:
        """End this process and all workers: the user's process is dead."""
        for pid in self.children:
            os.kill(pid, _signal.SIGTERM)
        deadline = monotonic() + TERM_GRACE
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        while self.children and (left := deadline - monotonic()) > 0:
            if poll.poll(left * 1000):
                os.read(self._wake_read, 65536)
            self._reap()
        for pid in self.children:
            os.kill(pid, _signal.SIGKILL)
        os._exit(0)

    # ------------------------------------------------------------------ messages

    def _on_control(self) -> None:
        assert self.control is not None
        try:
            head, blobs, fds = self.control.receive_fds()
        except (EOFError, ConnectionError):
            self._poll.unregister(self.control.fileno())
            self.control.close()
            self.control = None
            return
        except DescriptorsLost:
            return  # the socket of the new client is lost too, which its pool notices
        assert head[0] == CONNECT
        _, settings, prefix, buffers, streams = head
        client = Client(Channel(socket_from(fds[0])), settings, prefix)
        if prefix == "ForkServer":
            # Loaded once here, not in each worker on pages of its own; in the program's
            # environment, which modules may look at as they are loaded.
            self._prepare(settings)
            load_missing(settings["learned"])
            client.foreseen = settings["foreseen"]
            if settings["carried"]:
                settings["carried"] = not_set_here(settings["carried"])
            if settings["variables"]:
                __import__("pool._workers._variables._restored")  # which each worker will need
        given = dict(zip(streams, fds[2:], strict=True))
        client.fds = [fds[1], given.get(1, -1), given.get(2, -1)]
        client.payload = (blobs[0], blobs[1:]) if blobs else buffers
        self.add(client)

    def add(self, client: Client) -> None:
        """Serve one more pool."""
        fd = client.channel.fileno()
        self.clients[fd] = client
        self._poll.register(fd, select.POLLIN)

    def _on_client(self, client: Client) -> None:
        try:
            head, _, fds = client.channel.receive_fds()
        except (EOFError, ConnectionError):
            self._drop(client)
            return
        except DescriptorsLost as lost:
            if lost.head is not None and lost.head[0] == LAUNCH:
                client.notices += [(worker_id, -errno.EMFILE, 0) for worker_id, *_ in lost.head[1]]
                self._notify(client)
            return
        if head[0] == LAUNCH:
            for names, fd in zip(head[1], fds, strict=True):
                client.waiting.append((*names, fd))
        elif head[0] == SIGNAL:
            _, worker_id, number = head
            pid = client.pids.get(worker_id)
            if pid is not None:
                os.kill(pid, number)
            elif number in (_signal.SIGKILL, _signal.SIGTERM):
                self._forget_waiting(client, worker_id, number)
        elif head[0] == PIDS:
            client.asks = True

    def _forget_waiting(self, client: Client, worker_id: int, number: int) -> None:
        """Forget a worker that is to be ended by a signal and was not even forked."""
        for entry in client.waiting:
            if entry[0] == worker_id:
                client.waiting.remove(entry)
                os.close(entry[-1])
                client.notices.append((worker_id, number, 0))
                self._notify(client)
                return

    def _drop(self, client: Client) -> None:
        """See to it that the workers of a pool that is gone end.

        They end by themselves if they are idle: their sockets are closed.
        """
        fd = client.channel.fileno()
        self._poll.unregister(fd)
        del self.clients[fd]
        client.gone = True
        for worker in client.waiting:
            os.close(worker[-1])
        client.waiting.clear()
        for owned in client.fds:
            if owned >= 0:
                os.close(owned)
        if client.pids:
            client.deadline = monotonic() + EXIT_GRACE
            self.deadline = min(client.deadline, self.deadline or client.deadline)
        else:
            client.part()

    # ------------------------------------------------------------------ children

    def _reap(self) -> None:
        """Collect the exit status of workers that have ended, and tell their pools."""
        told = []
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid not in self.children:
                continue
            client, worker_id = self.children.pop(pid)
            del client.pids[worker_id]
            client.notices.append((worker_id, status, pid))
            told.append(client)
            if client.gone and not client.pids:
                client.part()  # its `join` may be waiting for that
        for client in told:
            self._notify(client)

    def _notify(self, client: Client) -> None:
        """Send a pool the ends, and the pids, that it is to be told of; never wait."""
        if client.gone:
            return
        try:
            if client.notices:
                client.channel.send((EXITED, tuple(client.notices)), flags=MSG_DONTWAIT)
                client.notices.clear()
            if client.asks and not client.waiting:
                pids = tuple(client.pids.items())
                client.channel.send((PIDS, pids), flags=MSG_DONTWAIT)
                client.asks = False
        except BlockingIOError:
            # The socket is full. When there is room, `_fork_some` tries again.
            self._poll.modify(client.channel.fileno(), select.POLLIN | select.POLLOUT)
            return
        except OSError:
            return  # the pool is gone, which the poll will tell
        self._poll.modify(client.channel.fileno(), select.POLLIN)

    def _fork_some(self) -> None:
        """Fork a few of the workers that are waited for."""
        for client in list(self.clients.values()):
            for _ in range(min(FORKS_AT_ONCE, len(client.waiting))):
                # When each CPU has a worker, the next one need not begin at once. So modules that
                # it and later ones would import, each by itself, are loaded here before.
                if client.forks >= self._cpus and self._load_next(client):
                    break
                self._fork(client, *client.waiting.pop(0))
            if client.notices or client.asks:
                self._notify(client)

    def _load_next(self, client: Client) -> bool:
        if not client.foreseen:
            return False
        self._prepare(client.settings)
        return load_next(client.foreseen)

    def _fork(self, client: Client, worker_id: int, slot: int, number: int, fd: int) -> None:
        try:
            self.lifeline.prepare()
            if client.prefix == "ForkServer":
                self._prepare(client.settings)
            elif client.settings.get("alike"):
                _reseed()
            pid = fork()
        except Exception as error:
            self.lifeline.discard()
            # Mostly the limit of processes, or memory. Only this worker is reported as ended.
            os.close(fd)
            number = getattr(error, "errno", None) or errno.ENOMEM
            client.notices.append((worker_id, -number, 0))
            self._notify(client)
            return
        if pid:
            self.lifeline.discard()
            os.close(fd)
            client.pids[worker_id] = pid
            client.forks += 1
            self.children[pid] = (client, worker_id)
            return
        try:
            self._become_worker(client, slot, number, fd)
        finally:
            os._exit(70)

    def _prepare(self, settings: dict[str, Any]) -> None:
        """Set here what the next worker would set on pages of its own, at a higher cost."""
        if settings is not self._applied:
            self._applied = None  # in case `apply_common` raises half-way
            apply_common(settings)
            self._applied = settings
        _reseed()

    def _become_worker(self, client: Client, slot: int, number: int, fd: int) -> None:
        """Turn this process, which was just forked, into a worker; never return."""
        _signal.set_wakeup_fd(-1)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._blocked)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        self.lifeline.hold()
        mine = {fd, *client.fds}
        others = [self._wake_read, self._wake_write, self.owner, *self.clients]
        others += [-1 if self.control is None else self.control.fileno()]
        # Also of pools that are gone: their sockets stay open until their last worker has ended.
        others += [gone.channel.fileno() for gone, _ in self.children.values()]
        for other in self.clients.values():
            others += [entry[-1] for entry in other.waiting]
            others += other.fds
        for other_fd in set(others):
            if other_fd >= 0 and other_fd not in mine:
                os.close(other_fd)
        if self._collects:
            gc.enable()
        if client.prefix == "Spawn":
            from pool._workers._spawned import exec_worker

            tracked = _tracking.shared()
            exec_worker(
                number, slot, fd, client.fds, client.settings, client.payload,
                self.lifeline.held, tracked, self._seed,
            )  # fmt: skip
        _boot.become_worker(
            number, slot, fd, client.fds, client.settings, client.prefix, client.payload,
            self._buffer,
        )  # fmt: skip


def _reseed() -> None:
    """Have the next worker draw other numbers from numpy than the others.

    Python sees to that for `random`; of numpy all forks would draw the same (numpy/numpy#9650).
    """
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _nothing(signum: int, frame: object) -> None:
    """Exist, so that the signal writes to the wake-up pipe."""


def main(fds: tuple[int, ...], preload: Sequence[str], without: Sequence[str] = ()) -> NoReturn:
    """Run a forkserver that was started by exec.

    Parameters
    ----------
    fds : tuple of int
        Descriptors; -1 stands for one that there is not.

        * The control socket.
        * A pidfd of the user's process, or -1.
        * The read end of a pipe of which the user's process has the other end. If that closes
          while modules are loaded, when this process cannot look at its sockets, it is killed.
        * A file with the names of more modules, which the user's process is told when they are
          loaded; or -1.
        * The write end of the pipe to the program's resource tracker, or -1.
    preload : sequence of str
        Modules to import before the first fork.
    without : sequence of str
        Packages not to import. A package whose import starts a thread that a fork does not end
        makes this process unfit for forking: then it executes itself again, without that package.
    """
    _boot.serves = True
    control, owner, life, more, tracked = fds
    tied = tie(life)
    _tracking.adopt(tracked)
    # Arrow's allocator starts a thread when it is loaded, with pandas for example, unless told
    # not to. Workers have the program's environment, not this one.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    names = [*preload, *_read_names(more)]
    unfit = load([name for name in names if name.partition(".")[0] not in without])
    if unfit:
        from pool._workers._argv import forkserver_argv

        for fd in fds:
            if fd >= 0:
                os.set_inheritable(fd, True)
        os.execv(sys.executable, forkserver_argv(fds, preload, [*without, unfit]))
    for fd in (life, more, tied):
        if fd >= 0:
            os.close(fd)
    for fd in (control, owner, tracked):
        if fd >= 0:
            os.set_inheritable(fd, False)
    channel = Channel(socket_from(control))
    if more >= 0:
        try:
            channel.send((UP,))
        except OSError:
            pass  # the user's process is gone, which `run` will notice
    # The file system of the program's directory could not be unmounted while this process is there.
    os.chdir("/")
    ForkServer(channel, owner).run()


def _read_names(fd: int) -> list[str]:
    """Return the names of modules in a file, one a line; none if the descriptor is -1."""
    return [] if fd < 0 else os.pread(fd, os.fstat(fd).st_size, 0).decode().split()
