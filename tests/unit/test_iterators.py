"""Check what iterators over results do when several threads meet in them."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from pool._faces._iterators import Flow, IMapIterator, Window
from pool._local._costs import NEAR


@pytest.mark.parametrize("ordered", [True, False])
def test_what_comes_while_the_iterator_is_dropped_is_counted_as_taken(ordered: bool) -> None:
    # Else the input would be read less far by so many chunks, for good.
    costs = SimpleNamespace(seconds=lambda key: None)
    engine: Any = SimpleNamespace(
        scheduler=SimpleNamespace(costs=costs, processes=2, distance=NEAR), attend=lambda: None
    )
    flow = Flow(engine, ordered, Window(2, 1), 1)
    opened: list[int | None] = []
    flow.open = opened.append

    class Late:
        """Outcomes that the thread which drives hands in at the last moment."""

        def __iter__(self) -> Any:
            flow.abandon(None)
            return iter(range(4))

        def __len__(self) -> int:
            return 4

    values: Any = Late()
    if flow.deliver(0, values, False):
        flow.call_back()
    assert flow.deliver(4, [4, 5], False)
    flow.call_back()
    assert opened[-1] == 6 + flow.window.size
    assert not flow.ready


class Meanwhile(deque[Any]):
    """Outcomes; another thread does something each time that one is wanted."""

    def __init__(self, values: list[Any], action: Any) -> None:
        super().__init__(values)
        self._action = action

    def popleft(self) -> Any:
        try:
            return super().popleft()
        finally:
            self._action()


def test_outcome_that_comes_between_two_looks_is_not_lost() -> None:
    engine: Any = SimpleNamespace(wait=lambda ready, timeout: ready(), attend=lambda: None)
    flow = Flow(engine, True, Window(2, 1), 1)

    def end() -> None:
        if not flow.finished:
            flow.deliver(0, ["last"], False)
            flow.finish()

    flow.ready = Meanwhile([], end)
    iterator = IMapIterator(None, flow, 1)
    assert iterator.next() == "last"
    with pytest.raises(StopIteration):
        iterator.next()


def test_outcome_that_another_thread_takes_first_is_waited_for_again() -> None:
    waits = iter([[], ["second"]])

    def wait(ready: Any, timeout: float | None) -> bool:
        flow.ready.extend(next(waits))  # at first that of another thread, which has it by now
        return True

    engine: Any = SimpleNamespace(wait=wait, attend=lambda: None)
    flow = Flow(engine, True, Window(2, 1), 1)
    assert IMapIterator(None, flow, 1).next() == "second"
