"""What arrives from workers: answers, connections of their tasks, and what dead ones leave.

Part of the driver, whose lock is held whenever something here is called.
"""

from __future__ import annotations

import _pickle
import select
from _socket import MSG_DONTWAIT

from pool._local import _events as ev
from pool._transport._channel import FEW, Channel, DescriptorsLost
from pool._transport._messages import (
    DONE,
    IMPORTED,
    ONE,
    PART_OF,
    READY,
    REFUSED,
    REST,
    can_be_lost,
)
from pool._transport._sockets import socket_from
from pool._unraisable import report
from pool._workers import _servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._driver import Driver
    from pool._local._peers import Peer

#: How often it is looked for messages when a program ends: workers may write without an end.
LAST = 16


class Arrivals:
    """Take in what workers send.

    Parameters
    ----------
    driver : Driver
        The driver of their pool.
    """

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def receive(self, peer: Peer) -> bool:
        """Take one message of a worker; return False if there was none.

        One only: the next poll tells if there are more.
        """
        driver = self._driver
        try:
            head, blobs, fds = peer.channel.receive_fds(MSG_DONTWAIT, FEW)
        except (BlockingIOError, EOFError, ConnectionError):
            return False
        except DescriptorsLost as lost:
            if can_be_lost(lost.head):
                return True
            head, blobs = _without_outcome(lost)
            fds = []
        if head[0] == DONE:
            driver.outcomes.answered(peer, head, blobs)
        elif fds:
            self._on_client(peer, head, fds)
        else:
            self._on_other(peer, head, blobs)
        return True

    def _on_other(self, peer: Peer, head: Any, blobs: list[Any]) -> None:
        driver = self._driver
        kind = head[0]
        if kind == READY:
            peer.pid = head[1]
            driver.handle(ev.WorkerReady(peer.worker_id))
        elif kind == REFUSED:
            peer.pid = head[1]
            if driver.failure is None:
                driver.failure = driver.outcomes.refusal(blobs)
            driver.handle(ev.WorkerRefused(peer.worker_id))
        elif kind == PART_OF:
            driver.outcomes.add_part(peer, head[1], blobs)
        elif kind == REST:
            driver.handle(ev.RestReturned(peer.worker_id, head[1]))
        elif kind == IMPORTED:
            _servers.learn(*head[1:])

    def receive_last(self) -> None:
        """Take in what has come until now, as the program ends: nothing is to begin any more.

        Among it may be where a worker prints, which a thread was about to read.
        """
        driver = self._driver
        driver.handle = _let_be  # type: ignore[method-assign]  # for the rest of its life
        try:
            for _ in range(LAST):
                ready = driver.epoll.poll(0, 64)
                if not ready:
                    return
                driver.on_ready(ready)
        except Exception as error:
            report(error, "raised by what had arrived when the program ended")

    def _on_client(self, peer: Peer, head: Any, fds: list[int]) -> None:
        """Take a connection over which tasks of this worker use their pool, or their runtime."""
        driver = self._driver
        if len(head) > 1 and driver.aside is not None:
            driver.aside.admit(peer.worker_id, head[1], fds, peer.channel)
            return
        channel = Channel(socket_from(fds[0]), driver.crew.buffer, True, peer.channel)
        try:
            from pool._local._relay import Client
        except OSError:
            channel.close()
            return  # no descriptor is left to import the module with; see `can_be_lost`

        driver.clients[fds[0]] = Client(driver, peer.worker_id, channel)
        driver.epoll.register(fds[0], select.EPOLLIN)

    def drop_client(self, client: Any) -> None:
        """Forget a client whose worker has ended, and the jobs it had submitted."""
        driver = self._driver
        fd = client.channel.fileno()
        if driver.clients.pop(fd, None) is not None:
            driver.epoll.unregister(fd)
            client.channel.close()

    def worker_exited(
        self, peer: Peer, status: int, alone: bool = True, put_off: bool = False
    ) -> None:
        """Take in all that a worker has left behind, and tell the scheduler that it has ended.

        Parameters
        ----------
        peer : Peer
        status : int
            As from `os.waitpid`.
        alone : bool
            See `WorkerExited`.
        put_off : bool
            It has never begun, and another one will be started later.
        """
        driver = self._driver
        worker_id = peer.worker_id
        peer.status = status
        while self.receive(peer):
            pass
        reclaimed = tuple(peer.reclaim())
        if reclaimed:
            driver.handle(ev.MessagesReclaimed(worker_id, reclaimed))
        running, pickles = peer.salvage()
        for data in pickles:
            driver.outcomes.answered(peer, (DONE, running, 1, False, 0.0, 0, ONE), [data])
        driver.outcomes.last_exit = (peer, status)
        driver.outcomes.end_loan(worker_id, running)
        unbegun = next((number for number in peer.sent if number != running), None)
        if put_off:
            driver.handle(ev.StartPutOff(worker_id))
        else:
            driver.handle(ev.WorkerExited(worker_id, running, alone, unbegun))
        if driver.aside is not None:
            driver.aside.bury(peer)
        if driver.guard is not None and driver.guard.ended(worker_id):
            driver.memory_due = driver.looked  # now: its memory is free, is there enough?


def _let_be(event: Any) -> None:
    """Tell the scheduler nothing."""


def _without_outcome(lost: DescriptorsLost) -> tuple[Any, list[Any]]:
    """Return an answer in whose place the outcome is the error that it could not be received."""
    if lost.head is None or lost.head[0] != DONE:
        raise lost
    _, message_id, chunks, final, elapsed, _, _ = lost.head
    return (DONE, message_id, chunks, final, elapsed, 1, ONE), [_pickle.dumps(lost.plain(), 5)]
