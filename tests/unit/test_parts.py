"""The values of a long chunk that are sent early: only those of which nothing can be told."""

from __future__ import annotations

import enum
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pool._workers._parts as parts
from pool._workers._parts import values_of


class Colour(enum.IntEnum):
    RED = 1


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 4)


def run(function: Callable[[Any], Any], items: list[Any]) -> tuple[list[list[Any]], list[Any]]:
    """Return the parts that were sent, and the rest."""
    sent: list[list[Any]] = []
    rest = values_of(function, iter(items), False, lambda data: sent.append(pickle.loads(data)))
    return sent, rest


def same(value: Any) -> Any:
    return value


PLAIN = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.just(10**30)
)
SHARED = ["one", "object"]
OTHER = st.sampled_from(
    ["", "text", b"", (), (1,), SHARED, {"a": 1}, Colour.RED, np.int64(3), np.float64(0.5), 1j, len]
)


@given(st.lists(st.one_of(PLAIN, OTHER), max_size=30))
def test_parts_and_rest_are_the_values(values: list[Any]) -> None:
    sent, rest = run(same, values)
    together = sum(sent, []) + rest
    assert repr(together) == repr(values)
    assert list(map(type, together)) == list(map(type, values))
    assert {type(value) for part in sent for value in part} <= {int, float, bool, type(None), tuple}


@given(st.lists(PLAIN, min_size=5, max_size=30))
def test_plain_numbers_leave_but_for_the_last_part(values: list[Any]) -> None:
    sent, rest = run(same, values)
    assert all(len(part) == 4 for part in sent)
    assert 1 <= len(rest) <= 4


def test_what_is_changed_by_later_calls_is_seen_changed() -> None:
    shared: list[int] = []

    def growing(item: int) -> list[int]:
        shared.append(item)
        return shared

    sent, rest = run(growing, list(range(12)))
    assert sent == []
    assert rest == [list(range(12))] * 12


def test_it_stays_so_when_it_begins_late() -> None:
    shared: list[int] = []

    def late(item: int) -> Any:
        shared.append(item)
        return item if item < 6 else shared

    sent, rest = run(late, list(range(16)))
    assert sent == [[0, 1, 2, 3]]
    assert rest == [4, 5] + [list(range(16))] * 10
    assert all(value is shared for value in rest[2:])


def test_what_cannot_be_pickled_is_left_to_who_says_so() -> None:
    values: list[Any] = [1, 2, 3, lambda: 4, 5, 6]
    assert run(same, values) == ([], values)


def test_arguments_are_unpacked() -> None:
    sent: list[bytes] = []
    items = [(number, 2) for number in range(6)]
    assert values_of(pow, iter(items), True, sent.append) == [16, 25]
    assert pickle.loads(sent[0]) == [0, 1, 4, 9]


@pytest.mark.parametrize("at", [0, 3, 4, 5, 11])
def test_the_items_tell_where_it_failed(at: int) -> None:
    def fail(item: int) -> int:
        if item == at:
            raise StopIteration(item)
        return item

    items = iter(list(range(12)))
    with pytest.raises(StopIteration):
        values_of(fail, items, False, lambda data: None)
    assert items.__length_hint__() == 11 - at
