"""Handles that an actor has of itself, when nobody else has one any more."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rayprograms import ended
from raytasks import Counter, double

import pool
from pool import exceptions
from pool._objects import _home


def itself() -> Any:
    return pool.get_runtime_context().current_actor


@pool.remote
class Ticker:
    """Call itself; tell its pid when it is done."""

    def tick(self, path: str, left: int) -> None:
        if left:
            itself().tick.remote(path, left - 1)
        else:
            Path(path).write_text(str(os.getpid()))


@pool.remote
class Circle:
    """Hand out itself in every way."""

    def __init__(self, keeper: Any = None) -> None:
        if keeper is not None:
            pool.get(keeper.keep.remote([itself()]))

    def me(self) -> list[Any]:
        return [itself()]

    def pid(self) -> int:
        return os.getpid()

    def end(self, gate: str) -> None:
        pool.kill(itself())
        with open(gate):
            """Nobody ever writes to it."""

    def hold(self, gate: str) -> str:
        with open(gate) as file:
            return file.read()


@pool.remote
class AsyncCircle:
    async def inner(self) -> int:
        return os.getpid()

    async def outer(self) -> list[int]:
        return [os.getpid(), await itself().inner.remote()]


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


def test_actor_that_calls_itself_goes_on_until_it_does_not(ray: Any, fifo: str) -> None:
    counter = Counter.remote()
    for _ in range(5):
        Ticker.remote().tick.remote(fifo, 3)
        assert ended(int(Path(fifo).read_text()))
    assert ray.get([counter.add.remote(), double.remote(2)]) == [1, 4]


def test_actor_that_returns_itself_lives_on(ray: Any) -> None:
    (circle,) = ray.get(Circle.remote().me.remote())
    pid = ray.get(circle.pid.remote())
    del circle
    assert ended(pid)


def test_actor_that_gives_itself_away_in_its_constructor(ray: Any) -> None:
    keeper = Counter.remote()
    ray.get(keeper.keep.remote([]))
    Circle.remote(keeper)
    while not (kept := ray.get(keeper.first_of_kept.remote(1))):
        continue  # its constructor has not come to it yet
    pid = ray.get(kept.pop().pid.remote())
    ray.get(keeper.keep.remote([]))
    assert ended(pid)


def test_actor_that_ends_itself(ray: Any, fifo: str) -> None:
    counter = Counter.remote()
    ref = Circle.remote().end.remote(fifo)
    with pytest.raises(exceptions.ActorDiedError, match="kill"):
        ray.get(ref)
    assert ray.get(counter.add.remote()) == 1


def test_async_actor_that_waits_for_itself(ray: Any) -> None:
    ref = AsyncCircle.options(max_concurrency=2).remote().outer.remote()
    pid, same = ray.get(ref)
    assert pid == same and ended(pid)


def test_detached_actor_that_calls_itself(ray: Any) -> None:
    circle = AsyncCircle.options(name="circle", lifetime="detached").remote()
    pid, same = ray.get(circle.outer.remote())
    assert pid == same
    ray.kill(circle)
    assert ended(pid)


def test_named_actor_is_found_as_long_as_it_works(ray: Any, fifo: str) -> None:
    ref = Circle.options(name="busy").remote().hold.remote(fifo)
    with open(fifo, "w") as gate:
        found = ray.get_actor("busy")
        pid = found.pid.remote()
        same = Circle.options(name="busy", get_if_exists=True).remote()
        assert same == found
        with pytest.raises(ValueError, match="exists already"):
            Circle.options(name="busy").remote()
        del found, same
        gate.write("through")
    assert ray.get(ref) == "through"
    assert ended(ray.get(pid))
    with pytest.raises(ValueError, match="no actor"):
        ray.get_actor("busy")
    assert ray.get(Circle.options(name="busy").remote().pid.remote()) != ray.get(pid)


@pool.remote
class Leaving:
    """Take its time to end."""

    def until(self, fifo: str) -> None:
        self.fifo = fifo

    def __ray_shutdown__(self) -> None:
        with open(self.fifo) as gate:
            gate.read()


def test_named_actor_that_ends_is_not_listed(ray: Any, fifo: str) -> None:
    actor = Leaving.options(name="leaving").remote()
    ray.get(actor.until.remote(fifo))
    assert ray.util.list_named_actors() == ["leaving"]
    del actor
    with open(fifo, "w"):
        with pytest.raises(ValueError, match="no actor"):
            ray.get_actor("leaving")
        assert ray.util.list_named_actors() == []


def test_runtime_that_was_shut_down_is_let_go_with_its_actors(ray: Any) -> None:
    runtime = weakref.ref(_home.found())
    one = Counter.remote()
    ray.get(one.keep.remote([one]))
    del one
    ray.shutdown()
    gc.collect()
    assert runtime() is None


@pool.remote
class Maker:
    """Make another actor, and hand it out."""

    def make(self) -> list[Any]:
        made = Circle.remote()
        return [made, pool.get(made.pid.remote())]

    def fail(self) -> None:
        raise ValueError(self.make()[1])


@pool.remote
class AsyncMaker:
    async def make(self) -> list[Any]:
        made = Circle.remote()
        return [made, await made.pid.remote()]


@pool.remote
def make() -> list[Any]:
    made = Circle.remote()
    return [made, pool.get(made.pid.remote())]


@pool.remote
def make_some() -> Any:
    for _ in range(2):
        yield pool.get(make.remote())


@pool.remote
def fail_after_making() -> None:
    made = Circle.remote()
    raise ValueError(pool.get(made.pid.remote()))


def test_handles_that_were_handed_out_keep_nothing_in_those_who_did(ray: Any) -> None:
    maker, threaded = Maker.remote(), Maker.options(max_concurrency=2).remote()
    loop = AsyncMaker.remote()
    ways: list[Callable[[], Any]] = [
        make.remote,
        lambda: next(make_some.remote()),
        maker.make.remote,
        threaded.make.remote,
        loop.make.remote,
    ]
    for way in ways:
        made, pid = ray.get(way())
        assert ray.get(made.pid.remote()) == pid
        del made
        assert ended(pid)
    for ref in (fail_after_making.remote(), maker.fail.remote()):
        with pytest.raises(ValueError) as caught:
            ray.get(ref)
        assert ended(caught.value.cause.args[0])
