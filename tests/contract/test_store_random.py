"""Random graphs of objects arrive in tasks, and come back, as pickling would bring them.

Compared are types, values, layouts of arrays, and which objects within one payload are one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pickle import dumps, loads
from typing import Any
from zlib import crc32

import numpy as np
import pytest

import store
from pool import Pool
from pool._pickling import Captured

SIZES = [0, 1, 5, 8191, 8192, 30_000]  # around 64 KiB, if items have eight bytes
DTYPES = ["f8", ">f8", "i2", "M8[s]", ">M8[s]", "U3", "O", "?", [("a", "i4"), ("b", "M8[s]")]]


class Node:
    """An object of the program's."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.itself = self

    def seen(self, *values: Any) -> str:
        return seen(self, *values)


def any_array(chance: random.Random) -> Any:
    """Return an array of any kind, size and layout."""
    array: Any = np.arange(chance.choice(SIZES)).astype("i8")
    dtype: Any = np.dtype(chance.choice(DTYPES))  # type: ignore[call-overload]  # names of dtypes, of one kind or another
    if dtype.names:
        array = np.array([(7, 8)] * len(array), dtype)
    else:
        array = array.astype("i4" if dtype.kind == "O" else dtype)
    kind = chance.randrange(9)
    if kind == 0:
        array = array[::-2]
    elif kind == 1:
        array = np.broadcast_to(array, (2, len(array)))
    elif kind == 2:
        array = array[: len(array) // 2 * 2].reshape(2, -1, order="F").T
    elif kind == 3:
        array.flags.writeable = False
    elif kind == 4 and not dtype.names:
        array = np.ma.array(array, mask=[number % 3 == 0 for number in range(len(array))])
    elif kind == 5:
        array = array.view(np.recarray if dtype.names else np.memmap)
    elif kind == 6:
        array = array[1:].astype("O") if len(array) < 10 else array[1:]
    return array


def any_value(chance: random.Random, known: list[Any], depth: int = 0) -> Any:
    """Return a value; maybe one that is known, or that holds some of these."""
    kind = chance.randrange(6 if depth > 2 else 11)
    if known and kind == 0:
        return chance.choice(known)
    if kind < 4:
        value: Any = any_array(chance)
    elif kind == 4:
        nbytes = chance.choice([5, 65_535, 65_536, 1 << 20])
        value = chance.choice([bytes, bytearray])(nbytes)
    elif kind == 5:
        value = chance.choice([None, 2.5, "text", np.float64(1), np.int16(2), 1 << 70])
    else:
        inner = [any_value(chance, known, depth + 1) for _ in range(3)]
        value = [inner, tuple(inner), dict(enumerate(inner)), Node(inner), [inner, inner]][kind - 6]
        if type(value) is list:
            value.append(value)
    known.append(value)
    return value


def parts(value: Any, numbers: dict[int, int], kept: list[Any]) -> Iterator[str]:
    """Describe a value and what is in it; what was seen before, by its number."""
    kind = type(value)
    yield kind.__name__
    if kind in (int, float, str, type(None)) or isinstance(value, np.generic):
        yield repr(value)
        return
    if id(value) in numbers:
        yield f"number {numbers[id(value)]}"
        return
    numbers[id(value)] = len(numbers)
    kept.append(value)  # so that its id is not used again
    if isinstance(value, np.ndarray):
        flags = value.flags
        layout = value.strides if value.size else (), flags.forc, flags.writeable, flags.aligned
        yield f"{value.dtype!r} {value.shape} {layout}"
        plain = np.asarray(value)
        data = repr(plain.tolist()).encode() if plain.dtype.hasobject else plain.tobytes()
        yield f"{crc32(data)} {crc32(np.ma.getmaskarray(value).tobytes())}"
    elif isinstance(value, bytes | bytearray):
        yield repr((len(value), bytes(value).strip(b"\0")))
    else:
        inner = vars(value).values() if kind is Node else value
        for part in inner.values() if isinstance(value, dict) else inner:
            yield from parts(part, numbers, kept)


def seen(*values: Any) -> str:
    """Return all that is compared, as one text."""
    return "\n".join(parts([*values], {}, []))


def seen_and_kept(*values: Any) -> tuple[str, Any]:
    return seen(*values), values


def copy(value: Any) -> Any:
    return loads(dumps(value, 4))  # the form that `multiprocessing` sends up to Python 3.13


@pytest.fixture
def pool() -> Iterator[Any]:
    with Pool(2) as p:
        yield p
    p.join()


def compare(p: Any, seed: int) -> None:
    """Send some objects through a pool, by several ways."""
    chance = random.Random(seed)
    known: list[Any] = []
    values = [any_value(chance, known) for _ in range(3)]
    node = Node(values)
    ref = store.put(values)
    here, again = seen(copy(values)), seen(copy(copy(values)))
    holder, items = copy((node, [node, *values]))
    together = [seen(holder, item) for item in items]
    ways: list[tuple[Any, Callable[[], Any]]] = [
        (seen(*copy(values)), lambda: p.apply(seen, values)),
        ([here, again], lambda: p.map(seen, [ref, store.share(values)], 1)),
        (here, lambda: seen(store.get(ref))),
        (again, lambda: seen(p.apply(seen_and_kept, (values,))[1][0])),
        (together, lambda: p.map(node.seen, [node, *values], 4)),
        (together, lambda: list(p.imap(node.seen, iter([node, *values]), 4))),
    ]
    for number, (expected, way) in enumerate(ways):
        assert way() == expected, f"graph {seed}, way {number}"


def test_random_graphs_arrive_as_they_are_pickled(pool: Any) -> None:
    for seed in range(25):
        compare(pool, seed)


def test_what_is_pickled_apart_is_noticed(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Captured, "meets", lambda *_: False)
    with pytest.raises(AssertionError, match="way 4"):
        compare(pool, 0)
