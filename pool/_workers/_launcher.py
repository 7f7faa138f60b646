"""The parent's connection to the forkserver of one pool: to start, signal and end its workers."""

from __future__ import annotations

import _socket
from itertools import count

from pool._transport._channel import FDS_MAX, Channel
from pool._transport._descriptors import is_closed
from pool._transport._messages import AWAITED, CONNECT, LAUNCH, PIDS, SIGNAL
from pool._transport._sockets import socket_pair
from pool._workers import _servers, _tracking
from pool._workers._early import wanted
from pool._workers._settings import capture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


#: As in `multiprocessing`, no two workers of a program have the same number, of whatever pools: it
#: may choose a port by that, or a file to write to.
_numbers = count(1)


class Launcher:
    """Have a forkserver start, signal and end the workers of one pool.

    Parameters
    ----------
    channel : Channel
        To the forkserver, of which this is a client.
    child : int, optional
        pid of the forkserver, if it is a fork of the program that serves this pool alone.
    connection : Connection, optional
        What the forkserver was told, if it is one that serves any pool.
    """

    def __init__(
        self, channel: Channel, child: int | None = None, connection: Connection | None = None
    ) -> None:
        self.channel = channel
        self._child = child
        self._connection = connection
        #: The channel's descriptor once this was closed, for `_servers.ending`. Asked then: garbage
        #: collection may close the socket before it comes here. 0 before that.
        self._ending = 0

    def successor(self) -> Launcher | None:
        """Return a launcher for this pool at a forkserver that has loaded more, if there is one."""
        return None if self._connection is None else self._connection.make(better=True)

    def again(self) -> Launcher | None:
        """Return a launcher for this pool at another forkserver, since that of this one was killed.

        Its workers take over the same settings as the first ones, whatever the program has changed
        since. None if the forkserver was a fork of the program: the caller has to fork it anew.
        """
        return None if self._connection is None else self._connection.make()

    def forget(self) -> None:
        """Drop what a forkserver was told of the pool, which has ended: no other one will be."""
        self._connection = None

    def launch(self, workers: Sequence[tuple[int, int, int]]) -> None:
        """Have workers forked, each given by (worker_id, slot, descriptor of its socket)."""
        for start in range(0, len(workers), FDS_MAX):
            part = workers[start : start + FDS_MAX]
            names = tuple((worker_id, slot, next(_numbers)) for worker_id, slot, _ in part)
            self.channel.send((LAUNCH, names), fds=[fd for *_, fd in part])

    def signal(self, worker_id: int, number: int) -> None:
        """Send a signal to a worker, unless it has ended."""
        self.channel.send((SIGNAL, worker_id, number))

    def ask_pids(self) -> None:
        """Have the forkserver send the pids of the workers."""
        self.channel.send((PIDS,))

    def close(self) -> None:
        """End all workers of the pool: SIGTERM now, SIGKILL soon after."""
        try:
            # Only this direction: the forkserver closes the other one when the last worker has
            # ended, see `wait`.
            self.channel.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            pass  # the forkserver is gone, and the workers with it
        self._ending = self.channel.fileno()
        _servers.ending.add(self._ending)
        if self._child is not None:
            _servers.leave(self._child)
        _servers.reap()

    def wait(self) -> None:
        """Wait until all workers have ended, after `close`."""
        # Only the end is waited for, and what comes before it is not read as messages: several
        # threads may join a pool, and would receive into the same buffer.
        try:
            while self.channel.socket.recv(1):
                pass
        except OSError:
            pass  # it has ended, or another thread has let go of it
        self._let_go()
        if self._child is not None:
            child, self._child = self._child, None
            _servers.reap_one(child)

    def __del__(self) -> None:
        # The pool was terminated and not joined: the other direction is still open.
        self._let_go()

    def _let_go(self, _ending: set[int] = _servers.ending) -> None:
        _ending.discard(self._ending)
        self.channel.close()

    def forked(self) -> None:
        """Close a forked child's copy; the workers are the parent's."""
        self._let_go()


def connect(
    method: str,
    payload: Any,
    journal: int,
    limits: dict[str, str],
    preload: Sequence[str] = (),
    pool: int = 0,
    other: Mapping[str, Any] | None = None,
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
        Tells this pool from others of this process.
    other : mapping, optional
        Settings in place of those that this process has.
    """
    settings = capture(limits, pool)
    if other is not None:
        settings.update(other)
    prefix = "ForkServer" if method == "forkserver" else "Spawn"
    modules = wanted(preload, settings["carried"])
    launcher = Connection(settings, prefix, payload, journal, limits, modules).make()
    assert launcher is not None
    return launcher


class Connection:
    """What a forkserver is told of a pool; kept, to tell another forkserver the same.

    Parameters
    ----------
    settings, prefix, payload, journal, limits
        As for `connect`.
    wanted : frozenset of str
        Modules that are to be loaded before the fork.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        prefix: str,
        payload: Any,
        journal: int,
        limits: dict[str, str],
        wanted: frozenset[str],
    ) -> None:
        self._blobs: Sequence[Any] = ()
        buffers = payload
        if payload is not None and payload != AWAITED:
            self._blobs = (payload.data, *payload.buffers)
            buffers = len(payload.buffers)
        self._head = (CONNECT, settings, prefix, buffers)
        self._journal = journal
        self._limits = limits
        self._wanted = wanted
        self._server: Any = None

    def make(self, better: bool = False) -> Launcher | None:
        """Become a client of a forkserver.

        Parameters
        ----------
        better : bool
            Only of one that has loaded more modules than the last one.

        Returns
        -------
        Launcher or None
            None if `better` and there is no such forkserver.
        """
        if better and self._head[2] != "ForkServer":
            return None  # spawned workers do not inherit what a forkserver has loaded
        ours, theirs = socket_pair()
        # A stream that the program has closed, as daemons do, is not handed over. Its number may
        # have become that of a file since, which would get what workers print.
        streams = tuple(fd for fd in (1, 2) if not is_closed(fd))
        fds = [theirs.fileno(), self._journal, *streams]
        message = (self._wanted, self._limits, (*self._head, streams), self._blobs, fds)
        try:
            server = (
                _servers.connect_better(self._server, *message)
                if better
                else _servers.connect(*message)
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        if server is None:
            ours.close()
            return None
        self._server = server
        return Launcher(Channel(ours), connection=self)


def fork(
    run_initializer: Callable[[], object] | None,
    journal: int,
    limits: dict[str, str],
    pool: int = 0,
    alike: bool = False,
) -> Launcher:
    """Fork this process into a forkserver whose workers inherit everything.

    Parameters
    ----------
    run_initializer : callable, optional
        Called without arguments in each worker.
    journal : int
        Descriptor of the journal file.
    limits : dict
        Environment variables that limit threads.
    pool : int
        Tells this pool from others of this process.
    alike : bool
        Whether workers are to be like those of a forkserver: nobody asked for a fork.
    """
    from pool._workers._inherited import fork_template

    _tracking.shared()  # made now, so that the fork inherits it
    ours, theirs = socket_pair()
    settings = capture(limits, pool, inherited=True)
    settings["alike"] = alike
    child = fork_template(theirs, ours, settings, run_initializer, journal, limits)
    theirs.close()
    return Launcher(Channel(ours), child)
