"""Error callbacks of calls that were given up: all are called, in order, and nobody waits long."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from pool._local._last_calls import LastCalls

PATIENCE = 60.0


def test_calls_come_in_order_and_are_waited_for() -> None:
    calls, got = LastCalls(), list[int]()
    for number in range(100):
        calls.add(got.append, number, "a call")
    calls.wait(PATIENCE)
    assert got == list(range(100))
    calls.add(got.append, 100, "a call")  # in another thread: the first has ended
    calls.wait(PATIENCE)
    assert got[-1] == 100


def test_one_that_blocks_is_waited_for_no_longer_than_that() -> None:
    calls, lock = LastCalls(), threading.Lock()
    called = threading.Event()

    def take(_: object) -> None:
        with lock:
            called.set()

    with lock:
        calls.add(take, None, "a call")
        calls.wait(0.05)  # for ever it would be without the limit: this thread has the lock
        assert not called.is_set()
    assert called.wait(PATIENCE)


def test_one_may_add_another_and_wait() -> None:
    calls, got = LastCalls(), list[str]()

    def add(word: str) -> None:
        calls.add(got.append, "second", "a call")
        calls.wait(PATIENCE)  # not for itself
        got.append(word)

    calls.add(add, "first", "a call")
    calls.wait(PATIENCE)
    assert got == ["first", "second"]


def test_what_one_raises_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: told.append(args.exc_value))
    calls, got = LastCalls(), list[int]()
    calls.add([].pop, 5, "call 7")
    calls.add(got.append, 1, "call 8")
    calls.wait(PATIENCE)
    assert got == [1]
    assert told[0].__notes__ == ["raised by the callback of call 7"]


def test_what_nobody_waits_for_any_longer_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: told.append(args.exc_value))
    loop, future = asyncio.new_event_loop(), Future[None]()
    loop.close()
    future.cancel()
    calls = LastCalls()
    calls.add(lambda error: loop.call_soon_threadsafe(print, error), KeyError(1), "call 7")
    calls.add(future.set_exception, KeyError(2), "call 8")
    calls.wait(PATIENCE)
    assert told == []


def test_none_is_left_behind_when_many_threads_add_and_wait() -> None:
    calls, got = LastCalls(), list[int]()

    def add() -> None:
        for number in range(300):
            calls.add(got.append, number, "a call")
            calls.wait(0)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls.wait(PATIENCE)
    assert len(got) == 1200
