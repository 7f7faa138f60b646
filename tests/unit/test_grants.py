"""When the program is told that actors hold all CPUs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pool._objects._resources import Grant, Resources
from pool._runtime import _grants
from pool._runtime._grants import CLAIMED, Grants


class Desk:
    """Grants of two CPUs, with a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Any]] = []
        self.told: list[str] = []
        self.scheduler = SimpleNamespace(queued=0)
        driver: Any = SimpleNamespace(inbox=[], after=self.after, scheduler=self.scheduler)
        self.grants = Grants(driver, Resources({"CPU": 2.0}), {}, self.told.append)
        self.held: list[Grant] = []
        monkeypatch.setattr(_grants, "monotonic", lambda: self.now)

    def after(self, seconds: float, action: Any) -> None:
        self.due.append((self.now + seconds, action))

    def ask(self, cpus: float) -> None:
        def granted(grant: Grant | None) -> None:
            assert grant is not None
            self.held.append(grant)

        self.grants.ask({"CPU": cpus}, granted)

    def give_back(self) -> None:
        self.grants.give_back(self.held.pop())

    def pass_(self, seconds: float) -> None:
        until = self.now + seconds
        while self.due and self.due[0][0] <= until:
            self.now, action = self.due.pop(0)
            action()
        self.now = until


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def test_tasks_that_wait_for_actors_are_told_of_once(desk: Desk) -> None:
    desk.ask(1)
    desk.ask(1)
    desk.scheduler.queued = 3
    desk.pass_(CLAIMED / 2)
    assert desk.told == []
    desk.pass_(CLAIMED / 2)
    (text,) = desk.told
    assert text.startswith("All 2 CPUs are held by actors")
    desk.pass_(10 * CLAIMED)
    desk.give_back()
    desk.ask(1)
    desk.pass_(10 * CLAIMED)
    assert len(desk.told) == 1


def test_an_actor_that_waits_for_actors_is_told_of(desk: Desk) -> None:
    for _ in range(3):
        desk.ask(1)
    desk.pass_(CLAIMED)
    assert len(desk.told) == 1


def test_nothing_is_told_until_something_waits(desk: Desk) -> None:
    desk.ask(2)
    desk.pass_(5 * CLAIMED)
    assert desk.told == []
    desk.scheduler.queued = 1
    desk.pass_(CLAIMED)
    assert len(desk.told) == 1


def test_cpus_that_are_free_now_and_then_are_nothing_to_tell_of(desk: Desk) -> None:
    """So it is with tasks that ask for several, and follow each other."""
    desk.scheduler.queued = 1
    for _ in range(20):
        desk.ask(2)
        desk.pass_(CLAIMED * 0.4)
        desk.give_back()
        assert len(desk.due) <= 1
    assert desk.told == []
    desk.pass_(5 * CLAIMED)
    assert desk.told == []
