"""What a worker receives from the runtime that it borrows from."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator

import pytest

from pool._in_worker._borrowed import BorrowedDriver, Request
from pool._objects import _protocol as protocol
from pool._objects._refs import FAILED, READY
from pool._transport._channel import Channel, socket_pair
from pool._transport._messages import RETURNS


@pytest.fixture
def ends() -> Iterator[tuple[BorrowedDriver, Channel]]:
    ours, theirs = socket_pair()
    driver, other = BorrowedDriver(Channel(ours)), Channel(theirs)
    yield driver, other
    driver.channel.close()
    other.close()
    os.close(driver._wake_read)
    os.close(driver._wake_write)


def refuse() -> None:
    raise LookupError("not here")


class Refusing:
    """Something that can be pickled and not be opened."""

    def __reduce__(self) -> object:
        return refuse, ()


def test_what_the_channel_notes_is_no_answer(ends: tuple[BorrowedDriver, Channel]) -> None:
    driver, other = ends
    request = driver.requests[1] = Request(1)
    other.send((RETURNS, 0))
    other.send((protocol.ANSWER, 1, 0, READY), [pickle.dumps("value")])
    driver.step(None)
    assert request.answers == [(READY, "value")]


def test_an_answer_that_cannot_be_opened_fails_alone(ends: tuple[BorrowedDriver, Channel]) -> None:
    driver, other = ends
    request = driver.requests[1] = Request(2)
    other.send((protocol.ANSWER, 1, 0, READY), [pickle.dumps(Refusing())])
    other.send((protocol.ANSWER, 1, 1, READY), [pickle.dumps("value")])
    driver.step(None)
    state, error = request.answers[0]
    assert (state, str(error)) == (FAILED, "not here")
    assert request.answers[1] == (READY, "value")
    assert request.is_over()
