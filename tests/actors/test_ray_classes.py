"""Actor classes are still classes: their attributes, and what `inspect` and `isinstance` say."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
from rayprograms import run_program
from raytasks import Limits

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
