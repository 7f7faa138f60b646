"""Actor classes are still classes: their attributes, and what `inspect` and `isinstance` say."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
from rayprograms import run_program
from raytasks import Counter, Limits, double

import pool


def test_attributes_of_a_class_in_a_module(ray: Any) -> None:
    assert Limits.SIZE == 3
    assert Limits.helper(1) == 4
    assert Limits.title() == "Limits"
    limits = Limits.remote()
    assert ray.get([limits.count.remote() for _ in range(2)]) == [(1, 1, 1, 6), (2, 2, 2, 6)]
    assert ray.get(limits.is_one_of_its_own.remote())
    assert isinstance(ray.get(limits.itself.remote()), Limits)


def test_attributes_of_a_local_class(ray: Any) -> None:
    @ray.remote
    class Local:
        total = 0

        def count(self) -> Any:
            Local.total += 1
            return Local.total, self.total, type(self).total

    local = Local.remote()
    assert ray.get([local.count.remote() for _ in range(2)]) == [(1, 1, 1), (2, 2, 2)]
    assert Local.total == 0
    Local.total = 10
    assert ray.get(Local.remote().count.remote()) == (11, 11, 11)
    del Local.total
    with pytest.raises(AttributeError, match="total"):
        _ = Local.total


def test_attributes_of_a_class_of_the_main_program(tmp_path: Path) -> None:
    done = run_program(
        """
        import pool as ray

        @ray.remote
        class Cfg:
            SIZE = 3
            total = 0

            @staticmethod
            def helper(x):
                return x + Cfg.SIZE

            def count(self):
                Cfg.total += 1
                return Cfg.total, self.total, Cfg.helper(1)

        @ray.remote
        def task():
            return Cfg.SIZE, Cfg.helper(2)

        cfg = Cfg.remote()
        print(ray.get([cfg.count.remote(), cfg.count.remote(), task.remote()]))
        """,
        tmp_path,
    )
    assert done.stdout == "[(1, 1, 4), (2, 2, 4), (3, 5)]\n", done


def test_an_actor_class_describes_itself_as_its_class_does() -> None:
    kind = Limits.__ray_actor_class__
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(Limits, name) == getattr(kind, name)
    assert inspect.signature(Limits) == inspect.signature(kind)
    assert "SIZE" in inspect.getsource(Limits)
    assert "helper" in dir(Limits)
    assert isinstance(kind(), Limits) and not isinstance(3, Limits)
    assert issubclass(kind, Limits)
    assert Limits.__ray_metadata__.modified_class is kind
    assert isinstance(Limits, pool.actor.ActorClass)
    assert copy.copy(Limits).SIZE == 3
    with pytest.raises(AttributeError, match="nothing"):
        _ = Limits.nothing


def test_names_that_are_also_ours(ray: Any) -> None:
    @ray.remote
    class Odd:
        _kind = "mine"
        _code = 7

        def both(self) -> Any:
            return Odd._kind, Odd._code

    assert (Odd._kind, Odd._code) == ("mine", 7)
    assert ray.get(Odd.remote().both.remote()) == ("mine", 7)


# ---------------------------------------------------------------------- arguments that do not fit


@pool.remote
def call_badly(counter: Any) -> str:
    try:
        counter.add.remote(1, 2)
    except TypeError as error:
        return str(error)
    return "taken"


def test_arguments_that_do_not_fit_are_refused_where_they_are_given(ray: Any) -> None:
    with pytest.raises(TypeError, match=r"double\(\): missing a required argument: 'x'"):
        double.remote()
    with pytest.raises(TypeError, match="too many positional arguments"):
        double.options(num_cpus=1).remote(1, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        double.remote(1, y=2)
    with pytest.raises(TypeError, match=r"Counter\(\): too many positional arguments"):
        Counter.remote(1, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'stop'"):
        Counter.options(num_cpus=0).remote(stop=1)
    counter = Counter.remote(start=1)
    with pytest.raises(TypeError, match=r"Counter\.add\(\): too many positional arguments"):
        counter.add.remote(1, 2)
    with pytest.raises(TypeError, match="missing a required argument: 'message'"):
        counter.fail.options(num_returns=1).remote()
    assert "too many" in ray.get(call_badly.remote(counter))
    assert ray.get(counter.add.remote(number=2)) == 3


def test_a_function_whose_code_was_replaced(ray: Any) -> None:
    def before(x: int) -> int:
        return x

    def after(x: int, y: int) -> int:
        return x + y

    add = ray.remote(before)
    with pytest.raises(TypeError, match="too many"):
        add.remote(1, 2)
    before.__code__ = after.__code__
    assert ray.get(add.remote(1, 2)) == 3


def test_a_method_that_was_replaced(ray: Any) -> None:
    @ray.remote
    class Kind:
        def method(self, x: int) -> int:
            return x

    Kind.method = lambda self, x, y: x + y
    assert ray.get(Kind.remote().method.remote(1, 2)) == 3
