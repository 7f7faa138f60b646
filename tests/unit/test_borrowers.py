"""What the runtime keeps of what a borrower asks, and for how long."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pool._objects import _protocol as protocol
from pool._objects._parcels import Sealed
from pool._objects._refs import FAILED, READY, ObjectRef
from pool._pickling import loads
from pool._runtime import _borrowers
from pool._runtime._actors import Actor
from pool._runtime._borrowers import Borrower
from pool._runtime._lending import Lending
from pool._runtime._streams import Stream


class Line:
    """In place of a `Link`."""

    def __init__(self, driver: Any, channel: Any, *told: Any) -> None:
        self.sent: list[Any] = []
        self.blobs: list[Any] = []

    def send(self, head: Any, blobs: Any = ()) -> None:
        self.sent.append(head)
        self.blobs.append(blobs)


@pytest.fixture
def borrower(monkeypatch: pytest.MonkeyPatch) -> Iterator[Borrower]:
    monkeypatch.setattr(_borrowers, "Link", Line)
    lending = SimpleNamespace(gone=lambda borrower, worker_id, handed: None)
    runtime: Any = SimpleNamespace(
        driver=None, foreign=False, named={}, seals=0, failures=0, lending=lending, streams={}
    )
    return Borrower(runtime, None, 1)  # type: ignore[arg-type]  # not asked


def lend(borrower: Borrower, number: int) -> list[ObjectRef]:
    refs = [ObjectRef(borrower._runtime) for _ in range(number)]
    borrower._lend_all(refs)
    return refs


def ask(borrower: Borrower, request: int, verb: str, *args: Any) -> None:
    borrower._on_message(borrower.link, (protocol.ASK, request, verb), [pickle.dumps(args)], [])


def names(refs: list[ObjectRef]) -> list[bytes]:
    return [ref.binary() for ref in refs]


def indexes(borrower: Borrower) -> list[int]:
    line: Any = borrower.link
    return [index for _, _, index, _ in line.sent]


def test_nothing_is_left_of_what_was_answered(borrower: Borrower) -> None:
    refs = lend(borrower, 3)
    refs[1]._seal(READY, 1)
    ask(borrower, 1, "get", names(refs))
    ask(borrower, 2, "are ready", names(refs))
    ask(borrower, 3, "wait", names(refs), 2)
    assert indexes(borrower) == [1, 0]
    refs[0]._seal(READY, 0)
    assert 3 not in borrower._requests
    refs[2]._seal(READY, 2)
    assert sorted(indexes(borrower)) == [0, 0, 0, 1, 2]
    assert not borrower._requests


def test_nothing_is_left_of_what_failed(borrower: Borrower) -> None:
    ask(borrower, 1, "next", b"no such stream", 0)
    assert indexes(borrower) == [protocol.ALL]
    assert not borrower._requests


def test_a_value_without_memory_to_send_it_is_an_error_of_who_asked(
    borrower: Borrower, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(content: object) -> None:
        raise MemoryError("none left")

    ref, inside = ObjectRef(borrower._runtime), ObjectRef(borrower._runtime)
    borrower._lend(ref)
    ask(borrower, 1, "get", names([ref]))
    monkeypatch.setattr(_borrowers, "encode", refuse)
    ref._seal(READY, Sealed(b"", [], [inside]))  # as the driver does, which must not get an error
    line: Any = borrower.link
    assert line.sent == [(protocol.ANSWER, 1, 0, FAILED)]
    error = loads(line.blobs[0][0], line.blobs[0][1:])
    assert type(error) is MemoryError and str(error) == "none left"
    assert not borrower._requests and inside.binary() not in borrower._loans


@pytest.mark.parametrize("is_read", [True, False])
def test_a_value_that_cannot_be_taken_in_ends_its_stream(borrower: Borrower, is_read: bool) -> None:
    stream = Stream(borrower._runtime)
    stream.add(0, "first")
    if not is_read:
        del borrower._runtime.streams[stream.name]
    borrower._on_message(borrower.link, (protocol.DO, "yield", (stream.name,)), [b"no pickle"], [])
    assert stream.knows(1) is is_read and stream.is_over(2) is is_read


@pytest.mark.parametrize("end", ["forget", "gone"])
def test_nothing_is_left_with_objects_of_what_was_given_up(borrower: Borrower, end: str) -> None:
    refs = lend(borrower, 2)
    ask(borrower, 1, "get", names(refs))
    ask(borrower, 2, "wait", names(refs), 1)
    assert all(ref._watchers for ref in refs)
    if end == "forget":
        borrower._forget(1)
        borrower._forget(2)
    else:
        borrower._gone()
    assert not borrower._requests
    assert not any(ref._watchers for ref in refs)
    for ref in refs:
        ref._seal(READY, None)
    assert not indexes(borrower)


def test_what_is_handed_over_is_taken_from_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_borrowers, "Link", Line)
    monkeypatch.setattr(Line, "drain", lambda line: None, raising=False)
    runtime: Any = SimpleNamespace(driver=SimpleNamespace(dirty=[]), named={}, seals=0)
    lending = Lending(runtime)
    one, other = (object.__new__(Actor) for _ in range(2))
    for actor in (one, other):
        lending.admit(actor, None)  # type: ignore[arg-type]  # as above
    ref = ObjectRef(runtime)
    for borrower in lending.borrowers:
        borrower._hand_over([ref])
    lending.taken_over([ref], other)
    lending.flush()
    assert [dict(borrower._handed) for borrower in lending.borrowers] == [{ref: 1}, {}]
    lending.taken_over([ref])
    lending.flush()
    assert not any(borrower._handed for borrower in lending.borrowers)


def test_what_a_task_yields_was_not_handed_over() -> None:
    runtime: Any = SimpleNamespace(streams={}, seals=0, named={}, lending=None)
    Stream(runtime).add(0, Sealed(b"", [], [ObjectRef(runtime)]))
