"""The loop of a forkserver, without workers or with a process in the place of one.

In programs of their own: a process that has the code of workers sends functions otherwise.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import os, signal, socket
from pool._transport._channel import Channel
from pool._transport._sockets import socket_pair
from pool._transport._messages import EXITED
from pool._workers._forkserver import Client, ForkServer

server = ForkServer(None, -1)
ours, theirs = socket_pair()
pool = Channel(ours)
client = Client(Channel(theirs), {}, "Fork")
server.add(client)
"""


def run(body: str, folder: Path) -> str:
    """Run a program with a server that has one pool."""
    return run_program(HEAD + textwrap.dedent(body), folder).succeeded()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pool_learns_of_its_end_though_others_have_its_socket(
    tmp_path: Path, workers: int
) -> None:
    body = f"""
        copy = os.dup(theirs.fileno())  # as in a child that the program forked while it made it
        for _ in range({workers}):
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
        try:
            pool.receive(socket.MSG_DONTWAIT)
        except EOFError:
            print("told")
    """
    assert run(body, tmp_path) == "told\n"


def test_a_pool_that_reads_again_is_told_and_not_waited_for(tmp_path: Path) -> None:
    body = """
        server._on_client = lambda client: print("waits for a message that nobody has sent")
        told = 0
        while not client.notices:
            told += 1
            client.notices.append((told, 0, 9))
            server._notify(client)
        for worker in range(1, told):
            assert pool.receive()[0] == (EXITED, ((worker, 0, 9),))
        server._step()
        assert pool.receive()[0] == (EXITED, ((told, 0, 9),))
    """
    assert run(body, tmp_path) == ""
