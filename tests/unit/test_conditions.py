"""Conditions that several threads look at together, one of them held up between two steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from pool._objects._refs import FAILED, PENDING, READY
from pool._runtime import _conditions
from pool._runtime._conditions import all_or_failed, enough


class World:
    """Objects, and the home that counts what happens to them."""

    def __init__(self, *states: int) -> None:
        self.home: Any = SimpleNamespace(seals=1, failures=0)
        self.refs: list[Any] = [SimpleNamespace(_state=state) for state in states]

    def seal(self, index: int, state: int = READY) -> None:
        self.refs[index]._state = state
        self.home.seals += 1
        self.home.failures += state == FAILED


def interrupted(ready: Callable[[], bool], step: int, other: Callable[[], object]) -> Any:
    """Return what ``ready()`` does if a thread runs `other` before its instruction `step`.

    None if it has not so many.
    """
    left = step

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != _conditions.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if not left:
                other()
        return trace

    before = sys.gettrace()
    # Python 3.12 has such events only if a frame wants them when tracing begins.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        found = ready()
    finally:
        sys.settrace(before)
    return None if left > 0 else found


def at_each_step(play: Callable[[int], Any]) -> None:
    step = 1
    while play(step) is not None:
        step += 1
    assert step > 10


def test_that_enough_are_there_is_not_forgotten() -> None:
    def play(step: int) -> Any:
        world = World(READY, READY, PENDING)
        ready = enough(world.home, world.refs, 3)

        def other() -> None:
            world.seal(2)
            assert ready()

        found = interrupted(ready, step, other)
        assert found is None or ready()
        return found

    at_each_step(play)


@pytest.mark.parametrize("state", [READY, FAILED])
def test_that_all_are_there_or_one_has_failed_is_not_forgotten(state: int) -> None:
    def play(step: int) -> Any:
        world = World(READY, PENDING, READY if state == READY else PENDING)
        ready = all_or_failed(world.home, world.refs)

        def other() -> None:
            world.seal(1, state)
            assert ready()

        found = interrupted(ready, step, other)
        assert found is None or ready()
        return found

    at_each_step(play)


def test_what_is_not_there_is_not_passed_over() -> None:
    def play(step: int) -> Any:
        world = World(READY, PENDING)
        ready = all_or_failed(world.home, world.refs)
        found = interrupted(ready, step, ready)
        assert not found
        assert not ready()
        return found

    at_each_step(play)


def test_objects_that_the_program_takes_out_of_its_list_are_waited_for() -> None:
    world = World(PENDING)
    refs = world.refs.copy()
    ready = all_or_failed(world.home, refs)
    refs.clear()
    assert not ready()
    world.seal(0)
    assert ready()
