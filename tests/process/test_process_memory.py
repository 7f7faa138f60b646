"""Let tasks take memory until there is too little: one worker is ended, and nothing else is lost.

The tasks really allocate. How much there is, is said by POOL_MEMORY_LIMIT, or by a reader of
limits that stands in for the system's: a test must not bring the machine it runs on to its end.
"""

from __future__ import annotations

import gc
import mmap
import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE, Gate
from pooltasks import STATE, hold, log_line, pid, square

import pool as actorpool
from pool import _memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# There is nothing to compare with: the kernel ends somebody, and the standard pool waits for ever.
pytestmark = pytest.mark.ours_only

MIB = 1 << 20
#: What the tasks may hold together, beside this process; more than bare workers do.
ALLOWED = 128 * MIB
TOO_MUCH = 256 * MIB
RESERVE = 64 * MIB


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit what this process and its workers hold."""
    gc.collect()
    monkeypatch.setenv("POOL_MEMORY_LIMIT", str(_memory.resident("self") + ALLOWED))


def take(nbytes: int) -> mmap.mmap:
    """Take memory, and give it back with the object."""
    block = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, nbytes, 4096):
        block[start] = 1
    return block


def take_and_hold(path: str, nbytes: int, value: object = None) -> object:
    """Take memory and keep it until the gate opens."""
    block = take(nbytes)
    try:
        return hold(path, value)
    finally:
        block.close()


def square_or_take(job: tuple[str, str, int]) -> int:
    """Note the item; one of them takes too much memory and holds it."""
    log, path, n = job
    log_line(log, n)
    if n == 5:
        take_and_hold(path, TOO_MUCH)
    return n * n


def take_at_first(log: str, path: str) -> str:
    """Take too much memory when called for the first time."""
    log_line(log, os.getpid())
    with open(log) as file:
        if len(file.read().split()) == 1:
            take_and_hold(path, TOO_MUCH)
    return "done"


def take_and_keep(nbytes: int) -> int:
    """Leave memory behind, as a cache does."""
    STATE["block"] = take(nbytes)
    return os.getpid()


@pytest.mark.this_machine
@pytest.mark.usefixtures("limited")
@pytest.mark.every_method
def test_the_task_that_takes_too_much_is_ended(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    small = pool.apply_async(hold, (gate.path, "small"))
    other = gate.entered()
    large = pool.apply_async(take_and_hold, (gate.path, TOO_MUCH))
    with pytest.raises(actorpool.OutOfMemory) as caught:
        large.get(PATIENCE)
    error = caught.value
    assert isinstance(error, actorpool.WorkerDied)
    assert isinstance(error, MemoryError)
    assert (error.exitcode, error.where) == (-signal.SIGKILL, "that POOL_MEMORY_LIMIT sets")
    assert error.available < 0
    assert error.task == "apply_async(test_process_memory.take_and_hold)"
    rows = {row[0]: row[1:] for row in error.table}
    assert rows[error.pid][0] == "apply_async(test_process_memory.take_and_hold) (ended)"
    assert rows[error.pid][1] >= 100 * MIB
    assert rows[os.getpid()][0] == "this program"
    assert rows[other][0] == "apply_async(pooltasks.hold)"
    assert rows[other][1] < 50 * MIB
    for number, _, nbytes in error.table:
        assert f"{number:>9}  {_memory.binary_size(nbytes):>9}  " in str(error)
    # The other task was not touched, nor the pool.
    gate.release()
    assert small.get(PATIENCE) == "small"
    assert pool.map(square, range(50), 1) == [n * n for n in range(50)]


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
def test_every_other_item_of_the_call_runs_once(
    make_pool: Callable[..., Any], gate: Gate, tmp_path: Path, method: str
) -> None:
    pool = make_pool(2)
    log = tmp_path / "ran"
    jobs = [(str(log), gate.path, n) for n in range(60)]
    got = list(getattr(pool, method)(square_or_take, jobs, 1, return_exceptions=True))
    failed = [outcome for outcome in got if isinstance(outcome, BaseException)]
    assert [type(error) for error in failed] == [actorpool.OutOfMemory]
    assert "item 5 of " in str(failed[0])
    values = [outcome for outcome in got if not isinstance(outcome, BaseException)]
    assert sorted(values) == [n * n for n in range(60) if n != 5]
    assert sorted(map(int, log.read_text().split())) == list(range(60))


@pytest.mark.usefixtures("limited")
def test_a_call_that_is_waited_for_at_once(make_pool: Callable[..., Any], gate: Gate) -> None:
    # It goes to a worker on loan, once that knows the function.
    pool = make_pool(1)
    gate.release()
    assert pool.apply(take_and_hold, (gate.path, MIB, "fits")) == "fits"
    gate.entered()
    for _ in range(2):
        with pytest.raises(actorpool.OutOfMemory, match=r"running apply\(test_process_memory\."):
            pool.apply(take_and_hold, (gate.path, TOO_MUCH))
        gate.release()
        assert pool.apply(take_and_hold, (gate.path, MIB, "fits")) == "fits"


@pytest.mark.usefixtures("limited")
def test_it_is_tried_again_only_if_asked(
    make_pool: Callable[..., Any], gate: Gate, tmp_path: Path
) -> None:
    pool = make_pool(1)
    once, twice = tmp_path / "once", tmp_path / "twice"
    with pytest.raises(actorpool.OutOfMemory):
        pool.apply(take_at_first, (str(once), gate.path))
    assert len(once.read_text().split()) == 1
    assert pool.apply(take_at_first, (str(twice), gate.path), retries=1) == "done"
    assert len(set(twice.read_text().split())) == 2


class Readings:
    """Stand in for the system's limits: say how much is left, and count who asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Just enough, so that the next look is not long in coming.
        self.available = RESERVE
        self.looks = threading.Semaphore(0)
        monkeypatch.setattr(_memory, "rooms", self.read)

    def read(self) -> list[_memory.Room]:
        self.looks.release()
        return [_memory.Room(self.available, 1 << 40, RESERVE, "of the test")]

    def until_looked(self, times: int) -> None:
        for _ in range(times):
            assert self.looks.acquire(timeout=PATIENCE), "nobody looks"


def test_what_an_idle_worker_keeps_is_freed_and_no_task_fails(
    make_pool: Callable[..., Any], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Readings(monkeypatch)
    pool = make_pool(2)
    held = pool.apply_async(hold, (gate.path, "held"))
    gate.entered()
    keeper = pool.apply(take_and_keep, (80 * MIB,))
    descriptor = os.pidfd_open(keeper)
    readings.available = 0
    ended, _, _ = select.select([descriptor], [], [], PATIENCE)
    os.close(descriptor)
    assert ended, "it is still there"
    gate.release()
    assert held.get(PATIENCE) == "held"
    assert keeper not in set(pool.map(pid, range(100), 1))


def test_nobody_is_ended_when_others_have_the_memory(
    make_pool: Callable[..., Any], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Readings(monkeypatch)
    readings.available = 0
    pool = make_pool(2)
    small = [pool.apply_async(hold, (gate.path, n)) for n in range(2)]
    readings.until_looked(5)
    gate.release(2)
    assert [result.get(PATIENCE) for result in small] == [0, 1]
    assert pool.stats()["restarts"] == 0


def test_a_limit_of_the_system_is_named(
    make_pool: Callable[..., Any], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Readings(monkeypatch)
    pool = make_pool(1)
    large = pool.apply_async(take_and_hold, (gate.path, 80 * MIB))
    gate.entered()
    readings.until_looked(1)
    readings.available = 20 * MIB
    with pytest.raises(actorpool.OutOfMemory, match=r"\(20.0 MiB left of the 1024 GiB of the test"):
        large.get(PATIENCE)


def test_two_pools_end_one_worker_at_a_time(
    make_pool: Callable[..., Any], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Readings(monkeypatch)
    pools = [make_pool(1), make_pool(1)]
    large = [pool.apply_async(take_and_hold, (gate.path, 80 * MIB)) for pool in pools]
    for _ in pools:
        gate.entered()

    def read() -> list[_memory.Room]:
        # As the kernel does, give back what was held by a worker that is gone.
        left = sum(not result.ready() for result in large)
        return [_memory.Room(0 if left == 2 else RESERVE, 1 << 40, RESERVE, "of the test")]

    readings.until_looked(2)
    monkeypatch.setattr(_memory, "rooms", read)
    (failed,) = wait_for_one(large)
    with pytest.raises(actorpool.OutOfMemory):
        failed.get(PATIENCE)
    gate.release()
    (other,) = [result for result in large if result is not failed]
    assert other.get(PATIENCE) is None


def wait_for_one(results: list[Any]) -> list[Any]:
    """Wait until one of several results is there."""
    found = threading.Semaphore(0)
    for result in results:
        waiter = threading.Thread(target=lambda r=result: (r.wait(), found.release()), daemon=True)
        waiter.start()
    assert found.acquire(timeout=PATIENCE)
    return [result for result in results if result.ready()]


def test_turned_off(make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    readings = Readings(monkeypatch)
    readings.available = 0
    monkeypatch.setenv("POOL_MEMORY_LIMIT", "off")
    pool = make_pool(1)
    keeper = pool.apply(take_and_keep, (TOO_MUCH,))
    # Some looks were due by then.
    assert not readings.looks.acquire(timeout=0.5)
    assert pool.map(pid, range(1000), 1) == [keeper] * 1000


def test_a_malformed_limit_is_refused_at_once(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL_MEMORY_LIMIT", "plenty")
    with pytest.raises(ValueError, match=r"POOL_MEMORY_LIMIT is 'plenty'; it takes a size"):
        make_pool(1)
