"""Check what iterators over results do when several threads meet in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pool._faces._iterators import Flow, Window
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
