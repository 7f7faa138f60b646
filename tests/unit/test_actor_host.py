"""The receiving and answering sides of an actor's process."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pool._in_worker._actor import ActorHost
from pool._in_worker._concurrent import AsyncServer
from pool._in_worker._detached import Detached
from pool._in_worker._lanes import Lane
from pool._objects import _protocol as protocol
from pool._objects._attachments import Attachments
from pool._objects._parcels import flatten, pack
from pool._transport._channel import Channel, DescriptorsLost
from pool._transport._messages import EXIT, RETURNS
from pool._transport._sockets import socket_pair
from pool.exceptions import TaskCancelledError
from store._codec import encode

CONFIG = {"title": "It", "name": "", "key": b"", "is_task": False, "is_async": False, "groups": {}}


@pytest.fixture
def ends() -> Iterator[tuple[ActorHost, Channel]]:
    ours, theirs = socket_pair()
    host, other = ActorHost(Channel(ours), CONFIG), Channel(theirs)
    yield host, other
    host.channel.close()
    other.close()


def call(number: int) -> Any:
    return protocol.CALL, ((number, "work", 1, (), b"", ""),)


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

    async def serve() -> bool:
        server = AsyncServer(host, {"": Lane(1)})

        def lose() -> None:
            raise DescriptorsLost(None)

        host.receive = lose  # type: ignore[method-assign,assignment]  # that is the test
        with pytest.raises(DescriptorsLost):
            server._on_readable()
        return server._end.is_set() and not server.left

    assert asyncio.run(serve())


def test_who_leaves_reads_no_more_though_the_loop_had_stopped_in_front_of_a_read(
    ends: tuple[ActorHost, Channel],
) -> None:
    host, other = ends

    async def serve() -> list[int]:
        server = AsyncServer(host, {"": Lane(1)})
        taken: list[int] = []
        server._take = lambda: taken.append(1)  # type: ignore[method-assign]
        serving = asyncio.ensure_future(server.serve())
        await asyncio.sleep(0)
        other.send(call(1), [])
        server.leave()
        await serving
        return taken

    assert not asyncio.run(serve())


class Full:
    """In place of a channel: there is no room for the first message."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error
        self.sent: list[Any] = []

    def send(self, head: Any, blobs: Any = ()) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.sent.append((head, blobs))


@pytest.mark.parametrize("error", [OSError(28, "no room"), MemoryError("no room")])
def test_a_result_that_cannot_be_sent_fails_its_call(error: BaseException) -> None:
    channel = Full(error)
    host = ActorHost(channel, CONFIG)  # type: ignore[arg-type]  # all it is asked
    host.answer(7, "value", 1.0)
    ((head, blobs),) = channel.sent
    assert head[:3] == (protocol.RESULT, 7, protocol.ERROR)
    found = pickle.loads(blobs[0])
    assert (type(found), found.args) == (type(error), error.args)


@pytest.mark.parametrize("error", [OSError(28, "no room"), MemoryError("no room")])
def test_an_exception_that_cannot_be_sent_is_told_by_one_that_can(error: BaseException) -> None:
    channel = Full(error)
    host = ActorHost(channel, CONFIG)  # type: ignore[arg-type]  # all it is asked
    try:
        raise ValueError("large" * 1000)
    except ValueError as large:
        assert host.fail(7, large, 1.0)
    ((head, blobs),) = channel.sent
    assert head[:3] == (protocol.RESULT, 7, protocol.ERROR)
    assert b"large" not in b"".join(blobs)
    found = pickle.loads(blobs[0])
    assert (type(found), found.args) == (type(error), error.args)


def test_who_leaves_is_known_to_leave_though_there_was_no_room_to_say_why() -> None:
    channel = Full(OSError(28, "no room"))
    host = ActorHost(channel, CONFIG)  # type: ignore[arg-type]  # all it is asked
    assert not host.fail(7, SystemExit(), 1.0)
    ((head, _),) = channel.sent
    assert head[:3] == (protocol.RESULT, 7, protocol.LEFT)


def test_who_is_gone_is_not_told() -> None:
    channel = Full(BrokenPipeError())
    host = ActorHost(channel, CONFIG)  # type: ignore[arg-type]  # all it is asked
    with pytest.raises(BrokenPipeError):
        host.answer(7, "value", 1.0)
    assert not channel.sent


def test_a_program_is_served_though_there_was_no_room_for_a_thread_at_first(
    ends: tuple[ActorHost, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter([RuntimeError("can't start new thread")])

    class Scarce(threading.Thread):
        def start(self) -> None:
            for refusal in refusals:
                raise refusal
            super().start()

    host, other = ends
    other.close()
    served = threading.Event()
    monkeypatch.setattr(threading, "Thread", Scarce)
    detached = Detached(host, CONFIG)
    monkeypatch.setattr(detached, "_serve", lambda channel: served.set())
    detached._in_thread(host.channel)
    served.wait()


def test_who_leaves_leaves_though_another_call_fails_after_it() -> None:
    host = ActorHost(Full(OSError()), CONFIG)  # type: ignore[arg-type]  # all it is asked
    host.channel.error = None  # type: ignore[attr-defined]  # of a `Full`
    assert not host.fail(1, SystemExit(), 1.0)
    assert host.fail(2, ValueError(), 1.0)
    assert host.leaves


def test_a_call_that_is_cancelled_while_another_program_has_the_turn_never_runs(
    ends: tuple[ActorHost, Channel],
) -> None:
    host, other = ends
    ran = []
    host._instance.append(SimpleNamespace(work=lambda: ran.append("work")))
    host.detached = True
    detached = Detached(host, CONFIG)

    class Turn:
        def __enter__(self) -> None:
            other.send((protocol.DROP, 1))
            other.send((EXIT,))

        def __exit__(self, *exc: object) -> None:
            """Nothing is to be given back."""

    detached._turn = Turn()  # type: ignore[assignment]  # as it is used here
    parcel = pack((), {})
    layout, blobs = flatten([*parcel.packets, encode(Attachments(())).packet])
    other.send((protocol.CALL, ((1, "work", 1, layout, b""),)), blobs)
    detached._serve(host.channel)
    head, blobs = other.receive()
    assert head[:3] == (protocol.RESULT, 1, protocol.ERROR)
    assert isinstance(pickle.loads(blobs[0]), TaskCancelledError)
    assert not ran
