"""The processes of actors: asking for them, their sockets, their ends.

All actors of a runtime are workers of one client of the forkserver, and are read by the driver
that reads the workers of tasks. Everything here runs under the driver's lock.
"""

from __future__ import annotations

import _signal
import _socket
import os
import select
from _socket import MSG_DONTWAIT
from itertools import count

from pool._transport._channel import Channel, DescriptorsLost
from pool._transport._journal import DROPS, JournalFile
from pool._transport._messages import EXITED, can_be_lost
from pool._transport._outbox import Outbox
from pool._transport._sockets import socket_pair
from pool._workers import _launcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._local._driver import Driver
    from pool._runtime._actors import Actor
    from pool._transport._journal import Slot


#: Messages of one actor between two looks at the others.
MESSAGES_AT_ONCE = 32
#: Bytes that the kernel counts for the smallest message in a socket, at least.
LEAST_NBYTES = 512


class Link:
    """A socket to an actor or a borrower; messages without room wait here, not in their sender.

    Parameters
    ----------
    driver : Driver
    channel : Channel
    on_message : callable
        ``on_message(link, head, blobs, descriptors)`` takes a message; returns whether another one
        is likely to be there.
    on_end : callable
        ``on_end()`` is called once, when the other end is closed.
    refused : callable
        As for an `Outbox`.
    on_lost : callable, optional
        ``on_lost(head, error)`` is called for a message that came without its descriptors; returns
        whether the call that waits for it has got the error.
    """

    def __init__(
        self,
        driver: Driver,
        channel: Channel,
        on_message: Callable[[Link, Any, list[Any], list[int]], bool],
        on_end: Callable[[], None],
        refused: Callable[[Any, BaseException], Any],
        on_lost: Callable[[Any, OSError], bool] = lambda head, error: False,
    ) -> None:
        self._driver = driver
        self.channel = channel
        self._on_message = on_message
        self._on_end = on_end
        self._on_lost = on_lost
        self._outbox = Outbox(channel, self._wait_for_room, refused)
        #: Whether another message is likely to be there.
        self._more = False
        #: Messages that can be on their way, at most: the other end's buffer is as large as this
        #: one's.
        self.queued = channel.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF) // (
            LEAST_NBYTES
        )
        self._fd = channel.fileno()
        driver.clients[self._fd] = self
        driver.epoll.register(self._fd, select.EPOLLIN)

    def send(self, head: Any, blobs: Any = ()) -> None:
        """Send, now or when there is room; never waits."""
        if self._fd >= 0:  # else the connection has ended
            self._outbox.send(head, blobs)

    def _wait_for_room(self, wanted: bool) -> None:
        events = select.EPOLLIN | select.EPOLLOUT if wanted else select.EPOLLIN
        self._driver.epoll.modify(self._fd, events)

    def on_ready(self) -> None:
        """Read what has come, and send what had no room."""
        self._outbox.flush()
        for _ in range(MESSAGES_AT_ONCE):
            if self._fd < 0 or not self._receive() or not self._more:
                return  # the next poll tells if there are more

    def drain(self) -> None:
        """Read all messages that have come so far, from a process that may go on sending."""
        for _ in range(self.queued):
            if self._fd < 0 or not self._receive():
                return

    def drain_out(self) -> None:
        """Read all messages that are left, of a process that sends no more."""
        while self._fd >= 0 and self._receive():
            continue

    def _receive(self) -> bool:
        """Take one message; return False if there was none."""
        try:
            head, blobs, fds = self.channel.receive_fds(MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionError:
            # The other end died with unread messages. The kernel says so once, and first; what the
            # process had sent before is still there to be read.
            return True
        except EOFError:
            self.close()
            self._on_end()
            return False
        except DescriptorsLost as lost:
            if not (can_be_lost(lost.head) or self._on_lost(lost.head, lost.plain())):
                # The process that sent it might wait for an answer for ever. It is cut off, by
                # which it ends.
                self.close()
                self._on_end()
                return False
            return True
        self._more = self._on_message(self, head, blobs, fds)
        return True

    def close(self) -> None:
        """Close the socket."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            if self._driver.clients.pop(fd, None) is not None and not self._driver.closed:
                self._driver.epoll.unregister(fd)
            self.channel.close()
            self._outbox.clear()


class ActorProcesses:
    """Start, signal and bury the processes of actors.

    Parameters
    ----------
    driver : Driver
    limits : dict
        Environment variables that limit the threads of BLAS.
    preload : sequence of str
        Modules for the forkserver to import.
    """

    def __init__(self, driver: Driver, limits: dict[str, str], preload: Sequence[str]) -> None:
        self._driver = driver
        self._limits = limits
        self._preload = preload
        self._launcher: Any = None
        #: Its one page is shared by all actors, which only read it.
        self._journal: JournalFile | None = None
        self._page: Slot | None = None
        self.actors: dict[int, Actor] = {}
        self._ids = count(1)
        self.channel: Channel = None  # type: ignore[assignment]  # until the first actor

    def launch(self, actor: Actor) -> tuple[int, Link]:
        """Start a process for `actor`; return its number and the socket to it."""
        if self._launcher is None:
            self._connect()
        ours, theirs = socket_pair()
        worker_id = next(self._ids)
        channel = Channel(ours, self._driver.crew.buffer, linked=True)
        link = Link(
            self._driver, channel, actor.on_message, lambda: None, actor.on_refused, actor.on_lost
        )
        self.actors[worker_id] = actor
        try:
            self._launcher.launch([(worker_id, 0, theirs.fileno())])
        except ConnectionError:
            pass  # the forkserver was killed; `_forkserver_gone` will end this actor too
        finally:
            theirs.close()
        return worker_id, link

    def _connect(self) -> None:
        if self._journal is None:
            self._journal = JournalFile(1)
        self._launcher = _launcher.connect(
            "forkserver", None, self._journal.fd, self._limits, self._preload
        )
        self.channel = self._launcher.channel
        fd = self.channel.fileno()
        self._driver.clients[fd] = self
        self._driver.epoll.register(fd, select.EPOLLIN)

    def tell_of_drops(self) -> None:
        """Have all actors look for messages that cancel calls."""
        assert self._journal is not None
        if self._page is None:
            self._page = self._journal.slot(0)
        self._page.words[DROPS] += 1

    def signal(self, worker_id: int, number: int) -> None:
        """Send a signal to an actor, unless it has ended."""
        try:
            self._launcher.signal(worker_id, number)
        except OSError:
            return  # the forkserver has ended; `on_ready` will learn of it

    def on_ready(self) -> None:
        """Take the forkserver's notices of actors that have ended."""
        try:
            while True:
                head, _ = self.channel.receive(MSG_DONTWAIT)
                if head[0] == EXITED:
                    for worker_id, status, _ in head[1]:
                        self._exited(worker_id, status)
        except BlockingIOError:
            return
        except (EOFError, ConnectionError):
            self._forkserver_gone()

    def _exited(self, worker_id: int, status: int) -> None:
        actor = self.actors.pop(worker_id, None)
        if actor is not None:
            actor.on_exit(os.waitstatus_to_exitcode(status) if status >= 0 else None)

    def _forkserver_gone(self) -> None:
        """Forget the forkserver, which was killed, and all actors with it, by the kernel."""
        fd = self.channel.fileno()
        self._driver.epoll.unregister(fd)
        del self._driver.clients[fd]
        self._launcher.close()
        self.channel.close()
        self._launcher = None
        for worker_id in list(self.actors):
            self._exited(worker_id, _signal.SIGKILL)

    def leave(self) -> None:
        """Have the driver read no more notices: it would close the channel, which is needed yet."""
        if self._launcher is not None:
            fd = self.channel.fileno()
            if self._driver.clients.pop(fd, None) is not None:
                self._driver.epoll.unregister(fd)

    def end_all(self) -> None:
        """Have the forkserver end all actors, and keep the descriptors of this process."""
        if self._launcher is not None:
            self._launcher.close()

    def close(self, forked: bool = False) -> None:
        """Close all but the channel, see `wait_gone`; the forkserver then ends all actors."""
        if self._launcher is not None:
            if forked:
                self._launcher.forked()
            else:
                self._launcher.close()
        if self._page is not None:
            self._page.release()
            self._page = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def wait_gone(self) -> None:
        """Wait until no process of an actor is left, after `close`."""
        if self._launcher is not None:
            self._launcher.wait()
            self._launcher = None
