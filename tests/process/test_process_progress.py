"""``progress=`` counts items, whatever the method and however they are cut into chunks."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE

from pool import Pool, ProgressEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("map", "imap", "imap_unordered")


@pytest.fixture
def pool() -> Iterator[Any]:
    with Pool(2) as made:
        yield made
    made.join()


def last_event(pool: Any, method: str, func: Any, items: Any, chunksize: int) -> ProgressEvent:
    events: list[ProgressEvent] = []
    outcomes = iter(getattr(pool, method)(func, items, chunksize, progress=events.append))
    for _ in range(10):
        try:
            next(outcomes)
        except ZeroDivisionError:
            continue
        except StopIteration:
            break
    # The pool is idle only when the last of them was told.
    pool.close()
    pool.join()
    assert [event.done for event in events] == sorted(event.done for event in events)
    return events[-1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunksize", [1, 3, 4])
def test_items_are_counted(pool: Any, method: str, chunksize: int) -> None:
    event = last_event(pool, method, abs, range(10), chunksize)
    assert (event.done, event.total, event.errors) == (10, 10, 0)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_input_without_a_length_has_no_total(pool: Any, chunksize: int) -> None:
    event = last_event(pool, "imap", abs, (number for number in range(10)), chunksize)
    assert (event.done, event.total) == (10, None)


def test_failed_items_are_counted(pool: Any) -> None:
    event = last_event(pool, "imap", lambda x: 1 / (x % 5), range(10), 1)
    assert (event.done, event.total, event.errors) == (10, 10, 2)


def test_a_shorter_chunk_that_fails_is_not_counted_as_a_whole_one(pool: Any) -> None:
    event = last_event(pool, "imap", lambda x: 1 / (9 - x), range(10), 4)
    assert (event.done, event.total, event.errors) == (10, 10, 1)


def test_a_map_of_nothing_ends_and_is_shown(pool: Any) -> None:
    pool.map(abs, range(4))  # now nothing else is going on that might wake anybody
    events: list[ProgressEvent] = []
    assert pool.map(abs, [], progress=events.append) == []
    assert [(event.done, event.total) for event in events] == [(0, 0)]


def test_callbacks_that_are_due_are_work(pool: Any) -> None:
    pool.map(abs, range(4))
    engine = pool._engine
    seen: list[int] = []

    class Due:
        def call_back(self) -> None:
            seen.append(1)

    # As they are left when the one before them raised KeyboardInterrupt.
    engine.driver.calling.append(Due())
    assert engine.driver.outstanding
    assert engine.wait(lambda: bool(seen))


def test_a_callback_runs_though_another_thread_sleeps_for_its_own_result(
    pool: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "told")
    os.mkfifo(tmp_path / "go")
    pool.map(abs, range(4))
    # To look at the memory it would wake up on its own.
    pool._engine.driver.limit_memory(None)
    held = pool.apply_async(tell_and_hold, (str(tmp_path),))
    waiter = threading.Thread(target=held.get)
    waiter.start()
    (tmp_path / "told").read_text()
    called = threading.Event()
    # Nobody waits for this one: it is the sleeping thread that has to be told.
    pool.map_async(abs, [], progress=lambda event: called.set())
    assert called.wait(PATIENCE)
    assert not held.ready()
    (tmp_path / "go").write_text("go")
    waiter.join()


def tell_and_hold(folder: str) -> None:
    Path(folder, "told").write_text("here")
    Path(folder, "go").read_text()
