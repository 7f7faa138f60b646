"""The scheduler, race by race: every test is one sequence of events."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import pytest
from schedulerchecks import check_invariants

from pool._errors import InvalidTransition
from pool._local._events import (
    ASK,
    EXIT,
    KILL,
    AbortJobs,
    CancelRequested,
    ChunksAdded,
    DeadlinePassed,
    Deliver,
    DropChunk,
    FailChunk,
    FinishJob,
    Interrupt,
    JobSubmitted,
    KillWorker,
    LoanCancelled,
    MemoryShort,
    MessageAnswered,
    MessagesReclaimed,
    PoolClosed,
    PoolOpened,
    PoolTerminated,
    RecallHeard,
    RecallRequested,
    Reclaim,
    RestReturned,
    Send,
    StartWorker,
    StopWorker,
    WorkerBlocked,
    WorkerExited,
    WorkerLent,
    WorkerReady,
    WorkerRefused,
    WorkerReturned,
    WorkerUnblocked,
)
from pool._local._scheduler import DEPTH, GRACE, PREFETCH_BELOW, START_ATTEMPTS, Scheduler

# Long enough that a chunk travels alone and nothing is sent ahead of it.
SLOW = 10 * PREFETCH_BELOW
# Short enough that several travel together, and long enough that any of them is worth a
# message with one or two workers.
QUICK = 59e-6


class Table:
    """A scheduler on the table: feed it events, look at the commands.

    Every event is followed by a check of the invariants.
    """

    def __init__(
        self, processes: int = 2, maxtasksperchild: int | None = None, ready: bool = True
    ) -> None:
        self.scheduler = Scheduler(processes, maxtasksperchild)
        self.now = 0.0
        started = self(PoolOpened())
        assert started == [StartWorker(number) for number in range(1, processes + 1)]
        if ready:
            for number in range(1, processes + 1):
                assert self(WorkerReady(number)) == []

    def __call__(self, event: Any) -> list[Any]:
        commands = self.scheduler.handle(event, self.now)
        check_invariants(self.scheduler)
        return list(commands)

    def learn(self, key: Hashable, seconds: float, chunks: int = 1) -> None:
        """Let the function `key` be known to take `seconds` per chunk."""
        self.scheduler.costs.observe(key, chunks, seconds * chunks)

    def submit(
        self, job_id: int = 1, chunks: int = 1, final: bool = True, **more: Any
    ) -> list[Any]:
        more.setdefault("cost_key", 0)
        return self(JobSubmitted(job_id, chunks, final, **more))

    def answer(
        self, send: Send, done: int = 1, final: bool = True, failed: tuple[int, ...] = ()
    ) -> list[Any]:
        # No time: what was learned stays as it is.
        return self(MessageAnswered(send.worker_id, send.message_id, done, final, 0.0, failed))


def only(commands: Iterable[Any], kind: Any) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


def sent(commands: Iterable[Any]) -> dict[int, Any]:
    """Return the one Send to each worker."""
    sends = only(commands, Send)
    by_worker = {send.worker_id: send for send in sends}
    assert len(by_worker) == len(sends), f"two messages to one worker: {sends}"
    return by_worker


def chunks_of(commands: Iterable[Any]) -> list[tuple[int, int]]:
    """Return (job, chunk) of all that is sent."""
    return [
        (job_id, index)
        for send in only(commands, Send)
        for job_id, start, stop in send.runs
        for index in range(start, stop)
    ]


# --- the ordinary course of things ----------------------------------------------------


def test_a_job_goes_out_comes_back_and_finishes() -> None:
    table = Table(processes=1)
    (send,) = table.submit(7)
    assert send == Send(1, send.message_id, [(7, 0, 1)])
    assert table.scheduler.outstanding
    assert table.answer(send) == [Deliver(7, 0, 1, 0), FinishJob(7)]
    assert not table.scheduler.outstanding
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


# --- deaths ----------------------------------------------------------------------------


def test_chunk_running_in_dead_worker_fails_and_the_rest_runs_elsewhere() -> None:
    table = Table(processes=2)
    table.learn(0, QUICK, chunks=100)
    sends = only(table.submit(1, chunks=16), Send)
    lost = [send for send in sends if send.worker_id == 1]
    start, stop = lost[0].runs[0][1:]
    table.answer(lost[0], done=1, final=False)
    commands = table(WorkerExited(1, lost[0].message_id))
    assert only(commands, FailChunk) == [FailChunk(1, start + 1, False, 1)]
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
    assert not table.scheduler.outstanding


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


def test_last_chunk_finished_but_not_answered_before_death_does_not_fail() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    # What the journal kept is answered first, then the exit names the message.
    assert table.answer(send, final=False) == [Deliver(1, 0, 1, 0), FinishJob(1)]
    assert table(WorkerExited(1, send.message_id)) == [StartWorker(2)]


def test_late_answer_after_exit_is_dropped() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    assert FailChunk(1, 0, False, 1) in table(WorkerExited(1, send.message_id))
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
    assert commands[:2] == [FailChunk(1, 0, False, 1), FinishJob(1)]


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
        assert not table.scheduler.gave_up
    assert table(WorkerExited(START_ATTEMPTS)) == [AbortJobs((1,))]
    assert table.scheduler.gave_up
    assert not table.scheduler.workers


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
    assert not table.scheduler.outstanding


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
    assert only(commands, FailChunk) == [FailChunk(1, 0, False, 2)]


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
    assert not table.scheduler.outstanding


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
    assert order == [0, 1, 3] or order == [0, 3, 1]
    assert not table.scheduler.outstanding


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
    assert commands[:2] == [FailChunk(1, 0, False, 1), FinishJob(1)]


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
    assert only(commands, FailChunk) == [FailChunk(1, 0, True, 1)]
    assert table.scheduler.outstanding


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
    assert FailChunk(1, 0, True, 1) in table(WorkerExited(1, send.message_id))
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
    assert FailChunk(1, 0, True, 2) in table(WorkerExited(2, again.message_id))


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
    assert only(commands, FailChunk) == [FailChunk(1, 0, False, victim)]
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


def test_idle_worker_that_holds_much_is_replaced() -> None:
    table = Table(processes=1)
    assert table(MemoryShort(1)) == [KillWorker(1)]
    assert table.scheduler.lendable() is None
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
    assert FailChunk(1, 0, False, 2) in table(WorkerExited(2, again.message_id))


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


def test_what_waits_behind_a_blocked_task_is_taken_back() -> None:
    table = Table(processes=1)
    _, waiting = table.submit(1, chunks=2)
    commands = table(WorkerBlocked(1))
    assert Reclaim(1) in commands
    commands = table(MessagesReclaimed(1, (waiting.message_id,)))
    assert sent(commands)[2].runs == [(1, 1, 2)]


def test_blocked_worker_is_sent_nothing() -> None:
    table = Table(processes=1)
    table.submit(1)
    table(WorkerBlocked(1))
    table.submit(2, chunks=10, depth=1)
    assert len(table.scheduler.workers[1].messages) == 1


def test_substitute_is_stopped_when_the_task_goes_on() -> None:
    table = Table(processes=1)
    table.submit(1)
    table(WorkerBlocked(1))
    (send,) = table.submit(2, depth=1)
    table.answer(send)
    assert table(WorkerUnblocked(1)) == [StopWorker(2)]
    assert table(WorkerExited(2)) == []


def test_busy_substitute_is_stopped_after_what_it_runs() -> None:
    table = Table(processes=1)
    (outer,) = table.submit(1)
    table(WorkerBlocked(1))
    (send,) = table.submit(2, depth=1)
    assert table(WorkerUnblocked(1)) == []
    assert table.answer(send) == [Deliver(2, 0, 1, 0), FinishJob(2), StopWorker(2)]
    assert table.answer(outer) == [Deliver(1, 0, 1, 0), FinishJob(1)]
    assert table.scheduler.workers[1].stopping is False


def test_task_that_waits_twice_at_once_is_unblocked_by_the_second_end() -> None:
    table = Table(processes=1)
    table.submit(1)
    assert table(WorkerBlocked(1)) == [StartWorker(2)]
    assert table(WorkerBlocked(1)) == []
    assert table(WorkerUnblocked(1)) == []
    assert table(WorkerUnblocked(1)) == [StopWorker(2)]


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
    assert commands == [FailChunk(1, 0, False, 1), FinishJob(1)]
    assert [send.worker_id for send in table.submit(2)] == [2]


# --- loans: calls that the driver makes on an idle worker itself --------------------------


def test_lent_worker_is_sent_nothing_until_it_is_returned() -> None:
    table = Table(processes=1)
    assert table.scheduler.lendable() == 1
    assert table(WorkerLent(1)) == []
    assert table.scheduler.lendable() is None
    assert table.submit(1) == []
    (send,) = table(WorkerReturned(1, 99, False))
    assert send.worker_id == 1
    assert (table.scheduler.tasks_done, table.scheduler.tasks_failed) == (1, 0)


def test_returned_worker_takes_what_waits_behind_a_straggler() -> None:
    table = Table(processes=2)
    lent = table.scheduler.lendable()
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
    assert table.scheduler.lendable() is None


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


def test_lent_worker_that_waits_for_the_pool_gets_a_substitute() -> None:
    table = Table(processes=1)
    table(WorkerLent(1))
    assert table(WorkerBlocked(1)) == [StartWorker(2)]
    (send,) = table.submit(1, depth=1)
    table(WorkerReady(2))
    table.answer(send)
    assert table(WorkerUnblocked(1)) == [StopWorker(2)]
    assert table(WorkerReturned(1, 99, False)) == []
    assert table.scheduler.lendable() == 1


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
    assert table(DeadlinePassed()) == [Interrupt(1, 99, 0, None, True)]


def test_cancelled_loan_that_ends_in_time_is_pardoned() -> None:
    table = Table(processes=1)
    table(WorkerLent(1))
    table(LoanCancelled(1, 99))
    table(WorkerReturned(1, 99, True))
    assert table.scheduler.next_deadline() is None
    assert table(LoanCancelled(1, 99)) == []


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
        FailChunk(1, 0, False, send.worker_id),
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
    assert only(commands, FailChunk) == [FailChunk(1, 0, False, 1)]
    assert FinishJob(1) in commands
    assert table.scheduler.next_deadline() is None


def test_recall_with_force_runs_what_shared_the_message_elsewhere() -> None:
    table = Table(processes=1)
    table.learn(0, QUICK, chunks=100)
    first, *_ = table.submit(1, chunks=4)
    assert first.runs == [(1, 0, 2)]
    table(RecallRequested(1, 0, True))
    commands = table(WorkerExited(1, first.message_id))
    assert only(commands, FailChunk) == [FailChunk(1, 0, False, 1)]
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


def test_recall_of_a_finished_job_does_nothing() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table.answer(send)
    assert table(RecallRequested(1, 0, True)) == []


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
    assert not table.scheduler.outstanding


def test_rest_of_a_message_that_is_over_is_ignored() -> None:
    table = Table(processes=1)
    (send,) = table.submit(1)
    table.answer(send)
    assert table(RestReturned(1, send.message_id)) == []
