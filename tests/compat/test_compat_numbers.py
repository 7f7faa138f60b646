"""Check arguments that programs compute: numbers of numpy's, and times without end."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from poolkit import PATIENCE, Gate
from pooltasks import hold, pid, square

if TYPE_CHECKING:
    from collections.abc import Callable

#: Longer than the system sleeps at a time, and than its clocks count in some units.
FOREVER = [9_999_999, 1e8, np.float64(3e6)]


@pytest.mark.every_method
def test_numbers_of_numpy(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(np.int64(2), maxtasksperchild=None)
    squares = [n * n for n in range(30)]
    assert pool.map(square, range(30), chunksize=np.int64(7)) == squares
    assert pool.map_async(square, range(30), np.int32(1)).get(np.float64(PATIENCE)) == squares
    assert pool.starmap(pow, [(n, 2) for n in range(30)], np.uint8(4)) == squares
    assert list(pool.imap(square, range(30), np.int64(7))) == squares
    assert sorted(pool.imap_unordered(square, range(30), np.int64(4))) == squares
    assert len(pool._pool) == 2
    pool.close()
    pool.join()


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pools of ours no other reason to wake up: they look at the memory now and then."""
    monkeypatch.setenv("POOL_MEMORY_LIMIT", "off")


@pytest.mark.parametrize("timeout", FOREVER, ids=str)
def test_waiting_for_months(
    make_pool: Callable[..., Any], gate: Gate, nobody_looks: None, timeout: float
) -> None:
    pool = make_pool(1)
    results = [pool.apply_async(hold, (gate.path, n)) for n in range(3)]
    values = pool.imap(square, range(3))
    # While they are waited for, too.
    helper = threading.Thread(target=lambda: [(gate.entered(), gate.release()) for _ in results])
    helper.start()
    assert results[0].get(timeout) == 0
    assert results[1].wait(timeout) is None
    assert results[2].get(timeout=timeout) == 2
    assert [values.next(timeout) for _ in range(3)] == [0, 1, 4]
    helper.join()


@pytest.mark.ours_only
@pytest.mark.parametrize("timeout", [np.float64(1e8), np.int64(10**7), 1e8, 10**9], ids=str)
def test_items_that_may_take_months(
    make_pool: Callable[..., Any], nobody_looks: None, timeout: float
) -> None:
    pool = make_pool(1)
    assert pool.apply(square, (3,), timeout=timeout) == 9
    assert pool.map(square, range(3), timeout=timeout) == [0, 1, 4]
    assert list(pool.imap(square, range(3), timeout=timeout)) == [0, 1, 4]


@pytest.mark.ours_only
def test_limits_of_items_that_numpy_computed(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(1)
    before = pool.apply(pid)
    with pytest.raises(multiprocessing.TimeoutError):
        pool.apply(hold, (gate.path,), timeout=np.float64(0.2))
    assert pool.apply(pid) != before


def test_workers_are_the_same_when_one_looks_again(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    assert pool._pool == pool._pool
    first = list(pool._pool)
    assert first[0] != first[1] and first[0] in pool._pool
    assert len({*first, *pool._pool}) == 2
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert pool._pool == first
