"""Callbacks that are due: Ctrl-C may come before one of them, or in it, and none is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pool._faces._progress import make_progress
from pool._faces._results import AsyncResult, MapResult
from pool._local._driver import Driver
from pool._local._streams import Batch, CallStream
from store._interrupts import shield


@pytest.fixture(autouse=True)
def shielded() -> Iterator[None]:
    """Be in the midst of driving: Ctrl-C is noted, but where it is let through."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    others = signal.signal(signal.SIGALRM, stop)
    token = shield.enter()
    yield
    shield.leave(token)
    signal.signal(signal.SIGALRM, others)
    signal.signal(signal.SIGINT, before)


class LimitReached(Exception):
    """What a program's own time limit raises: an error that is no `KeyboardInterrupt`."""


def stop(signum: int, frame: object) -> None:
    raise LimitReached


def result_with(callback: Callable[[Any], object]) -> AsyncResult:
    made = AsyncResult(None, SimpleNamespace(), callback)  # type: ignore[arg-type]  # not asked
    made.deliver(0, [5], False)
    assert made.finish()
    return made


def driver_calling(*sinks: Any) -> Any:
    return SimpleNamespace(calling=list(sinks), called={})


def batch_of(*results: AsyncResult) -> Batch:
    stream = CallStream(SimpleNamespace(), SimpleNamespace(), str)  # type: ignore[arg-type]  # as above
    batch = Batch(stream, 1)
    batch._due.extend(results)
    return batch


@pytest.mark.parametrize("batched", [False, True])
def test_interrupt_that_came_before_a_callback(batched: bool) -> None:
    called: list[int] = []
    result = result_with(called.append)
    driver = driver_calling(batch_of(result) if batched else result)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Driver.call_back(driver)
    assert called == []
    Driver.call_back(driver)
    assert called == [5]
    assert result._done
    assert not (driver.calling or driver.called)


@pytest.mark.parametrize("batched", [False, True])
def test_interrupt_in_a_callback(batched: bool) -> None:
    called: list[int] = []

    def callback(value: int) -> None:
        called.append(value)
        signal.raise_signal(signal.SIGINT)

    first, second = result_with(callback), result_with(called.append)
    driver = driver_calling(*([batch_of(first, second)] if batched else [first, second]))
    with pytest.raises(KeyboardInterrupt):
        Driver.call_back(driver)
    assert first._done
    Driver.call_back(driver)
    assert called == [5, 5]
    assert second._done


@pytest.mark.parametrize("batched", [False, True])
def test_time_limit_of_the_program_in_a_callback(batched: bool) -> None:
    called: list[int] = []

    def callback(value: int) -> None:
        called.append(value)
        signal.raise_signal(signal.SIGALRM)

    first, second = result_with(callback), result_with(called.append)
    driver = driver_calling(*([batch_of(first, second)] if batched else [first, second]))
    with pytest.raises(LimitReached):
        Driver.call_back(driver)
    assert first._done
    Driver.call_back(driver)
    assert called == [5, 5]
    assert second._done


def test_time_limit_of_the_program_while_progress_is_shown() -> None:
    shown: list[tuple[int, int]] = []

    def show(event: Any) -> None:
        shown.append((event.done, event.errors))
        if len(shown) == 1:
            signal.raise_signal(signal.SIGALRM)

    result = MapResult(None, SimpleNamespace(), 1, 3)  # type: ignore[arg-type]  # not asked
    result._progress, result._caught = make_progress(show, 3, "map f"), True
    assert result.deliver(0, [5, ValueError()], False)
    driver = driver_calling(result)
    with pytest.raises(LimitReached):
        Driver.call_back(driver)
    Driver.call_back(driver)
    assert result.deliver(2, [6], False)
    assert result.finish()
    driver.calling.append(result)
    Driver.call_back(driver)
    assert shown == [(2, 1), (2, 1), (3, 1)]
    assert result._done
