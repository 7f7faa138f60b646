"""What a worker asks its parent for, and gets although it was interrupted or interrupts itself."""

from __future__ import annotations

from typing import Any

import pytest

from pool._transport._messages import CLIENT, NAME, NAMED
from pool._workers._lookups import NO_SUCH_NAME, Lookups


class Parent:
    """The worker's channel to its parent, who answers in its own order."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []

    def send(self, head: Any, blobs: Any = (), fds: Any = ()) -> None:
        assert head == (CLIENT,) and len(fds) == 1


class Connection:
    """The connection over which names are asked for; each step is what `receive` does next."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps
        self.sent: list[tuple[int, int, str]] = []

    def send(self, head: Any) -> None:
        self.sent.append(head)

    def receive(self) -> Any:
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step


def lookups(*steps: Any) -> tuple[Lookups, Connection]:
    made = Lookups(Parent())  # type: ignore[arg-type]  # what is used of it
    connection = Connection(list(steps))
    made._channel = connection  # type: ignore[assignment]  # what is used of it
    return made, connection


def test_a_name_is_asked_for() -> None:
    made, connection = lookups(((NAMED, 1, 1), [b"x"]))
    assert made.ask("one") == (1, [b"x"])
    assert connection.sent == [(NAME, 1, "one")]


def test_an_answer_that_nobody_waits_for_any_more_is_dropped() -> None:
    made, _ = lookups(KeyboardInterrupt(), ((NAMED, 1, 1), [b"late"]), ((NAMED, 2, 1), [b"x"]))
    with pytest.raises(KeyboardInterrupt):
        made.ask("one")
    assert made.ask("two") == (1, [b"x"])
    assert not made._waiting


def test_a_finalizer_asks_while_its_thread_waits_for_an_answer() -> None:
    inner: list[Any] = []

    def finalizer() -> Any:
        inner.append(made.ask("inner"))
        return (NAMED, 7, 0), []  # of nobody

    made, _ = lookups(finalizer, ((NAMED, 1, 1), [b"outer"]), ((NAMED, 2, 1), [b"inner"]))
    assert made.ask("outer") == (1, [b"outer"])
    assert inner == [(1, [b"inner"])]


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError()])
def test_the_parent_is_gone(error: Exception) -> None:
    made, _ = lookups(error)
    assert made.ask("one") == NO_SUCH_NAME
