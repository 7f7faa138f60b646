"""Functions that workers keep: they forget those that have not been used for long."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

from pool._local._functions import FUNCTIONS_KEPT, FunctionTable
from pool._local._jobs import Function


class Kept(dict[bytes, Function]):
    """Of which another thread takes the first one when they are looked through."""

    def items(self) -> Any:
        found = list(super().items())
        if found:
            self.pop(found[0][0], None)
        return found


def payload(number: int) -> Any:
    encoded = SimpleNamespace(data=b"%d" % number, buffers=[])
    return SimpleNamespace(encoded=encoded, stateless=True, captured=None)


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
        numbers.append(table.register(payload(number)).function_id)
        peer.known.add(numbers[-1])
    table.register(payload(-1))
    assert peer.forgets == []
    dirty.popleft().flush()
    # The first one is somebody else's to forget.
    old = numbers[1 : FUNCTIONS_KEPT // 2]
    assert told == [old]
    assert peer.known == {numbers[0], *numbers[FUNCTIONS_KEPT // 2 :]}
    assert table.register(payload(FUNCTIONS_KEPT - 1)).function_id == numbers[-1]
    assert table.register(payload(1)).function_id not in numbers


class Worker:
    def __init__(self) -> None:
        self.known: set[int] = set()
        self.forgets: list[int] = []

    def tell(self) -> None: ...


def test_those_in_use_and_those_used_again_are_kept() -> None:
    table = FunctionTable({1: Worker()}, deque())  # type: ignore[dict-item]  # all it is asked
    used = table.register(payload(0))
    table.use(used)
    for number in range(1, FUNCTIONS_KEPT):
        table.register(payload(number))
    again = table.register(payload(1))
    for number in range(FUNCTIONS_KEPT, 2 * FUNCTIONS_KEPT):
        table.register(payload(number))
        assert table.register(payload(1)) is again
    assert table.register(payload(0)) is used
    assert len(table._shared) <= FUNCTIONS_KEPT
    assert table.known(payload(2)) is None


def test_one_that_was_let_go_of_goes_with_the_job_that_was_about_to_use_it() -> None:
    peer = Worker()
    table = FunctionTable({1: peer}, deque())  # type: ignore[dict-item]  # as above
    late = table.register(payload(0))
    for number in range(1, FUNCTIONS_KEPT + 1):
        table.register(payload(number))
    table.flush()
    table.use(late)
    table.learned(peer, [late.function_id])  # type: ignore[arg-type]  # as above
    number = late.function_id
    assert peer.known == {number}
    table.forget(late)
    table.flush()
    assert (peer.known, peer.forgets) == (set(), [number])
    assert late.function_id != number  # what is told late to forget it forgets no other one
