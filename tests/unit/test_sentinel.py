"""Objects that a process was sent over one connection, and has sent back over another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from forking import ended_well, fork

import store
from pool._transport._channel import Channel
from pool._transport._sockets import socket_pair
from store._codec import opened
from store._depot import depot

SEVENS, NINES = (bytes([digit]) * (1 << 20) for digit in (7, 9))

Close = Callable[[Channel], None]


class Ended:
    """Two connections to a process that was sent something, maybe sent it back, and has ended."""

    def __init__(self, sent: int, back: int | None) -> None:
        self.before: int = store.stats()["live"]
        pairs = [socket_pair() for _ in range(2)]

        def send_back() -> None:
            for ours, _ in pairs:
                ours.close()
            channels = [Channel(theirs, linked=True) for _, theirs in pairs]
            _, blobs = channels[sent].receive()
            if back is not None:
                channels[back].send((), blobs)

        child = fork(send_back)
        for _, theirs in pairs:
            theirs.close()
        main = Channel(pairs[0][0], linked=True)
        self.channels = main, Channel(pairs[1][0], linked=True, beside=main)
        self.channels[sent].send((), [SEVENS])
        assert ended_well(child)

    @property
    def live(self) -> int:
        """How much more is in the store than before, without looking after anything there."""
        return depot().arena.live - self.before


@pytest.fixture
def ended() -> Iterator[Callable[[int, int | None], Ended]]:
    made: list[Ended] = []

    def make(sent: int, back: int | None) -> Ended:
        made.append(Ended(sent, back))
        return made[-1]

    yield make
    for one in made:
        for channel in one.channels:
            channel.close()


def test_who_holds_what_it_was_sent_sees_that_the_connection_was_closed() -> None:
    """But not by a fork, which has the same one."""
    ours, theirs = socket_pair()
    channel = Channel(ours, linked=True)

    def hold() -> None:
        ours.close()
        other = Channel(theirs, linked=True)
        held = other.receive()
        assert other.receive()[0] == (2,)
        with pytest.raises(EOFError):
            other.receive()
        assert bytes(opened(held[1][0])) == SEVENS

    holder = fork(hold)
    theirs.close()
    channel.send((1,), [SEVENS])
    assert ended_well(fork(channel.close))
    channel.send((2,))
    channel.close()
    assert ended_well(holder)


@pytest.mark.parametrize("sent", [0, 1])
@pytest.mark.parametrize("close", [Channel.close, Channel.leave])
def test_what_comes_back_is_there_when_the_connection_that_it_was_sent_over_is_closed(
    sent: int, close: Close, ended: Callable[[int, int | None], Ended]
) -> None:
    one = ended(sent, 1 - sent)
    close(one.channels[sent])
    other = store.put(NINES)
    _, blobs = one.channels[1 - sent].receive()
    again = store.put(NINES)
    assert bytes(opened(blobs[0])) == SEVENS
    del other, again, blobs
    one.channels[1 - sent].close()
    store.stats()
    assert not one.live


def test_it_is_freed_with_the_last_connection(
    ended: Callable[[int, int | None], Ended],
) -> None:
    one = ended(0, None)
    main, other = one.channels
    main.close()
    assert one.live
    other.close()
    assert not one.live


def test_connections_that_were_closed_are_forgotten() -> None:
    main = Channel(socket_pair()[0])
    for _ in range(3):
        other = Channel(socket_pair()[0], beside=main)
        other.close()
    assert main._family == [main, other]
    main.close()
