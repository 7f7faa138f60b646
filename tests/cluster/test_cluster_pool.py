"""A Pool on a cluster does what a Pool does: one suite for what Ray, Dask and bare agents have."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clustertasks as tasks
import numpy as np
import psutil
import pytest
from poolkit import has_ended

import pool as pool_module
from pool import WorkerDied


def test_methods(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    numbers = range(50)
    squares = [x * x for x in numbers]
    assert pool.map(tasks.square, numbers) == squares
    assert pool.map(tasks.square, numbers, 7) == squares
    assert list(pool.imap(tasks.square, numbers, 3)) == squares
    assert sorted(pool.imap_unordered(tasks.square, numbers)) == squares
    assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert pool.apply(tasks.square, (3,)) == 9
    assert pool.apply(sorted, ([3, 1],), {"reverse": True}) == [3, 1]
    results = [pool.apply_async(tasks.square, (x,)) for x in numbers]
    assert [result.get() for result in results] == squares
    assert pool.map(tasks.square, []) == []
    pool.close()
    pool.join()


def test_many_cheap_tasks(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    assert pool.map(tasks.square, range(20_000), 1) == [x * x for x in range(20_000)]
    assert sum(pool.imap(tasks.square, range(5_000))) == sum(x * x for x in range(5_000))
    # A chunk whose values come in parts, and one whose values are no plain numbers.
    assert pool.map(tasks.square, range(30_000), 15_000)[-1] == 29_999**2
    assert pool.map(str, range(30_000), 15_000)[-1] == "29999"


def test_closures_and_globals(make_pool: Callable[..., Any]) -> None:
    offset, lock = 5, threading.Lock()

    class Adder:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def add(self, x: int) -> int:
            with self.lock, lock:
                return x + offset

    pool = make_pool(2)
    assert pool.map(Adder().add, range(5)) == [5, 6, 7, 8, 9]
    made = pool.apply(Adder)
    assert type(made) is Adder  # the class is one here and there


def test_an_initializer_s_globals_are_seen(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2, tasks.remember, ("key", np.arange(300_000)))
    assert [value.sum() for value in pool.map(tasks.recall, ["key"] * 4, 1)] == [44999850000] * 4


def test_an_initializer_that_raises(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2, tasks.refuse, ("no licence",))
    with pytest.raises(LookupError, match="no licence") as caught:
        pool.map(tasks.square, range(4))
    assert "raised by the initializer" in caught.value.__notes__


def test_an_initializer_that_raises_in_a_later_worker(
    make_pool: Callable[..., Any], tmp_path: Path
) -> None:
    pool = make_pool(1, tasks.only_once, (str(tmp_path / "started"),), 1)
    assert pool.apply(tasks.square, (3,)) == 9
    for _ in range(2):
        with pytest.raises(LookupError, match="no second licence"):
            pool.map(tasks.square, range(4))


def test_what_a_task_raises(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    with pytest.raises(ValueError, match="it is 3") as caught:
        pool.map(tasks.fail_at_three, range(8))
    assert "raised by item 3 of map(clustertasks.fail_at_three)" in caught.value.__notes__
    assert "fail_at_three" in str(caught.value.__cause__)
    values = pool.map(tasks.fail_at_three, range(5), return_exceptions=True)
    assert [type(value).__name__ for value in values] == ["int"] * 3 + ["ValueError", "int"]
    iterator = pool.imap(tasks.fail_at_three, range(5))
    assert [next(iterator) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="it is 3"):
        next(iterator)
    assert next(iterator) == 4


@pytest.mark.parametrize("task", [tasks.die_at_three, tasks.exit_at_three])
def test_a_worker_that_ends(make_pool: Callable[..., Any], task: Callable[[int], int]) -> None:
    pool = make_pool(2)
    values = pool.map(task, range(40), 1, return_exceptions=True)
    assert [value for value in values if isinstance(value, int)] == [*range(3), *range(4, 40)]
    assert isinstance(values[3], WorkerDied | SystemExit)
    assert pool.map(tasks.square, range(5)) == [0, 1, 4, 9, 16]


def test_a_time_limit(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    values = pool.map(tasks.sleep, [0.0, 60.0, 0.01], timeout=1.0, return_exceptions=True)
    assert values[0] == 0.0 and values[2] == 0.01
    assert isinstance(values[1], multiprocessing.TimeoutError)
    assert "item 1 of map(clustertasks.sleep)" in str(values[1])


def test_another_try(make_pool: Callable[..., Any], tmp_path: Path) -> None:
    pool = make_pool(2)
    assert pool.apply(tasks.once, (str(tmp_path / "a"),), retries=1)
    with pytest.raises(RuntimeError, match="the first time"):
        pool.apply(tasks.once, (str(tmp_path / "b"),))


def test_a_cancelled_task_makes_room(make_pool: Callable[..., Any], tmp_path: Path) -> None:
    pool = make_pool(1)
    begun = tmp_path / "begun"
    result = pool.apply_async(tasks.touch_and_sleep, (str(begun), 300.0))
    while not begun.exists():
        time.sleep(0.01)
    assert result.cancel()
    with pytest.raises(pool_module.TaskCancelled):
        result.get()
    assert pool.apply(tasks.square, (3,)) == 9


def test_arrays_arrive_writable_and_private(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    array = np.zeros((1000, 1000), order="F")
    results = pool.map(tasks.add_in_place, [array] * 4, 1)
    for result in results:
        assert (result == 1).all() and result.flags.writeable and result.flags.f_contiguous
        result += 1
    assert not array.any()
    assert all((result == 2).all() for result in results)
    days = pool.apply(tasks.add_a_day, (np.array(["2020-02-28"], dtype="M8[D]"),))
    assert days.dtype == "M8[D]" and str(days[0]) == "2020-02-29"


def test_a_large_closure(make_pool: Callable[..., Any]) -> None:
    table = np.arange(500_000)
    pool = make_pool(2)
    assert pool.map(lambda x: int(table[x]), range(100), 1) == list(range(100))


def test_an_endless_input(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    iterator = pool.imap(tasks.square, itertools.count())
    assert [next(iterator) for _ in range(100)] == [x * x for x in range(100)]
    assert next(pool.imap_unordered(tasks.square, itertools.count())) >= 0


def test_callbacks(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    seen: list[Any] = []
    pool.map_async(tasks.square, range(3), callback=seen.append).wait()
    pool.apply_async(tasks.fail_at_three, (3,), error_callback=seen.append).wait()
    assert seen[0] == [0, 1, 4] and str(seen[1]) == "it is 3"


def test_fresh_workers_after_some_tasks(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1, maxtasksperchild=2)
    pids = pool.map(tasks.pid, range(6), 1)
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]


def test_values_of_references(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    ref = pool_module.put(np.ones(100_000))
    try:
        assert pool.apply(np.sum, (ref,)) == 100_000
        with pytest.raises(TypeError, match="workers on other machines cannot use"):
            pool.apply(len, ([ref],))
    finally:
        pool_module.shutdown()


def test_what_cannot_be_sent(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    endless = itertools.count()
    generator = (x for x in endless)
    with pytest.raises(pool_module.CannotSend, match="generator"):
        pool.map(lambda _: next(generator), range(3))
    with pytest.raises((pool_module.CannotSend, RuntimeError), match="(?i)lock"):
        pool.apply(len, (multiprocessing.Lock(),))
    assert pool.apply(tasks.square, (2,)) == 4


def test_what_a_pool_shows(make_pool: Callable[..., Any], engine: str) -> None:
    pool = make_pool(2)
    pool.map(tasks.square, range(4))
    stats = pool.stats()
    assert stats["start_method"] == engine and stats["tasks_done"] == 4
    assert any(worker["host"] for worker in stats["workers"])
    assert {worker["pid"] for worker in stats["workers"]} == {None}
    assert "machine" in pool._repr_html_()
    assert {worker.pid for worker in pool._pool} == {None}


def test_states(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.map_async(tasks.sleep, [0.1] * 4, 1)
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.map(tasks.square, [1])
    pool.join()
    assert result.get() == [0.1] * 4
    with make_pool(2) as pool:
        pool.map_async(tasks.sleep, [60.0] * 4)
    pool.join()


def test_workers_ended_by_the_program(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    pool.map(tasks.square, range(4))
    worker = pool._pool[0]
    worker.terminate()
    worker.join(60.0)
    assert not worker.is_alive()
    assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]


def test_nothing_stays_on_the_cluster(make_pool: Callable[..., Any]) -> None:
    for end in ("close", "terminate"):
        pool = make_pool(2)
        workers = {psutil.Process(pid) for pid in pool.map(tasks.pid, range(8), 1)}
        getattr(pool, end)()
        pool.join()
        _, alive = psutil.wait_procs(workers, timeout=60.0)
        assert not [worker for worker in alive if not has_ended(worker)]


def test_two_pools_at_once(make_pool: Callable[..., Any]) -> None:
    first, second = make_pool(1), make_pool(1)
    results = [pool.map_async(tasks.square, range(100), 1) for pool in (first, second)]
    assert [result.get() for result in results] == [[x * x for x in range(100)]] * 2
