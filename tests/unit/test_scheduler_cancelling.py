"""The scheduler, race by race: what is called off."""

from __future__ import annotations

import pytest
from schedulertable import QUICK, SLOW, Table, chunks_of, only, sent

from pool._errors import InvalidTransition
from pool._local._events import (
    ASK,
    EXIT,
    KILL,
    CancelRequested,
    ChunksAdded,
    DeadlinePassed,
    Deliver,
    DropChunk,
    FailChunk,
    FinishJob,
    Interrupt,
    InterruptMissed,
    MessagesReclaimed,
    RecallHeard,
    RecallRequested,
    Reclaim,
    Send,
    StartWorker,
    StopWorker,
    WorkerExited,
)
from pool._local._interrupts import AGAIN, GRACE, Interrupts

# --- cancellation ----------------------------------------------------------------------


def test_cancel_drops_the_queue_and_interrupts_what_runs() -> None:
    table = Table(processes=1)
    first, second = table.submit(1, chunks=10)
    commands = table(CancelRequested(1))
    # The mailbox first: only then is it clear what the worker can have read.
    assert commands == [
        Reclaim(1),
        Interrupt(1, first.message_id, 1, None, False),
        Interrupt(1, second.message_id, 1, None, False),
    ]
    assert table.scheduler.queued == 0
    assert table(MessagesReclaimed(1, (second.message_id,))) == []
    assert table.answer(first, failed=(0,)) == []
    assert not table.scheduler.jobs


def test_cancel_of_a_job_that_is_queued_only_interrupts_nobody() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    table.submit(1)
    table.submit(2)
    assert table(CancelRequested(2)) == []
    assert table.scheduler.next_deadline() is None


def test_scheduler_knows_whether_cancelled_tasks_are_still_running() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    assert not table.scheduler.interrupting
    table(CancelRequested(1))
    assert table.scheduler.interrupting
    table.answer(send, failed=(0,))
    assert not table.scheduler.interrupting


def test_cancel_while_messages_are_being_taken_back_does_not_ask_again() -> None:
    table = Table(processes=1)
    table.submit(1, chunks=1)
    table.submit(2, chunks=1)
    assert only(table(CancelRequested(1)), Reclaim) == [Reclaim(1)]
    assert only(table(CancelRequested(2)), Reclaim) == []


def test_cancel_of_a_finished_job_does_nothing() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table.answer(send)
    assert table(CancelRequested(1)) == []


def test_cancelled_task_that_does_not_stop_is_killed_after_the_grace() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table.now = 10.0
    table(CancelRequested(1))
    assert table.scheduler.next_deadline() == 10.0 + GRACE
    table.now = 10.0 + GRACE / 2
    assert table(DeadlinePassed()) == []
    table.now = 10.0 + GRACE
    assert table(DeadlinePassed()) == [Interrupt(1, send.message_id, 1, None, True)]
    assert table.scheduler.next_deadline() is None
    assert table(WorkerExited(1, send.message_id)) == [StartWorker(2)]


@pytest.mark.parametrize("force", [False, True])
def test_worker_that_is_to_be_killed_has_no_other_task_that_the_signal_could_hit(
    force: bool,
) -> None:
    table = Table(processes=1)
    table.learn(0, QUICK)
    (send,) = table.submit(1)
    table(RecallRequested(1, 0, True) if force else CancelRequested(1))
    table(MessagesReclaimed(1, ()))
    (waiting,) = table.submit(2)
    table.now = GRACE
    index = 0 if force else None
    kill = Interrupt(1, send.message_id, 1, index, KILL)
    # The mailbox first: what is read by then is no longer the task that is to be killed.
    assert table(DeadlinePassed()) == [Reclaim(1), kill]
    assert table(MessagesReclaimed(1, (waiting.message_id,))) == []
    assert only(table.submit(3), Send) == []
    # It ends before the signal comes; whether that comes or not, another worker goes on.
    commands = table.answer(send)
    assert StopWorker(1) in commands
    assert {send.worker_id for send in only(commands, Send)} == {2}
    assert (2, 0) in chunks_of(commands)
    assert table(WorkerExited(1, None)) == []


def test_cancelled_task_that_began_late_is_asked_before_it_is_killed() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=10)
    (send, *_) = only(table.submit(1, chunks=10), Send)
    table(CancelRequested(1, 3))
    key = (1, send.message_id, 1, 3)
    table.now = GRACE
    assert only(table(DeadlinePassed()), Interrupt) == [Interrupt(*key, KILL)]
    # It runs by now, and nothing was meant for it.
    assert table(InterruptMissed(*key)) == [Interrupt(*key, ASK)]
    table.now = 2 * GRACE
    assert only(table(DeadlinePassed()), Interrupt) == [Interrupt(*key, KILL)]
    table.answer(send, done=5)
    assert table(InterruptMissed(*key)) == []


def test_cancelled_task_that_stops_in_time_is_pardoned() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table(CancelRequested(1))
    table.answer(send, failed=(0,))
    assert table.scheduler.next_deadline() is None


def test_exit_of_a_worker_ends_the_patience_with_its_task() -> None:
    table = Table(processes=2)
    table.learn(0, SLOW)
    sends = sent(table.submit(1, chunks=2))
    table(CancelRequested(1))
    table(WorkerExited(1, sends[1].message_id))
    table.now = 2 * GRACE
    assert table(DeadlinePassed()) == [Interrupt(2, sends[2].message_id, 1, None, True)]


def test_cancel_takes_back_from_a_worker_that_is_still_starting() -> None:
    table = Table(processes=1, ready=False)
    (send,) = table.submit(1)
    assert table(CancelRequested(1))[0] == Reclaim(1)
    assert table(MessagesReclaimed(1, (send.message_id,))) == []
    assert table.scheduler.next_deadline() is None, "nobody is left to be killed"


def test_cancel_leaves_other_jobs_in_the_same_message_alone() -> None:
    table = Table(processes=1)
    first, second = table.submit(1, chunks=2, cost_key=9)
    table.learn(5, QUICK, chunks=100)
    for job_id in (2, 3, 4, 5):
        table.submit(job_id, cost_key=5)
    (shared,) = only(table.answer(first), Send)
    assert shared.runs == [(2, 0, 1), (3, 0, 1)]
    table.answer(second)
    assert table(CancelRequested(2))[1:] == [Interrupt(1, shared.message_id, 2, None, False)]
    commands = table.answer(shared, done=2)
    assert Deliver(3, 0, 1, 1) in commands
    assert all(command.job_id != 2 for command in only(commands, (Deliver, FinishJob)))


def test_reclaimed_message_of_a_cancelled_job_gives_its_neighbours_back() -> None:
    table = Table(processes=1)
    first, second = table.submit(1, chunks=2, cost_key=9)
    table.learn(5, QUICK, chunks=100)
    for job_id in (2, 3, 4, 5):
        table.submit(job_id, cost_key=5)
    (shared,) = only(table.answer(first), Send)
    assert shared.runs == [(2, 0, 1), (3, 0, 1)]
    assert table(CancelRequested(2))[0] == Reclaim(1)
    commands = table(MessagesReclaimed(1, (shared.message_id,)))
    assert chunks_of(commands)[0] == (3, 0)
    assert all(job_id != 2 for job_id, _ in chunks_of(commands))


def test_cancelled_chunk_that_is_queued_never_runs() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1, chunks=5)
    assert table(CancelRequested(1, 2)) == []
    assert table(CancelRequested(1, 4)) == []
    order = [0]
    while sends := only(table.answer(send), Send):
        (send,) = sends
        order += [index for _, index in chunks_of(sends)]
    assert order == [0, 1, 3]
    assert not table.scheduler.jobs


def test_chunks_around_those_that_were_cancelled_begin_in_their_order() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (begun,) = table.submit(1, chunks=9)
    for index in (7, 2, 5, 4):
        assert table(CancelRequested(1, index)) == []
    order = []
    while begun:
        order += chunks_of([begun])
        begun = next(iter(only(table.answer(begun), Send)), None)
    assert order == [(1, index) for index in (0, 1, 3, 6, 8)]


def test_last_queued_chunk_that_is_cancelled_finishes_its_job() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    table.submit(1)
    table.submit(2)
    assert table(CancelRequested(2, 0)) == [FinishJob(2)]


def test_cancelled_chunk_that_runs_is_interrupted_and_answered() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    assert table(CancelRequested(1, 0))[1:] == [Interrupt(1, send.message_id, 1, 0, False)]
    assert table.scheduler.next_deadline() == GRACE
    assert table.answer(send, failed=(0,)) == [Deliver(1, 0, 1, 0), FinishJob(1)]
    assert table.scheduler.next_deadline() is None


def test_cancelled_chunk_that_is_taken_back_finishes_its_job() -> None:
    table = Table(processes=1, ready=False)
    (send,) = table.submit(1)
    assert table(CancelRequested(1, 0))[0] == Reclaim(1)
    assert table(MessagesReclaimed(1, (send.message_id,))) == [FinishJob(1)]


def test_cancelled_chunk_that_is_handed_back_finishes_its_job() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first, *_ = table.submit(1, chunks=4)
    assert first.runs == [(1, 0, 2)]
    table(CancelRequested(1, 1))
    commands = table.answer(first, done=1)
    assert (1, 1) not in chunks_of(commands)


def test_cancelled_chunk_of_a_dead_worker_is_not_run_elsewhere() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, retries=3)
    table(CancelRequested(1, 0))
    commands = table(WorkerExited(1, send.message_id))
    assert commands[:2] == [FailChunk(1, 0, False), FinishJob(1)]


def test_cancelled_chunk_that_fails_is_not_tried_again() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, retries=3)
    table(CancelRequested(1, 0))
    assert table.answer(send, failed=(0,)) == [Deliver(1, 0, 1, 0), FinishJob(1)]


def test_cancelled_chunk_not_begun_by_a_dead_worker_finishes_its_job() -> None:
    table = Table(processes=1)
    table.submit(1)
    table(CancelRequested(1, 0))
    assert table(WorkerExited(1))[0] == FinishJob(1)


def test_cancel_of_a_chunk_that_has_its_outcome_does_nothing() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, chunks=1, final=False)
    table.answer(send)
    assert table(CancelRequested(1, 0)) == []
    assert table(ChunksAdded(1, 0, True)) == [FinishJob(1)]


def test_cancel_of_a_chunk_that_does_not_exist_is_refused() -> None:
    table = Table(processes=1)
    table.submit(1)
    with pytest.raises(InvalidTransition, match="has 1 chunks"):
        table.scheduler.handle(CancelRequested(1, 1), 0.0)


# --- recalls: the outcome of the chunk is wanted ----------------------------------------


def test_recalled_chunk_that_is_queued_never_runs_and_is_dropped() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1, chunks=3)
    assert table(RecallRequested(1, 1, False)) == [DropChunk(1, 1)]
    assert table(RecallRequested(1, 2, True)) == [DropChunk(1, 2)]
    assert table.answer(send) == [Deliver(1, 0, 1, 0), FinishJob(1)]


def test_recalled_chunk_that_is_the_last_of_its_job_finishes_it() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    table.submit(1)
    table.submit(2)
    assert table(RecallRequested(2, 0, False)) == [DropChunk(2, 0), FinishJob(2)]
    assert table(RecallRequested(2, 0, False)) == []


def test_recalled_chunk_that_runs_is_asked_once_and_its_outcome_delivered() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    asked = Interrupt(1, send.message_id, 1, 0, ASK)
    assert table(RecallRequested(1, 0, False)) == [Reclaim(1), asked]
    assert table(RecallRequested(1, 0, False)) == []
    table(MessagesReclaimed(1, ()))
    table(RecallHeard(1, send.message_id, 1, 0))
    assert table.scheduler.next_deadline() is None
    assert table.answer(send) == [Deliver(1, 0, 1, 0), FinishJob(1)]


def test_recalled_chunk_that_had_not_begun_is_asked_again() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table(RecallRequested(1, 0, False))
    for looked in range(1, 4):
        table.now = looked * GRACE
        assert table(DeadlinePassed()) == [Interrupt(1, send.message_id, 1, 0, ASK)]
    table.answer(send)
    assert table.scheduler.next_deadline() is None


def test_recall_with_force_ends_the_worker_for_certain() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, retries=3)
    assert table(RecallRequested(1, 0, True))[1:] == [Interrupt(1, send.message_id, 1, 0, EXIT)]
    table(RecallHeard(1, send.message_id, 1, 0))
    table.now = GRACE
    assert table(DeadlinePassed()) == [Interrupt(1, send.message_id, 1, 0, KILL)]
    commands = table(WorkerExited(1, send.message_id))
    assert only(commands, FailChunk) == [FailChunk(1, 0, False)]
    assert FinishJob(1) in commands
    assert table.scheduler.next_deadline() is None


def test_recall_with_force_runs_what_shared_the_message_elsewhere() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first, *_ = table.submit(1, chunks=4)
    assert first.runs == [(1, 0, 2)]
    table(RecallRequested(1, 0, True))
    commands = table(WorkerExited(1, first.message_id))
    assert only(commands, FailChunk) == [FailChunk(1, 0, False)]
    assert (1, 1) in chunks_of(commands)


@pytest.mark.parametrize("force", [False, True])
def test_recalled_chunk_that_is_taken_back_is_dropped(force: bool) -> None:
    table = Table(processes=1, ready=False)
    (send,) = table.submit(1)
    table(RecallRequested(1, 0, force))
    assert table(MessagesReclaimed(1, (send.message_id,))) == [DropChunk(1, 0), FinishJob(1)]


def test_recalled_chunk_that_is_handed_back_is_dropped() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first, *_ = table.submit(1, chunks=4)
    table(RecallRequested(1, 1, False))
    commands = table.answer(first, done=1)
    assert DropChunk(1, 1) in commands
    assert (1, 1) not in chunks_of(commands)


def test_recall_of_a_chunk_that_does_not_exist_is_refused() -> None:
    table = Table(processes=1)
    table.submit(1, chunks=2)
    with pytest.raises(InvalidTransition, match="2 chunks"):
        table.scheduler.handle(RecallRequested(1, 2, False), 0.0)


def test_worker_of_a_recalled_chunk_goes_on() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1, chunks=2)
    table(RecallRequested(1, 0, False))
    table(MessagesReclaimed(1, ()))
    table.now = AGAIN
    assert table(DeadlinePassed()) == [Interrupt(1, send.message_id, 1, 0, ASK)]
    assert [send.worker_id for send in only(table.answer(send), Send)] == [1]


def test_miss_of_an_interrupt_that_is_told_after_the_end_of_its_worker_is_dropped() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table(CancelRequested(1))
    table(WorkerExited(1, send.message_id))
    assert table(InterruptMissed(1, send.message_id, 1, None)) == []


# --- when a chunk is asked, and how ------------------------------------------------------

KEY = (1, 2, 3, 4)


def test_cancelled_chunk_is_asked_once_and_then_its_worker_killed_once() -> None:
    asked = Interrupts()
    assert asked.cancel(KEY, 10.0) == Interrupt(*KEY, ASK)
    assert asked.deadline() == 10.0 + GRACE
    assert asked.overdue(10.0 + GRACE / 2) == []
    assert asked.overdue(10.0 + GRACE) == [Interrupt(*KEY, KILL)]
    assert asked.deadline() is None


@pytest.mark.parametrize(
    ("force", "first", "then", "pause"), [(False, ASK, ASK, AGAIN), (True, EXIT, KILL, GRACE)]
)
def test_recalled_chunk_is_asked_until_its_message_is_over(
    force: bool, first: int, then: int, pause: float
) -> None:
    asked = Interrupts()
    assert asked.recall(KEY, 10.0, force) == Interrupt(*KEY, first)
    for again in (1, 2, 3):
        assert asked.deadline() == pytest.approx(10.0 + again * pause)
        assert asked.overdue(10.0 + (again - 0.5) * pause) == []
        assert asked.overdue(10.0 + again * pause) == [Interrupt(*KEY, then)]
    asked.pardon(1, 2)
    assert asked.deadline() is None


def test_chunk_that_was_missed_is_asked_anew_unless_it_is_ended_by_force() -> None:
    asked = Interrupts()
    assert asked.missed(KEY, 10.0) == Interrupt(*KEY, ASK)
    assert asked.deadline() == 10.0 + GRACE
    asked.clear()
    asked.recall(KEY, 10.0, True)
    assert asked.missed(KEY, 20.0) == Interrupt(*KEY, EXIT)
    assert asked.deadline() == 10.0 + GRACE, "the next one is due as before"


def test_chunks_of_other_messages_are_not_pardoned() -> None:
    asked = Interrupts()
    for key in ((1, 2, 3, 0), (1, 5, 3, 1), (4, 2, 3, 2)):
        asked.cancel(key, 10.0)
    asked.pardon(1, 2)
    assert set(asked.asked) == {(1, 5, 3, 1), (4, 2, 3, 2)}
    asked.pardon(1, None)
    assert set(asked.asked) == {(4, 2, 3, 2)}


def test_recall_of_a_finished_job_does_nothing() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table.answer(send)
    assert table(RecallRequested(1, 0, True)) == []
