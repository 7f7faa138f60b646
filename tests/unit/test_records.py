"""The scheduler's records: which chunks of a job are still to be sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pool._local._events import JobSubmitted
from pool._local._records import Job, Message, Worker


def job(chunks: int, final: bool = True, retries: int = 0) -> Job:
    return Job(JobSubmitted(7, chunks, final, 0, 0, None, retries))


def test_chunks_are_cut_off_from_the_front() -> None:
    record = job(10)
    assert [record.take(4), record.take(4), record.take(4)] == [(7, 0, 4), (7, 4, 8), (7, 8, 10)]
    assert record.unsent == 0
    assert record.pending == 10


def test_chunks_that_came_back_go_first() -> None:
    record = job(10)
    record.take(6)
    assert record.give_back(2, 5) == 3
    assert record.unsent == 7
    assert record.take(2) == (7, 2, 4)
    assert record.take(9) == (7, 4, 5)
    assert record.take(9) == (7, 6, 10)


def test_attempts_are_counted_per_chunk() -> None:
    record = job(3, retries=2)
    assert [record.try_again(1) for _ in range(4)] == [True, True, False, False]
    assert record.try_again(2) is True
    assert job(3).try_again(0) is False


def test_chunk_that_was_not_sent_can_be_skipped() -> None:
    record = job(5)
    assert record.skip(2) is True
    assert record.unsent == 4
    taken = {index for _ in range(3) for index in range(*record.take(9)[1:])}
    assert taken == {0, 1, 3, 4}


def test_chunk_that_came_back_can_be_skipped() -> None:
    for index, left in ((0, {1, 2}), (1, {0, 2}), (2, {0, 1})):
        record = job(3)
        record.take(3)
        record.give_back(0, 3)
        assert record.skip(index) is True
        assert record.unsent == 2
        assert {i for start, stop in record.returned for i in range(start, stop)} == left


def test_chunk_that_is_out_cannot_be_skipped() -> None:
    record = job(3)
    record.take(2)
    assert record.skip(1) is False
    assert record.unsent == 1


def test_skipped_chunk_that_comes_back_is_dropped() -> None:
    record = job(4, retries=1)
    record.take(4)
    record.skipped = {1}
    assert record.try_again(1) is False
    assert record.give_back(0, 3) == 2
    assert (record.unsent, record.pending) == (2, 3)
    assert record.skipped == set()


def test_message_knows_what_it_still_holds() -> None:
    message = Message(1, [(3, 0, 2), (4, 5, 6)], 3, "key")
    assert message.holds(3, None)
    assert message.holds(3, 1)
    assert not message.holds(3, 2)
    assert message.holds(4, 5)
    assert not message.holds(5, None)


def test_worker_is_exclusive_while_it_runs_against_the_clock() -> None:
    worker = Worker(1, None)
    assert not worker.exclusive
    message = worker.messages[1] = Message(1, [(1, 0, 1)], 1, 0)
    assert not worker.exclusive
    # Also before the clock has started, and after it has run out.
    message.timeout = 0.0
    assert worker.exclusive


@given(
    chunks=st.integers(0, 30),
    acts=st.lists(
        st.tuples(st.sampled_from(["take", "return", "skip"]), st.integers(0, 29)), max_size=60
    ),
)
def test_every_chunk_is_in_one_place(chunks: int, acts: list[tuple[str, int]]) -> None:
    record = job(chunks)
    out: set[int] = set()
    waiting = set(range(chunks))
    for act, number in acts:
        if act == "take" and record.unsent:
            _, start, stop = record.take(1 + number % 5)
            assert start < stop, "an empty run"
            assert waiting.issuperset(range(start, stop))
            waiting.difference_update(range(start, stop))
            out.update(range(start, stop))
        elif act == "return" and number in out:
            out.discard(number)
            waiting.add(number)
            assert record.give_back(number, number + 1) == 1
        elif act == "skip" and number < chunks:
            assert record.skip(number) is (number in waiting)
            waiting.discard(number)
        assert record.unsent == len(waiting)
