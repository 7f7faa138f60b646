"""The connection to a forkserver, as threads that join a pool see it."""

from __future__ import annotations

from pool._transport._channel import Channel
from pool._transport._sockets import socket_pair
from pool._workers import _servers
from pool._workers._launcher import Launcher


def test_join_reads_no_messages() -> None:
    ours, theirs = socket_pair()
    launcher = Launcher(Channel(ours))
    # What a thread finds if another one, that joins too, has received half of a message.
    theirs.sendall(b"half a message")
    theirs.close()
    launcher.wait()
    assert ours.fileno() == -1
    launcher.wait()


def test_the_number_of_a_connection_is_forgotten_though_its_socket_is_finalized_first() -> None:
    ours, theirs = socket_pair()
    launcher = Launcher(Channel(ours))
    number = ours.fileno()
    launcher.close()
    assert number in _servers.descriptors()
    ours.close()  # as garbage collection does, which comes to the socket first
    del launcher
    assert number not in _servers.descriptors()
    theirs.close()
