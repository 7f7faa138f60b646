"""Reading what others send, under the lock of all."""

from __future__ import annotations

from _socket import MSG_DONTWAIT
from types import SimpleNamespace
from typing import Any

from pool._runtime._processes import Link
from pool._transport._channel import Channel
from pool._transport._sockets import socket_pair

EPOLL = SimpleNamespace(register=lambda fd, events: None, unregister=lambda fd: None)
DRIVER: Any = SimpleNamespace(clients={}, epoll=EPOLL, closed=False)


def test_who_goes_on_sending_is_not_read_for_ever() -> None:
    ours, theirs = socket_pair()
    other = Channel(theirs)
    read: list[Any] = []
    channel = Channel(ours)

    def send_one_more(link: Link, head: Any, blobs: Any, fds: Any) -> bool:
        read.append(head)
        if len(read) < 2 * link.queued:
            other.send((0,))
        return True

    ended: list[bool] = []
    link = Link(DRIVER, channel, send_one_more, lambda: ended.append(True), lambda *_: None)
    other.send((0,))
    link.drain()
    assert len(read) == link.queued
    link.drain_out()
    assert len(read) == 2 * link.queued
    other.close()
    link.drain()
    assert ended == [True]


def test_all_that_a_socket_holds_is_read() -> None:
    ours, theirs = socket_pair()
    link = Link(DRIVER, Channel(ours), lambda *_: True, lambda: None, lambda *_: None)
    held = 0
    try:
        while True:
            theirs.send(b"x", MSG_DONTWAIT)
            held += 1
    except BlockingIOError:
        pass
    assert 0 < held <= link.queued
    link.close()
    theirs.close()
