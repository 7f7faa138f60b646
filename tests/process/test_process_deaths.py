"""Kill workers from outside: idle, starting, working, sending; one, all, and often."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from crashtasks import (
    die_until,
    fail_until,
    hold_marked,
    ignore_signals_and_hold,
    kill_at_five,
    large_then_killed,
    large_with_a_fuse,
    log_and_die_at_odd,
    log_and_perhaps_die,
    log_and_return,
    log_and_square,
)
from poolkit import PATIENCE, Gate
from pooltasks import hold, hold_negative, pass_gate, pid, square

import pool as actorpool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# There is nothing to compare with: the standard pool waits for ever when a worker dies.
pytestmark = pytest.mark.ours_only


def kill(worker: int, number: int = signal.SIGKILL) -> None:
    """Kill a process and wait until it is gone."""
    descriptor = os.pidfd_open(worker)
    os.kill(worker, number)
    assert ends(descriptor)


def has_ended(worker: int) -> bool:
    """Wait until a process is gone; tell whether it is."""
    try:
        return ends(os.pidfd_open(worker))
    except ProcessLookupError:
        return True


def ends(descriptor: int) -> bool:
    ended, _, _ = select.select([descriptor], [], [], PATIENCE)
    os.close(descriptor)
    return bool(ended)


def workers_of(pool: Any, gate: Gate, count: int) -> set[int]:
    """Find the pids of all workers by tasks that run at the same time."""
    held = [pool.apply_async(hold, (gate.path,)) for _ in range(count)]
    found = {gate.entered() for _ in held}
    gate.release(count)
    for result in held:
        result.get(PATIENCE)
    return found


@pytest.mark.every_method
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=str)
def test_killed_while_idle(make_pool: Callable[..., Any], gate: Gate, number: int) -> None:
    pool = make_pool(2)
    before = workers_of(pool, gate, 2)
    kill(min(before), number)
    # Nothing ran there, so nothing fails.
    assert pool.map(square, range(50), 1) == [n * n for n in range(50)]
    assert min(before) not in workers_of(pool, gate, 2)


@pytest.mark.parametrize(("method", "number"), [("terminate", 15), ("kill", 9)])
def test_one_is_ended_by_its_place_in_the_list(
    make_pool: Callable[..., Any], method: str, number: int
) -> None:
    pool = make_pool(2)
    first, second = pool._pool
    first.join(0)
    assert first.is_alive()
    assert f"pid={first.pid}" in repr(first)
    getattr(first, method)()
    first.join()
    assert (first.exitcode, second.exitcode) == (-number, None)
    assert pool.map(square, range(8)) == [x * x for x in range(8)]
    assert len({first.pid, *(worker.pid for worker in pool._pool)}) == 3
    pool.terminate()
    first.terminate()  # of a pool that has ended: nobody is hit


def test_all_killed_while_idle(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(3)
    for _ in range(3):
        for worker in workers_of(pool, gate, 3):
            kill(worker)
        assert pool.map(square, range(50), 1) == [n * n for n in range(50)]


def test_killed_while_idle_before_each_kind_of_call(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    calls: list[Callable[[], Any]] = [
        lambda: [pool.apply(square, (3,))],
        lambda: [pool.apply_async(square, (3,)).get(PATIENCE)],
        lambda: pool.map(square, [3]),
        lambda: list(pool.imap(square, [3])),
        lambda: list(pool.imap_unordered(square, [3])),
        lambda: pool.starmap(square, [(3,)]),
    ]
    for call in calls:
        kill(pool.apply(pid))
        assert call() == [9]


@pytest.mark.every_method
@pytest.mark.parametrize("kind", [int, float, str])
def test_killed_in_a_slow_task_among_quick_ones(
    make_pool: Callable[..., Any], gate: Gate, kind: Any
) -> None:
    """What was read from its journal while it lived is not read again when it is dead."""
    task = partial(hold_negative, gate.path, kind)
    pool = make_pool(2)
    list(pool.imap_unordered(task, range(3000)))
    results = pool.imap_unordered(task, [*range(500), -1, *range(500, 1000)])
    assert sorted(itertools.islice(results, 1000)) == sorted(map(kind, range(1000)))
    kill(gate.entered())
    with pytest.raises(actorpool.WorkerDied):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_killed_in_a_long_chunk(make_pool: Callable[..., Any], gate: Gate) -> None:
    """Values that were sent before are of no use without the rest, nor for the next try."""
    pool = make_pool(2)
    numbers = [*range(50_000), -1, *range(50_000)]
    task = partial(hold_negative, gate.path, int)
    failing = pool.map_async(task, numbers, len(numbers))
    kill(gate.entered())
    with pytest.raises(actorpool.WorkerDied):
        failing.get(PATIENCE)
    again = pool.map_async(task, numbers, len(numbers), retries=1)
    kill(gate.entered())
    gate.entered()
    gate.release()
    assert again.get(PATIENCE) == numbers


def test_killed_while_running(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    result = pool.apply_async(hold, (gate.path,))
    worker = gate.entered()
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(actorpool.WorkerDied) as caught:
        result.get(PATIENCE)
    assert caught.value.pid == worker
    assert caught.value.exitcode == -signal.SIGKILL
    assert pool.map(square, range(50), 1) == [n * n for n in range(50)]


def test_only_the_running_task_fails(
    make_pool: Callable[..., Any], gate: Gate, tmp_path: Path
) -> None:
    # One worker, so the others are queued behind the task whose worker dies, some perhaps sent.
    log = tmp_path / "ran"
    pool = make_pool(1)
    held = pool.apply_async(hold, (gate.path,))
    worker = gate.entered()
    others = [pool.apply_async(log_and_square, (str(log), n)) for n in range(30)]
    mapped = pool.map_async(square, range(30), 1)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(actorpool.WorkerDied):
        held.get(PATIENCE)
    assert [other.get(PATIENCE) for other in others] == [n * n for n in range(30)]
    assert mapped.get(PATIENCE) == [n * n for n in range(30)]
    assert sorted(map(int, log.read_text().split())) == list(range(30))


def test_all_killed_at_once(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(3)
    held = [pool.apply_async(hold, (gate.path,)) for _ in range(3)]
    workers = [gate.entered() for _ in range(3)]
    queued = [pool.apply_async(square, (n,)) for n in range(20)]
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    for result in held:
        with pytest.raises(actorpool.WorkerDied):
            result.get(PATIENCE)
    assert [result.get(PATIENCE) for result in queued] == [n * n for n in range(20)]


def test_a_stopped_worker_can_be_killed(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(1)
    result = pool.apply_async(hold, (gate.path,))
    worker = gate.entered()
    os.kill(worker, signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(actorpool.WorkerDied):
        result.get(PATIENCE)
    assert pool.apply(square, (2,)) == 4


def test_terminate_ends_stopped_and_stubborn_workers(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    pool = make_pool(2)
    pool.apply_async(ignore_signals_and_hold, (gate.path,))
    pool.apply_async(hold, (gate.path,))
    workers = [gate.entered() for _ in range(2)]
    processes = [psutil.Process(worker) for worker in workers]
    os.kill(workers[1], signal.SIGSTOP)
    pool.terminate()
    pool.join()
    assert not any(process.is_running() for process in processes)


def test_killed_while_starting(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(1, pass_gate, (gate.path,))
    job = pool.map_async(square, range(20), 1)
    os.kill(gate.entered(), signal.SIGKILL)
    # Its replacement starts as well, and this one is let through.
    gate.entered()
    gate.release()
    assert job.get(PATIENCE) == [n * n for n in range(20)]


def test_killed_while_starting_before_anything_is_asked(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    pool = make_pool(1, pass_gate, (gate.path,))
    first = gate.entered()
    kill(first)
    gate.release(1)
    assert pool.map(square, range(5)) == [n * n for n in range(5)]


def test_the_error_names_a_process_that_never_was_up(make_pool: Callable[..., Any]) -> None:
    with pytest.raises(actorpool.WorkerDied) as caught:
        make_pool(1, os._exit, (3,)).apply(square, (1,))
    assert caught.value.pid > 0
    assert caught.value.exitcode == 3


@pytest.mark.parametrize("nbytes", [10, 100_000, 30_000_000])
def test_killed_while_pickling_a_large_result(make_pool: Callable[..., Any], nbytes: int) -> None:
    pool = make_pool(2)
    results = [pool.apply_async(large_then_killed, (nbytes,)) for _ in range(2)]
    after = pool.map_async(square, range(20), 1)
    for result in results:
        with pytest.raises(actorpool.WorkerDied):
            result.get(PATIENCE)
    assert after.get(PATIENCE) == [n * n for n in range(20)]


def test_killed_at_any_point_of_sending(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    chance = random.Random(1)
    nbytes = 8_000_000
    for _ in range(15):
        result = pool.apply_async(large_with_a_fuse, (nbytes, chance.uniform(0, 0.02)))
        try:
            value = result.get(PATIENCE)
        except actorpool.WorkerDied:
            pass
        else:
            assert value == b"x" * nbytes
    # A fuse may still burn in a worker that sent its result.
    assert pool.map(square, range(50), 1, retries=100) == [n * n for n in range(50)]


def test_killed_while_a_large_argument_is_sent(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(1)
    held = pool.apply_async(hold, (gate.path,))
    worker = gate.entered()
    # They are on their way, or wait for room, when the receiver dies.
    lengths = [pool.apply_async(len, (bytes(2_000_000),)) for _ in range(10)]
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(actorpool.WorkerDied):
        held.get(PATIENCE)
    assert [length.get(PATIENCE) for length in lengths] == [2_000_000] * 10


def test_a_failed_chunk_is_one_task(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    results = pool.imap(kill_at_five, range(12), 3)
    got = []
    with pytest.raises(actorpool.WorkerDied):
        for value in results:
            got.append(value)
    assert got == [0, 1, 2]


def test_retries_run_a_task_again(make_pool: Callable[..., Any], tmp_path: Path) -> None:
    pool = make_pool(2)
    for calls, method in ((3, "apply"), (3, "map"), (3, "imap")):
        log = tmp_path / method
        if method == "apply":
            assert pool.apply(die_until, (str(log), calls), retries=2) == calls
        else:
            jobs = getattr(pool, "star" + method if method == "map" else "istarmap")
            assert list(jobs(die_until, [(str(log), calls)], retries=2)) == [calls]
        assert len(log.read_text().split()) == calls
    log = tmp_path / "too often"
    with pytest.raises(actorpool.WorkerDied):
        pool.apply(die_until, (str(log), 9), retries=2)
    assert len(log.read_text().split()) == 3


@pytest.mark.parametrize("caught", [False, True])
def test_exceptions_are_tried_again_whether_or_not_they_are_wanted_as_values(
    make_pool: Callable[..., Any], tmp_path: Path, caught: bool
) -> None:
    pool = make_pool(2)
    options = {"retries": 2, "return_exceptions": caught}
    for method in ("apply", "starmap", "istarmap"):
        for calls, got in ((3, [3]), (9, [ValueError("call 3")])):
            log = tmp_path / f"{method} {calls}"
            job = (str(log), calls)
            outcome: list[Any] = []
            try:
                if method == "apply":
                    outcome.append(pool.apply(fail_until, job, **options))
                else:
                    outcome.extend(getattr(pool, method)(fail_until, [job], **options))
            except ValueError as error:
                assert not caught
                outcome.append(error)
            assert repr(outcome) == repr(got)
            assert len(log.read_text().split()) == 3


def test_timeout_ends_that_task_only(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    workers = [os.pidfd_open(worker) for worker in workers_of(pool, gate, 2)]
    # The limit is for that item alone: on a busy machine others may need as long.
    held = pool.imap(hold_marked, [(gate.path, 2)], timeout=1.0)
    others = pool.imap(hold_marked, [(gate.path, n) for n in (0, 1, 3, 4)])
    with pytest.raises(actorpool.TaskTimeout) as caught:
        next(held)
    assert isinstance(caught.value, actorpool.TimeoutError)
    assert (caught.value.seconds, caught.value.task) == (
        1.0,
        "item 0 of imap(crashtasks.hold_marked)",
    )
    assert list(others) == [0, 1, 3, 4]
    # Its worker was ended: it did not just stop being waited for.
    ended, _, _ = select.select(workers, [], [], PATIENCE)
    for descriptor in workers:
        os.close(descriptor)
    assert len(ended) == 1


def test_cancel_frees_the_worker(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(1)
    running = pool.apply_async(hold, (gate.path,))
    queued = pool.map_async(square, range(5))
    gate.entered()
    assert running.cancel()
    with pytest.raises(
        actorpool.TaskCancelled, match=r"^apply_async\(pooltasks.hold\) was cancelled"
    ):
        running.get(PATIENCE)
    assert queued.get(PATIENCE) == [0, 1, 4, 9, 16]
    late = pool.apply_async(square, (2,))
    assert late.get(PATIENCE) == 4
    assert not late.cancel()
    assert late.get(PATIENCE) == 4


def run_and_kill(pool: Any, log: str, count: int, every: int, retries: int) -> list[Any]:
    """Run tasks, kill a worker after each so many results, and return value or error by item."""
    outcomes: list[Any] = [None] * count
    victims = itertools.count(1)
    jobs = [(log, n) for n in range(count)]
    iterator = pool.imap_unordered(log_and_return, jobs, retries=retries, return_exceptions=True)
    for outcome in iterator:
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, actorpool.WorkerDied), repr(outcome)
            continue
        worker, (n, value) = outcome
        assert outcomes[n] is None, "a result came twice"
        outcomes[n] = value
        if next(victims) % every == 0:
            kill_if_there(worker)
    return outcomes


def kill_if_there(worker: int) -> None:
    """Kill a process which may have been replaced a moment ago."""
    try:
        os.kill(worker, signal.SIGKILL)
    except ProcessLookupError:
        return


def executions(log: Path, count: int) -> list[int]:
    """Count how often each item ran."""
    counts = [0] * count
    for line in log.read_text().split():
        counts[int(line)] += 1
    return counts


def check_attempts(counts: list[int], outcomes: list[Any], retries: int) -> int:
    """Check that nothing ran more often than it may, and that all that was returned ran.

    Returns
    -------
    int
        The number of items that have no result.
    """
    for n, (ran, value) in enumerate(zip(counts, outcomes, strict=True)):
        assert ran <= 1 + retries, f"item {n} ran {ran} times"
        assert value is None or ran >= 1, f"item {n} never ran"
        assert value in (None, 3 * n)
    return outcomes.count(None)


def test_random_kills_without_retries(make_pool: Callable[..., Any], tmp_path: Path) -> None:
    log = tmp_path / "ran"
    outcomes = run_and_kill(make_pool(2), str(log), 3000, 60, retries=0)
    lost = check_attempts(executions(log, 3000), outcomes, retries=0)
    # At most the tasks which a victim ran are lost: one for each of the 50 kills.
    assert lost <= 50


def test_random_kills_with_retries(make_pool: Callable[..., Any], tmp_path: Path) -> None:
    log = tmp_path / "ran"
    outcomes = run_and_kill(make_pool(2), str(log), 3000, 60, retries=20)
    assert check_attempts(executions(log, 3000), outcomes, retries=20) == 0


def test_tasks_that_kill_themselves_at_random(
    make_pool: Callable[..., Any], tmp_path: Path
) -> None:
    log = tmp_path / "ran"
    jobs = [(str(log), n) for n in range(2000)]
    got = make_pool(2).map(log_and_perhaps_die, jobs, 1, return_exceptions=True)
    counts = executions(log, 2000)
    died = {n for n in range(2000) if n % 97 == 5}
    assert counts == [1] * 2000
    for n, outcome in enumerate(got):
        if n in died:
            assert isinstance(outcome, actorpool.WorkerDied)
        else:
            assert outcome == 3 * n


def test_the_check_sees_what_it_looks_for() -> None:
    # The control: a log in which one item ran twice, or never, must not pass.
    assert check_attempts([1, 1, 1], [0, 3, None], retries=0) == 1
    with pytest.raises(AssertionError, match="item 1 ran 2 times"):
        check_attempts([1, 2, 1], [0, 3, 6], retries=0)
    with pytest.raises(AssertionError, match="item 2 never ran"):
        check_attempts([1, 1, 0], [0, 3, 6], retries=0)
    with pytest.raises(AssertionError):
        check_attempts([1, 1, 1], [0, 3, 7], retries=0)


def test_the_kills_are_real(make_pool: Callable[..., Any], tmp_path: Path) -> None:
    # The control of the other half: with kills among running tasks some must be lost.
    pool = make_pool(2)
    log = tmp_path / "ran"
    jobs = [(str(log), n) for n in range(40)]
    got = pool.map(log_and_die_at_odd, jobs, 1, return_exceptions=True)
    assert [isinstance(outcome, actorpool.WorkerDied) for outcome in got] == [False, True] * 20
    assert executions(log, 40) == [1] * 40
