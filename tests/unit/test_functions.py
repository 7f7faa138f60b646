"""Functions that workers keep: they forget those that have not been used for long."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

from pool._local._functions import FUNCTIONS_KEPT, FunctionTable
from pool._local._jobs import Function


class Kept(dict[bytes, Function]):
    """Of which another thread takes the first one when they are looked through."""

    def __iter__(self) -> Any:
        names = list(super().__iter__())
        if names:
            self.pop(names[0], None)
        return iter(names)


def payload(number: int) -> Any:
    encoded = SimpleNamespace(data=b"%d" % number, buffers=[])
    return SimpleNamespace(encoded=encoded, stateless=True)


def test_old_ones_are_forgotten_under_the_lock_and_all_at_once() -> None:
    told: list[list[int]] = []

    class Peer:
        def __init__(self) -> None:
            self.known: set[int] = set()
            self.forgets: list[int] = []

        def tell(self) -> None:
            told.append(self.forgets)

    peer = Peer()
    dirty: deque[Any] = deque()
    table = FunctionTable({1: peer}, dirty)  # type: ignore[dict-item]  # all it is asked
    table._shared = Kept()
    numbers = []
    for number in range(FUNCTIONS_KEPT):
        numbers.append(table.register(payload(number), True).function_id)
        peer.known.add(numbers[-1])
    table.register(payload(-1), True)
    assert peer.forgets == []
    dirty.popleft().flush()
    # The first one is somebody else's to forget.
    old = numbers[1 : FUNCTIONS_KEPT // 2]
    assert told == [old]
    assert peer.known == {numbers[0], *numbers[FUNCTIONS_KEPT // 2 :]}
    assert table.register(payload(FUNCTIONS_KEPT - 1), True).function_id == numbers[-1]
    assert table.register(payload(1), True).function_id not in numbers
