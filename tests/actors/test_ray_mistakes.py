"""What goes wrong in one task or one call is the error of that one; all others go on."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raytasks import Counter, double

import pool
from pool import exceptions
from pool._objects import _home


@pytest.fixture
def goes_on(ray: Any) -> Any:
    """Fail a test after which another actor of its runtime, or a task, does not answer."""
    counter = Counter.remote()
    assert ray.get(counter.add.remote()) == 1
    home = _home.found()
    yield
    assert ray.get([counter.add.remote(), double.remote(2)]) == [2, 4]
    assert _home.found() is home


async def fetch() -> None:
    """Do nothing."""


async def fetch_all() -> Any:
    yield 1


Act = Callable[[], object]

REFUSED: dict[str, tuple[Act, type[Exception], str]] = {
    "a name of a task": (lambda: double.options(name=5).remote(1), TypeError, "name=5"),
    "a name of an actor": (lambda: Counter.options(name=[1]).remote(), TypeError, r"name=\[1\]"),
    "an empty name": (lambda: Counter.options(name="").remote(), ValueError, "name=''"),
    "a namespace": (
        lambda: Counter.options(name="x", namespace=5).remote(), TypeError, "namespace=5"
    ),
    "an async function": (lambda: pool.remote(fetch), TypeError, "only methods of actors"),
    "an async generator": (lambda: pool.remote(fetch_all), TypeError, "only methods of actors"),
    "an actor class as a base": (
        lambda: types.new_class("Derived", (Counter,)), TypeError, "'Counter' cannot be a base"
    ),
    "a name that is no text": (lambda: pool.get_actor("a\udcff"), ValueError, "surrogates"),
    "a name to find": (lambda: pool.get_actor([1]), TypeError, r"name=\[1\]"),  # type: ignore[arg-type]  # that is the mistake
    "no number": (lambda: double.options(num_cpus=math.nan).remote(1), ValueError, "num_cpus=nan"),
    "infinity": (lambda: double.options(num_gpus=math.inf).remote(1), ValueError, "num_gpus=inf"),
    "no number of something": (
        lambda: double.options(resources={"x": math.nan}).remote(1), ValueError, "'x'.=nan"
    ),
    "a number for a name": (
        lambda: Counter.options(resources={5: 1}).remote(), TypeError, "names are strings"
    ),
    "a list of resources": (
        lambda: double.options(resources=["x"]).remote(1), TypeError, "a dict is expected"
    ),
    "text for a number": (
        lambda: double.options(num_cpus="1").remote(1), TypeError, "num_cpus='1'"
    ),
    "text for a count": (
        lambda: Counter.options(max_restarts="1").remote(), TypeError, "max_restarts='1'"
    ),
    "half a count": (
        lambda: double.options(max_retries=1.5).remote(1), TypeError, "max_retries=1.5"
    ),
    "too small a count": (
        lambda: double.options(max_retries=-2).remote(1), ValueError, "max_retries=-2"
    ),
    "an unknown number of values": (
        lambda: double.options(num_returns="many").remote(1), TypeError, "num_returns='many'"
    ),
    "a negative number of values": (
        lambda: double.options(num_returns=-1).remote(1), ValueError, "num_returns=-1"
    ),
    "a lifetime in seconds": (
        lambda: Counter.options(lifetime=60).remote(), TypeError, "lifetime=60"
    ),
    "an unknown lifetime": (
        lambda: Counter.options(lifetime="long").remote(), ValueError, "lifetime='long'"
    ),
    "a runtime environment that is text": (
        lambda: double.options(runtime_env="x").remote(1), TypeError, "runtime_env='x'"
    ),
    "no class": (lambda: double.options(retry_exceptions=[5]).remote(1), ValueError, "no class"),
    "a class alone": (
        lambda: double.options(retry_exceptions=ValueError).remote(1), TypeError, "a list"
    ),
}  # fmt: skip


@pytest.mark.parametrize("inside", [False, True], ids=["program", "task"])
@pytest.mark.parametrize("what", REFUSED)
def test_options_are_refused_where_they_are_given(
    ray: Any, goes_on: None, what: str, inside: bool
) -> None:
    act, kind, message = REFUSED[what]
    with pytest.raises(kind, match=message):
        if inside:
            ray.get(ray.remote(lambda: act()).remote())
        else:
            act()


@pytest.mark.parametrize(
    "given", [{"num_cpus": math.nan}, {"resources": {"x": math.inf}}, {"namespace": 5}]
)
def test_so_are_those_of_init(given: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(given))):
        pool.init(**given)
    assert not pool.is_initialized()


@pytest.mark.parametrize("value", [5, None])
def test_one_value_where_several_were_asked_for(ray: Any, goes_on: None, value: object) -> None:
    @ray.remote(num_returns=2)
    def single() -> object:
        return value

    @ray.remote
    class Single:
        def get(self) -> object:
            return value

    for refs in (single.remote(), Single.remote().get.options(num_returns=2).remote()):
        for ref in refs:
            with pytest.raises(TypeError, match="returned one (int|NoneType), and num_returns=2"):
                ray.get(ref)


def test_what_a_task_cannot_send_is_its_own_error(ray: Any, goes_on: None) -> None:
    def action() -> int:
        stuck = (n for n in ())
        attempts: list[Act] = [
            lambda: double.remote(stuck),
            lambda: pool.put([stuck]),
            lambda: Counter.remote(stuck),
            lambda: Counter.remote().add.remote(stuck),
        ]
        for attempt in attempts:
            with pytest.raises(TypeError, match="generator"):
                attempt()
        return int(pool.get(double.remote(4)))

    assert ray.get(ray.remote(action).remote()) == 8


def test_what_a_task_says_wrongly_is_its_own_error(
    ray: Any, goes_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(str(args.exc_value)))

    def action() -> int:
        home: Any = _home.current()
        names = [b"1" * 28, b"2" * 28]
        home._do("submit", names, 4711, None, None, None, promised=names)
        for ref in home._made(names):
            with pytest.raises(KeyError, match="4711"):
                pool.get(ref, timeout=30)
        home._do("stream call", b"3" * 28, None, "add", None, None, None, promised=[b"3" * 28])
        with pytest.raises(AttributeError):
            pool.get(home.stream_next(b"3" * 28, 0))
        assert home.stream_next(b"3" * 28, 1) is None
        for verb in ("find", "get", "wait", "create", "next", "cancel"):
            request = home._ask(3, None, verb, "nonsense")
            assert home.lead.wait(request.is_over, 30)
            assert [isinstance(error, Exception) for _, error in request.answers] == [True] * 3
        home._do("return", [(b"4" * 28, 1)])
        home._do("kill", "nonsense", True)
        return int(pool.get(double.remote(4)))

    assert ray.get(ray.remote(action).remote()) == 8
    assert told == ["'str' object has no attribute 'record'"]


class Mute(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("no text")


class Asked(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise ZeroDivisionError("not to be asked")


class Touchy(Exception, metaclass=Asked):
    pass


def test_errors_that_cannot_be_told(ray: Any, goes_on: None) -> None:
    @ray.remote
    class Refusing:
        def __init__(self, *args: Any) -> None:
            raise Mute

        def add(self) -> None:
            """Never called."""

    @ray.remote
    def fail() -> None:
        raise Mute

    for actor in (Refusing.remote(), Counter.remote(fail.remote())):
        with pytest.raises(exceptions.ActorDiedError, match="raised ZeroDivisionError"):
            ray.get(actor.add.remote())


def test_classes_that_cannot_be_asked_are_those_of_no_error(
    ray: Any, goes_on: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(str(args.exc_value)))

    @ray.remote(retry_exceptions=[Touchy])
    def fail(path: str) -> None:
        with open(path, "a") as file:
            file.write("x")
        raise KeyError

    with pytest.raises(KeyError):
        ray.get(fail.remote(str(tmp_path / "tries")))
    assert (tmp_path / "tries").read_text() == "x"
    assert told == ["not to be asked"]
