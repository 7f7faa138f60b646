"""Which request for resources is met next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool._objects._requests import Requests
from pool._objects._resources import Grant, Resources


class Desk:
    """Serve requests, and remember who holds what, and who came before whom."""

    def __init__(self, **total: float) -> None:
        self.books = Resources(total)
        self.requests = Requests(self.books)
        self.held: dict[Any, Grant] = {}
        self.waiting: dict[Any, Mapping[str, float]] = {}

    def ask(self, who: Any, **request: float) -> list[Any]:
        self.requests.add(who, request)
        self.waiting[who] = request
        return self.serve()

    def give_back(self, who: Any) -> list[Any]:
        self.books.give_back(self.held.pop(who))
        return self.serve()

    def withdraw(self, who: Any) -> list[Any]:
        self.requests.withdraw(who, self.waiting.pop(who))
        return self.serve()

    def serve(self) -> list[Any]:
        served = []
        while (found := self.requests.take()) is not None:
            who, grant = found
            request = self.waiting[who]
            # With what it was given back: so it was when it was its turn.
            self.books.give_back(grant)
            assert self.kept_from(who).isdisjoint(names(request))
            assert self.books.take(request) is not None
            del self.waiting[who]
            self.held[who] = grant
            served.append(who)
        self.check()
        return served

    def kept_from(self, who: Any) -> set[str]:
        """Return what older requests lack, of those that wait for nobody else."""
        lacked: set[str] = set()
        for before, older in self.waiting.items():
            if before == who:
                break
            if lacked.isdisjoint(names(older)):
                lacked |= self.books.lacks(older)
        return lacked

    def check(self) -> None:
        """Nobody waits for nothing: something is lacking, or an older one lacks it."""
        for who, request in self.waiting.items():
            assert self.books.lacks(request) or not self.kept_from(who).isdisjoint(names(request))
        self.books.check_invariants()


def names(request: Mapping[str, float]) -> list[str]:
    """Return what a request really asks for."""
    return [name for name, amount in request.items() if amount]


def test_a_request_that_waits_lets_those_pass_that_ask_for_something_else() -> None:
    desk = Desk(CPU=2, GPU=1, license=2)
    assert desk.ask("actor", GPU=1) == ["actor"]
    assert desk.ask("second", GPU=1) == []
    # It has a CPU, too: that is none of what it lacks.
    assert desk.ask("task", CPU=1, GPU=1) == []
    assert desk.ask("cpus", CPU=2) == ["cpus"]
    assert desk.ask("license", license=1) == ["license"]
    assert desk.ask("half", CPU=0.5) == []
    assert desk.give_back("cpus") == ["half"]
    assert desk.give_back("actor") == ["second"]
    assert desk.give_back("second") == ["task"]


def test_small_ones_do_not_starve_a_large_one() -> None:
    desk = Desk(CPU=4, GPU=1)
    assert desk.ask(1, CPU=2) == [1]
    assert desk.ask(2, CPU=2) == [2]
    assert desk.ask("large", CPU=4) == []
    for number in range(10):
        assert desk.ask(f"small {number}", CPU=0.5) == []
        assert desk.ask(f"small {number} with a GPU", CPU=0.5, GPU=0.1) == []
    assert desk.give_back(1) == []
    assert desk.give_back(2) == ["large"]
    assert len(desk.give_back("large")) == 8


def test_a_whole_device_is_kept_for_who_waits_for_it() -> None:
    desk = Desk(GPU=2)
    for who, share in (("a", 0.75), ("b", 0.75)):
        assert desk.ask(who, GPU=share) == [who]
    assert desk.ask("whole", GPU=1) == []
    assert desk.ask("quarter", GPU=0.25) == []
    assert desk.give_back("b") == ["whole", "quarter"]


def test_who_is_gone_holds_nobody_up() -> None:
    desk = Desk(CPU=2)
    assert desk.ask("one", CPU=1) == ["one"]
    assert desk.ask("two", CPU=2) == []
    assert desk.ask("three", CPU=1) == []
    assert desk.withdraw("two") == ["three"]
    desk.requests.withdraw("two", {"CPU": 2})
    assert desk.requests.take() is None


amounts = st.fixed_dictionaries(
    {},
    optional={
        "CPU": st.sampled_from([0.5, 1, 2, 4]),
        "GPU": st.sampled_from([0.25, 0.5, 1, 2]),
        "other": st.sampled_from([0, 1, 3]),
    },
).filter(lambda request: any(request.values()))


@pytest.mark.parametrize("end", ["give back", "withdraw"])
@given(steps=st.lists(st.one_of(amounts, st.integers(0, 9)), max_size=60))
def test_everybody_is_served_in_turn(end: str, steps: list[dict[str, float] | int]) -> None:
    desk = Desk(CPU=4, GPU=2, other=3)
    for number, step in enumerate(steps):
        if isinstance(step, dict):
            desk.ask(number, **step)
        elif step == 0 and desk.waiting:
            desk.withdraw(next(iter(desk.waiting)))
        elif desk.held:
            desk.give_back(list(desk.held)[step % len(desk.held)])
    while desk.waiting:
        if end == "withdraw":
            desk.withdraw(next(iter(desk.waiting)))
        else:
            assert desk.held  # else the oldest one could have what it asks for
            desk.give_back(next(iter(desk.held)))
    for who in list(desk.held):
        desk.give_back(who)
    assert desk.books.free == desk.books.total
