"""What a call is refused for, compared with the call itself and the words of `inspect`."""

from __future__ import annotations

import functools
import inspect
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from pool._ray._signatures import (
    ANYTHING,
    NOTHING,
    Signature,
    signature_of,
    signature_of_class,
    signature_of_method,
)


def plain(a: int, b: int = 1) -> None: ...
def only(a: int, b: int = 1, /) -> None: ...
def mixed(a: int, /, b: int, c: int = 2, *, d: int, e: int = 3) -> None: ...
def keywords(*, d: int = 1) -> None: ...
def anything(*a: int, **b: int) -> None: ...
def named(a: int, /, **b: int) -> None: ...
def many(a: int, *b: int, d: int) -> None: ...
def none() -> None: ...


class Kind:
    def __init__(self, a: int, *, d: int = 1) -> None: ...
    def method(self, a: int, b: int = 1) -> None: ...
    @staticmethod
    def static(a: int) -> None: ...
    @classmethod
    def of_class(cls, a: int) -> None: ...
    def starred(*args: int) -> None: ...


CALLS = [
    (args, dict.fromkeys(names, 0))
    for args in itertools.accumulate([()] + [(0,)] * 4)
    for number in range(4)
    for names in itertools.combinations("abcde", number)
]
KIND = Kind(1)


@pytest.mark.parametrize(
    ("found", "like"),
    [
        *((signature_of(f), f) for f in (plain, only, mixed, keywords, anything)),
        *((signature_of(f), f) for f in (named, many, none)),
        *(
            (signature_of_method(vars(Kind)[name]), getattr(KIND, name))
            for name in ("method", "static", "of_class", "starred")
        ),
        (signature_of_class(Kind), Kind),
    ],
)
def test_the_same_is_refused_as_by_a_call(found: Signature, like: Callable[..., Any]) -> None:
    signature = inspect.signature(like)
    found = pickle.loads(pickle.dumps(found))
    for args, kwargs in CALLS:
        expected = ""
        try:
            like(*args, **kwargs)
        except TypeError as error:
            expected = str(error)
        problem = found.problem(args, kwargs)
        assert bool(problem) == bool(expected), (args, kwargs, problem, expected)
        if not kwargs:
            if problem:
                with pytest.raises(TypeError) as caught:
                    signature.bind(*args)
                assert str(caught.value).replace("keyword-only ", "") == problem
            assert (not problem) == (found.least <= len(args) <= found.most)


def test_words() -> None:
    found = signature_of(mixed)
    assert found.problem((1, 2), {}) == "missing a required argument: 'd'"
    assert found.problem((1, 2), {"b": 1, "d": 1}) == "multiple values for argument 'b'"
    assert "positional only" in found.problem((), {"a": 1, "b": 1, "d": 1})
    assert found.problem((1, 2), {"d": 1, "x": 1}) == "got an unexpected keyword argument 'x'"


def test_of_what_nothing_is_known_nothing_is_refused() -> None:
    class Meta(type):
        def __call__(cls, *args: Any) -> Any:
            return super().__call__()

    class Made(metaclass=Meta): ...

    class New:
        def __new__(cls, a: int) -> New:
            return super().__new__(cls)

    @functools.wraps(plain)
    def wrapper(*args: Any) -> None: ...

    for found in (signature_of(abs), signature_of(functools.partial(plain, 1)), ANYTHING):
        assert not found.problem((1, 2, 3), {"x": 1})
    assert not signature_of(wrapper).problem((1, 2, 3), {})
    assert not signature_of_class(Made).problem((1, 2), {})
    assert not signature_of_class(dict).problem((), {"x": 1})
    assert not signature_of_class(New).problem((1,), {})
    assert signature_of_class(New).problem((), {})
    assert NOTHING.problem((1,), {}) and signature_of_class(object).problem((1,), {})
