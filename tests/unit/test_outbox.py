"""Messages that wait for room: in order, none lost, and who cannot be told of one is told why."""

from __future__ import annotations

import _socket
import errno
from collections.abc import Iterator
from typing import Any

import pytest

from pool._transport._channel import Channel
from pool._transport._outbox import Outbox
from pool._transport._sockets import socket_pair

DONTWAIT = _socket.MSG_DONTWAIT
LARGE = bytes(40_000)


class Line:
    """An outbox, the other end of its channel, and what it asked of its owner."""

    def __init__(self) -> None:
        self.channel, self.other = (Channel(socket) for socket in socket_pair())
        self.waits: list[bool] = []
        self.refusals: list[tuple[Any, BaseException]] = []
        self.instead: Any = None
        self.outbox = Outbox(self.channel, self.waits.append, self._refused)

    def _refused(self, head: Any, error: BaseException) -> Any:
        self.refusals.append((head, error))
        return self.instead

    def fill(self) -> int:
        """Send until messages wait; return how many were sent."""
        number = 0
        while not self.outbox:
            self.outbox.send((number,), [LARGE])
            number += 1
        return number

    def received(self) -> list[int]:
        found = []
        while True:
            try:
                head, _ = self.other.receive(DONTWAIT)
            except BlockingIOError:
                return found
            found.append(head[0])

    def break_sending(self, monkeypatch: pytest.MonkeyPatch, fails: Any, error: Any) -> None:
        """Have the channel raise for messages with these heads."""
        send = Channel.send

        def sent(channel: Channel, head: Any, *args: Any, **kwargs: Any) -> None:
            if fails(head):
                raise error
            send(channel, head, *args, **kwargs)

        monkeypatch.setattr(Channel, "send", sent)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.channel.close()
    line.other.close()


def test_goes_out_at_once_while_there_is_room(line: Line) -> None:
    line.outbox.send((1,))
    assert line.received() == [1]
    assert not line.outbox
    assert line.waits == []


def test_waits_for_room_and_keeps_the_order(line: Line) -> None:
    number = line.fill()
    line.outbox.send((number,))  # small: there would be room for it
    assert line.waits == [True]
    assert len(line.outbox) == 2
    found = line.received()
    assert found == list(range(number - 1))
    line.outbox.flush()
    assert line.received() == [number - 1, number]
    assert line.waits == [True, False]
    line.outbox.flush()
    assert line.waits == [True, False]


def test_flush_sends_what_there_is_room_for(line: Line) -> None:
    number = line.fill()
    for more in range(number, 3 * number):
        line.outbox.send((more,), [LARGE])
    found = []
    while line.outbox:
        found += line.received()
        line.outbox.flush()
    assert found + line.received() == list(range(3 * number))
    assert line.waits == [True, False]


def test_receiver_that_is_gone_is_sent_nothing(line: Line) -> None:
    line.fill()
    line.other.close()
    line.outbox.flush()
    line.outbox.send((1,))
    assert not line.outbox
    assert line.refusals == []


def test_channel_that_was_closed_here_is_sent_nothing(line: Line) -> None:
    line.channel.close()
    line.outbox.send((1,), [bytes(1 << 20)])
    assert not line.outbox
    assert line.refusals == []


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "no descriptor"), MemoryError()])
def test_what_cannot_be_sent_is_replaced(
    line: Line, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    line.break_sending(monkeypatch, lambda head: head == (1,), error)
    line.instead = ((100,), [b"why"])
    line.outbox.send((1,), [LARGE])
    assert line.received() == [100]
    assert line.refusals == [((1,), error)]
    line.instead = None
    line.outbox.send((1,), [LARGE])
    line.outbox.send((2,))
    assert line.received() == [2]


def test_what_waited_and_cannot_be_sent_is_replaced_in_its_place(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = line.fill()
    line.outbox.send((number,))
    line.instead = ((100,), [b"why"])
    line.received()
    line.break_sending(monkeypatch, lambda head: head == (number - 1,), OSError("no space"))
    line.outbox.flush()
    assert line.received() == [100, number]
    assert [head for head, _ in line.refusals] == [(number - 1,)]


def test_replacement_waits_for_room_like_any_message(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = line.fill()
    line.instead = ((100,), [LARGE])
    line.received()
    while True:  # fill it again, behind the outbox's back
        try:
            line.channel.send((0,), [LARGE], flags=DONTWAIT)
        except BlockingIOError:
            break
    line.break_sending(monkeypatch, lambda head: head == (number - 1,), OSError("no space"))
    line.outbox.flush()
    assert len(line.outbox) == 1
    line.received()
    line.outbox.flush()
    assert line.received() == [100]
    assert len(line.refusals) == 1


def test_nobody_can_be_told_any_more(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.break_sending(monkeypatch, lambda head: True, OSError("no space"))
    line.instead = ((100,), [b"why"])
    with pytest.raises(OSError, match="no space"):
        line.outbox.send((1,), [LARGE])


def test_clear_drops_what_waits(line: Line) -> None:
    line.fill()
    line.outbox.clear()
    line.received()
    line.outbox.send((7,))
    assert line.received() == [7]
