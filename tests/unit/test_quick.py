"""Outcomes that a worker keeps in its page: what is sent early is not sent again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pool._local._peers import decode_many
from pool._transport._journal import (
    FINISHED,
    HALT,
    HEADER_NBYTES,
    LAYOUT,
    SLOT_NBYTES,
    Slot,
    chunk_word,
)
from pool._workers._quick import Loop


@pytest.fixture
def loop() -> Loop:
    slot = Slot(memoryview(bytearray(SLOT_NBYTES)))
    assert len(slot.data) == SLOT_NBYTES - HEADER_NBYTES
    return Loop(slot.words, slot.data)


@pytest.mark.parametrize("kind", [int, float, str])
def test_what_is_sent_from_inside_of_a_chunk_is_not_sent_again(loop: Loop, kind: Any) -> None:
    early: list[Any] = []

    def function(item: int) -> Any:
        if item == 3:
            count, data, layout = loop.send_early()
            early.extend(decode_many(data, count, layout))
            assert loop.send_early()[0] == 0
        return kind(item)

    assert loop.run(function, iter(range(6)), time.perf_counter() + 60) == (False, None)
    assert early == [kind(item) for item in range(3)]
    assert loop.unsent == 3
    left = decode_many(bytes(loop.kept()), loop.unsent, loop.layout)
    assert left == [kind(item) for item in range(3, 6)]
    # The page has all, should the worker be killed.
    assert loop._words[FINISHED] == 6
    assert loop._words[LAYOUT] == loop.layout
    loop.sent()
    assert loop.unsent == 0


def test_nothing_is_sent_early_if_nothing_is_kept(loop: Loop) -> None:
    assert loop.send_early()[0] == 0


@pytest.mark.parametrize("kind", [int, float, str])
@pytest.mark.parametrize("last", [0, 1, 4])
def test_no_chunk_is_begun_behind_a_halt(loop: Loop, kind: Any, last: int) -> None:
    begun = []
    loop.begin(7)

    def function(item: int) -> Any:
        begun.append(item)
        if item == last:
            # As its parent does while this chunk runs; some other message is none of its business.
            loop._words[HALT] = chunk_word(6, last + 1)
            assert not loop.halted
            loop._words[HALT] = chunk_word(7, last + 1)
        return kind(item)

    items = iter(range(6))
    assert loop.run(function, items, time.perf_counter() + 60) == (False, None)
    assert loop.halted
    assert begun == list(range(last + 1))
    assert list(items) == list(range(last + 1, 6))
    assert decode_many(bytes(loop.kept()), loop.unsent, loop.layout) == list(map(kind, begun))
