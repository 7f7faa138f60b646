"""The scheduler, race by race: deaths, retries, deadlines, short memory."""

from __future__ import annotations

import pytest
from schedulertable import QUICK, SLOW, Table, chunks_of, only, sent

from pool._errors import InvalidTransition
from pool._local._events import (
    AbortJobs,
    CancelRequested,
    ChunksAdded,
    DeadlinePassed,
    Deliver,
    FailChunk,
    FinishJob,
    KillWorker,
    MemoryShort,
    MessagesReclaimed,
    PoolTerminated,
    Reclaim,
    Send,
    StartWorker,
    WorkerBlocked,
    WorkerExited,
    WorkerReady,
    WorkerRefused,
    WorkerUnblocked,
)
from pool._local._interrupts import GRACE
from pool._local._records import LOSSES
from pool._local._staffing import START_ATTEMPTS

# --- deaths ----------------------------------------------------------------------------


def test_chunk_running_in_dead_worker_fails_and_the_rest_runs_elsewhere() -> None:
    table = Table(processes=2)
    table.learn(0, QUICK, chunks=100)
    sends = only(table.submit(1, chunks=16), Send)
    lost = [send for send in sends if send.worker_id == 1]
    start, stop = lost[0].runs[0][1:]
    table.answer(lost[0], done=1, final=False)
    commands = table(WorkerExited(1, lost[0].message_id))
    assert only(commands, FailChunk) == [FailChunk(1, start + 1, False)]
    assert only(commands, StartWorker) == [StartWorker(3)]
    assert table.scheduler.restarts == 1
    table(WorkerReady(3))
    waiting = [send for send in sends if send.worker_id == 2] + only(commands, Send)
    run = [(1, start), (1, start + 1)]
    while waiting:
        send = waiting.pop(0)
        run += chunks_of([send])
        waiting += only(table.answer(send, done=len(chunks_of([send]))), Send)
    assert sorted(run) == [(1, index) for index in range(16)]
    assert not table.scheduler.jobs


def test_worker_that_dies_idle_is_replaced_and_nothing_fails() -> None:
    table = Table()
    assert table(WorkerExited(1)) == [StartWorker(3)]
    assert sorted(table.scheduler.workers) == [2, 3]


def test_message_not_begun_by_dead_worker_runs_elsewhere() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    commands = table(WorkerExited(1))
    assert only(commands, FailChunk) == []
    assert chunks_of(commands) == [(1, 0)]
    assert sent(commands)[2].message_id != send.message_id


@pytest.mark.parametrize("retries", [0, 1])
def test_chunk_that_no_worker_can_receive_fails_in_the_end(retries: int) -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    send, ahead = table.submit(1, chunks=3, retries=retries)
    assert chunks_of([send]) == [(1, 0), (1, 1)]
    table(MessagesReclaimed(send.worker_id, (ahead.message_id,)))
    for _ in range(LOSSES + retries):
        commands = table(WorkerExited(send.worker_id, None, True, send.message_id))
        assert only(commands, FailChunk) == []
        send, ahead = only(commands, Send)
        assert chunks_of([send]) == [(1, 0)]  # alone: it may be any of them
        table(WorkerReady(send.worker_id))
        table(MessagesReclaimed(send.worker_id, (ahead.message_id,)))
    commands = table(WorkerExited(send.worker_id, None, True, send.message_id))
    assert only(commands, FailChunk) == [FailChunk(1, 0, False, False)]
    assert chunks_of(commands) == [(1, 1), (1, 2)]


def test_chunks_that_were_never_sent_to_workers_that_end_do_not_fail() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    for _ in range(2 * LOSSES):
        commands = table(WorkerExited(send.worker_id))
        assert only(commands, FailChunk) == []
        (send,) = only(commands, Send)
        table(WorkerReady(send.worker_id))


def test_last_chunk_finished_but_not_answered_before_death_does_not_fail() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    # What the journal kept is answered first, then the exit names the message.
    assert table.answer(send, final=False) == [Deliver(1, 0, 1, 0), FinishJob(1)]
    assert table(WorkerExited(1, send.message_id)) == [StartWorker(2)]


def test_late_answer_after_exit_is_dropped() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    assert FailChunk(1, 0, False) in table(WorkerExited(1, send.message_id))
    assert table.answer(send) == []
    assert table.scheduler.tasks_done == 0


def test_late_reclaim_after_exit_is_dropped() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table(WorkerExited(1))
    assert table(MessagesReclaimed(1, (send.message_id,))) == []
    assert table(WorkerReady(1)) == []
    assert table(WorkerBlocked(1)) == []
    assert table(WorkerUnblocked(1)) == []


def test_second_exit_of_a_worker_is_refused() -> None:
    table = Table()
    table(WorkerExited(1))
    with pytest.raises(InvalidTransition, match="no such worker"):
        table.scheduler.handle(WorkerExited(1), 0.0)


def test_all_workers_killed_at_once_are_all_replaced() -> None:
    table = Table(processes=3)
    table.learn(0, SLOW)
    sends = sent(table.submit(1, chunks=4))
    failed = []
    for worker_id, send in sends.items():
        failed += only(table(WorkerExited(worker_id, send.message_id)), FailChunk)
    assert [failure.index for failure in failed] == [0, 1, 2]
    assert sorted(table.scheduler.workers) == [4, 5, 6]


def test_failing_chunk_finishes_its_job() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    commands = table(WorkerExited(1, send.message_id))
    assert commands[:2] == [FailChunk(1, 0, False), FinishJob(1)]


def test_worker_ids_and_message_ids_are_never_used_again() -> None:
    table = Table(processes=1)
    seen: list[int] = []
    for number in range(1, 6):
        (send,) = table.submit(number)
        seen.append(send.message_id)
        assert send.worker_id == number
        table(WorkerReady(number))
        table(WorkerExited(number, send.message_id))
    assert len(set(seen)) == 5


# --- a pool that cannot work -----------------------------------------------------------


def test_refusing_initializer_breaks_the_pool() -> None:
    table = Table(processes=2, ready=False)
    table.submit(1, chunks=3)
    commands = table(WorkerRefused(1))
    assert commands == [AbortJobs((1,)), KillWorker(1), KillWorker(2)]
    assert table.scheduler.broken
    assert table(WorkerExited(1)) == []
    assert table(WorkerExited(2)) == []
    assert table.submit(2) == [AbortJobs((2,))]


def test_workers_that_die_while_starting_break_the_pool_after_some_attempts() -> None:
    table = Table(processes=1, ready=False)
    table.submit(1)
    for attempt in range(1, START_ATTEMPTS):
        commands = table(WorkerExited(attempt))
        assert only(commands, StartWorker) == [StartWorker(attempt + 1)]
        assert chunks_of(commands) == [(1, 0)]
        assert not table.scheduler.staff.gave_up
    assert table(WorkerExited(START_ATTEMPTS)) == [AbortJobs((1,))]
    assert table.scheduler.staff.gave_up
    assert not table.scheduler.workers


def test_workers_that_are_killed_along_with_another_one_do_not_count() -> None:
    table = Table(processes=5, ready=False)
    table.submit(1)
    for first in range(1, 5 * START_ATTEMPTS, 5):
        assert not table.scheduler.staff.gave_up
        for number in range(first, first + 5):
            table(WorkerExited(number, alone=number == first))
    assert table.scheduler.staff.gave_up


def test_one_worker_that_gets_ready_makes_up_for_those_that_died_starting() -> None:
    table = Table(processes=1, ready=False)
    for number in range(1, 3 * START_ATTEMPTS, 2):
        table(WorkerExited(number))
        table(WorkerReady(number + 1))
        table(WorkerExited(number + 1))
    assert not table.scheduler.broken


def test_broken_pool_forgets_deadlines_and_ignores_what_comes_late() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, chunks=2, timeout=5.0)
    assert table.scheduler.next_deadline() == 5.0
    table(PoolTerminated())
    assert table(ChunksAdded(1, 1, True)) == []
    assert table.answer(send) == []
    assert table(CancelRequested(1)) == []
    assert table.scheduler.next_deadline() is None


def test_terminate_aborts_every_job_once() -> None:
    table = Table(processes=1)
    table.submit(1, chunks=5)
    table.submit(2, chunks=5)
    assert table(PoolTerminated()) == [AbortJobs((1, 2))]
    assert table(PoolTerminated()) == [AbortJobs(())]
    assert not table.scheduler.jobs


# --- retries ---------------------------------------------------------------------------


def test_retry_of_a_failed_chunk_is_not_delivered_until_it_succeeds() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, retries=2)
    (again,) = table.answer(send, failed=(0,))
    assert again.runs == [(1, 0, 1)]
    assert table.answer(again) == [Deliver(1, 0, 1, 0), FinishJob(1)]


def test_retries_are_counted_per_chunk_and_end() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    commands = table.submit(1, chunks=2, retries=1)
    attempts = {0: 0, 1: 0}
    while sends := only(commands, Send):
        (send,) = sends
        attempts[send.runs[0][1]] += 1
        commands = table.answer(send, failed=(0,))
    assert attempts == {0: 2, 1: 2}
    assert commands[-1] == FinishJob(1)


def test_retry_of_a_chunk_whose_worker_died() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, retries=1)
    commands = table(WorkerExited(1, send.message_id))
    assert only(commands, FailChunk) == []
    assert chunks_of(commands) == [(1, 0)]
    table(WorkerReady(2))
    commands = table(WorkerExited(2, sent(commands)[2].message_id))
    assert only(commands, FailChunk) == [FailChunk(1, 0, False)]


def test_retry_keeps_the_outcomes_around_it() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first = only(table.submit(1, chunks=8, retries=1), Send)[0]
    assert first.runs == [(1, 0, 4)]
    commands = table.answer(first, done=4, failed=(1,))
    assert only(commands, Deliver) == [
        Deliver(1, 0, 1, 0),
        Deliver(1, 2, 3, 2),
        Deliver(1, 3, 4, 3),
    ]
    assert (1, 1) in chunks_of(commands)


def test_retry_goes_to_an_idle_worker_although_the_message_goes_on() -> None:
    table = Table(processes=2)
    table.learn(0, QUICK, chunks=100)
    sends = only(table.submit(1, chunks=8, retries=1), Send)
    long, ahead = (send for send in sends if send.worker_id == 1)
    assert len(chunks_of([long])) == 2
    waiting = [send for send in sends if send.worker_id == 2]
    while waiting:
        send = waiting.pop(0)
        commands = table.answer(send, done=len(chunks_of([send])))
        if Reclaim(1) in commands:
            commands += table(MessagesReclaimed(1, (ahead.message_id,)))
        waiting += only(commands, Send)
    first = long.runs[0][1]
    commands = table.answer(long, final=False, failed=(0,))
    assert sent(commands)[2].runs == [(1, first, first + 1)]


def test_cancelled_job_is_not_tried_again() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, retries=5)
    table(CancelRequested(1))
    assert table.answer(send, failed=(0,)) == []


# --- time ------------------------------------------------------------------------------


def test_timeout_kills_the_worker_and_fails_that_chunk_alone() -> None:
    table = Table(processes=1)
    table.now = 100.0
    (send,) = table.submit(1, chunks=3, timeout=2.0)
    assert table.scheduler.next_deadline() == 102.0
    table.now = 101.9
    assert table(DeadlinePassed()) == []
    table.now = 102.0
    assert KillWorker(1) in table(DeadlinePassed())
    commands = table(WorkerExited(1, send.message_id))
    assert only(commands, FailChunk) == [FailChunk(1, 0, True)]
    assert table.scheduler.jobs


def test_chunks_against_the_clock_travel_alone_and_nothing_waits_behind_them() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    assert [send.runs for send in table.submit(1, chunks=50, timeout=1.0)] == [[(1, 0, 1)]]
    assert table.submit(2, chunks=50) == []


def test_last_chunk_against_the_clock_is_not_joined_by_the_next_job() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    (send,) = table.submit(1, chunks=2, timeout=1.0)
    table.submit(2, chunks=10)
    (send,) = only(table.answer(send), Send)
    assert send.runs == [(1, 1, 2)]
    assert table.scheduler.next_deadline() == 1.0
    assert {job_id for job_id, _ in chunks_of(table.answer(send))} == {2}


def test_chunk_against_the_clock_is_not_sent_ahead() -> None:
    table = Table(processes=1)
    table.submit(1, chunks=1)
    assert table.submit(2, chunks=1, timeout=1.0) == []


def test_message_before_one_against_the_clock_has_no_deadline() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first, second = table.submit(1, chunks=2)
    table.submit(2, chunks=1)
    table.submit(3, chunks=1, timeout=1.0)
    table.submit(4, chunks=1)
    (send,) = only(table.answer(first), Send)
    assert send.runs == [(2, 0, 1)]
    assert table.scheduler.next_deadline() is None


def test_answer_in_time_ends_the_deadline() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, timeout=1.0)
    table.answer(send)
    assert table.scheduler.next_deadline() is None
    table.now = 5.0
    assert table(DeadlinePassed()) == []


def test_clock_starts_with_the_worker_not_before() -> None:
    table = Table(processes=1, ready=False)
    (send,) = table.submit(1, timeout=1.0)
    # A slow initializer is not the task's fault.
    assert table.scheduler.next_deadline() is None
    table.now = 50.0
    assert table(DeadlinePassed()) == []
    table(WorkerReady(1))
    assert table.scheduler.next_deadline() == 51.0
    assert table.answer(send) == [Deliver(1, 0, 1, 0), FinishJob(1)]


def test_late_answer_after_kill_counts_and_its_worker_gets_nothing_more() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, chunks=2, timeout=1.0)
    table.now = 1.0
    commands = table(DeadlinePassed())
    assert commands[:2] == [KillWorker(1), StartWorker(2)]
    # Its replacement goes on meanwhile; the answer was quicker than the signal.
    assert sent(commands)[2].runs == [(1, 1, 2)]
    assert table.answer(send) == [Deliver(1, 0, 1, 0)]
    # Whatever it were sent now would die an innocent death.
    commands = table.submit(2)
    assert 1 not in sent(commands)
    assert only(table(WorkerExited(1)), FailChunk) == []


def test_late_answer_after_kill_is_dropped_when_the_exit_came_first() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, timeout=1.0)
    table.now = 1.0
    table(DeadlinePassed())
    assert FailChunk(1, 0, True) in table(WorkerExited(1, send.message_id))
    assert table.answer(send) == []


def test_timed_out_worker_counts_as_a_restart() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, timeout=1.0)
    table.now = 1.0
    table(DeadlinePassed())
    table(WorkerExited(1, send.message_id))
    assert table.scheduler.restarts == 1


def test_timed_out_chunk_is_tried_again_with_a_fresh_clock() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, timeout=1.0, retries=1)
    table.now = 1.0
    table(DeadlinePassed())
    commands = table(WorkerExited(1, send.message_id))
    assert only(commands, FailChunk) == []
    again = sent(commands)[2]
    table.now = 3.0
    table(WorkerReady(2))
    assert table.scheduler.next_deadline() == 4.0
    table.now = 4.0
    table(DeadlinePassed())
    assert FailChunk(1, 0, True) in table(WorkerExited(2, again.message_id))


def test_deadline_passes_once() -> None:
    table = Table(processes=1)
    table.submit(1, timeout=1.0)
    table.now = 2.0
    assert KillWorker(1) in table(DeadlinePassed())
    assert table.scheduler.next_deadline() is None
    assert table(DeadlinePassed()) == []


def test_earliest_of_several_deadlines_is_next() -> None:
    table = Table(processes=2)
    table.submit(1, timeout=5.0)
    table.submit(2, timeout=3.0)
    assert table.scheduler.next_deadline() == 3.0
    table(CancelRequested(1))
    assert table.scheduler.next_deadline() == GRACE


# --- memory ----------------------------------------------------------------------------


def test_short_memory_ends_one_worker_and_fails_what_it_ran() -> None:
    table = Table(processes=2)
    table.learn(0, SLOW)
    first, second = table.submit(1, chunks=3)
    # Its place is taken only when its memory is free.
    victim = first.worker_id
    assert table(MemoryShort(victim)) == [KillWorker(victim)]
    commands = table(WorkerExited(victim, first.message_id))
    assert only(commands, FailChunk) == [FailChunk(1, 0, False)]
    assert only(commands, StartWorker) == [StartWorker(3)]
    assert sent(commands)[3].runs == [(1, 2, 3)]
    assert Deliver(1, 1, 2, 0) in table.answer(second)
    assert table.scheduler.restarts == 1


def test_answer_quicker_than_the_end_for_memory_counts() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table(MemoryShort(1))
    assert table.answer(send) == [Deliver(1, 0, 1, 0), FinishJob(1)]
    assert table.submit(2) == []
    commands = table(WorkerExited(1))
    assert only(commands, FailChunk) == []
    assert sent(commands)[2].runs == [(2, 0, 1)]


def test_what_waits_behind_the_task_that_took_the_memory_is_taken_back_first() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK)
    running, waiting = only(table.submit(1, chunks=2), Send)
    # Else it might begin before the signal comes, and be lost in place of the other.
    assert table(MemoryShort(1)) == [Reclaim(1), KillWorker(1)]
    assert table(MessagesReclaimed(1, (waiting.message_id,))) == []
    commands = table(WorkerExited(1, running.message_id))
    assert only(commands, FailChunk) == [FailChunk(1, 0, False)]
    assert sent(commands)[2].runs == [(1, 1, 2)]


def test_idle_worker_that_holds_much_is_replaced() -> None:
    table = Table(processes=1)
    assert table(MemoryShort(1)) == [KillWorker(1)]
    assert table.scheduler.loans.lendable() is None
    assert table(WorkerExited(1)) == [StartWorker(2)]
    assert table(MemoryShort(1)) == []


def test_task_that_took_the_memory_is_tried_again_only_if_asked() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, retries=1)
    table(MemoryShort(1))
    commands = table(WorkerExited(1, send.message_id))
    assert only(commands, FailChunk) == []
    again = sent(commands)[2]
    table(WorkerReady(2))
    table(MemoryShort(2))
    assert FailChunk(1, 0, False) in table(WorkerExited(2, again.message_id))
