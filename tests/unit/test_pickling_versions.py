"""A name that is bound to another object has another version, wherever that object lies."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from pool._pickling._versions import Versions, Watch, keep


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
