"""The scheduler, race by race: messages that are stuck in a slow chunk."""

from __future__ import annotations

from typing import Any

import pytest
from schedulertable import Table, chunks_of, only, sent

from pool._local._events import (
    DeadlinePassed,
    Deliver,
    FinishJob,
    Halt,
    RestReturned,
    Send,
    TakeRest,
    WorkerExited,
    WorkerReady,
)
from pool._local._records import Message
from pool._local._stragglers import PATIENCE, SETTLE


@pytest.fixture
def table() -> Table:
    """Two workers, one of which has nothing to do, and functions that are known to be quick."""
    table = Table(processes=2)
    table.learn(0, 1e-6, chunks=1000)
    return table


def later(table: Table, seconds: float) -> list[Any]:
    table.now += seconds
    return table(DeadlinePassed())


def test_what_is_behind_a_slow_chunk_is_taken_and_given_to_others(table: Table) -> None:
    (send,) = table.submit(1, chunks=2)
    assert send.runs == [(1, 0, 2)]
    assert table.scheduler.timed
    assert table.scheduler.next_deadline() == pytest.approx(PATIENCE)
    assert later(table, PATIENCE) == [Halt(send.worker_id, send.message_id)]
    assert table.scheduler.next_deadline() == pytest.approx(table.now + SETTLE)
    assert later(table, SETTLE) == [TakeRest(send.worker_id, send.message_id)]
    commands = table(RestReturned(send.worker_id, send.message_id, 1))
    (other,) = sent(commands).values()
    assert other.worker_id != send.worker_id
    assert other.runs == [(1, 1, 2)]
    assert table.answer(other) == [Deliver(1, 1, 2, 0)]
    assert table.answer(send) == [Deliver(1, 0, 1, 0), FinishJob(1)]


def test_a_worker_that_was_quicker_is_looked_after_again(table: Table) -> None:
    """Its parent may be held up between looking and telling: the worker is far beyond by then."""
    (send,) = table.submit(1, chunks=2)
    for _ in range(3):
        assert later(table, PATIENCE) == [Halt(send.worker_id, send.message_id)]
        assert later(table, SETTLE) == [TakeRest(send.worker_id, send.message_id)]
        assert table.scheduler.next_deadline() == pytest.approx(table.now + PATIENCE)
    table(RestReturned(send.worker_id, send.message_id, 1))
    assert later(table, PATIENCE) == []
    assert table.scheduler.next_deadline() is None


def test_each_of_two_messages_has_its_own_time(table: Table) -> None:
    """What the worker has noted counts when `SETTLE` has passed, whoever is looked at meanwhile."""

    def at(time: float) -> list[Any]:
        table.now = time
        return table(DeadlinePassed())

    (early,) = table.submit(1, chunks=2)
    begun = SETTLE / 2
    assert at(begun) == [], "before the time nothing is due"
    (late,) = table.submit(2, chunks=2)
    assert table.scheduler.next_deadline() == PATIENCE, "the earlier one is next"
    assert at(PATIENCE) == [Halt(early.worker_id, early.message_id)]
    assert table.scheduler.next_deadline() == begun + PATIENCE
    assert at(begun + PATIENCE) == [Halt(late.worker_id, late.message_id)]
    assert table.scheduler.next_deadline() == PATIENCE + SETTLE
    assert at(PATIENCE + SETTLE) == [TakeRest(early.worker_id, early.message_id)]
    assert table.scheduler.next_deadline() == begun + PATIENCE + SETTLE
    assert at(begun + PATIENCE + SETTLE) == [TakeRest(late.worker_id, late.message_id)]


@pytest.mark.parametrize("first", [1, 2])
def test_the_one_that_is_due_first_is_looked_at_first(table: Table, first: int) -> None:
    sends = {}
    for job_id in (1, 2):
        (send,) = table.submit(job_id, chunks=3)
        sends[send.worker_id] = send
    table.now = PATIENCE / 2
    table.answer(sends.pop(3 - first), done=1, final=False)
    assert later(table, PATIENCE / 2) == [Halt(first, sends[first].message_id)]
    assert table.scheduler.next_deadline() == pytest.approx(PATIENCE + SETTLE)
    later(table, SETTLE)
    assert table.scheduler.next_deadline() == pytest.approx(1.5 * PATIENCE)


def test_a_message_behind_another_one_does_not_make_that_seem_new() -> None:
    table = Table(processes=1)
    table.learn(0, 1e-6, chunks=1000)
    (first,) = table.submit(1, chunks=2)
    assert len(chunks_of([first])) == 2
    table.now = PATIENCE / 2
    assert only(table.submit(2, chunks=2000), Send), "the other one is sent ahead"
    assert later(table, PATIENCE / 2) == [Halt(1, first.message_id)]


def test_nothing_is_done_about_a_message_that_gets_on(table: Table) -> None:
    (send,) = table.submit(1, chunks=6)
    table.now += PATIENCE / 2
    table.answer(send, done=1, final=False)
    assert later(table, PATIENCE / 2) == []
    assert table.scheduler.next_deadline() == pytest.approx(PATIENCE * 1.5)
    assert table.answer(send, done=5) == [Deliver(1, 1, 6, 0), FinishJob(1)]
    assert table.scheduler.next_deadline() is None


def test_a_message_that_waited_behind_a_single_slow_chunk_is_looked_after() -> None:
    table = Table(processes=1)
    table.learn(0, 1e-4, chunks=1000)
    first, second = only(table.submit(1, chunks=9), Send)
    (_, start, stop) = first.runs[0]
    table.answer(first, done=stop - start - 1, final=False)
    assert later(table, PATIENCE) == []  # one chunk is nothing to look after
    table.answer(first)
    assert later(table, PATIENCE) == [Halt(second.worker_id, second.message_id)]


def test_a_chunk_that_travels_alone_is_nothing_to_look_after() -> None:
    table = Table(processes=2)
    assert len(table.submit(1, chunks=2)) == 2
    assert table.scheduler.next_deadline() is None


def test_chunks_before_the_slow_one_stay_with_it(table: Table) -> None:
    """They were finished, and their outcomes may be on their way."""
    (send,) = table.submit(1, chunks=6)
    later(table, PATIENCE)
    later(table, SETTLE)
    commands = table(RestReturned(send.worker_id, send.message_id, 3))
    assert sorted(chunks_of(commands)) == [(1, 3), (1, 4), (1, 5)]
    assert table.answer(send, done=3) == [Deliver(1, 0, 3, 0)]


@pytest.mark.parametrize(
    ("kept", "runs", "rest"),
    [
        (1, [(1, 0, 1)], [(1, 1, 2), (2, 0, 1), (3, 4, 6)]),
        (2, [(1, 0, 2)], [(2, 0, 1), (3, 4, 6)]),
        (4, [(1, 0, 2), (2, 0, 1), (3, 4, 5)], [(3, 5, 6)]),
        (5, [(1, 0, 2), (2, 0, 1), (3, 4, 6)], []),
    ],
)
def test_a_message_is_cut_across_jobs(kept: int, runs: list[Any], rest: list[Any]) -> None:
    message = Message(1, [(1, 0, 2), (2, 0, 1), (3, 4, 6)], 5, [])
    assert message.cut(kept) == rest
    assert (message.runs, message.chunks) == (runs, kept)


def test_a_worker_that_ends_meanwhile_has_nothing_to_take(table: Table) -> None:
    (send,) = table.submit(1, chunks=2)
    later(table, PATIENCE)
    commands = table(WorkerExited(send.worker_id, send.message_id))
    assert len(sent(commands)) == 1
    table(WorkerReady(3))
    assert only(later(table, SETTLE), TakeRest) == []
    # Said by the driver before it heard of the end.
    assert table(RestReturned(send.worker_id, send.message_id, 1)) == []


def test_the_answer_may_overtake_what_was_taken(table: Table) -> None:
    (send,) = table.submit(1, chunks=2)
    later(table, PATIENCE)
    later(table, SETTLE)
    commands = table.answer(send, done=1)
    assert only(commands, Deliver) == [Deliver(1, 0, 1, 0)]
    assert chunks_of(commands) == [(1, 1)], "it halted, and handed back what it had not begun"
    assert table(RestReturned(send.worker_id, send.message_id, 1)) == []
