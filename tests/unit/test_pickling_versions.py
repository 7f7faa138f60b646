"""A name that is bound to another object has another version, wherever that object lies."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from weakref import ref

import pytest

from pool._pickling._versions import Versions, Watch, is_marked, keep, mark


class Slotted:
    __slots__ = ("value",)


@pytest.mark.parametrize(
    "value", [Decimal(1), date(2020, 1, 1), timedelta(1), Fraction(1, 2), Slotted(), 10**6, [1]]
)
def test_memory_of_what_cannot_be_referred_to_weakly_is_not_used_again(value: Any) -> None:
    # Else the next object could have its id, and would be taken for it.
    assert keep(value) is value or keep(value)() is value


def test_descriptors_are_not_kept() -> None:
    assert keep(property()) is None


def test_a_new_object_in_the_place_of_the_old_one_is_seen() -> None:
    names: dict[str, Any] = {"rate": Decimal(1)}
    versions = Versions()
    watch = Watch(list(names.values()))
    seen = [versions.observe(names, "rate")[0]]
    for _ in range(20):
        # The one in between is let go, and the next may lie where it lay, or where the first did.
        names["rate"] += 1
        names["rate"] += 1
        assert not watch.holds(list(names.values()))
        seen.append(versions.observe(names, "rate")[0])
    assert seen == list(range(1, 22))


def test_an_object_of_another_type_in_the_place_of_one_that_is_gone_is_seen() -> None:
    class Table:
        pass

    table = Table()
    keeper = mark(table)[1]
    del table
    for value in ("text", b"bytes", [1], (1, 2), {}):
        # As the value has it when it gets the memory of the table.
        assert not is_marked((id(value), keeper), value)


def test_a_weak_reference_is_the_same_as_long_as_it_is() -> None:
    class Table:
        pass

    table = Table()
    names = {"reference": ref(table)}
    versions = Versions()
    assert [versions.observe(names, "reference")[0] for _ in range(3)] == [1, 1, 1]
