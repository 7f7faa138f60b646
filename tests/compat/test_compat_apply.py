"""Check `apply` and `apply_async` on the standard pool and on ours."""

from __future__ import annotations

import functools
import math
import operator
import time
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE
from pooltasks import add, describe, divide, identity, square

if TYPE_CHECKING:
    from collections.abc import Callable


class Scaler:
    """Something with a bound method."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def scale(self, x: int) -> int:
        """Multiply by the factor."""
        return self.factor * x

    def __call__(self, x: int) -> int:
        return self.scale(x) + 1

    @staticmethod
    def negate(x: int) -> int:
        """Return the opposite."""
        return -x

    @classmethod
    def double(cls, x: int) -> int:
        """Use a fresh instance."""
        return cls(2).scale(x)


@pytest.mark.every_method
def test_apply_returns_the_value(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    assert pool.apply(square, (5,)) == 25
    assert pool.apply(square) == 9
    assert pool.apply(square, (), {"x": 4}) == 16
    assert pool.apply(add, (1,), {"b": 2}) == 3
    assert pool.apply(func=add, args=[1], kwds={"b": 5}) == 6


def test_arguments_arrive_as_they_are(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    args = (1, "two", b"three", None, [4.5, {"k": (1, 2)}], {7, 8}, frozenset("ab"), 1 + 2j)
    assert pool.apply(describe, args, {"z": [], "a": ...}) == (args, {"z": [], "a": ...})
    got, kwargs = pool.apply(describe, args)
    assert [type(value) for value in got] == [type(value) for value in args]
    assert kwargs == {}


@pytest.mark.parametrize("args", [(7,), [7], iter((7,)), range(7, 8), {7: "seven"}], ids=type)
def test_args_may_be_any_iterable_that_can_be_sent(
    make_pool: Callable[..., Any], args: Any
) -> None:
    assert make_pool(1).apply(identity, args) == 7


@pytest.mark.parametrize(
    ("function", "argument", "expected"),
    [
        (Scaler(3).scale, 5, 15),
        (Scaler(3), 5, 16),
        (Scaler.negate, 5, -5),
        (Scaler.double, 5, 10),
        (functools.partial(add, 100), 5, 105),
        (operator.itemgetter(1), "ab", "b"),
        (operator.methodcaller("upper"), "ab", "AB"),
        (math.sqrt, 81, 9.0),
        ("-".join, ["a", "b"], "a-b"),
        (int, "12", 12),
        ([5, 6, 7].index, 6, 1),
    ],
    ids=[
        "method", "callable", "static method", "class method", "partial", "itemgetter",
        "methodcaller", "function in C", "method of a str", "class", "method of a list",
    ],
)  # fmt: skip
def test_callables_of_every_kind(
    make_pool: Callable[..., Any], function: Any, argument: Any, expected: Any
) -> None:
    pool = make_pool(1)
    assert pool.apply(function, (argument,)) == expected
    assert pool.map(function, [argument] * 3) == [expected] * 3
    assert list(pool.imap(function, [argument] * 3)) == [expected] * 3


def test_apply_raises_what_the_task_raised(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        pool.apply(divide, (1, 0))
    assert pool.apply(divide, (1, 2)) == 0.5


def test_wrong_arguments_are_the_task_s_error(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    with pytest.raises(TypeError, match="argument"):
        pool.apply(divide, (1,))
    with pytest.raises(TypeError, match="not callable"):
        pool.apply(5, (1,))
    with pytest.raises(TypeError):
        pool.apply_async(divide, 5).get(PATIENCE)


@pytest.mark.parametrize(
    ("args", "kwds", "text"),
    [
        (5, {}, "after \\* must be an iterable, not int"),
        ((), [("a", 1)], "after \\*\\* must be a mapping, not list"),
        ((), divide, "after \\*\\* must be a mapping, not function"),
    ],
    ids=["args", "pairs", "callback"],
)
def test_arguments_that_are_none_are_the_call_s_error(
    make_pool: Callable[..., Any], args: Any, kwds: Any, text: str
) -> None:
    pool = make_pool(1)
    with pytest.raises(TypeError, match=text):
        pool.apply(divide, args, kwds)
    failed: list[BaseException] = []
    result = pool.apply_async(divide, args, kwds, error_callback=failed.append)
    with pytest.raises(TypeError, match=text):
        result.get(PATIENCE)
    assert [type(error) for error in failed] == [TypeError]


def test_apply_async_returns_at_once_and_keeps_all_results(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    results = [pool.apply_async(add, (n,), {"b": n}) for n in range(200)]
    assert [result.get(PATIENCE) for result in results] == [2 * n for n in range(200)]


def test_results_can_be_taken_in_any_order(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    results = [pool.apply_async(square, (n,)) for n in range(50)]
    assert [result.get(PATIENCE) for result in reversed(results)] == [
        n * n for n in reversed(range(50))
    ]


@pytest.mark.every_method
def test_large_arguments_and_results(make_pool: Callable[..., Any]) -> None:
    block = bytes(range(256)) * 4096 * 4
    pool = make_pool(2)
    assert pool.apply(identity, (block,)) == block
    assert pool.map(len, [block, block, block[:10]]) == [len(block), len(block), 10]
    assert pool.map(identity, [bytearray(block)]) == [block]


def test_results_belong_to_the_caller(make_pool: Callable[..., Any]) -> None:
    original = {"a": [1, 2]}
    result = make_pool(1).apply(identity, (original,))
    assert result == original
    assert result is not original
    result["a"].append(3)
    assert original == {"a": [1, 2]}


_begun: list[Any] = []


def begin_first(number: int) -> int:
    _begun.append(number)
    return len(_begun)


def begin_second(number: int) -> int:
    return begin_first(number)


def begin_item(items: list[int]) -> int:
    return begin_first(items[0])


def begin_slowly(number: int) -> int:
    if number % 7 == 0:
        time.sleep(0.02)
    return begin_first(number)


@pytest.mark.parametrize(
    "funcs",
    [
        (begin_first, begin_second),
        (begin_first, begin_item),
        (begin_second, begin_item, begin_slowly),
        (begin_first, begin_slowly, "map"),
    ],
    ids=["functions", "arguments", "slow", "maps"],
)
def test_calls_of_one_worker_run_in_the_order_of_their_submission(
    make_pool: Callable[..., Any], funcs: tuple[Any, ...]
) -> None:
    pool = make_pool(1)
    results = []
    for number in range(60):
        func = funcs[number % len(funcs)]
        if func == "map":
            results.append(pool.map_async(begin_first, [number]))
        else:
            argument = [number] if func is begin_item else number
            results.append(pool.apply_async(func, (argument,)))
    places = [result.get(PATIENCE) for result in results]
    places = [place[0] if isinstance(place, list) else place for place in places]
    assert places == list(range(places[0], places[0] + 60))
