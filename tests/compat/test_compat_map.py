"""Check `map`, `starmap` and their async forms on the standard pool and on ours."""

from __future__ import annotations

import functools
import itertools
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE
from pooltasks import (
    add,
    append_length,
    append_length_star,
    divide_by,
    fail_at_three,
    identity,
    log_then_fail_at_zero,
    number_or_all,
    pid,
    square,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STANDARD_FAILS = {
    "test_input_with_a_length_that_breaks_off": "waits for ever for the chunks that never come",
}

MAPS = ["map", "map_async", "imap"]


def run_map(pool: Any, method: str, *args: Any, **kwargs: Any) -> list[Any]:
    """Call a method of the map family and return its results as a list."""
    result = getattr(pool, method)(*args, **kwargs)
    if method.endswith("_async"):
        result = result.get(PATIENCE)
    return list(result)


class Lengthy:
    """An iterable with a length and nothing else."""

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


class BreaksOff:
    """An iterable that fails after some items, with or without a length."""

    def __init__(self, good: int) -> None:
        self.good = good

    def __iter__(self) -> Iterator[int]:
        yield from range(self.good)
        raise LookupError("input broke off")


class BreaksOffWithLength(BreaksOff):
    """The same, with a length that promises more."""

    def __len__(self) -> int:
        return 20


@pytest.mark.every_method
def test_map_keeps_the_order(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    expected = [n * n for n in range(100)]
    assert pool.map(square, range(100)) == expected
    assert pool.map(square, list(range(100)), 20) == expected
    assert pool.map(func=square, iterable=range(100), chunksize=1) == expected
    assert pool.map_async(square, range(100)).get() == expected
    assert pool.starmap(add, zip(range(100), range(100), strict=True)) == [
        2 * n for n in range(100)
    ]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 3, 7, 99, 100, 101, 10_000])
@pytest.mark.parametrize("length", [0, 1, 2, 100])
def test_any_chunksize_gives_the_same(
    make_pool: Callable[..., Any], length: int, chunksize: int | None
) -> None:
    pool = make_pool(2)
    expected = [n * n for n in range(length)]
    assert pool.map(square, range(length), chunksize) == expected
    assert pool.map_async(square, range(length), chunksize=chunksize).get(PATIENCE) == expected
    pairs = [(n, n) for n in range(length)]
    doubled = [2 * n for n in range(length)]
    assert pool.starmap(add, pairs, chunksize) == doubled
    assert pool.starmap_async(add, pairs, chunksize=chunksize).get(PATIENCE) == doubled


@pytest.mark.parametrize(
    "iterable",
    [
        range(3, 9, 2),
        [1, 2, 3],
        (1, 2, 3),
        {1, 2, 3},
        {"a": 1, "b": 2},
        {"a": 1, "b": 2}.items(),
        "text",
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        Lengthy(),
        range(0),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("method", MAPS)
def test_inputs_of_every_kind(make_pool: Callable[..., Any], method: str, iterable: Any) -> None:
    assert run_map(make_pool(2), method, identity, iterable) == list(iterable)


@pytest.mark.parametrize("chunksize", [2, 3, 50])
@pytest.mark.parametrize("method", MAPS)
def test_tuples_in_chunks(make_pool: Callable[..., Any], method: str, chunksize: int) -> None:
    pool = make_pool(2)
    # The last ones are pickles themselves: those of a program are values like any others.
    for items in (tuple(range(1000)), ("text", None) * 500, (pickle.dumps((1, 2)), b"") * 500):
        assert run_map(pool, method, identity, items, chunksize) == list(items)
    assert run_map(pool, method, identity, tuple(range(1000))) == list(range(1000))


@pytest.mark.parametrize("method", MAPS)
def test_generators_are_consumed_once(make_pool: Callable[..., Any], method: str) -> None:
    seen = []

    def items() -> Iterator[int]:
        for n in range(30):
            seen.append(n)
            yield n

    assert run_map(make_pool(2), method, square, items()) == [n * n for n in range(30)]
    assert seen == list(range(30))


@pytest.mark.parametrize("method", MAPS)
def test_iterators_without_length(make_pool: Callable[..., Any], method: str) -> None:
    source = itertools.islice(itertools.count(), 25)
    assert run_map(make_pool(2), method, square, source) == [n * n for n in range(25)]


@pytest.mark.every_method
def test_a_function_that_is_not_called_need_not_be_pickled(make_pool: Callable[..., Any]) -> None:
    unpicklable = (n for n in range(3)).__next__
    assert make_pool(1).map(unpicklable, []) == []


@pytest.mark.parametrize("empty", [[], (), {}, "", iter(()), range(0)], ids=type)
def test_empty_inputs(make_pool: Callable[..., Any], empty: Any) -> None:
    pool = make_pool(1)
    assert pool.map(square, empty) == []
    assert pool.starmap(add, empty) == []
    assert pool.map_async(square, empty).get(PATIENCE) == []
    assert pool.starmap_async(add, empty).get(PATIENCE) == []
    assert pool.map(square, empty, chunksize=5) == []
    assert pool.map(square, empty, chunksize=0) == []  # what `len(items) // 8` is then
    result = pool.map_async(square, empty)
    result.wait(PATIENCE)
    assert result.ready()
    assert result.successful()


def test_starmap_unpacks_any_sequence(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    assert pool.starmap(add, [(1, 2), [3, 4], "ab", (5,), range(2)]) == [3, 7, "ab", 15, 1]
    assert pool.starmap(add, ((n, 1) for n in range(5))) == [1, 2, 3, 4, 5]
    assert pool.starmap(square, [()] * 3) == [9] * 3
    assert pool.starmap_async(add, [(1, 2)] * 9, 4).get(PATIENCE) == [3] * 9


@pytest.mark.parametrize("method", ["starmap", "starmap_async"])
def test_starmap_of_what_cannot_be_unpacked(make_pool: Callable[..., Any], method: str) -> None:
    pool = make_pool(1)
    with pytest.raises(TypeError, match="not iterable|must be an iterable"):
        run_map(pool, method, add, [(1, 2), 3])
    with pytest.raises(TypeError, match="positional argument"):
        run_map(pool, method, add, [(1, 2, 3)])


@pytest.mark.parametrize("source", [5, None, square], ids=["int", "None", "function"])
def test_what_is_not_iterable_is_refused(make_pool: Callable[..., Any], source: Any) -> None:
    pool = make_pool(1)
    with pytest.raises(TypeError, match="not iterable"):
        pool.map(square, source)
    with pytest.raises(TypeError, match="not iterable"):
        pool.starmap(square, source)
    assert pool.map(square, [2]) == [4]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("method", ["map", "map_async"])
def test_one_failing_item_fails_the_map(
    make_pool: Callable[..., Any], method: str, chunksize: int | None
) -> None:
    pool = make_pool(2)
    with pytest.raises(KeyError, match="three"):
        run_map(pool, method, fail_at_three, range(10), chunksize=chunksize)
    assert run_map(pool, method, fail_at_three, [1, 2], chunksize=chunksize) == [1, 2]


def test_a_failure_does_not_stop_the_other_chunks(
    make_pool: Callable[..., Any], tmp_path: Path
) -> None:
    log = tmp_path / "ran"
    task = functools.partial(log_then_fail_at_zero, str(log))
    with pytest.raises(ValueError, match="zero"):
        make_pool(2).map(task, range(12), chunksize=3)
    # The rest of the failing chunk is not run; everything else is.
    assert sorted(map(int, log.read_text().split())) == [0, *range(3, 12)]


def check_broken_input(pool: Any, source: BreaksOff) -> None:
    """Map over an input that breaks off: its error comes out, unwrapped, and the pool goes on."""
    with pytest.raises(LookupError, match="broke off") as caught:
        pool.map(square, source, 2)
    # It was not raised in a worker, and does not say so.
    assert caught.value.__cause__ is None
    assert pool.map(square, [3]) == [9]


@pytest.mark.parametrize("good", [0, 3, 10])
def test_input_that_breaks_off(make_pool: Callable[..., Any], good: int) -> None:
    check_broken_input(make_pool(2), BreaksOff(good))


@pytest.mark.parametrize("good", [0, 3, 10])
def test_input_with_a_length_that_breaks_off(make_pool: Callable[..., Any], good: int) -> None:
    check_broken_input(make_pool(2), BreaksOffWithLength(good))


@pytest.mark.every_method
def test_items_of_a_chunk_run_in_one_process(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    for method in ("map", "imap"):
        pids = list(getattr(pool, method)(pid, range(40), 10))
        assert [len(set(pids[n : n + 10])) for n in range(0, 40, 10)] == [1, 1, 1, 1]


@pytest.mark.parametrize("method", MAPS)
def test_a_chunk_shares_what_its_items_share(make_pool: Callable[..., Any], method: str) -> None:
    pool = make_pool(2)
    shared: list[int] = []
    lengths = run_map(pool, method, append_length, [shared] * 7, chunksize=3)
    assert lengths == [1, 2, 3, 1, 2, 3, 1]
    assert shared == []
    assert run_map(pool, method, append_length, [shared] * 4, chunksize=1) == [1] * 4


def test_starmap_chunks_share_what_their_items_share(make_pool: Callable[..., Any]) -> None:
    shared: list[int] = []
    pairs = [(shared, n) for n in range(5)]
    assert make_pool(2).starmap(append_length_star, pairs, 2) == [1, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("processes", "length", "expected"),
    [(2, 16, [1, 2] * 8), (2, 17, [1, 2, 3] * 5 + [1, 2]), (1, 8, [1, 2] * 4), (3, 12, [1] * 12)],
)
def test_default_chunksize_is_a_quarter_of_a_share(
    make_pool: Callable[..., Any], processes: int, length: int, expected: list[int]
) -> None:
    shared: list[int] = []
    assert make_pool(processes).map(append_length, [shared] * length) == expected


class Body:
    """A part of a world, which it knows."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.world: World | None = None


class World:
    """Has parts that are told apart by what they are, and methods that are mapped over them."""

    def __init__(self) -> None:
        self.bodies = [Body(place) for place in range(5)]
        self.lists = [[0] for _ in range(5)]
        self.seen = 0
        for body in self.bodies:
            body.world = self

    def others(self, body: Body) -> list[int]:
        return [other.place for other in self.bodies if other is not body]

    def pair(self, one: Body, other: Body) -> tuple[int, int]:
        return self.bodies.index(one), self.bodies.index(other)

    def look(self, body: Any) -> tuple[bool, int]:
        self.seen += 1
        return body.world is self, body.world.seen


def which(lists: list[list[int]], item: list[int]) -> list[int]:
    return [number for number, other in enumerate(lists) if other is item]


@pytest.mark.parametrize("chunksize", [1, 2, 7])
@pytest.mark.parametrize("method", MAPS)
def test_items_are_the_parts_of_the_function_that_they_are(
    make_pool: Callable[..., Any], method: str, chunksize: int
) -> None:
    pool, world = make_pool(2), World()
    bodies = world.bodies
    others = [[place for place in range(5) if place != body.place] for body in bodies]
    assert run_map(pool, method, world.others, bodies, chunksize) == others
    assert run_map(pool, method, world.others, iter(bodies), chunksize) == others
    pairs = list(itertools.permutations(bodies, 2))
    assert pool.starmap(world.pair, pairs, chunksize) == list(itertools.permutations(range(5), 2))
    seen = [(True, number % chunksize + 1) for number in range(5)]
    assert run_map(pool, method, world.look, bodies, chunksize) == seen
    found = run_map(pool, method, functools.partial(which, world.lists), world.lists, chunksize)
    assert found == [[number] for number in range(5)]
    assert world.seen == 0


def test_results_of_a_chunk_share_what_they_share(make_pool: Callable[..., Any]) -> None:
    shared = [1]
    results = make_pool(2).map(identity, [shared] * 4, 2)
    assert results == [[1]] * 4
    assert results[0] is results[1]
    assert results[2] is results[3]
    assert results[0] is not results[2]
    assert results[0] is not shared


def twice(number: int) -> list[str]:
    """Return a list that holds one object twice, so that its pickle refers to itself."""
    text = f"text {number}"
    return [text, text]


@pytest.mark.parametrize("chunksize", [1, 2, 3])
@pytest.mark.parametrize("method", MAPS)
def test_results_that_hold_an_object_twice(
    make_pool: Callable[..., Any], method: str, chunksize: int
) -> None:
    pool = make_pool(2)
    for _ in range(3):
        assert run_map(pool, method, twice, range(100), chunksize) == [*map(twice, range(100))]
    results = [pool.apply_async(twice, (number,)) for number in range(100)]
    assert [result.get(PATIENCE) for result in results] == [*map(twice, range(100))]


LONG = 50_000  # a chunk of many parts


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize(
    "function", [square, float, str, bool], ids=lambda function: function.__name__
)
def test_long_chunks(make_pool: Callable[..., Any], method: str, function: Any) -> None:
    results = run_map(make_pool(2), method, function, range(3 * LONG), chunksize=LONG)
    expected = list(map(function, range(3 * LONG)))
    assert results == expected
    assert set(map(type, results)) == set(map(type, expected))


def test_long_chunks_of_arguments(make_pool: Callable[..., Any]) -> None:
    pairs = [(number, 1) for number in range(2 * LONG)]
    assert make_pool(2).starmap(add, pairs, LONG) == list(range(1, 2 * LONG + 1))


def test_a_long_chunk_whose_values_become_one_object(make_pool: Callable[..., Any]) -> None:
    results = make_pool(1).map(number_or_all, range(LONG), LONG)
    half = LONG // 2
    assert results[:half] == list(range(half))
    assert all(value is results[-1] for value in results[half:])
    # It was pickled when the chunk was complete.
    assert results[-1] == list(range(half, LONG))


def test_a_long_chunk_that_fails_late(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    result = pool.map_async(divide_by, range(LONG, -LONG, -1), LONG)
    with pytest.raises(ZeroDivisionError):
        result.get(PATIENCE)
    assert pool.map(square, range(LONG), LONG) == [n * n for n in range(LONG)]


def test_many_maps_at_once(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    jobs = [pool.map_async(square, range(n)) for n in range(40)]
    streams = [pool.imap(square, range(n)) for n in range(10)]
    assert [job.get(PATIENCE) for job in jobs] == [[k * k for k in range(n)] for n in range(40)]
    assert [list(stream) for stream in streams] == [[k * k for k in range(n)] for n in range(10)]
