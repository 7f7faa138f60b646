"""Callbacks that are due: Ctrl-C may come before one of them, or in it, and none is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pool._faces._iterators import Flow, Window
from pool._faces._progress import ProgressEvent, make_progress
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


@pytest.fixture(params=["map", "imap", "apply"])
def call(request: pytest.FixtureRequest) -> Any:
    """The sink of a call of three items, or of one."""
    engine: Any = SimpleNamespace()
    if request.param == "map":
        return MapResult(None, engine, 1, 3)
    if request.param == "imap":
        return Flow(engine, True, Window(1, 1), 1)
    return AsyncResult(None, engine)


@pytest.mark.parametrize("error", [LimitReached, SystemExit])
def test_what_is_raised_while_progress_is_shown_is_raised_once(
    call: Any, error: type[BaseException]
) -> None:
    told: list[tuple[int, int]] = []

    def show(event: ProgressEvent) -> None:
        told.append((event.done, event.errors))
        if error is LimitReached:
            signal.raise_signal(signal.SIGALRM)
        raise error

    progress = make_progress(show, None, "map(f)")
    if isinstance(call, Flow):
        call.progress = progress
    else:
        call._progress = progress
    driver = driver_calling()

    def call_back() -> None:
        driver.calling.append(call)
        with pytest.raises(error):
            Driver.call_back(driver)
        Driver.call_back(driver)

    if type(call) is not AsyncResult:
        call.deliver(0, [5, 6], False)
        call_back()
        call.deliver(2, [ValueError()], True)
    else:
        call.deliver(0, [ValueError()], True)
    call.finish()
    call_back()
    assert told == [(1, 1)] if type(call) is AsyncResult else [(2, 0), (3, 1)]
    assert not driver.calling
