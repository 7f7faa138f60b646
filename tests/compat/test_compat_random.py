"""Run random short programs on the standard pool and on ours: what they see has to be the same.

A program is some calls on one pool, each with any function, method, container and chunk size, and
an end. Left out is what may differ: which of several errors a map raises (all are equal here), and
in which order results come that have none.
"""

from __future__ import annotations

import io
import multiprocessing
import pickle
import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from poolkit import PATIENCE
from pooltasks import identity

import pool
from pool._local import _outcomes
from pool._transport._messages import STREAM

Step = tuple[str, Callable[..., Any], list[Any], Callable[[list[Any]], Any], int | None]


def twice(value: Any) -> Any:
    """Return something whose pickle refers to what it has already."""
    return [value, repr(value), {"it": value}, value]


def length(value: Any) -> int:
    """Return a small number, whatever is given."""
    return len(repr(value))


def half(value: Any) -> Any:
    """Return ints, floats and text, by turns."""
    number = length(value)
    return number // 2 if number % 2 == 0 else number / 2 if number % 3 else str(number)


def refuse_text(value: Any) -> Any:
    """Fail in one way only, so that it does not matter which item fails first."""
    if isinstance(value, str):
        raise LookupError("text", 5)
    return value


def generated(items: list[Any]) -> Iterator[Any]:
    """Give the items without telling how many they are."""
    yield from items


METHODS = ["map", "starmap", "map_async", "apply", "apply_async", "imap", "imap_unordered"]
FUNCTIONS = [identity, twice, length, half, refuse_text]
CONTAINERS = [list, tuple, deque, iter, generated]
CHUNKSIZES = [None, 1, 2, 3, 7, 1000]
ENDS = ["close", "terminate", "__exit__"]


def any_value(chance: random.Random, depth: int = 0) -> Any:
    """Return a plain value, or a container with some."""
    kind = chance.randrange(12 if depth < 2 else 8)
    number = chance.randrange(-9, 99)
    plain = [None, number > 0, number, number / 8, f"{number}", b"%d" % number, "", 1 << 64]
    if kind < len(plain):
        return plain[kind]
    inner = [any_value(chance, depth + 1) for _ in range(kind - 7)]
    return chance.choice([inner, tuple(inner), dict(enumerate(inner))])


def any_items(chance: random.Random) -> list[Any]:
    """Return what is to be worked on: of one kind, of all kinds, or one object many times."""
    count = chance.choice([0, 1, 2, 9, 30])
    kind = chance.randrange(4)
    if kind == 0:
        return list(range(count))
    if kind == 1:
        return [f"text {number}" for number in range(count)]
    if kind == 2:
        return [any_value(chance)] * count
    return [any_value(chance) for _ in range(count)]


def any_step(chance: random.Random) -> Step:
    """Return one call."""
    return (
        chance.choice(METHODS),
        chance.choice(FUNCTIONS),
        any_items(chance),
        chance.choice(CONTAINERS),
        chance.choice(CHUNKSIZES),
    )


def outcome(call: Callable[[], Any]) -> str:
    """Return what a call returns or raises, with all types."""
    try:
        return repr(call())
    except Exception as error:
        return f"{type(error).__name__} {error.args!r} from {type(error.__cause__).__name__}"


def drained(iterator: Iterator[Any], count: int) -> list[str]:
    """Return what an iterator gives, beyond errors and its end."""
    return [outcome(lambda: next(iterator)) for _ in range(count + 2)]


def observed(pool: Any, step: Step) -> Any:
    """Make one call and return all that can be seen of it."""
    method, function, items, container, chunksize = step
    if method == "apply":
        return [outcome(partial(pool.apply, function, (item,))) for item in items]
    if method.endswith("_async"):
        called: list[Any] = []
        failed: list[Any] = []
        if method == "map_async":
            # Without items, the standard calls nobody back.
            callback = called.append if items else None
            results = [
                pool.map_async(function, container(items), chunksize, callback, failed.append)
            ]
        else:
            results = [
                pool.apply_async(function, (item,), {}, called.append, failed.append)
                for item in items
            ]
        for result in results:
            result.wait(PATIENCE)
        seen = [(outcome(result.get), result.successful(), result.ready()) for result in results]
        return seen, sorted(map(repr, called)), sorted(map(repr, failed))
    if method == "starmap":
        return outcome(lambda: pool.starmap(function, container([(x,) for x in items]), chunksize))
    if method == "map":
        return outcome(lambda: pool.map(function, container(items), chunksize))
    if method == "imap":
        return drained(pool.imap(function, container(items), chunksize or 1), len(items))
    return sorted(drained(pool.imap_unordered(function, container(items)), len(items)))


def seen_by(make_pool: Callable[[int], Any], seed: int) -> list[tuple[Any, Any]]:
    """Run a program; return each call with what it sees."""
    chance = random.Random(seed)
    pool = make_pool(chance.choice([1, 2, 3]))
    steps = [any_step(chance) for _ in range(12)]
    seen: list[tuple[Any, Any]] = [(step, observed(pool, step)) for step in steps]
    end = chance.choice(ENDS)
    getattr(pool, end)(*[None] * 3 * (end == "__exit__"))
    pool.join()
    seen.append((end, repr(pool).rpartition(".")[2]))  # the class is in another module
    for late in (partial(pool.map, identity, [1]), pool.__enter__, pool.join, pool.terminate):
        seen.append((f"{late} after {end}", outcome(late)))
    return seen


def compare(programs: int) -> None:
    """Compare what some programs see of both pools; the same programs in each run."""
    standard = multiprocessing.get_context("fork").Pool
    for seed in range(programs):
        expected = seen_by(standard, seed)
        for (step, ours), (_, theirs) in zip(seen_by(pool.Pool, seed), expected, strict=True):
            assert ours == theirs, f"program {seed}, {step}"


@pytest.mark.reference
def test_random_programs_see_the_same() -> None:
    compare(25)


@pytest.mark.reference
def test_outcomes_that_are_mixed_up_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = _outcomes.decode_many

    def mixed_up(stored: Any, count: int, layout: int) -> list[Any]:
        if layout != STREAM:
            return right(stored, count, layout)
        unpickler = pickle.Unpickler(io.BytesIO(stored))  # each goes on with the last one's memo
        return [unpickler.load() for _ in range(count)]

    monkeypatch.setattr(_outcomes, "decode_many", mixed_up)
    with pytest.raises(AssertionError, match="program"):
        compare(25)
