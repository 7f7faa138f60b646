"""Whose chunks come next, and which ones share a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool._local._events import JobSubmitted
from pool._local._queue import JobQueue
from pool._local._records import Job


def queued(queue: JobQueue, job_id: int, chunks: int, **kinds: object) -> Job:
    depth, key = kinds.get("depth", 0), kinds.get("key", "key")
    final, timeout = kinds.get("final", True), kinds.get("timeout")
    event = JobSubmitted(job_id, chunks, final, key, depth, timeout, 0)  # type: ignore[arg-type]  # of any kind
    job = Job(event)
    queue.add(job, chunks)
    return job


def test_jobs_that_are_alike_share_a_message() -> None:
    queue = JobQueue()
    queued(queue, 1, 2)
    queued(queue, 2, 3)
    assert queue.take(4) == ([(1, 0, 2), (2, 0, 2)], 4, ["key"])
    assert queue.chunks == 1
    assert queue.take(4) == ([(2, 2, 3)], 1, ["key"])
    assert queue.chunks == 0


def test_chunks_of_a_job_that_workers_were_lost_with_join_no_message() -> None:
    queue = JobQueue()
    queued(queue, 1, 1)
    job = queued(queue, 2, 1)
    job.lose(0)
    assert queue.take(9)[0] == [(1, 0, 1)]
    assert queue.take(9)[0] == [(2, 0, 1)]


@pytest.mark.parametrize("kinds", [{"timeout": 1.0}, {"key": "other"}])
def test_chunks_that_join_no_message(kinds: dict[str, object]) -> None:
    queue = JobQueue()
    queued(queue, 1, 1)
    queued(queue, 2, 1, **kinds)
    assert queue.take(9)[0] == [(1, 0, 1)]
    assert queue.take(9)[0] == [(2, 0, 1)]


def test_jobs_of_other_cost_share_as_many_as_both_allow() -> None:
    queue = JobQueue()
    queued(queue, 1, 2, key="a")
    queued(queue, 2, 9, key="b")
    assert queue.take(8, {"b": 5}.__getitem__) == ([(1, 0, 2), (2, 0, 3)], 5, ["a", "b"])
    queue = JobQueue()
    queued(queue, 1, 2, key="a")
    queued(queue, 2, 9, key="b")
    assert queue.take(8, {"b": 2}.__getitem__) == ([(1, 0, 2)], 2, ["a"])


def test_deeper_jobs_come_first_and_share_with_their_like() -> None:
    queue = JobQueue()
    queued(queue, 1, 1)
    queued(queue, 2, 1, depth=2)
    queued(queue, 3, 1, depth=1)
    queued(queue, 4, 1, depth=2)
    assert [queue.take(9)[0] for _ in range(3)] == [
        [(2, 0, 1), (4, 0, 1)],
        [(3, 0, 1)],
        [(1, 0, 1)],
    ]


def test_jobs_that_may_grow_for_ever_take_turns() -> None:
    queue = JobQueue()
    queued(queue, 1, 4, final=False)
    queued(queue, 2, 4, final=False)
    assert [queue.take(2)[0][0][0] for _ in range(4)] == [1, 2, 1, 2]


def test_what_was_not_begun_is_next() -> None:
    queue = JobQueue()
    job = queued(queue, 1, 2)
    queued(queue, 2, 1)
    queue.take(2)
    queue.give_back(job, 0, 2)
    assert queue.take(1) == ([(1, 0, 1)], 1, ["key"])


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2), st.booleans())), st.integers(1, 7))
def test_each_chunk_is_taken_once(jobs: list[tuple[int, int, bool]], limit: int) -> None:
    queue = JobQueue()
    for job_id, (chunks, depth, final) in enumerate(jobs):
        queued(queue, job_id, chunks, depth=depth, final=final)
    taken = []
    while queue.chunks:
        runs, count, _ = queue.take(limit)
        assert 0 < count <= limit
        assert count == sum(stop - start for _, start, stop in runs)
        taken += [(job_id, index) for job_id, *span in runs for index in range(*span)]
    assert sorted(taken) == [
        (job_id, index) for job_id, (chunks, _, _) in enumerate(jobs) for index in range(chunks)
    ]
