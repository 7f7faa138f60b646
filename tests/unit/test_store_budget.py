"""How much a store may grow: its own bound, and what the machine has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import _budget
from store._budget import RECENT_S, RESERVE, UNASKED_NBYTES, Budget, RecentPeak

if TYPE_CHECKING:
    from collections.abc import Callable

TOTAL = 1000 * UNASKED_NBYTES
SPARE = int(RESERVE * TOTAL)


class System:
    """A machine, and one control group if that has a limit; counts how often it is asked."""

    def __init__(self) -> None:
        self.available = TOTAL
        self.group: tuple[int, int, int] | None = None
        self.asked = 0

    def available_nbytes(self) -> int:
        self.asked += 1
        return self.available

    def limiting_groups(self, machine: int) -> list[tuple[str, bool, int]]:
        assert machine == TOTAL
        return [] if self.group is None else [("group", True, self.group[0])]

    def group_memory(self, folder: str, version2: bool) -> tuple[int, int, int] | None:
        assert (folder, version2) == ("group", True)
        return self.group


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    system = System()
    monkeypatch.setattr(_budget, "machine_nbytes", lambda: TOTAL)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 4, 5})
    for name in ("available_nbytes", "limiting_groups", "group_memory"):
        monkeypatch.setattr(_budget, name, getattr(system, name))
    for name in ("POOL_STORE_MAX", "POOL_STORE_KEEP"):
        monkeypatch.delenv(name, raising=False)
    return system


def test_half_of_the_memory_or_what_is_set(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Budget().nbytes == TOTAL // 2
    system.group = (TOTAL // 4, 0, 0)
    assert Budget().nbytes == TOTAL // 8
    monkeypatch.setenv("POOL_STORE_MAX", "4096")
    assert Budget().nbytes == 4096


def test_not_a_byte_above_its_bound(system: System) -> None:
    budget = Budget()
    assert budget.allows(0, budget.nbytes)
    assert not budget.allows(0, budget.nbytes + 1)
    assert budget.allows(budget.nbytes - 5, 5)
    assert not budget.allows(budget.nbytes - 5, 6)


def test_the_system_is_asked_once_in_a_while(system: System) -> None:
    budget = Budget()
    for _ in range(4):
        assert budget.allows(0, UNASKED_NBYTES // 4)
    assert system.asked == 1
    assert budget.allows(0, UNASKED_NBYTES - 1)
    assert system.asked == 1
    assert budget.allows(0, 1)
    assert system.asked == 2


def test_a_reserve_stays_available(system: System) -> None:
    budget = Budget()
    system.available = SPARE + UNASKED_NBYTES
    assert budget.allows(0, UNASKED_NBYTES)
    system.available -= 1
    assert not budget.allows(0, UNASKED_NBYTES)
    # From then on it is asked each time, until there is enough again.
    assert not budget.allows(0, SPARE)
    assert budget.allows(0, 1)
    assert system.asked == 4


@pytest.mark.parametrize(
    ("used", "reclaimable", "allowed"),
    [(0, 0, True), (TOTAL // 2, 0, False), (TOTAL // 2, TOTAL // 2, True)],
)
def test_what_a_group_has_left(used: int, reclaimable: int, allowed: bool, system: System) -> None:
    """Of that, its files in memory are no loss."""
    system.group = (TOTAL // 2, used, reclaimable)
    assert Budget().allows(0, UNASKED_NBYTES) is allowed


def test_a_group_whose_limit_was_lifted_counts_no_more(system: System) -> None:
    system.group = (TOTAL // 2, TOTAL // 2, 0)
    budget = Budget()
    assert not budget.allows(0, UNASKED_NBYTES)
    system.group = None
    assert budget.allows(0, UNASKED_NBYTES)


def test_free_pages_that_are_kept(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget()
    assert budget.kept(0) == 256 << 20
    # All that was needed, up to the part of one of four CPUs.
    share = TOTAL // 2 // 2 // 4
    assert budget.kept(share) == share
    assert budget.kept(share + 1) == share
    assert budget.kept(8 * share) == 2 * share
    system.group = (512 << 20, 0, 0)
    assert Budget().kept(0) == 64 << 20
    assert Budget().kept(200 << 20) == 64 << 20
    monkeypatch.setenv("POOL_STORE_KEEP", "10%")
    assert Budget().kept(4 << 30) == (512 << 20) // 10
    monkeypatch.setenv("POOL_STORE_KEEP", "0")
    assert Budget().kept(4 << 30) == 0


def test_a_peak_is_forgotten_after_one_or_two_spans() -> None:
    peak = RecentPeak()
    peak.note(5, 1000.0)
    peak.note(9, 1000.0 + 0.9 * RECENT_S)
    peak.note(2, 1000.0 + 0.95 * RECENT_S)
    assert peak.value == 9
    peak.note(1, 1000.0 + 1.1 * RECENT_S)
    assert peak.value == 9
    peak.note(0, 1000.0 + 2.2 * RECENT_S)
    assert peak.value == 2


def test_a_level_counts_as_long_as_it_holds() -> None:
    """What was let go of just now was needed of late, even if it was made long ago."""
    peak = RecentPeak()
    peak.note(9, 1000.0)
    peak.note(3, 1000.0 + 1.0)
    peak.note(0, 1000.0 + 9 * RECENT_S)
    assert peak.value == 3


@given(st.lists(st.tuples(st.floats(0, 1.5 * RECENT_S), st.integers(0, 9)), max_size=30))
def test_the_peak_is_that_of_a_recent_time(steps: list[tuple[float, int]]) -> None:
    peak = RecentPeak()
    now = 0.0
    level = 0
    held: list[tuple[float, int]] = []
    for pause, later in steps:
        now += pause
        held.append((now, level))
        level = later
        peak.note(level, now)
        for spans, compare in ((0.99, int.__ge__), (3.01, int.__le__)):
            since = now - spans * RECENT_S
            assert compare(peak.value, max([level, *(was for end, was in held if end >= since)]))


@pytest.mark.parametrize(
    ("text", "found"),
    [("MemTotal: 9 kB\nMemAvailable:   7 kB\n", 7 * 1024), ("MemTotal: 9 kB\n", 1 << 62)],
)
def test_what_the_machine_says(text: str, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Callable[[str], str] = {"/proc/meminfo": text}.__getitem__
    monkeypatch.setattr(_budget, "read", read)
    assert _budget.available_nbytes() == found
