"""What a worker receives from the runtime that it borrows from."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pool._in_worker._answers import BorrowedDriver, Request
from pool._in_worker._borrowed import BorrowedRuntime
from pool._objects import _protocol as protocol
from pool._objects._refs import FAILED, READY
from pool._transport._channel import Channel
from pool._transport._messages import BLOCKED, RETURNS, UNBLOCKED
from pool._transport._sockets import socket_pair


@pytest.fixture
def ends() -> Iterator[tuple[BorrowedDriver, Channel]]:
    ours, theirs = socket_pair()
    driver, other = BorrowedDriver(Channel(ours)), Channel(theirs)
    yield driver, other
    driver.channel.close()
    driver.let_go()
    other.close()


class Sent:
    """In place of a channel: keep what is sent, and do something else meanwhile."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.meanwhile: Callable[[], object] | None = None

    def send(self, head: Any, blobs: Any = (), fds: Any = (), flags: int = 0) -> None:
        if head[0] == protocol.DO:
            self.said.append((head[1], pickle.loads(blobs[0])))
        else:
            self.said.append(head)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()


@pytest.fixture
def home() -> Iterator[BorrowedRuntime]:
    found = BorrowedRuntime(Sent(), lends_slot=False)  # type: ignore[arg-type]  # all it is asked
    line, found.channel = found.channel, Sent()  # type: ignore[assignment]  # as above
    yield found
    line.close()
    found.driver.let_go()


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


def test_a_name_has_one_reference(home: BorrowedRuntime) -> None:
    sent: Any = home.channel
    name = b"n" * 28
    found: list[Any] = []
    # As by another thread that came in while this one sent.
    sent.meanwhile = lambda: found.append(home.arrived("o", name))
    found.append(home.arrived("o", name))
    found.append(home.lent("o", name))
    assert found[0] is found[1] is found[2]
    sent.said.clear()
    del found[1:]
    home.tidy()
    assert not sent.said
    found.clear()
    home.tidy()
    assert sent.said == [("return", ([(name, 3)],))]


@pytest.mark.parametrize("ends", ["answer", "call"])
def test_a_slot_that_is_lent_for_a_future_is_taken_back_once(
    home: BorrowedRuntime, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(home, "_lends_slot", True)
    monkeypatch.setattr(home.lead, "ensure_stand_in", lambda: None)
    sent: Any = home.channel
    ref: Any = home.lent("o", b"n" * 28)
    future = home.future(ref)
    assert [head for head in sent.said if head in ((BLOCKED,), (UNBLOCKED,))] == [(BLOCKED,)]
    if ends == "call":
        home.end_call()
        assert sent.said[-1] == (UNBLOCKED,)
    (number,) = home.driver.requests
    home.driver.on_message((protocol.ANSWER, number, 0, READY), [pickle.dumps(5)])
    home.driver.calling.popleft().call_back()
    assert future.result(0) == 5
    home.end_call()
    assert sent.said.count((UNBLOCKED,)) == 1


def test_an_interrupt_does_not_part_a_promise_from_what_takes_the_slot_back(
    home: BorrowedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Struck(set[object]):
        def remove(self, promise: object) -> None:
            super().remove(promise)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(home, "_lends_slot", True)
    sent: Any = home.channel
    home.promises = Struck()
    home._lend_slot()
    with pytest.raises(KeyboardInterrupt):
        home.end_call()
    assert sent.said == [(BLOCKED,), (UNBLOCKED,)]


def test_an_interrupt_does_not_part_what_lends_the_slot_from_what_takes_it_back(
    home: BorrowedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "_lends_slot", True)
    sent: Any = home.channel
    sent.meanwhile = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        home._wait_for(Request(1), None)
    assert sent.said == [(BLOCKED,), (UNBLOCKED,)]
