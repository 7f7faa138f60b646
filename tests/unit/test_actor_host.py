"""The receiving and answering sides of an actor's process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pool._in_worker._actor import ActorHost
from pool._in_worker._concurrent import AsyncServer
from pool._objects import _protocol as protocol
from pool._transport._channel import Channel, DescriptorsLost, socket_pair
from pool._transport._messages import RETURNS

CONFIG = {"title": "It", "name": "", "key": b"", "is_task": False, "is_async": False}


@pytest.fixture
def ends() -> Iterator[tuple[ActorHost, Channel]]:
    ours, theirs = socket_pair()
    host, other = ActorHost(Channel(ours), CONFIG), Channel(theirs)
    yield host, other
    host.channel.close()
    other.close()


def call(number: int) -> Any:
    return protocol.CALL, ((number, "work", 1, (), b""),)


@pytest.mark.parametrize("head", [(RETURNS, 0), (protocol.DROP, 1)])
def test_who_receives_for_others_does_not_sleep_behind_what_is_no_call(
    ends: tuple[ActorHost, Channel], head: Any
) -> None:
    host, other = ends
    host.alone = False
    other.send(head)
    other.close()  # else it would sleep for ever
    message = host.receive()
    assert message is not None
    assert message[0] == head


def test_who_runs_the_calls_passes_over_what_is_none(ends: tuple[ActorHost, Channel]) -> None:
    host, other = ends
    other.send((RETURNS, 0))
    other.send(call(1), [])
    message = host.receive()
    assert message is not None
    assert message[0][:2] == (protocol.CALL, 1)


def test_an_event_loop_ends_where_a_message_was_lost(ends: tuple[ActorHost, Channel]) -> None:
    host, _ = ends

    async def serve() -> AsyncServer:
        server = AsyncServer(host, 1)

        def lose() -> None:
            raise DescriptorsLost(None)

        host.receive = lose  # type: ignore[method-assign,assignment]
        with pytest.raises(DescriptorsLost):
            server._on_readable()
        await server.serve()
        return server

    assert not asyncio.run(serve()).left
