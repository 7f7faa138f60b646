"""Who waits for what comes at once stays awake, for a moment."""

from __future__ import annotations

import pytest

from pool._transport import _watch
from pool._transport._watch import AWAKE, CROWDED, CROWDED_MOST, LOST, SHORT, Watch


class World:
    """A clock that only the test moves on, and something that comes at its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cpus: int = 2) -> None:
        self.now = 100.0
        self.comes_at = 0.0
        self.looks = self.sleeps = 0
        #: Seconds for which others have the CPU when it is offered to them.
        self.taken = 0.0
        monkeypatch.setattr(_watch, "perf_counter", lambda: self.now)
        monkeypatch.setattr(_watch, "_yield", self.give_way)
        monkeypatch.setattr("pool._cpus.usable_cpus", lambda: cpus)
        monkeypatch.delenv("POOL_AWAKE", raising=False)
        monkeypatch.setattr(_watch, "_allowed", None)
        self.watch = Watch(self.look, self.sleep)

    def look(self) -> str:
        self.looks += 1
        self.now += 1e-6
        return "it" if self.now >= self.comes_at else ""

    def give_way(self) -> None:
        self.now += self.taken

    def sleep(self, patience: float = 10.0) -> str:
        self.sleeps += 1
        self.now = min(max(self.now, self.comes_at), self.now + patience)
        return "it" if self.now >= self.comes_at else ""

    def wait(self, seconds: float) -> tuple[int, int]:
        """Wait for what comes after so many seconds; return how often it looked, and slept."""
        self.looks = self.sleeps = 0
        self.comes_at = self.now + seconds
        assert self.watch.wait() == "it"
        return self.looks, self.sleeps


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_first_wait_is_asleep(world: World) -> None:
    assert world.wait(SHORT / 2) == (0, 1)


def test_after_a_short_wait_the_next_one_is_awake(world: World) -> None:
    world.wait(SHORT / 2)
    for _ in range(3):
        looks, sleeps = world.wait(AWAKE / 2)
        assert looks > 1
        assert not sleeps


def test_nobody_stays_awake_for_long(world: World) -> None:
    world.wait(SHORT / 2)
    looks, sleeps = world.wait(1.0)
    assert 0 < looks * 1e-6 <= AWAKE * 1.1
    assert sleeps == 1


def test_after_a_long_wait_the_next_one_is_asleep(world: World) -> None:
    world.wait(SHORT / 2)
    world.wait(1.0)
    assert world.wait(AWAKE / 2) == (0, 1)
    assert world.wait(AWAKE / 2)[1] == 0  # it was short, after all


def test_who_lost_the_cpu_to_others_sleeps_for_a_while(world: World) -> None:
    world.wait(SHORT / 2)
    world.taken = 2 * LOST
    assert world.wait(AWAKE / 2) == (2, 0)  # it was there long since
    assert [world.wait(AWAKE / 2) for _ in range(3)] == [(0, 1)] * 3
    world.now += CROWDED
    world.taken = 0.0
    assert world.wait(AWAKE / 2)[1] == 0


def test_who_loses_it_again_and_again_sleeps_for_longer_and_longer(world: World) -> None:
    world.wait(SHORT / 2)
    pauses = []
    for _ in range(12):
        world.taken = 2 * LOST
        assert world.wait(AWAKE / 2)[1] == 0
        world.taken = 0.0
        began = world.now
        while world.wait(AWAKE / 2) == (0, 1):
            pass
        pauses.append(world.now - began)
    assert pauses[0] == pytest.approx(CROWDED, abs=AWAKE)
    assert pauses[1] == pytest.approx(2 * CROWDED, abs=AWAKE)
    assert pauses[-1] == pytest.approx(CROWDED_MOST, abs=AWAKE)
    world.now += 2 * CROWDED_MOST
    world.taken = 2 * LOST
    world.wait(AWAKE / 2)
    world.taken, began = 0.0, world.now
    while world.wait(AWAKE / 2) == (0, 1):
        pass
    assert world.now - began == pytest.approx(CROWDED, abs=AWAKE)  # it is forgotten


def test_who_has_the_cpu_back_soon_stays_awake(world: World) -> None:
    """A worker of the same pool has had it."""
    world.wait(SHORT / 2)
    world.taken = LOST / 2
    assert world.wait(AWAKE / 2) == (2, 0)
    assert world.wait(AWAKE / 2) == (2, 0)


def test_with_one_cpu_everybody_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, cpus=1)
    assert [world.wait(AWAKE / 2) for _ in range(3)] == [(0, 1)] * 3


def test_it_can_be_turned_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_AWAKE", "0")
    assert [world.wait(AWAKE / 2) for _ in range(3)] == [(0, 1)] * 3


def test_patience_is_kept(world: World) -> None:
    world.wait(SHORT / 2)
    world.comes_at = world.now + 5.0
    before = world.now
    assert world.watch.wait(0.5) == ""
    assert world.now - before == pytest.approx(0.5, abs=2 * AWAKE)
