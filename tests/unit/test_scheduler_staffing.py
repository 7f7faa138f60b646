"""The scheduler, race by race: how many workers there are, and who has them."""

from __future__ import annotations

import pytest
from schedulertable import QUICK, SLOW, Table, chunks_of, only, sent

from pool._errors import InvalidTransition
from pool._local._events import (
    CancelRequested,
    DeadlinePassed,
    Deliver,
    FailChunk,
    FinishJob,
    Interrupt,
    LoanCancelled,
    MessagesReclaimed,
    PoolClosed,
    PoolTerminated,
    ProcessesChanged,
    Reclaim,
    Send,
    StartPutOff,
    StartWorker,
    StopWorker,
    WorkerBlocked,
    WorkerExited,
    WorkerLent,
    WorkerReady,
    WorkerReturned,
    WorkersWanted,
    WorkerUnblocked,
)
from pool._local._interrupts import GRACE
from pool._local._records import Message
from pool._local._roster import Roster

# --- maxtasksperchild ------------------------------------------------------------------


def test_worker_is_replaced_after_its_number_of_chunks() -> None:
    table = Table(processes=1, maxtasksperchild=2)
    first, second = table.submit(1, chunks=3)
    assert table.answer(first) == [Deliver(1, 0, 1, 0)]
    commands = table.answer(second)
    assert commands[:3] == [Deliver(1, 1, 2, 0), StopWorker(1), StartWorker(2)]
    assert sent(commands)[2].runs == [(1, 2, 3)]
    assert table(WorkerExited(1)) == []
    assert table.scheduler.restarts == 0, "an end in good order is no restart"


def test_no_message_is_larger_than_what_the_worker_may_still_do() -> None:
    table = Table(processes=1, maxtasksperchild=3)
    table.learn(0, QUICK, chunks=1000)
    sends = only(table.submit(1, chunks=1000), Send)
    assert len(chunks_of(sends)) == 3


def test_chunks_handed_back_do_not_count_towards_the_limit() -> None:
    table = Table(processes=1, maxtasksperchild=3)
    table.learn(0, QUICK, chunks=1000)
    first = only(table.submit(1, chunks=12), Send)[0]
    assert first.runs == [(1, 0, 3)]
    commands = table.answer(first, done=1)
    assert only(commands, StopWorker) == []
    assert len(chunks_of(commands)) == 2


def test_chunks_taken_back_do_not_count_towards_the_limit() -> None:
    table = Table(processes=2, maxtasksperchild=2)
    sends = only(table.submit(1, chunks=4), Send)
    one = [send for send in sends if send.worker_id == 1]
    two = [send for send in sends if send.worker_id == 2]
    table.answer(one[0])
    table.answer(one[1])
    table(WorkerReady(3))
    commands = table(MessagesReclaimed(2, (two[1].message_id,)))
    assert chunks_of(commands) == [(1, two[1].runs[0][1])]
    # Worker 2 may do one more after the one it runs.
    assert only(table.answer(two[0]), StopWorker) == []


def test_retries_count_towards_the_limit() -> None:
    table = Table(processes=1, maxtasksperchild=1)
    (send,) = table.submit(1, retries=1)
    commands = table.answer(send, failed=(0,))
    assert commands[:2] == [StopWorker(1), StartWorker(2)]
    assert sent(commands)[2].runs == [(1, 0, 1)]


# --- nested use ------------------------------------------------------------------------


def test_blocked_worker_gets_a_substitute() -> None:
    table = Table(processes=1)
    table.submit(1)
    assert table(WorkerBlocked(1)) == [StartWorker(2)]
    (send,) = table.submit(2, depth=1)
    assert send.worker_id == 2


def test_a_substitute_is_started_when_there_is_something_to_do_for_it() -> None:
    table = Table(processes=2)
    (send,) = table.submit(1)
    first = send.worker_id
    for _ in range(3):  # waits again and again, for what takes no worker of this pool
        assert table(WorkerBlocked(first)) == []
        assert table.scheduler.staff.owed == 1
        assert table(WorkerUnblocked(first)) == []
        assert table.scheduler.staff.owed == 0
    assert table(WorkerBlocked(first)) == []
    (send,) = table.submit(2, depth=1)
    assert send.worker_id == 3 - first
    started, send = table.submit(3, depth=1)
    assert (started, send.worker_id) == (StartWorker(3), 3)
    assert table(WorkerUnblocked(first)) == []


def test_one_that_dies_blocked_is_replaced_though_no_substitute_was_needed() -> None:
    table = Table(processes=2)
    (send,) = table.submit(1)
    table(WorkerBlocked(send.worker_id))
    ended = table(WorkerExited(send.worker_id, send.message_id))
    assert only(ended, StartWorker) == [StartWorker(3)]
    assert only(table.submit(2, chunks=3), StartWorker) == []


def test_of_two_idle_ones_that_are_too_many_the_one_that_is_not_up_is_stopped() -> None:
    table = Table(processes=1)
    table.submit(1)
    assert table(WorkerBlocked(1)) == [StartWorker(2)]
    table(WorkerReady(2))
    (send,) = table.submit(2, depth=1)
    assert table(WorkerBlocked(2)) == [StartWorker(3)]
    table(WorkerUnblocked(2))
    table.answer(send)
    table(WorkerUnblocked(1))
    assert {worker.worker_id for worker in table.scheduler.workers.values() if worker.stopping} == {
        3
    }


def test_what_waits_behind_a_blocked_task_is_taken_back() -> None:
    table = Table(processes=1)
    _, waiting = table.submit(1, chunks=2)
    commands = table(WorkerBlocked(1))
    assert Reclaim(1) in commands
    commands = table(MessagesReclaimed(1, (waiting.message_id,)))
    assert sent(commands)[2].runs == [(1, 1, 2)]


def test_what_waits_is_asked_for_once_however_often_the_task_waits() -> None:
    table = Table(processes=1)
    _, waiting = table.submit(1, chunks=2)
    assert only(table(WorkerBlocked(1)), Reclaim) == [Reclaim(1)]
    table(WorkerUnblocked(1))
    assert only(table(WorkerBlocked(1)), Reclaim) == []
    table(MessagesReclaimed(1, (waiting.message_id,)))


def test_what_is_taken_back_already_is_not_asked_for_when_the_task_waits() -> None:
    table = Table(processes=1)
    table.submit(1, chunks=2)
    assert Reclaim(1) in table(CancelRequested(1, 1))
    assert only(table(WorkerBlocked(1)), Reclaim) == []


def test_of_two_idle_ones_the_one_that_is_not_up_is_not_needed_any_more() -> None:
    table = Table(processes=2, ready=False)
    table(WorkerReady(1))
    assert table(ProcessesChanged(1)) == [StopWorker(2)]


def test_the_one_whose_message_is_the_oldest_is_robbed() -> None:
    roster = Roster()
    for worker, message_ids in ((roster.add(None), (3, 4)), (roster.add(None), (5, 6))):
        worker.ready = True
        worker.messages = {number: Message(number, [(1, 0, 1)], 1, []) for number in message_ids}
    found = roster.straggler()
    assert found is not None and found.worker_id == 1
    found.reclaiming = True
    other = roster.straggler()
    assert other is not None and other.worker_id == 2
    del other.messages[6]
    assert roster.straggler() is None, "the one message of a worker is what it runs"
    other.ready = False
    assert roster.straggler() is other, "one that has not started runs nothing"


def test_one_that_hands_back_what_it_cannot_begin_is_sent_nothing_ahead() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=1000)
    first, second = only(table.submit(1, chunks=1000), Send)
    assert only(table.answer(first, done=0), Send) == [], "it is stuck in a task"
    assert only(table.answer(second, done=1), Send), "now it goes on"


def test_blocked_worker_is_sent_nothing() -> None:
    table = Table(processes=1)
    table.submit(1)
    table(WorkerBlocked(1))
    table.submit(2, chunks=10, depth=1)
    assert len(table.scheduler.workers[1].messages) == 1


def test_substitute_is_kept_for_the_next_task_that_waits() -> None:
    table = Table(processes=1)
    (outer,) = table.submit(1)
    assert table(WorkerBlocked(1)) == [StartWorker(2)]
    for job_id in (2, 3, 4):
        (send,) = table.submit(job_id, depth=1)
        assert send.worker_id == 2
        table.answer(send)
        assert table(WorkerUnblocked(1)) == []
        assert table(WorkerBlocked(1)) == []
    assert table(WorkerUnblocked(1)) == []
    assert table.answer(outer) == [Deliver(1, 0, 1, 0), FinishJob(1), StopWorker(2)]
    assert table(WorkerExited(2)) == []
    assert table.scheduler.workers[1].stopping is False


def test_spare_worker_is_stopped_with_a_job_that_is_cancelled() -> None:
    table = Table(processes=1)
    table.submit(1)
    table(WorkerBlocked(1))
    table(WorkerUnblocked(1))
    assert only(table(CancelRequested(1)), StopWorker) == [StopWorker(2)]


def test_spare_worker_begins_nothing_while_as_many_run_as_may() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1)
    table(WorkerBlocked(1))
    table(WorkerUnblocked(1))
    assert table.submit(2, chunks=3, depth=1) == []
    for _ in range(3):
        (send,) = only(table.answer(send), Send)


def test_no_more_are_spare_than_may_run() -> None:
    table = Table(processes=1)
    sends = [only(table.submit(1), Send)[0]]
    for depth in range(1, 5):
        table(WorkerBlocked(depth))
        sends += only(table.submit(1 + depth, depth=depth), Send)
    assert [send.worker_id for send in sends] == [1, 2, 3, 4, 5]
    stopped = []
    for send in reversed(sends):
        stopped += only(table.answer(send), StopWorker)
        stopped += only(table(WorkerUnblocked(send.worker_id - 1)), StopWorker)
    assert len(stopped) == 4


def test_busy_workers_that_are_too_many_are_sent_nothing_ahead() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=1000)
    (outer,) = table.submit(1)
    table(WorkerBlocked(1))
    first, _ = only(table.submit(2, chunks=100_000, depth=1), Send)
    table(WorkerUnblocked(1))
    assert only(table.answer(first), Send) == []
    assert [send.worker_id for send in only(table.answer(outer), Send)] == [2]


def test_task_that_waits_twice_at_once_is_unblocked_by_the_second_end() -> None:
    table = Table(processes=1)
    (outer,) = table.submit(1)
    assert table(WorkerBlocked(1)) == [StartWorker(2)]
    assert table(WorkerBlocked(1)) == []
    assert table(WorkerUnblocked(1)) == []
    assert table.scheduler.staff.excess() == -1
    assert table(WorkerUnblocked(1)) == []
    assert table.scheduler.staff.excess() == 0
    assert StopWorker(2) in table.answer(outer)


def test_deeper_jobs_go_first() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1, chunks=2)
    for job_id, depth in ((2, 1), (3, 2), (4, 1)):
        assert table.submit(job_id, depth=depth) == []
    order = []
    while sends := only(table.answer(send), Send):
        (send,) = sends
        order.append(send.runs[0][0])
    assert order == [3, 2, 4, 1]


def test_jobs_of_one_depth_go_in_the_order_of_submission() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1)
    for job_id in (2, 3, 4):
        table.submit(job_id, chunks=2)
    order = []
    while sends := only(table.answer(send), Send):
        (send,) = sends
        order.append(send.runs[0])
    assert order == [(2, 0, 1), (2, 1, 2), (3, 0, 1), (3, 1, 2), (4, 0, 1), (4, 1, 2)]


def test_nested_jobs_to_any_depth_never_run_out_of_workers() -> None:
    table = Table(processes=1)
    sends = only(table.submit(1), Send)
    for depth in range(1, 20):
        (send,) = sends
        started = only(table(WorkerBlocked(send.worker_id)), StartWorker)
        assert len(started) == 1
        sends = only(table.submit(depth + 1, depth=depth), Send)
        assert [send.worker_id for send in sends] == [started[0].worker_id]


def test_worker_that_dies_blocked_makes_its_substitute_a_regular_one() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table(WorkerBlocked(1))
    commands = table(WorkerExited(1, send.message_id))
    assert commands == [FailChunk(1, 0, False), FinishJob(1)]
    assert [send.worker_id for send in table.submit(2)] == [2]


# --- loans: calls that the driver makes on an idle worker itself --------------------------


def test_lent_worker_is_sent_nothing_until_it_is_returned() -> None:
    table = Table(processes=1)
    assert table.scheduler.loans.lendable() == 1
    assert table(WorkerLent(1)) == []
    assert table.scheduler.loans.lendable() is None
    assert table.submit(1) == []
    (send,) = table(WorkerReturned(1, 99, False))
    assert send.worker_id == 1
    assert (table.scheduler.tasks_done, table.scheduler.tasks_failed) == (1, 0)
    assert table.scheduler.workers[1].tasks_done == 1


def test_returned_worker_takes_what_waits_behind_a_straggler() -> None:
    table = Table(processes=2)
    lent = table.scheduler.loans.lendable()
    assert lent is not None
    table(WorkerLent(lent))
    first, second = table.submit(1, chunks=2)
    assert first.worker_id == second.worker_id == 3 - lent
    assert table(WorkerReturned(lent, 99, True)) == [Reclaim(3 - lent)]
    assert table.scheduler.tasks_failed == 1


@pytest.mark.parametrize("reason", ["starting", "busy", "limited", "broken", "blocked"])
def test_worker_is_not_lent_when_it_is(reason: str) -> None:
    limit = 5 if reason == "limited" else None
    table = Table(processes=1, ready=reason != "starting", maxtasksperchild=limit)
    if reason in ("busy", "blocked"):
        (send,) = table.submit(1)
    if reason == "blocked":
        table(WorkerBlocked(1))
    if reason == "broken":
        table(PoolTerminated())
    assert table.scheduler.loans.lendable() is None


def test_busy_worker_cannot_be_lent() -> None:
    table = Table(processes=1)
    table.submit(1)
    with pytest.raises(InvalidTransition, match="not idle"):
        table.scheduler.handle(WorkerLent(1), 0.0)


def test_lent_worker_that_dies_is_replaced() -> None:
    table = Table(processes=1)
    table(WorkerLent(1))
    assert table(WorkerExited(1, 99)) == [StartWorker(2)]
    assert table(WorkerReturned(1, 99, True)) == []
    assert table(LoanCancelled(1, 99)) == [], "Ctrl-C struck its caller just now"


def test_lent_worker_that_waits_for_the_pool_gets_a_substitute() -> None:
    table = Table(processes=1)
    table(WorkerLent(1))
    assert table(WorkerBlocked(1)) == [StartWorker(2)]
    (send,) = table.submit(1, depth=1)
    table(WorkerReady(2))
    table.answer(send)
    assert table(WorkerUnblocked(1)) == [StopWorker(2)]
    assert table(WorkerReturned(1, 99, False)) == []
    assert table.scheduler.loans.lendable() == 1


def test_close_while_a_worker_is_lent_stops_it_after_the_call() -> None:
    table = Table(processes=1)
    table(WorkerLent(1))
    assert table(PoolClosed()) == [StopWorker(1)]
    assert table(WorkerReturned(1, 99, False)) == []
    assert table(WorkerExited(1)) == []


def test_cancelled_loan_is_interrupted_and_killed_after_the_grace() -> None:
    table = Table(processes=1)
    table(WorkerLent(1))
    assert table(LoanCancelled(1, 99)) == [Interrupt(1, 99, 0, None, False)]
    table.now = GRACE
    assert table(DeadlinePassed()) == [Reclaim(1), Interrupt(1, 99, 0, None, True)]


def test_cancelled_loan_that_ends_in_time_is_pardoned() -> None:
    table = Table(processes=1)
    table(WorkerLent(1))
    table(LoanCancelled(1, 99))
    table(WorkerReturned(1, 99, True))
    assert table.scheduler.next_deadline() is None
    assert table(LoanCancelled(1, 99)) == []


# --- workers for which there is no room -------------------------------------------------


def test_others_go_on_while_a_worker_cannot_be_started() -> None:
    table = Table(processes=2)
    table.learn(0, SLOW)
    (first,) = only(table.submit(1, chunks=1), Send)
    assert first.worker_id == 2
    assert table(WorkerExited(1)) == [StartWorker(3)]
    assert table.scheduler.staff.can_put_off(3)
    assert table(StartPutOff(3)) == []
    assert table.submit(2, chunks=1) == []
    commands = table.answer(first)
    assert commands[:2] == [Deliver(1, 0, 1, 0), FinishJob(1)]
    assert chunks_of(commands) == [(2, 0)]
    assert table(WorkersWanted()) == [StartWorker(4)]
    assert table(WorkersWanted()) == []


def test_what_was_sent_to_a_worker_that_is_put_off_goes_to_others() -> None:
    table = Table(processes=2)
    table.learn(0, SLOW)
    table(WorkerExited(1))
    (first,) = only(table.submit(1, chunks=1), Send)
    (early,) = only(table.submit(2, chunks=2), Send)
    assert (first.worker_id, early.worker_id) == (2, 3)
    assert table(StartPutOff(3)) == []
    assert chunks_of(table.answer(first)) == [(2, 0)]


def test_a_worker_is_put_off_only_if_another_one_goes_on() -> None:
    table = Table(processes=2)
    staff = table.scheduler.staff
    (send,) = only(table.submit(1, chunks=1), Send)
    other = 3 - send.worker_id
    table(WorkerExited(other))
    assert staff.can_put_off(3)
    # Its task waits for another one, which only the worker that is missing could run.
    table(WorkerBlocked(send.worker_id))
    assert not staff.can_put_off(3)
    table(WorkerUnblocked(send.worker_id))
    assert staff.can_put_off(3)
    table(WorkerExited(send.worker_id, send.message_id))
    assert not staff.can_put_off(3), "the only other one is starting, too"


def test_the_end_of_a_worker_is_waited_for_that_will_make_room() -> None:
    table = Table(processes=1, maxtasksperchild=1)
    (first,) = table.submit(1, chunks=2)
    commands = table.answer(first)
    assert StartWorker(2) in commands
    assert chunks_of(commands) == [(1, 1)]
    assert table.scheduler.staff.can_put_off(2)
    assert table(StartPutOff(2)) == []
    commands = table(WorkerExited(1))
    assert commands[0] == StartWorker(3)
    assert chunks_of(commands) == [(1, 1)]
    assert not table.scheduler.staff.can_put_off(3)


def test_no_worker_of_a_new_pool_is_put_off() -> None:
    table = Table(processes=3, ready=False)
    staff = table.scheduler.staff
    table(WorkerReady(1))
    table(WorkerReady(2))
    assert not staff.can_put_off(3)
    table(WorkerReady(3))
    table(WorkerExited(3))
    assert staff.can_put_off(4)


def test_a_worker_that_has_ended_meanwhile_is_not_put_off() -> None:
    table = Table(processes=2)
    table(WorkerExited(2))
    table(StartPutOff(3))
    assert table(StartPutOff(3)) == []
