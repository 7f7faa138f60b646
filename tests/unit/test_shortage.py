"""The policy of the memory guard: readings in, decisions out."""

from __future__ import annotations

import pytest

from pool._local._shortage import (
    FILL_RATE,
    PATIENCE_LEAST,
    PATIENCE_MOST,
    WORTHWHILE,
    largest,
    patience,
    shortest,
)
from pool._memory import Room

MIB = 1 << 20
GIB = 1 << 30


def room(available: int, reserve: int = 100 * MIB, where: str = "here") -> Room:
    return Room(available, 10 * GIB, reserve, where)


def test_memory_is_short_below_the_reserve() -> None:
    assert shortest([]) is None
    assert shortest([room(100 * MIB)]) is None
    assert shortest([room(100 * MIB - 1)]) == room(100 * MIB - 1)
    # Nothing is reserved of the user's own limit.
    assert shortest([room(0, 0)]) is None
    assert shortest([room(-1, 0)]) == room(-1, 0)


def test_the_limit_that_is_missed_most_is_named() -> None:
    rooms = [room(50 * MIB, where="a"), room(-20 * MIB, 0, "b"), room(0, where="c"), room(GIB)]
    assert shortest(rooms) == rooms[2]


def test_no_look_while_memory_must_last() -> None:
    # Filled by two at full speed, it becomes short when the time is over and not before.
    spare = 20 * GIB
    seconds = patience([room(spare + 100 * MIB), room(1 << 50)], 2)
    assert seconds * 2 * FILL_RATE == pytest.approx(spare)


def test_looks_are_bounded_by_wall_time_both_ways() -> None:
    assert patience([room(100 * MIB)], 2) == PATIENCE_LEAST
    assert patience([room(-GIB)], 2) == PATIENCE_LEAST
    assert patience([room(1 << 50)], 2) == PATIENCE_MOST
    assert patience([], 2) == PATIENCE_MOST


def test_largest_is_ended() -> None:
    sizes = {1: 50 * MIB, 2: 3 * GIB, 3: GIB}
    assert largest(sizes, sizes.__getitem__, room(0)) == (2, 3 * GIB)


def test_largest_is_found_although_bounds_mislead() -> None:
    # Forked workers share much with the program that they were forked from.
    bounds = {1: 4100 * MIB, 2: 4400 * MIB, 3: 4300 * MIB}
    held = {1: 100 * MIB, 2: 400 * MIB, 3: 3000 * MIB}
    assert largest(bounds, held.__getitem__, room(0)) == (3, 3000 * MIB)


def test_no_more_are_measured_than_needed() -> None:
    bounds = {1: 3 * GIB, 2: GIB, 3: GIB, 4: 3 * GIB - 1}
    measured = []

    def measure(worker: int) -> int:
        measured.append(worker)
        return bounds[worker] - 10 * MIB

    assert largest(bounds, measure, room(0)) == (1, 3 * GIB - 10 * MIB)
    assert measured == [1]


def test_nobody_is_ended_in_vain() -> None:
    # Another program has the memory: ending small workers one by one would win nothing.
    small = {1: 24 * MIB, 2: 20 * MIB}
    assert largest(small, small.__getitem__, room(0)) is None
    assert largest(small, small.__getitem__, room(0, 0)) == (1, 24 * MIB)
    idle = {1: WORTHWHILE - 1}
    assert largest(idle, idle.__getitem__, room(-GIB, 0)) is None
    assert largest({}, {}.__getitem__, room(0)) is None


def test_what_is_shared_frees_nothing() -> None:
    assert largest({1: 4 * GIB, 2: 4 * GIB}, lambda worker: 5 * MIB, room(0)) is None
