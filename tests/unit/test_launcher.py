"""The connection to a forkserver, as threads that join a pool see it."""

from __future__ import annotations

from pool._transport._channel import Channel
from pool._transport._sockets import socket_pair
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
