"""How many chunks are worth one message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool._local._costs import (
    BATCH_MAX,
    GROWTH,
    MESSAGE_COST,
    MESSAGE_WORK,
    PLENTY,
    Costs,
)
from pool._transport._journal import WORDS_MAX

ENOUGH = 600


def test_unknown_function_travels_alone() -> None:
    costs = Costs(2)
    assert costs.seconds("f") is None
    assert costs.batch("f", ENOUGH) == 1
    assert costs.least("f") == 1


def test_first_measurement_is_taken_as_it_is() -> None:
    costs = Costs(2)
    costs.observe("f", 10, 0.5)
    assert costs.seconds("f") == pytest.approx(0.05)


def test_functions_are_told_apart() -> None:
    costs = Costs(2)
    costs.observe(("f", 1), 1, 1.0)
    costs.observe(("f", 2), 1, 1e-6)
    assert costs.batch(("f", 1), ENOUGH) == 1
    assert costs.batch(("f", 2), ENOUGH) > 1


def test_straggler_is_forgotten_after_some_messages() -> None:
    costs = Costs(1)
    costs.observe("f", 100, 100e-6)
    usual = costs.batch("f", ENOUGH)
    costs.observe("f", 1, 0.05)
    assert costs.batch("f", ENOUGH) == 1
    for _ in range(30):
        costs.observe("f", 100, 100e-6)
    assert costs.batch("f", ENOUGH) >= usual * 0.99


def test_message_of_cheap_chunks_has_the_work_that_is_aimed_at() -> None:
    costs = Costs(1)
    costs.observe("f", 1000, 1000 * 2e-6)
    assert costs.batch("f", ENOUGH) == pytest.approx(MESSAGE_WORK / 2e-6, rel=0.02)


def test_messages_are_larger_where_very_much_waits() -> None:
    costs = Costs(1)
    costs.observe("f", 100, 100 * 50e-6)
    usual = costs.batch("f", 1000)
    assert costs.batch("f", 100_000) == PLENTY * usual
    # Not so large that one of them is an hour of slow tasks.
    costs.observe("g", 100, 100 * MESSAGE_WORK / 2)
    assert costs.batch("g", 100_000) == costs.batch("g", 10)


def test_message_grows_step_by_step() -> None:
    costs = Costs(1)
    costs.observe("f", 1, 1e-7)
    assert costs.batch("f", ENOUGH) == GROWTH
    costs.observe("f", GROWTH, GROWTH * 1e-7)
    assert costs.batch("f", ENOUGH) == GROWTH**2


def test_slow_chunk_travels_alone_whatever_is_left() -> None:
    costs = Costs(1)
    costs.observe("f", 100, 100 * 2 * MESSAGE_WORK)
    assert costs.batch("f", ENOUGH) == 1
    assert costs.least("f") == 1


def test_more_workers_make_messages_larger() -> None:
    few, many = Costs(1), Costs(64)
    for costs in (few, many):
        costs.observe("f", 1000, 1000 * 1e-6)
    assert many.batch("f", ENOUGH) > few.batch("f", ENOUGH)


def test_message_shrinks_with_the_share_but_not_below_what_is_worth_it() -> None:
    costs = Costs(1)
    costs.observe("f", 1000, 1000 * 2e-6)
    assert costs.batch("f", 50) == 50
    assert costs.batch("f", 1) == costs.least("f") == int(2 * MESSAGE_COST / 2e-6)


def test_time_below_the_resolution_of_the_clock() -> None:
    costs = Costs(1)
    costs.observe("f", 1, 0.0)
    assert costs.batch("f", 1) == BATCH_MAX
    assert costs.least("f") == BATCH_MAX
    costs.observe("g", BATCH_MAX, 5e-324 * BATCH_MAX)  # the quotient is infinite
    assert costs.batch("g", 1) == BATCH_MAX
    assert costs.least("g") == BATCH_MAX


def test_outcomes_of_the_largest_message_fit_into_the_journal() -> None:
    assert BATCH_MAX <= WORDS_MAX


def test_what_is_remembered_is_bounded_and_the_latest_is_kept() -> None:
    costs = Costs(1)
    for key in range(5000):
        costs.observe(key, 1, 1e-6)
    assert len(costs._seconds) <= 1024
    assert costs._seconds.keys() == costs._last.keys()
    assert costs.seconds(4999) is not None
    assert costs.seconds(0) is None


@given(
    workers=st.integers(1, 256),
    seen=st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 10)), min_size=1, max_size=20),
    share=st.integers(1, 10**7),
)
def test_batch_is_always_possible(workers: int, seen: list[tuple[int, float]], share: int) -> None:
    costs = Costs(workers)
    for chunks, seconds in seen:
        costs.observe("f", chunks, seconds)
    assert 1 <= costs.batch("f", share) <= BATCH_MAX
    assert costs.batch("f", share) <= costs.batch("f", share + 1)
    assert costs.least("f") >= 1
