"""The receiving side of tasks that ask the process they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pool._local._receiver import Receiver
from pool._transport._channel import Channel
from pool._transport._sockets import socket_pair


class Notes(Receiver):
    """Keep what comes."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.notes: list[Any] = []

    @property
    def unanswered(self) -> bool:
        return not self.notes

    def on_message(self, head: Any, blobs: list[Any]) -> None:
        self.notes.append((head, blobs))


@pytest.fixture
def ends() -> Iterator[tuple[Notes, Channel]]:
    ours, theirs = socket_pair()
    receiver, other = Notes(Channel(ours)), Channel(theirs)
    yield receiver, other
    receiver.channel.close()
    other.close()
    receiver.let_go()


def test_it_may_be_woken_any_number_of_times(ends: tuple[Notes, Channel]) -> None:
    receiver, _ = ends
    for _ in range(70_000):  # more than the pipe holds
        receiver.wake()
    receiver.step(0.0)
    assert receiver.outstanding


def test_all_messages_that_are_there_are_taken_at_one_go(ends: tuple[Notes, Channel]) -> None:
    receiver, other = ends
    for number in range(3):
        other.send((number,), [b"x"])
    receiver.step(None)
    assert receiver.notes == [((number,), [b"x"]) for number in range(3)]


def test_callbacks_run_after_the_messages_are_taken(ends: tuple[Notes, Channel]) -> None:
    receiver, other = ends
    seen: list[int] = []

    class Due:
        def call_back(self) -> None:
            seen.append(len(receiver.notes))

    receiver.calling.append(Due())
    other.send((1,), [])
    other.send((2,), [])
    receiver.step(None)
    assert seen == [2]


def test_callbacks_that_were_left_over_need_no_message(ends: tuple[Notes, Channel]) -> None:
    receiver, _ = ends
    seen: list[int] = []

    class Due:
        def call_back(self) -> None:
            seen.append(1)

    receiver.calling.append(Due())
    receiver.step(None)
    assert seen == [1]
