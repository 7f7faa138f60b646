"""Check what a pool allows while it runs, after `close`, after `terminate`, and in `with`."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from poolkit import PATIENCE, Flavour, Gate, has_ended
from pooltasks import add, hold, leave_note, pid, square

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLS: dict[str, Callable[[Any], Any]] = {
    "apply": lambda pool: pool.apply(square, (1,)),
    "apply_async": lambda pool: pool.apply_async(square, (1,)),
    "map": lambda pool: pool.map(square, [1]),
    "map of nothing": lambda pool: pool.map(square, []),
    "map_async": lambda pool: pool.map_async(square, [1]),
    "starmap": lambda pool: pool.starmap(add, [(1, 2)]),
    "starmap_async": lambda pool: pool.starmap_async(add, [(1, 2)]),
    "imap": lambda pool: pool.imap(square, [1]),
    "imap in chunks": lambda pool: pool.imap(square, [1], 2),
    "imap_unordered": lambda pool: pool.imap_unordered(square, [1]),
    "with": lambda pool: pool.__enter__(),
}


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_nothing_is_accepted_any_more(make_pool: Callable[..., Any], end: str) -> None:
    pool = make_pool(1)
    getattr(pool, end)()
    for joined in (False, True):
        if joined:
            pool.join()
        for name, call in CALLS.items():
            with pytest.raises(ValueError, match="Pool not running"):
                pytest.fail(f"{name} gave {call(pool)!r}")


def test_join_before_the_end_is_refused(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    assert pool.apply(square, (2,)) == 4


def test_ending_twice_is_allowed(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    for end in (pool.close, pool.close, pool.join, pool.terminate, pool.terminate, pool.join):
        assert end() is None
    pool.close()


def test_close_finishes_what_was_begun(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(1)
    results = [pool.apply_async(hold, (gate.path, n)) for n in range(5)]
    more = pool.map_async(square, range(20), 3)
    pool.close()
    gate.release(5)
    pool.join()
    assert [result.get(0) for result in results] == list(range(5))
    assert more.get(0) == [n * n for n in range(20)]


@pytest.mark.every_method
def test_spawned_workers_run_their_exit_functions(
    flavour: Flavour, make_pool: Callable[..., Any], tmp_path: Path
) -> None:
    note = tmp_path / "note"
    pool = make_pool(1, leave_note, (str(note),))
    assert pool.map(square, [1, 2]) == [1, 4]
    pool.close()
    pool.join()
    assert note.exists() == (flavour.method == "spawn" or sys.version_info >= (3, 13))


@pytest.mark.this_machine
@pytest.mark.every_method
def test_workers_are_gone_after_join(make_pool: Callable[..., Any]) -> None:
    for end in ("close", "terminate"):
        pool = make_pool(2)
        workers = [psutil.Process(number) for number in set(pool.map(pid, range(20), 1))]
        getattr(pool, end)()
        pool.join()
        assert all(has_ended(worker) for worker in workers)


def test_terminate_does_not_wait_for_tasks(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    pool.map_async(hold, [gate.path] * 10_000, 1)
    workers = [psutil.Process(gate.entered()) for _ in range(2)]
    pool.terminate()
    pool.join()
    assert all(has_ended(worker) for worker in workers)


def test_with_statement(make_pool: Callable[..., Any]) -> None:
    with make_pool(2) as pool:
        assert pool.map(square, [1, 2]) == [1, 4]
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(square, [1])
    pool.join()


def test_with_returns_the_pool_and_passes_errors_on(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    with pytest.raises(KeyError, match="inside"), pool as entered:
        assert entered is pool
        raise KeyError("inside")
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(square, (1,))


def test_with_does_not_wait_for_tasks(make_pool: Callable[..., Any], gate: Gate) -> None:
    with make_pool(1) as pool:
        pool.apply_async(hold, (gate.path,))
        worker = psutil.Process(gate.entered())
    pool.join()
    assert has_ended(worker)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"processes": 0}, ValueError, "Number of processes must be at least 1"),
        ({"processes": -3}, ValueError, "Number of processes must be at least 1"),
        ({"processes": "2"}, TypeError, "not supported|must be an int, not .2."),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        ({"initializer": "name"}, TypeError, "initializer must be a callable"),
        ({"unknown": 1}, TypeError, "unknown"),
        ({"maxtasksperchild": 0}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"maxtasksperchild": -1}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"maxtasksperchild": 1.5}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"maxtasksperchild": "12"}, ValueError, "maxtasksperchild must be a positive int or None"),
    ],
    ids=str,
)
def test_bad_arguments(
    make_pool: Callable[..., Any], arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        make_pool(**{"processes": 1} | arguments)


def test_arguments_by_position(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1, None, (), 5)
    assert pool.map(square, range(4)) == [0, 1, 4, 9]


def test_all_cpus_by_default(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    pool = make_pool()
    assert pool.map(square, range(50)) == [n * n for n in range(50)]
    if not flavour.standard:
        # The standard counts CPUs that this process may not use up to Python 3.12.
        assert 1 <= pool.stats()["processes"] <= len(os.sched_getaffinity(0))


@pytest.mark.this_machine
@pytest.mark.every_method
def test_a_context_may_be_given(flavour: Flavour) -> None:
    context = flavour.module.get_context(flavour.method)
    module_pool = flavour.module.pool.Pool
    with module_pool(2, context=context) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.join()


def test_repr_names_the_class_and_state(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    assert "Pool" in repr(pool)
    assert "RUN" in repr(pool).upper()
    pool.close()
    assert "CLOSE" in repr(pool).upper()


def test_many_pools_at_once(make_pool: Callable[..., Any]) -> None:
    pools = [make_pool(1) for _ in range(6)]
    jobs = [pool.map_async(functools.partial(add, n), range(5)) for n, pool in enumerate(pools)]
    for n, job in enumerate(jobs):
        assert job.get(PATIENCE) == [n + k for k in range(5)]


def test_pools_one_after_the_other_have_fresh_workers(make_pool: Callable[..., Any]) -> None:
    seen: set[int] = set()
    for _ in range(5):
        with make_pool(1) as pool:
            worker = pool.apply(pid)
        assert worker not in seen
        seen.add(worker)
        pool.join()
