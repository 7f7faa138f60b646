"""What is said of arguments that cannot be meant: which one it was, what it was, what it may be."""

from __future__ import annotations

import datetime
import sys
import time
from typing import Any

import pytest

from pool import Pool
from pool._faces._options import count_of, options


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"processes": "2"}, TypeError, "processes must be an int, not '2'"),
        ({"processes": 1.5}, TypeError, "processes must be an int, not 1.5"),
        ({"processes": -1}, ValueError, "Number of processes must be at least 1, not -1"),
        ({"initializer": "load"}, TypeError, "initializer must be a callable, not 'load'"),
        (
            {"initargs": 5},
            TypeError,
            "initargs must be an iterable of arguments, such as (x,), not 5",
        ),
        (
            {"maxtasksperchild": 0},
            ValueError,
            "maxtasksperchild must be a positive int or None, not 0",
        ),
        ({"blas_threads": "all"}, TypeError, "blas_threads must be an int, not 'all'"),
        ({"blas_threads": 0}, ValueError, "blas_threads must be at least 1, not 0"),
    ],
)
def test_of_a_pool(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        Pool(**{"processes": 1} | arguments)
    assert str(caught.value) == message


def test_error_of_an_iterable_of_arguments_is_its_own() -> None:
    def arguments() -> Any:
        yield 1
        raise TypeError("of the program")

    with pytest.raises(TypeError, match="^of the program$"):
        Pool(1, print, arguments())


@pytest.mark.parametrize("timeout", ["5", datetime.timedelta(seconds=5)])
def test_of_a_call(timeout: Any) -> None:
    with pytest.raises(TypeError) as caught:
        options({"timeout": timeout})
    assert str(caught.value) == f"timeout must be a number of seconds, not {timeout!r}"


@pytest.mark.parametrize("given", [None, "2", 1.5])
def test_chunk_sizes(given: Any) -> None:
    with pytest.raises(TypeError) as caught:
        count_of(given, "chunksize", "Chunksize must be 1+")
    assert str(caught.value) == f"chunksize must be an int, not {given!r}"


def test_waiting() -> None:
    with Pool(1) as p:
        result: Any = p.apply_async(time.sleep, (600,))
        iterator: Any = p.imap(time.sleep, [600])
        for wait in (result.get, result.wait, iterator.next):
            with pytest.raises(TypeError) as caught:
                wait("5")
            text = "timeout must be a number of seconds or None, not '5'"
            assert str(caught.value) == text


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("chunk_size", "; did you mean 'chunksize'?"),
        ("time_out", "; did you mean 'timeout'?"),
        ("return_exception", "; did you mean 'return_exceptions'?"),
        ("workers", ""),
        ("chunksize", ""),  # of `apply`, which has none
    ],
)
def test_options_that_are_misspelt(given: str, meant: str) -> None:
    with pytest.raises(TypeError) as caught:
        options({given: 1})
    assert str(caught.value).startswith(
        f"unexpected keyword argument {given!r}{meant}; beyond the standard's there are timeout, "
    )


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_engines_whose_packages_are_not_there(
    engine: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"pool._cluster._{engine}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"pip install 'actorpool\[{engine}\]'"
    ) as caught:
        Pool(1, engine=engine)
    assert caught.value.name == package
