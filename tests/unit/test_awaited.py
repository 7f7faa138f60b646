"""Chunks that become ready in any order, and outcomes at their places in the input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool._local._awaited import Awaited, ReorderingSink


class Engine:
    """Is told of chunks, and asks for the news as the driver does."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []

    def offer(self, source: Awaited, at_once: bool) -> None:
        assert at_once
        self.told.append(source.news())


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.outcomes: dict[int, tuple[Any, bool]] = {}
        self.ended: list[object] = []

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        for place, value in enumerate(values, start):
            assert place not in self.outcomes
            self.outcomes[place] = value, failed
        return start == 2

    def finish(self) -> bool:
        self.ended.append("finished")
        return True

    def abort(self, error: BaseException) -> bool:
        self.ended.append(error)
        return False

    def call_back(self) -> None:
        self.ended.append("called back")


def awaited(total: int) -> tuple[Awaited, Engine]:
    source = Awaited(total, 3, lambda place: [b"%d" % place])
    engine = source.engine = Engine()  # type: ignore[assignment]  # all that it uses of one
    return source, engine


def test_a_job_of_nothing_is_complete_from_the_start() -> None:
    source, _ = awaited(0)
    assert source.final
    assert source.news() == (0, False)


@given(st.permutations(range(6)), st.lists(st.integers(1, 3), min_size=6))
def test_outcomes_get_to_the_places_of_their_chunks(order: list[int], sizes: list[int]) -> None:
    source, engine = awaited(6)
    sink = Sink()
    over: list[None] = []
    reordering = ReorderingSink(sink, source, lambda: over.append(None))
    rest = list(order)
    while rest:
        size = sizes.pop()
        source.ready(rest[:size])
        assert engine.told[-1] == (len(rest[:size]), size >= len(rest))
        del rest[:size]
        assert source.final is not bool(rest)
    assert source.order == order
    for start in (0, 2, 4):
        blobs: list[Any] = []
        source.encode(start, start + 2, blobs)
        assert blobs == [b"%d" % place for place in order[start : start + 2]]
        due = reordering.deliver(start, order[start : start + 2], start == 4)
        assert due is (2 in order[start : start + 2])
    expected = {place: (place, place in order[4:]) for place in range(6)}
    assert sink.outcomes == expected
    assert reordering.finish()
    assert (over, sink.ended) == ([None], ["finished"])


def test_what_became_ready_since_is_told_once() -> None:
    source, engine = awaited(2)
    source.ready([1])
    source.ready([])
    source.ready([0])
    source.ready([])
    assert engine.told == [(1, False), (0, False), (1, True), (0, False)]


def test_a_job_that_is_aborted_is_over() -> None:
    source, _ = awaited(1)
    sink = Sink()
    over: list[None] = []
    reordering = ReorderingSink(sink, source, lambda: over.append(None))
    error = ValueError()
    assert not reordering.abort(error)
    reordering.call_back()
    assert (over, sink.ended) == ([None], [error, "called back"])


def test_outcomes_of_chunks_that_nobody_was_told_of_are_an_error() -> None:
    source, _ = awaited(2)
    source.ready([1])
    reordering = ReorderingSink(Sink(), source, lambda: None)
    with pytest.raises(ValueError, match="zip"):
        reordering.deliver(0, ["a", "b"], False)
