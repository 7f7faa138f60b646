"""What a future gets when the value of its object is there."""

from __future__ import annotations

import gc
import signal
import weakref
from concurrent.futures import Future
from typing import Any

import pytest

from pool._objects import _outcomes
from pool._objects._outcomes import resolve_future
from store._interrupts import shield


@pytest.mark.parametrize("waits", [False, True], ids=["at-work", "in-a-wait"])
@pytest.mark.parametrize("fails", [False, True], ids=["value", "error"])
def test_an_interrupt_while_the_value_is_unpickled_is_not_the_outcome(
    waits: bool, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(state: int, stored: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        if fails:
            raise ValueError(stored)
        return stored

    monkeypatch.setattr(_outcomes, "value_of", interrupted)
    future: Future[Any] = Future()
    shielded = shield.enter() if waits else 0
    try:
        with pytest.raises(KeyboardInterrupt):
            if waits:
                shield.opened(resolve_future, future, 1, 5)
            else:
                resolve_future(future, 1, 5)
    finally:
        shield.leave(shielded)
    if fails:
        assert repr(future.exception(0)) == "ValueError(5)"
    else:
        assert future.result(0) == 5


def test_an_error_is_freed_with_its_future(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed(Exception):
        pass

    def fails(state: int, stored: Any) -> Any:
        raise Failed

    monkeypatch.setattr(_outcomes, "value_of", fails)
    future: Future[Any] = Future()
    resolve_future(future, 1, 5)
    watched = weakref.ref(future.exception(0))
    gc.disable()
    try:
        del future
        assert watched() is None
    finally:
        gc.enable()
