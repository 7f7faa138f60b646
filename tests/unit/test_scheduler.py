"""The scheduler, race by race: what is sent where, and when."""

from __future__ import annotations

import pytest
from schedulertable import QUICK, SLOW, Table, chunks_of, only, sent

from pool._errors import InvalidTransition
from pool._local._events import (
    CancelRequested,
    ChunksAdded,
    Deliver,
    FailChunk,
    FinishJob,
    Interrupt,
    JobSubmitted,
    MessageAnswered,
    MessagesReclaimed,
    PoolClosed,
    ProcessesChanged,
    Reclaim,
    RestReturned,
    Send,
    StartWorker,
    StopWorker,
    WorkerBlocked,
    WorkerExited,
    WorkerReady,
)
from pool._local._roster import DEPTH
from pool._local._scheduler import Scheduler

# --- the ordinary course of things ----------------------------------------------------


def test_a_job_goes_out_comes_back_and_finishes() -> None:
    table = Table(processes=1)
    (send,) = table.submit(7)
    assert send == Send(1, send.message_id, [(7, 0, 1)])
    assert table.scheduler.jobs
    assert table.answer(send) == [Deliver(7, 0, 1, 0), FinishJob(7)]
    assert not table.scheduler.jobs
    assert (table.scheduler.tasks_done, table.scheduler.tasks_failed) == (1, 0)


def test_empty_job_finishes_at_once() -> None:
    assert Table().submit(1, chunks=0) == [FinishJob(1)]


def test_failed_chunk_is_delivered_like_any_other() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    assert table.answer(send, failed=(0,)) == [Deliver(1, 0, 1, 0), FinishJob(1)]
    assert table.scheduler.tasks_failed == 1


def test_chunks_are_spread_over_workers_before_they_pile_up() -> None:
    table = Table(processes=3)
    table.learn(0, SLOW)
    commands = table.submit(1, chunks=5)
    assert sorted(sent(commands)) == [1, 2, 3]
    assert sorted(chunks_of(commands)) == [(1, 0), (1, 1), (1, 2)]


def test_unknown_function_is_tried_one_chunk_at_a_time() -> None:
    table = Table(processes=1)
    commands = table.submit(1, chunks=1000)
    assert [send.runs for send in only(commands, Send)] == [[(1, 0, 1)], [(1, 1, 2)]]


def test_worker_holds_one_message_more_than_it_runs() -> None:
    table = Table(processes=1)
    first, second = table.submit(1, chunks=10)
    assert {first.worker_id, second.worker_id} == {1}
    assert len(table.scheduler.workers[1].messages) == DEPTH


def test_nothing_is_sent_ahead_of_a_slow_chunk() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    assert len(only(table.submit(1, chunks=10), Send)) == 1


def test_cheap_chunks_travel_together() -> None:
    table = Table(processes=1)
    table.learn(0, 1e-6, chunks=100)
    first = only(table.submit(1, chunks=10_000), Send)[0]
    assert first.runs[0][2] - first.runs[0][1] > 100


def test_messages_shrink_towards_the_end_of_a_job() -> None:
    table = Table(processes=2)
    table.learn(0, 0.1e-3, chunks=10_000)
    waiting = only(table.submit(1, chunks=40), Send)
    sizes = []
    while waiting:
        send = waiting.pop(0)
        size = len(chunks_of([send]))
        sizes.append(size)
        waiting += only(table.answer(send, done=size), Send)
    assert sum(sizes) == 40
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 40 // (2 * DEPTH)
    assert sizes[-2 * DEPTH :] == [1] * (2 * DEPTH)


def test_jobs_of_one_function_share_a_message() -> None:
    table = Table(processes=1)
    table.learn(5, QUICK, chunks=100)
    first = table.submit(1, chunks=1, cost_key=5)
    second = table.submit(2, chunks=1, cost_key=5)
    assert chunks_of(first + second) == [(1, 0), (2, 0)]
    table.submit(3, chunks=1, cost_key=5)
    table.submit(4, chunks=1, cost_key=6)
    table.submit(5, chunks=1, cost_key=5)
    table.submit(6, chunks=1, cost_key=5)
    commands = table.answer(only(first, Send)[0])
    # Several small jobs of one function, but nothing of another function with them.
    (send,) = only(commands, Send)
    assert send.runs == [(3, 0, 1)]
    (send,) = only(table.answer(only(second, Send)[0]), Send)
    assert send.runs == [(4, 0, 1)]


def test_one_answer_settles_chunks_of_several_jobs() -> None:
    table = Table(processes=1)
    blocker, ahead = table.submit(1, chunks=2, cost_key=9)
    table.learn(5, QUICK, chunks=100)
    for job_id in (2, 3, 4, 5):
        assert table.submit(job_id, chunks=1, cost_key=5) == []
    (send,) = only(table.answer(blocker), Send)
    assert send.runs == [(2, 0, 1), (3, 0, 1)]
    table.answer(ahead)
    assert only(table.answer(send, done=2), (Deliver, FinishJob)) == [
        Deliver(2, 0, 1, 0),
        FinishJob(2),
        Deliver(3, 0, 1, 1),
        FinishJob(3),
    ]


def test_partial_answers_are_delivered_as_they_come() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first = only(table.submit(1, chunks=8), Send)[0]
    assert first.runs == [(1, 0, 4)]
    assert table.answer(first, done=1, final=False) == [Deliver(1, 0, 1, 0)]
    assert table.answer(first, done=2, final=False) == [Deliver(1, 1, 3, 0)]
    assert only(table.answer(first, done=1), Deliver) == [Deliver(1, 3, 4, 0)]


def test_an_answer_with_too_many_chunks_is_refused_with_its_history() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    with pytest.raises(InvalidTransition, match="2 chunks too many(.|\n)*JobSubmitted") as caught:
        table.scheduler.handle(MessageAnswered(1, send.message_id, 3, True, SLOW), 0.0)
    assert "MessageAnswered" in str(caught.value)


def test_same_job_id_twice_is_refused() -> None:
    table = Table()
    table.submit(1)
    with pytest.raises(InvalidTransition, match="used before"):
        table.scheduler.handle(JobSubmitted(1, 1, True, 0), 0.0)


def test_first_free_worker_is_one_that_is_ready() -> None:
    table = Table(processes=3, ready=False)
    table(WorkerReady(2))
    (send,) = table.submit(1)
    assert send.worker_id == 2


def test_last_used_worker_is_used_again() -> None:
    table = Table(processes=3)
    table.learn(0, SLOW)
    sends = sent(table.submit(1, chunks=3))
    for worker_id in (2, 1, 3):
        table.answer(sends[worker_id])
    assert [send.worker_id for send in table.submit(2)] == [3]


def test_last_used_worker_is_used_again_while_another_one_starts() -> None:
    table = Table(processes=2)
    table.learn(0, SLOW)
    sends = sent(table.submit(1, chunks=2))
    for worker_id in (1, 2):
        table.answer(sends[worker_id])
    assert table(ProcessesChanged(3)) == [StartWorker(3)]
    assert [send.worker_id for send in table.submit(2)] == [2]


# --- lazily read jobs ------------------------------------------------------------------


def test_lazy_job_goes_on_when_chunks_are_added() -> None:
    table = Table(processes=1)
    assert table.submit(1, chunks=0, final=False) == []
    (send,) = table(ChunksAdded(1, 1, False))
    assert table.answer(send) == [Deliver(1, 0, 1, 0)]
    (send,) = table(ChunksAdded(1, 1, True))
    assert send.runs == [(1, 1, 2)]
    assert table.answer(send) == [Deliver(1, 1, 2, 0), FinishJob(1)]


def test_end_of_the_input_is_learned_after_the_last_outcome() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, chunks=1, final=False)
    assert table.answer(send) == [Deliver(1, 0, 1, 0)]
    assert table(ChunksAdded(1, 0, True)) == [FinishJob(1)]


def test_end_of_the_input_is_learned_before_the_last_outcome() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1, chunks=1, final=False)
    assert table(ChunksAdded(1, 0, True)) == []
    assert table.answer(send) == [Deliver(1, 0, 1, 0), FinishJob(1)]


def test_chunks_that_come_after_a_cancellation_are_ignored() -> None:
    table = Table()
    table.submit(1, chunks=0, final=False)
    table(CancelRequested(1))
    assert table(ChunksAdded(1, 3, True)) == []
    assert table.scheduler.queued == 0


def test_chunks_after_the_last_ones_are_refused() -> None:
    table = Table()
    table.submit(1, chunks=1)
    with pytest.raises(InvalidTransition, match="complete already"):
        table.scheduler.handle(ChunksAdded(1, 1, True), 0.0)


# --- stragglers ------------------------------------------------------------------------


def test_message_reclaimed_from_straggler_goes_to_idle_worker() -> None:
    table = Table(processes=2)
    sends = only(table.submit(1, chunks=4), Send)
    held: dict[int, list[Send]] = {1: [], 2: []}
    for send in sends:
        held[send.worker_id].append(send)
    quick, straggler = held[1], held[2]
    table.answer(quick[0])
    commands = table.answer(quick[1])
    assert only(commands, Reclaim) == [Reclaim(2)]
    commands = table(MessagesReclaimed(2, (straggler[1].message_id,)))
    (moved,) = only(commands, Send)
    assert (moved.worker_id, moved.runs) == (1, straggler[1].runs)
    assert moved.message_id != straggler[1].message_id


def test_worker_that_was_too_quick_to_give_anything_back_is_not_asked_again() -> None:
    table = Table(processes=2)
    sends = only(table.submit(1, chunks=4), Send)
    quick = [send for send in sends if send.worker_id == 1]
    table.answer(quick[0])
    assert Reclaim(2) in table.answer(quick[1])
    assert table(MessagesReclaimed(2, ())) == []


def test_worker_is_asked_once_at_a_time() -> None:
    table = Table(processes=3)
    sends = only(table.submit(1, chunks=6), Send)
    by_worker = {n: [send for send in sends if send.worker_id == n] for n in (1, 2, 3)}
    table.answer(by_worker[1][0])
    assert only(table.answer(by_worker[1][1]), Reclaim) == [Reclaim(3)]
    table.answer(by_worker[2][0])
    assert only(table.answer(by_worker[2][1]), Reclaim) == []


def test_the_one_that_has_been_running_longest_is_robbed_first() -> None:
    table = Table(processes=3)
    sends = only(table.submit(1, chunks=6), Send)
    by_worker = {n: [send for send in sends if send.worker_id == n] for n in (1, 2, 3)}
    longest = min((2, 3), key=lambda n: by_worker[n][0].message_id)
    table.answer(by_worker[1][0])
    assert Reclaim(longest) in table.answer(by_worker[1][1])


def test_answer_that_crosses_a_reclaim_is_counted_once() -> None:
    table = Table(processes=2)
    sends = only(table.submit(1, chunks=4), Send)
    one = [send for send in sends if send.worker_id == 1]
    two = [send for send in sends if send.worker_id == 2]
    table.answer(one[0])
    assert Reclaim(2) in table.answer(one[1])
    # Worker 2 answers both while the reclaim is under way: nothing came back.
    table.answer(two[0])
    assert table.answer(two[1])[-1] == FinishJob(1)
    assert table(MessagesReclaimed(2, ())) == []


def test_message_handed_back_in_part_goes_to_idle_worker() -> None:
    table = Table(processes=2)
    table.learn(0, QUICK, chunks=100)
    sends = only(table.submit(1, chunks=16), Send)
    (mine,) = [send for send in sends if send.worker_id == 2][:1]
    start, stop = mine.runs[0][1:]
    assert stop - start > 1
    commands = table.answer(mine, done=1)
    assert Deliver(1, start, start + 1, 0) in commands
    assert (1, start + 1) in chunks_of(commands)


def test_workers_that_are_still_starting_do_not_rob_each_other() -> None:
    table = Table(processes=2, ready=False)
    commands = table.submit(1)
    assert len(only(commands, Send)) == 1
    # To take it back would move it from one worker that cannot run it to another.
    assert only(commands, Reclaim) == []


def test_worker_that_is_ready_takes_what_waits_for_one_that_starts() -> None:
    table = Table(processes=2, ready=False)
    (send,) = table.submit(1)
    ready = 3 - send.worker_id
    assert table(WorkerReady(ready)) == [Reclaim(send.worker_id)]
    (moved,) = table(MessagesReclaimed(send.worker_id, (send.message_id,)))
    assert (moved.worker_id, moved.runs) == (ready, send.runs)


# --- what is behind a chunk that waits --------------------------------------------------


def test_rest_of_a_message_whose_chunk_waits_runs_elsewhere() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first, *_ = table.submit(1, chunks=8)
    count = first.runs[0][2]
    assert count > 2
    table.answer(first, done=1, final=False)
    table(RestReturned(1, first.message_id))
    commands = table(WorkerBlocked(1))
    assert only(commands, StartWorker) == [StartWorker(2)]
    sent = chunks_of([*commands, *table(WorkerReady(2))])
    assert (1, 2) in sent and (1, 1) not in sent
    assert Deliver(1, 1, 2, 0) in table.answer(first, done=1)


def test_rest_that_is_returned_while_its_job_is_cancelled_is_dropped() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first, *_ = table.submit(1, chunks=4)
    table(CancelRequested(1))
    table(RestReturned(1, first.message_id))
    table.answer(first, done=1)
    assert not table.scheduler.jobs


def test_rest_of_a_message_that_is_over_is_ignored() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table.answer(send)
    assert table(RestReturned(1, send.message_id)) == []


# --- turns -------------------------------------------------------------------------------


def test_job_that_may_never_end_does_not_starve_the_next() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1, chunks=100, final=False)
    table.submit(2, chunks=2)
    order = []
    for _ in range(4):
        (send,) = only(table.answer(send), Send)
        order.append(send.runs[0][0])
    assert order.count(2) == 2


def test_endless_jobs_of_different_functions_all_have_their_turn() -> None:
    table = Table(processes=1)
    keys = {1: "a", 2: "b", 3: "c"}
    for key in keys.values():
        table.learn(key, QUICK, chunks=100)
    waiting = []
    for job_id, key in keys.items():
        waiting += table.submit(job_id, chunks=1, final=False, cost_key=key)
    served = dict.fromkeys(keys, 0)
    for _ in range(60):
        send = waiting.pop(0)
        job_id = send.runs[0][0]
        served[job_id] += 1
        waiting += only(table.answer(send, done=len(chunks_of([send]))), Send)
        waiting += only(table(ChunksAdded(job_id, 1, False)), Send)
    assert min(served.values()) >= 15, served


# --- the end ---------------------------------------------------------------------------


def test_close_of_an_idle_pool_stops_its_workers() -> None:
    table = Table(processes=2)
    assert table(PoolClosed()) == [StopWorker(1), StopWorker(2)]
    assert table(WorkerExited(1)) == []
    assert table(WorkerExited(2)) == []
    assert not table.scheduler.workers


def test_close_waits_for_outstanding_jobs() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1, chunks=2)
    assert table(PoolClosed()) == []
    (send,) = only(table.answer(send), Send)
    assert table.answer(send) == [Deliver(1, 1, 2, 0), FinishJob(1), StopWorker(1)]


def test_worker_that_dies_while_closing_is_replaced_if_work_is_left() -> None:
    table = Table(processes=1)
    table.learn(0, SLOW)
    (send,) = table.submit(1, chunks=2)
    table(PoolClosed())
    commands = table(WorkerExited(1, send.message_id))
    assert StartWorker(2) in commands
    assert chunks_of(commands) == [(1, 1)]


def test_last_job_that_is_cancelled_lets_a_closing_pool_end() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table(PoolClosed())
    # EXIT goes out after the mailbox was emptied, not before: it must not be taken back.
    assert table(CancelRequested(1)) == [
        Reclaim(1),
        Interrupt(1, send.message_id, 1, None, False),
        StopWorker(1),
    ]


def test_last_chunk_that_dies_lets_a_closing_pool_end() -> None:
    table = Table(processes=2)
    (send,) = table.submit(1)
    table(PoolClosed())
    other = 3 - send.worker_id
    commands = table(WorkerExited(send.worker_id, send.message_id))
    assert commands == [
        FailChunk(1, 0, False),
        FinishJob(1),
        StopWorker(other),
    ]


def test_worker_that_gets_ready_after_close_is_left_alone() -> None:
    table = Table(processes=1, ready=False)
    assert table(PoolClosed()) == [StopWorker(1)]
    assert table(WorkerReady(1)) == []
    assert table(WorkerExited(1)) == []


def test_job_that_slips_in_as_the_pool_closes_still_runs() -> None:
    table = Table(processes=1)
    table(PoolClosed())
    table(WorkerExited(1))
    commands = table.submit(1)
    assert commands[0] == StartWorker(2)
    assert table.answer(sent(commands)[2])[-1] == StopWorker(2)


def test_job_that_slips_in_while_the_workers_stop_gets_a_new_one() -> None:
    table = Table(processes=1)
    table(PoolClosed())
    commands = table.submit(1)
    assert commands[0] == StartWorker(2)
    assert 1 not in sent(commands)


def test_replayed_events_give_the_same_commands() -> None:
    table = Table(processes=2, maxtasksperchild=3)
    sends = only(table.submit(1, chunks=9, retries=1), Send)
    table.answer(sends[0], failed=(0,))
    table(WorkerExited(2, sends[1].message_id))
    table(PoolClosed())
    events = list(table.scheduler.history)
    first, second = (Scheduler(2, 3) for _ in range(2))
    assert [first.handle(event, 0.0) for event in events] == [
        second.handle(event, 0.0) for event in events
    ]
    assert first.workers.keys() == table.scheduler.workers.keys()


@pytest.mark.parametrize("how", ["answered", "taken", "died"])
def test_chunks_of_several_jobs_that_come_back_keep_their_order(how: str) -> None:
    table = Table(processes=1)
    table.scheduler.dispatch.in_order = True
    table.learn(0, SLOW)
    (slow,) = only(table.submit(1), Send)
    for job_id in (2, 3, 4, 5):
        assert only(table.submit(job_id), Send) == []
    for _ in range(100):  # only now: nothing was to be sent ahead
        table.learn(0, 1e-6, chunks=1000)
    (send,) = only(table.answer(slow), Send)
    assert chunks_of([send]) == [(2, 0), (3, 0), (4, 0), (5, 0)]
    if how == "answered":
        commands = table.answer(send, done=1)
    elif how == "taken":
        commands = table(RestReturned(send.worker_id, send.message_id, 1))
        commands += table.answer(send)
    else:
        commands = table(WorkerExited(send.worker_id, send.message_id))
        commands += table(WorkerReady(2))
    while len(back := chunks_of(commands)) < 3:
        commands += table.answer(only(commands, Send)[-1])
    assert back == [(3, 0), (4, 0), (5, 0)]


@pytest.mark.parametrize(("processes", "chunks"), [(1, 2), (1, 1), (2, 2)])
def test_nothing_is_sent_ahead_that_might_overtake(processes: int, chunks: int) -> None:
    """A slow chunk makes those behind it in its message come back, behind what was sent ahead."""
    table = Table(processes=processes)
    table.scheduler.dispatch.in_order = True
    table.learn(0, 1e-6, chunks=1000)
    table.learn(1, QUICK, chunks=1000)
    for number in range(processes):
        (send,) = table.submit(1 + number, chunks=chunks)
        assert len(chunks_of([send])) == chunks
    ahead = only(table.submit(9, chunks=1000, cost_key=1), Send)
    assert bool(ahead) is (processes > 1 or chunks == 1)


def test_few_cheap_chunks_wait_until_a_worker_is_idle() -> None:
    """A message of its own would cost the worker more than it gains by having it early."""
    table = Table(processes=1)
    table.learn(0, SLOW)
    table.learn(1, 1e-6, chunks=1000)
    (send,) = table.submit(1)
    least = table.scheduler.costs.least(1)
    assert least > 1
    assert table.submit(2, chunks=least - 1, cost_key=1) == []
    assert only(table.submit(3, chunks=1, cost_key=1), Send)
    assert send.runs == [(1, 0, 1)]
