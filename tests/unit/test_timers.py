"""What is to be done after a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pool._local._timers import Timers


def test_nothing_is_due_unless_something_was_added() -> None:
    timers = Timers()
    assert timers.due is None
    timers.run(1e9)


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 10), max_size=5))
def test_each_action_runs_once_when_it_is_due(times: list[int], looks: list[int]) -> None:
    timers = Timers()
    done: list[int] = []
    for number, when in enumerate(times):
        timers.add(when, lambda number=number: done.append(number))
    latest = -1
    for now in sorted(looks):
        timers.run(now)
        latest = now
        assert sorted(done) == [number for number, when in enumerate(times) if when <= latest]
        assert timers.due == min((when for when in times if when > latest), default=None)


def test_an_action_may_add_another() -> None:
    """As one that is not to be done yet does; that comes next time, though it is due."""
    timers = Timers()
    done: list[str] = []

    def first() -> None:
        done.append("first")
        timers.add(1, lambda: done.append("second"))

    timers.add(1, first)
    timers.run(1)
    assert (done, timers.due) == (["first"], 1)
    timers.run(1)
    assert (done, timers.due) == (["first", "second"], None)
