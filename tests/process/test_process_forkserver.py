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
            server._step()  # it has not ended by itself
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


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_a_worker_that_is_ended_before_it_is_forked(tmp_path: Path, number: str) -> None:
    body = f"""
        from pool._transport._messages import LAUNCH, SIGNAL
        socket_of_worker, _ = socket_pair()
        pool.send((LAUNCH, ((1, 0, 1),)), fds=[socket_of_worker.fileno()])
        server._on_client(client)
        pool.send((SIGNAL, 1, int(signal.{number})))
        server._on_client(client)
        assert pool.receive()[0] == (EXITED, ((1, signal.{number}, 0),))
        assert not client.waiting
    """
    assert run(body, tmp_path) == ""


SCARCE = """
import resource
from pool._transport._messages import CONNECT, LAUNCH
from errno import EMFILE
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

def take_all():
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return taken
"""


def test_workers_that_there_are_no_descriptors_for(tmp_path: Path) -> None:
    """The pool learns of it, and the workers of others live on."""
    body = """
        one, other = socket_pair()
        pool.send((LAUNCH, ((1, 0, 1), (2, 0, 2))), fds=[one.fileno(), other.fileno()])
        taken = take_all()
        server._step()
        assert pool.receive()[0] == (EXITED, ((1, -EMFILE, 0), (2, -EMFILE, 0)))
        # One that nobody would kill when this server is killed is not forked.
        server._fork(client, 3, 0, 3, taken.pop())
        taken += take_all()
        assert pool.receive()[0] == (EXITED, ((3, -EMFILE, 0),))
        assert not server.children
    """
    assert run(SCARCE + textwrap.dedent(body), tmp_path) == ""


def test_a_pool_that_there_are_no_descriptors_for(tmp_path: Path) -> None:
    body = """
        program, control = socket_pair()
        server = ForkServer(Channel(control), -1)
        pool, theirs = socket_pair()
        Channel(program).send((CONNECT, {}, "ForkServer", None, ()), fds=[theirs.fileno(), 0])
        theirs.close()
        take_all()
        server._step()
        try:
            Channel(pool).receive()
        except EOFError:
            print("told")
    """
    assert run(SCARCE + textwrap.dedent(body), tmp_path) == "told\n"


def test_a_child_of_the_program_with_the_number_of_an_old_forkserver_is_left_to_it(
    tmp_path: Path,
) -> None:
    body = """
        import subprocess, sys
        from pool import get_context
        from pool._workers import _servers
        old = get_context("fork").Pool(1)
        launcher, = old._engine.driver.crew.controls.values()
        old.terminate()
        _servers.reap(wait=True)  # as the end of any other pool may
        child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        launcher._child = child.pid
        old.join()
        print(child.wait())
    """
    assert run(body, tmp_path) == "3\n"
