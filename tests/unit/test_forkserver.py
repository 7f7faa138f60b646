"""The loop of a forkserver, without workers or with a process in the place of one."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from pool._transport._channel import Channel, socket_pair
from pool._transport._messages import EXITED
from pool._workers._forkserver import Client, ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[ForkServer]:
    made = ForkServer(None, -1)
    yield made
    for fd in (made.lifeline.read, made.lifeline.write, made._wake_read, made._wake_write):
        os.close(fd)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pool_learns_of_its_end_though_others_have_its_socket(
    server: ForkServer, workers: int
) -> None:
    ours, theirs = socket_pair()
    copy = os.dup(theirs.fileno())  # as in a child that the program forked while it made the pool
    client = Client(Channel(theirs), {}, "Fork")
    server.add(client)
    for _ in range(workers):
        pid = os.fork()
        if not pid:
            signal.pause()
            os._exit(1)
        client.pids[1] = pid
        server.children[pid] = client, 1
    ours.shutdown(socket.SHUT_WR)
    server._step()
    for pid in list(server.children):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        server._reap()
    pool = Channel(ours)
    with pytest.raises(EOFError):
        pool.receive(socket.MSG_DONTWAIT)
    pool.close()
    os.close(copy)


def test_a_pool_that_reads_again_is_told_and_not_waited_for(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(client: Client) -> None:
        pytest.fail("it would wait for a message that nobody has sent")

    ours, theirs = socket_pair()
    pool = Channel(ours)
    client = Client(Channel(theirs), {}, "Fork")
    server.add(client)
    monkeypatch.setattr(server, "_on_client", receive)
    told = 0
    while not client.notices:
        told += 1
        client.notices.append((told, 0))
        server._notify(client)
    for worker in range(1, told):
        assert pool.receive()[0] == (EXITED, ((worker, 0),))
    server._step()
    assert pool.receive()[0] == (EXITED, ((told, 0),))
    server._drop(client)
    pool.close()
