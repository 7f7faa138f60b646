"""The values of a generator, as the runtime keeps them."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from pool._ray._generators import ObjectRefGenerator
from pool._runtime._streams import Stream


@pytest.fixture
def stream() -> Stream:
    engine = SimpleNamespace(wait=lambda ready, timeout, eager: ready())
    runtime: Any = SimpleNamespace(
        streams={}, seals=0, failures=0, named={}, lending=None, engine=engine
    )
    return Stream(runtime)


def test_values_are_let_go_with_their_reader(stream: Stream) -> None:
    values = ObjectRefGenerator(stream)
    stream.add(0, "read")
    stream.add(1, "not read")
    ref = next(values)
    unread = weakref.ref(stream._items[1])
    del values
    gc.collect()
    assert unread() is None
    stream.add(2, "too late")
    assert not stream._items
    assert ref._value == "read"
    stream.end(count=3)
    assert stream.is_over(3)


def test_a_value_that_was_let_go_is_known(stream: Stream) -> None:
    stream.add(0, "value")
    stream.let_go(0)
    assert stream.knows(0)
    assert not stream.knows(1)
    stream.end(error=ValueError())
    stream.let_go(1)
    assert stream.knows(1)
    assert stream.take(1) is None


def test_what_a_generator_raises_after_one_of_its_values_was_lost_is_not_another_value(
    stream: Stream,
) -> None:
    lost = OSError("no room for a value")
    stream.add(0, "value")
    stream.end(error=lost)
    stream.end(error=ValueError("raised by the generator, which went on"))
    assert [ref._value for ref in ObjectRefGenerator(stream)] == ["value", lost]


def test_a_value_that_is_lost_after_the_end_is_known_has_its_error(stream: Stream) -> None:
    stream.end(count=2)
    stream.add(0, "value")
    lost = OSError("no room for a value")
    stream.end(error=lost)
    assert [ref._value for ref in ObjectRefGenerator(stream)] == ["value", lost]


def test_an_error_ends_a_stream_whose_last_values_do_not_come(stream: Stream) -> None:
    stream.add(0, "value")
    stream.end(count=3)
    stream.end(error=ValueError())
    stream.end(error=ValueError("too late"))
    assert [stream.knows(index) for index in range(3)] == [True, True, True]
    assert stream.is_over(2)
    assert len(stream._items) == 2
