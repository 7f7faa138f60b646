"""The ledger against a list with one entry per reference."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from store._ledger import LOCAL, Ledger

HOLDERS = st.sampled_from([LOCAL, "one", "two"])


class Machine(RuleBasedStateMachine):
    """A thing is let go when, and only when, the last entry with its number goes."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.entries: list[tuple[int, str]] = []
        self.numbers: set[int] = set()
        self.things = 0

    def alive(self) -> set[int]:
        return {number for number, _ in self.entries}

    def name_of(self, number: int) -> Any:
        return f"thing of {number}"

    @rule(holder=HOLDERS)
    def add(self, holder: str) -> None:
        number = self.ledger.add(None, holder)
        self.ledger.things[number] = self.name_of(number)
        assert number not in self.numbers
        self.numbers.add(number)
        self.entries.append((number, holder))

    @rule(holder=HOLDERS, data=st.data())
    def hold(self, holder: str, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.numbers | {999})))
        if number in self.alive():
            self.ledger.hold(number, holder)
            self.entries.append((number, holder))
        else:
            with pytest.raises(KeyError):
                self.ledger.hold(number, holder)

    @rule(holder=HOLDERS, data=st.data())
    def release(self, holder: str, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.numbers | {999})))
        before = self.alive()
        if (number, holder) in self.entries:
            self.entries.remove((number, holder))
        gone = before - self.alive()
        thing = self.ledger.release(number, holder)
        assert thing == (self.name_of(number) if gone else None)

    @rule(holder=HOLDERS)
    def drop(self, holder: str) -> None:
        before = self.alive()
        self.entries = [entry for entry in self.entries if entry[1] != holder]
        gone = before - self.alive()
        assert sorted(self.ledger.drop(holder)) == sorted(map(self.name_of, gone))

    @invariant()
    def agrees(self) -> None:
        self.ledger.check_invariants()
        assert self.ledger.things.keys() == self.alive()
        assert set(self.ledger.holders()) == {holder for _, holder in self.entries}
        for holder in self.ledger.holders():
            counts = self.ledger.held_by(holder)
            assert counts == {
                number: self.entries.count((number, str(holder)))
                for number, other in self.entries
                if other == holder
            }


TestLedger = Machine.TestCase
TestLedger.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    # How long an example takes says how busy the machine is.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_release_that_crosses_another_reference_frees_nothing() -> None:
    ledger = Ledger()
    number = ledger.add("object", "worker")
    ledger.hold(number, "worker")  # sent again while the first release is on its way
    assert ledger.release(number, "worker") is None
    assert ledger.release(number, "worker") == "object"


def test_last_words_of_a_dead_holder_are_not_heard_twice() -> None:
    ledger = Ledger()
    number = ledger.add("object", "worker")
    ledger.hold(number, LOCAL)
    assert ledger.drop("worker") == []
    assert ledger.release(number, "worker") is None
    assert ledger.release(number, LOCAL) == "object"
