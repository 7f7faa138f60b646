"""The allocator against a map of single grains."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from store._allocator import Allocator

GRAIN = 16
GRAINS = 64


class Machine(RuleBasedStateMachine):
    """Each grain is free or names the range that it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = Allocator(GRAINS * GRAIN, GRAIN)
        self.grains: list[int | None] = [None] * GRAINS

    def free_runs(self) -> list[tuple[int, int]]:
        runs, start = [], None
        for index, owner in enumerate([*self.grains, -1]):
            if owner is None and start is None:
                start = index
            elif owner is not None and start is not None:
                runs.append((start, index))
                start = None
        return runs

    @rule(nbytes=st.integers(1, GRAINS * GRAIN + 1))
    def allocate(self, nbytes: int) -> None:
        count = -(-nbytes // GRAIN)
        fitting = [end - start for start, end in self.free_runs() if end - start >= count]
        offset = self.allocator.allocate(nbytes)
        if offset is None:
            assert not fitting
            return
        first = offset // GRAIN
        assert offset % GRAIN == 0
        assert self.grains[first : first + count] == [None] * count
        (run,) = [end - start for start, end in self.free_runs() if start <= first < end]
        assert run == min(fitting)  # best fit
        self.grains[first : first + count] = [first] * count

    @precondition(lambda self: any(owner is not None for owner in self.grains))
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        first = data.draw(st.sampled_from(sorted({g for g in self.grains if g is not None})))
        self.grains = [None if owner == first else owner for owner in self.grains]
        start, end = self.allocator.free(first * GRAIN)
        assert (start // GRAIN, end // GRAIN) in self.free_runs()

    @invariant()
    def agrees(self) -> None:
        self.allocator.check_invariants()
        runs = [(start // GRAIN, end // GRAIN) for start, end in self.allocator.free_ranges()]
        assert runs == self.free_runs()
        assert self.allocator.used == GRAIN * sum(owner is not None for owner in self.grains)
        assert self.allocator.largest == GRAIN * max((e - s for s, e in runs), default=0)


TestAllocator = Machine.TestCase
TestAllocator.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    # How long an example takes says how busy the machine is.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_freed_space_is_preferred_to_untouched_space() -> None:
    allocator = Allocator(100 * GRAIN, GRAIN)
    first = allocator.allocate(10 * GRAIN)
    assert first is not None
    allocator.allocate(GRAIN)
    allocator.free(first)
    assert allocator.allocate(5 * GRAIN) == first


def test_freeing_twice_is_an_error() -> None:
    allocator = Allocator(10 * GRAIN, GRAIN)
    start = allocator.allocate(1)
    assert start is not None
    allocator.free(start)
    with pytest.raises(KeyError):
        allocator.free(start)


def test_invariants_see_a_range_handed_out_twice() -> None:
    allocator = Allocator(10 * GRAIN, GRAIN)
    allocator.allocate(3 * GRAIN)
    allocator._taken[GRAIN] = GRAIN
    with pytest.raises(AssertionError):
        allocator.check_invariants()
