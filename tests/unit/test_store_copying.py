"""Large blobs are copied by several threads, and all have ended when the copy has."""

from __future__ import annotations

import _thread
import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from store import _copying
from store._memory import HUGE, PAGE

STEP = max(HUGE, 1)
LIMIT = 20.0


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_copying, "PART_NBYTES", STEP)
    monkeypatch.setattr(_copying, "threads", lambda: 3)


def no_helpers(monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | None) -> list[Any]:
    """Have threads not started; return what they would have run."""
    late: list[Any] = []

    def start(function: Callable[..., None], args: tuple[Any, ...]) -> None:
        if error is not None:
            raise error("can't start new thread")
        late.append(function)

    monkeypatch.setattr(_thread, "start_new_thread", start)
    return late


@pytest.mark.parametrize("nbytes", [0, 1, 2 * STEP - 1, 2 * STEP, 3 * STEP + 5, 40 * STEP + PAGE])
@pytest.mark.parametrize("offset", [0, PAGE, STEP, 5 * STEP - PAGE])
def test_each_byte_is_copied_once(nbytes: int, offset: int) -> None:
    data = np.random.default_rng(1).bytes(nbytes)
    target = bytearray(offset + nbytes)
    parts = []

    def write(at: int, part: memoryview) -> None:
        target[at : at + len(part)] = part
        parts.append((at, len(part)))

    _copying.copy(write, offset, memoryview(data))
    assert target[offset:] == data
    assert sum(size for _, size in parts) == nbytes
    assert len(parts) <= 3
    # Two threads would make the same huge page.
    assert all(at % STEP == 0 for at, _ in sorted(parts)[1:])


def test_several_threads_copy_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=LIMIT)
    _copying.copy(lambda at, part: meeting.wait() and None, 0, memoryview(bytes(9 * STEP)))
    assert not meeting.broken


@pytest.mark.parametrize("error", [None, RuntimeError], ids=["late", "none"])
def test_a_copy_does_not_wait_for_threads(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | None
) -> None:
    late = no_helpers(monkeypatch, error)
    parts: list[int] = []
    _copying.copy(lambda at, part: parts.append(len(part)), 0, memoryview(bytes(9 * STEP)))
    assert sum(parts) == 9 * STEP
    for helper in late:
        helper()
    assert sum(parts) == 9 * STEP


def test_a_copy_that_has_failed_keeps_nothing_of_its_caller() -> None:
    class Block:
        pass

    def fail(at: int, part: memoryview) -> None:
        raise OSError

    def put() -> Any:
        block = Block()
        try:
            _copying.copy(fail, 0, memoryview(bytes(9 * STEP)))
        except OSError:
            return weakref.ref(block)

    gc.disable()
    try:
        assert put()() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [MemoryError, OSError, KeyboardInterrupt])
def test_who_is_told_of_a_failure_has_the_range_to_himself(error: type[BaseException]) -> None:
    begun, failed = threading.Event(), threading.Event()
    ended = []

    def write(at: int, part: memoryview) -> None:
        if at:
            begun.set()
            assert failed.wait(LIMIT)
            ended.append(at)
        else:
            assert begun.wait(LIMIT)
            failed.set()
            raise error

    with pytest.raises(error):
        _copying.copy(write, 0, memoryview(bytes(4 * STEP)))
    assert ended  # it was being copied, and is not any more


def test_a_failure_of_another_thread_is_raised() -> None:
    caller = threading.get_ident()
    failed = threading.Event()

    def write(at: int, part: memoryview) -> None:
        if threading.get_ident() == caller:
            assert failed.wait(LIMIT)
        else:
            failed.set()
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        _copying.copy(write, 0, memoryview(bytes(9 * STEP)))


def test_an_interrupt_ends_a_copy_when_no_thread_writes_any_more() -> None:
    begun, struck = threading.Event(), threading.Event()
    ended = []

    def write(at: int, part: memoryview) -> None:
        if at:
            begun.set()
            assert struck.wait(LIMIT)
            ended.append(at)
            return
        assert begun.wait(LIMIT)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            struck.set()

    with pytest.raises(KeyboardInterrupt):
        _copying.copy(write, 0, memoryview(bytes(4 * STEP)))
    assert ended


@pytest.mark.parametrize(
    ("wanted", "cpus", "count"),
    [
        ("1", 8, 1),
        ("3,1", 8, 3),
        ("99", 8, 4),
        ("99", 2, 2),
        ("0", 8, 1),
        ("", 8, 4),
        ("", 1, 1),
        ("x", 3, 3),
    ],
)
def test_how_many_threads(
    monkeypatch: pytest.MonkeyPatch, wanted: str, cpus: int, count: int
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)))
    assert _copying.threads() == count
