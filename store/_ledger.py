"""Which holders have which things. Pure: says when a thing has no holder left, frees none itself.

A *thing* is what the owner frees when its last reference is gone. A *holder* is this process
(`LOCAL`) or a connection over which a reference was sent. References are counted, since a release
may cross a message that carries another reference to the same thing, which must not be freed then.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

#: The holder that is this process.
LOCAL = "local"


class Ledger:
    """Count the references to things, by holder."""

    __slots__ = ("_holders", "_next", "_totals", "things")

    def __init__(self) -> None:
        self._next = 1
        self.things: dict[int, Any] = {}
        self._totals: dict[int, int] = {}
        self._holders: dict[Hashable, dict[int, int]] = {}

    def add(self, thing: Any, holder: Hashable) -> int:
        """Enter a thing with one count of `holder`; return its number, never used again."""
        number = self._next
        self._next = number + 1
        self.things[number] = thing
        self._totals[number] = 0
        self.hold(number, holder)
        return number

    def hold(self, number: int, holder: Hashable) -> None:
        """Count one more reference.

        Raises
        ------
        KeyError
            If the thing was let go of: it cannot be held again.
        """
        self._totals[number] += 1
        counts = self._holders.setdefault(holder, {})
        counts[number] = counts.get(number, 0) + 1

    def release(self, number: int, holder: Hashable) -> Any:
        """Take one count of `holder` back.

        Returns
        -------
        object
            The thing, if that was the last count of all; otherwise None. Also None if the holder
            has no such count: those of a dead process were dropped, and a message of it may still
            be read afterwards.
        """
        counts = self._holders.get(holder)
        if counts is None or number not in counts:
            return None
        counts[number] -= 1
        if not counts[number]:
            del counts[number]
            if not counts:
                del self._holders[holder]
        return self._lower(number, 1)

    def drop(self, holder: Hashable) -> list[Any]:
        """Take back all counts of a holder that is gone; return the things without a holder."""
        counts = self._holders.pop(holder, {})
        things = [self._lower(number, count) for number, count in counts.items()]
        return [thing for thing in things if thing is not None]

    def _lower(self, number: int, count: int) -> Any:
        self._totals[number] -= count
        if self._totals[number]:
            return None
        del self._totals[number]
        return self.things.pop(number)

    def held_by(self, holder: Hashable) -> dict[int, int]:
        """Return the counts of one holder, by number."""
        return dict(self._holders.get(holder, {}))

    def holders(self) -> list[Hashable]:
        """Return all holders that hold something."""
        return list(self._holders)

    def check_invariants(self) -> None:
        """Raise AssertionError unless totals are the sums of counts, and none is 0."""
        sums: dict[int, int] = {}
        for counts in self._holders.values():
            assert counts
            for number, count in counts.items():
                assert count > 0
                sums[number] = sums.get(number, 0) + count
        assert sums == self._totals
        assert sums.keys() == self.things.keys()
