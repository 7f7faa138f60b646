"""What programs find in `ray.util`: queues, names of actors, and what is not there."""

from __future__ import annotations

import asyncio
import importlib
import os
import queue
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raytasks import Counter

import pool
from pool import exceptions
from pool.util.queue import Empty, Full, Queue


@pool.remote
def produce(channel: Any, numbers: list[int]) -> None:
    for number in numbers:
        channel.put(number)


@pool.remote
def consume(channel: Any, number: int) -> list[int]:
    return [channel.get() for _ in range(number)]


@pool.remote
class Consumer:
    async def consume(self, channel: Any, number: int) -> list[int]:
        return [await channel.get_async() for _ in range(number)]


def test_a_queue_between_tasks(ray: Any) -> None:
    channel = Queue(maxsize=2)
    produced = produce.remote(channel, list(range(10)))
    assert ray.get(consume.remote(channel, 10)) == list(range(10))
    ray.get(produced)
    consumed = Consumer.remote().consume.remote(channel, 3)
    ray.get(produce.remote(channel, [1, 2, 3]))
    assert ray.get(consumed) == [1, 2, 3]


@pool.remote
def square(number: int) -> int:
    return number**2


@pool.remote
def waits(gate: str) -> str:
    """Return the name of a fifo once somebody has written to it."""
    with open(gate) as file:
        file.read()
    return gate


def test_results_come_as_they_are_ready(ray: Any, tmp_path: Path) -> None:
    gates = [str(tmp_path / name) for name in ("one", "two")]
    for gate in gates:
        os.mkfifo(gate)
    refs = [waits.remote(gate) for gate in gates]
    coming = ray.util.as_completed(refs, chunk_size=1)
    for gate in reversed(gates):
        with open(gate, "w"):
            pass
        assert next(coming) == gate
    assert next(coming, None) is None
    assert list(ray.util.as_completed(refs)) == gates  # several at a time: in the order given
    assert list(ray.util.as_completed(refs, yield_obj_refs=True)) == refs
    assert list(ray.util.as_completed([])) == []


def test_calls_are_made_as_there_is_room_for_them(ray: Any) -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        while True:
            yield read
            read += 1

    results = ray.util.map_unordered(square, numbers(), backpressure_size=4, chunk_size=2)
    first = {next(results) for _ in range(10)}
    assert len(first) == 10 and first <= {n * n for n in range(12)}
    assert read < 12
    at_once = ray.util.map_unordered(square, range(5), backpressure_size=None)
    assert sorted(at_once) == [0, 1, 4, 9, 16]
    refs = list(ray.util.map_unordered(square, [3], yield_obj_refs=True))
    assert ray.get(refs) == [9]


def test_an_error_comes_where_its_result_would(ray: Any) -> None:
    coming = ray.util.map_unordered(square, [1, "one"], backpressure_size=1, chunk_size=1)
    assert next(coming) == 1
    with pytest.raises(TypeError):
        next(coming)


@pytest.mark.parametrize(
    "wrong", [{"chunk_size": 0}, {"num_returns": 1}, {"backpressure_size": 0}], ids=str
)
def test_sizes_that_cannot_be_meant(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        next(pool.util.map_unordered(square, [], **wrong))
    if "backpressure_size" not in wrong:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            next(pool.util.as_completed([], **wrong))


def test_a_queue_without_room_or_values(ray: Any) -> None:
    channel = Queue(2)
    assert channel.empty() and not channel.full() and len(channel) == 0
    with pytest.raises(Empty):
        channel.get_nowait()
    with pytest.raises(queue.Empty):
        channel.get(timeout=0.01)
    channel.put(1)
    channel.put_nowait("two")
    assert channel.full() and channel.qsize() == channel.size() == 2
    with pytest.raises(Full):
        channel.put_nowait(3)
    with pytest.raises(queue.Full):
        channel.put(3, timeout=0.01)
    with pytest.raises(Full, match="room for 0 of 2"):
        channel.put_nowait_batch([3, 4])
    with pytest.raises(Empty, match="2 of 3"):
        channel.get_nowait_batch(3)
    assert channel.get_nowait_batch(2) == [1, "two"]
    channel.put_nowait_batch(range(2))
    assert channel.get() == 0
    for timeout in (-1, -0.5):
        with pytest.raises(ValueError, match="non-negative"):
            channel.get(timeout=timeout)
        with pytest.raises(ValueError, match="non-negative"):
            channel.put(1, timeout=timeout)
    with pytest.raises(TypeError):
        channel.put_nowait_batch(3)
    with pytest.raises(TypeError):
        channel.get_nowait_batch("3")
    with pytest.raises(ValueError):
        channel.get_nowait_batch(-1)


def test_a_queue_in_coroutines(ray: Any) -> None:
    channel = Queue(1, actor_options={"name": "channel"})
    assert ray.get_actor("channel") == channel.actor

    async def main() -> Any:
        await channel.put_async(1)
        with pytest.raises(Full):
            await channel.put_async(2, block=False)
        with pytest.raises(Full):
            await channel.put_async(2, timeout=0.01)
        put = asyncio.ensure_future(channel.put_async(2))
        got = [await channel.get_async(), await channel.get_async(timeout=60)]
        await put
        with pytest.raises(Empty):
            await channel.get_async(block=False)
        return got

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.parametrize("force", [False, True])
def test_the_end_of_a_queue(ray: Any, force: bool) -> None:
    channel = Queue()
    waiting = channel.actor.get.remote(None)
    assert channel.empty()
    channel.shutdown(force=force, grace_period_s=0.1)
    channel.shutdown()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(waiting)


# ---------------------------------------------------------------------- finding out


@pool.remote
def named_actors() -> Any:
    return pool.util.list_named_actors()


def test_names_of_actors(ray: Any) -> None:
    actors = [
        Counter.options(name="one").remote(),
        Counter.options(name="two", lifetime="detached").remote(),
        Counter.options(name="three", namespace="elsewhere").remote(),
        Counter.remote(),
    ]
    ray.get([actor.add.remote() for actor in actors])
    assert ray.util.list_named_actors() == ["one", "two"] == ray.get(named_actors.remote())
    everywhere = ray.util.list_named_actors(all_namespaces=True)
    assert {"namespace": "elsewhere", "name": "three"} in everywhere
    ray.kill(actors[1])
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actors[1].add.remote())
    assert ray.util.list_named_actors() == ["one"]


def test_what_can_be_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert pool.util.inspect_serializability([1, "two"]) == (True, set())
    generator = (x for x in ())
    holder = {"a": [generator]}
    good, failures = pool.util.inspect_serializability(holder, name="holder")
    assert not good
    (failure,) = failures
    assert failure.obj is generator and failure.parent is holder["a"]
    assert "holder" in capsys.readouterr().out


def test_where_everything_runs() -> None:
    assert pool.util.get_node_ip_address() == "127.0.0.1"
    assert pool.util.get_current_placement_group() is None


@pytest.mark.parametrize(
    "name", ["dag", "data", "experimental", "rllib", "serve", "train", "tune", "workflow"]
)
def test_libraries_that_are_not_here(name: str) -> None:
    with pytest.raises(ImportError, match=f"pool.{name} is not here: ."):
        importlib.import_module(f"pool.{name}")
    with pytest.raises(AttributeError, match=f"pool.{name} is not here: ."):
        getattr(pool, name)


@pytest.mark.parametrize("name", ["collective", "metrics", "placement_group", "state"])
def test_modules_of_util_that_are_not_here(name: str) -> None:
    with pytest.raises(ImportError, match=f"pool.util.{name} is not here: ."):
        importlib.import_module(f"pool.util.{name}")
    with pytest.raises(AttributeError, match=f"pool.util.{name} is not here: ."):
        getattr(pool.util, name)
    with pytest.raises(AttributeError, match="there is one machine"):
        _ = pool.util.remove_placement_group
    with pytest.raises(ImportError, match="is not here"):
        exec(f"from pool.util import {name}")


class Connected:
    """Holds what cannot be pickled."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connection = sqlite3.connect(path)

    def __del__(self) -> None:
        self.connection.close()


def test_a_class_is_pickled_by_functions_that_were_registered(ray: Any) -> None:
    path_of = ray.remote(lambda connected: connected.path)
    with pytest.raises(TypeError, match=r"sqlite3\.Connection"):
        ray.put(Connected(":memory:"))
    ray.util.register_serializer(
        Connected, serializer=lambda connected: connected.path, deserializer=Connected
    )
    try:
        (again,) = ray.get(ray.put([Connected(":memory:")]))
        assert isinstance(again.connection, sqlite3.Connection)
        assert ray.get(path_of.remote(Connected(":memory:"))) == ":memory:"
        assert ray.get(path_of.remote(ray.put(Connected(":memory:")))) == ":memory:"
    finally:
        ray.util.deregister_serializer(Connected)
    with pytest.raises(TypeError, match=r"sqlite3\.Connection"):
        ray.put(Connected(":memory:"))
    ray.util.deregister_serializer(Connected)
