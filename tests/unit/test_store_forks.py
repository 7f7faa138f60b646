"""What waits for the end of forked children, while several threads look after it."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

import pytest

import store
from store import _depot, _forks

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def no_pins(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[_forks.Pin]]:
    pins: list[_forks.Pin] = []
    monkeypatch.setattr(_forks, "pins", pins)
    yield pins
    for pin in pins:
        os.close(pin.fd)


def ended_child(generation: int) -> _forks.Pin:
    holding, asking = _forks.tether()
    os.close(holding)
    return _forks.Pin(asking, generation)


def test_what_a_child_sees_comes_back_when_it_has_ended(no_pins: list[_forks.Pin]) -> None:
    holding, asking = _forks.tether()
    no_pins.append(_forks.Pin(asking, 5))
    dropped: deque[_forks.Dropped] = deque([(1, 4, None), (2, 5, None), (3, _forks.NEVER, None)])
    assert _forks.take_dropped(dropped) == [2, 3]
    _forks.sweep()
    assert _forks.pending() and _forks.pinned() == 1 and not dropped
    os.close(holding)
    _forks.sweep()
    assert list(dropped) == [(1, 4, None)]
    assert _forks.take_dropped(dropped) == [1]


def test_threads_that_sweep_at_once_lose_nothing(no_pins: list[_forks.Pin]) -> None:
    """Messages are packed by several threads, each of which sweeps; some fork meanwhile."""
    depot = _depot.depot()
    errors: list[BaseException] = []
    taken: list[int] = []
    dropped: deque[_forks.Dropped] = deque()
    over = threading.Event()

    def look_after() -> None:
        try:
            while not over.is_set():
                taken.extend(depot.take_back(dropped))
        except BaseException as error:
            errors.append(error)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=look_after) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for number in range(2000):
            no_pins.append(ended_child(number + 1))
            dropped.append((number, number, None))
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(usual)
    assert not errors
    while no_pins or dropped:
        taken.extend(depot.take_back(dropped))
    assert sorted(taken) == list(range(2000))


def test_a_fork_that_began_before_there_was_a_store_does_not_end_another_ones() -> None:
    store.put(bytes(1 << 20))
    _depot._before_fork()
    try:
        other = threading.Thread(target=_depot._after_fork_in_parent)
        other.start()
        other.join()
        assert _depot._forking is not None and _depot.depot()._lock.held_here
    finally:
        _depot._after_fork_in_parent()
    assert _depot._forking is None and not _depot.depot()._lock.held_here


def test_names_of_objects_differ_where_a_pid_is_used_again() -> None:
    store.put(1)
    reading, writing = os.pipe()
    for _ in range(2):
        child = os.fork()
        if not child:
            os.getpid = lambda: 7  # as if the second one got that of the first
            os.write(writing, store.put(1).hex().encode() + b"\n")
            os._exit(0)
        os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as file:
        first, second = file
    assert first.split("-")[1] == second.split("-")[1] == "7"
    assert first != second
