"""Check that the tasks of `imap` run though nobody takes their results."""

from __future__ import annotations

import os
import select
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE, Flavour, Gate
from pooltasks import hold, log_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STANDARD_FAILS = {
    "test_a_task_that_uses_its_pool_need_not_take_results": "pool objects cannot be pickled",
}

BOTH = ["imap", "imap_unordered"]
# Far more than are read ahead of whoever takes results.
COUNT = 1000
KINDS = [list, tuple, range, set, dict]


class Told:
    """What tasks tell by `log_line`, as they run."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.mkfifo(path)
        self._fifo = os.open(path, os.O_RDWR)
        self._unread = b""

    def numbers(self, count: int) -> set[int]:
        """Wait until so many tasks have told of themselves."""
        while self._unread.count(b"\n") < count:
            ready, _, _ = select.select([self._fifo], [], [], PATIENCE)
            assert ready, f"only {len(self._unread.split())} tasks have run"
            self._unread += os.read(self._fifo, 1 << 16)
        return {int(line) for line in self._unread.split()}

    def close(self) -> None:
        os.close(self._fifo)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(str(tmp_path / "told"))
    yield made
    made.close()


def items_of(kind: Any, numbers: range) -> Any:
    """Return these numbers in one of the ways in which they are in memory anyway."""
    if kind is range:
        return numbers
    return dict.fromkeys(numbers) if kind is dict else kind(numbers)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", BOTH)
def test_all_run(make_pool: Callable[..., Any], told: Told, method: str, kind: Any) -> None:
    items = items_of(kind, range(COUNT))
    results = getattr(make_pool(2), method)(partial(log_line, told.path), items)
    assert told.numbers(COUNT) == set(range(COUNT))
    assert list(results) == [None] * COUNT


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize("method", BOTH)
def test_all_run_though_nobody_holds_the_pool(
    flavour: Flavour, told: Told, method: str, kind: Any
) -> None:
    pool = flavour.make(2)
    getattr(pool, method)(partial(log_line, told.path), kind(range(COUNT)))
    pool.close()
    del pool
    assert told.numbers(COUNT) == set(range(COUNT))


@pytest.mark.parametrize("method", BOTH)
def test_all_run_in_chunks(make_pool: Callable[..., Any], told: Told, method: str) -> None:
    results = getattr(make_pool(2), method)(partial(log_line, told.path), [*range(COUNT)], 7)
    assert told.numbers(COUNT) == set(range(COUNT))
    assert list(results) == [None] * COUNT


@pytest.mark.parametrize("method", BOTH)
def test_all_run_once_nobody_takes_any_more(
    make_pool: Callable[..., Any], told: Told, method: str
) -> None:
    results = getattr(make_pool(2), method)(partial(log_line, told.path), [*range(COUNT)])
    assert [next(results) for _ in range(5)] == [None] * 5
    assert told.numbers(COUNT) == set(range(COUNT))


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("method", BOTH)
def test_the_others_go_on_when_the_first_is_slow(
    make_pool: Callable[..., Any], told: Told, gate: Gate, method: str, kind: Any
) -> None:
    items = kind((gate.path if not number else None, number) for number in range(COUNT))
    results = getattr(make_pool(2), method)(partial(_hold_or_tell, told.path), items)
    gate.entered()
    assert told.numbers(COUNT - 1) == set(range(1, COUNT))
    gate.release()
    assert sorted(results) == list(range(COUNT))


def _hold_or_tell(told: str, item: tuple[str | None, int]) -> int:
    path, number = item
    if path is not None:
        return int(hold(path, number))
    log_line(told, number)
    return number


@pytest.mark.every_method
@pytest.mark.parametrize("method", BOTH)
def test_a_task_that_uses_its_pool_need_not_take_results(
    make_pool: Callable[..., Any], tmp_path: Path, method: str
) -> None:
    pool = make_pool(2)
    numbers = pool.apply(_look_away, (pool, method, str(tmp_path / "told")))
    assert numbers == set(range(COUNT))


def _look_away(pool: Any, method: str, path: str) -> set[int]:
    told = Told(path)
    results = getattr(pool, method)(partial(log_line, path), [*range(COUNT)])
    numbers = told.numbers(COUNT)
    assert list(results) == [None] * COUNT
    told.close()
    return numbers
