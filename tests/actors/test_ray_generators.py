"""Generators: waited for among references, passed on, and several values with an exception."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raytasks import count_then_fail, count_to, double

import pool
from pool import exceptions
from pool._objects import _parcels
from pool._ray._generators import ObjectRefGenerator


@pool.remote
def after(gate: str, n: int) -> Iterator[int]:
    """Yield when somebody has written to the fifo `gate`."""
    with open(gate) as file:
        file.read()
    yield from range(n)


@pool.remote
def drained_in_a_task(n: int) -> Any:
    stream = count_to.remote(n)
    first = drained(stream)
    with pytest.raises(StopIteration):
        next(stream)
    pool.get(count_then_fail.remote(1).completed())
    return first, drained(count_then_fail.remote(1)), stream.is_finished()


@pool.remote
def lengths(generator: Any, inside: list[Any]) -> Any:
    size = len(generator)
    return size, pool.get(list(generator)), pool.get(list(pool.get(inside[0])))


@pool.remote(num_returns=3)
def three(n: int, error: bool) -> Iterator[int]:
    yield from range(n)
    if error:
        raise ValueError("no more")


@pool.remote
def lists(n: int) -> Iterator[list[int]]:
    yield from ([k] for k in range(n))


@pool.remote
class Yielding:
    def count_to(self, n: int) -> Iterator[int]:
        yield from range(n)

    @pool.method(num_returns="dynamic")
    def count_then_fail(self, n: int) -> Iterator[int]:
        yield from range(n)
        raise ValueError("no more")

    def lists(self, n: int) -> Iterator[list[int]]:
        yield from ([k] for k in range(n))

    @pool.method(num_returns=2)
    def two(self) -> Iterator[int]:
        yield 1
        raise ValueError("no more")


@pool.remote
class AsyncYielding:
    async def count_to(self, n: int) -> Any:
        for number in range(n):
            yield number


def drained(stream: Any) -> list[Any]:
    """Return what a generator yields, as programs do that wait for several of them."""
    found: list[Any] = []
    while not stream.is_finished():
        ready, _ = pool.wait([stream])
        assert ready == [stream]
        try:
            found.append(pool.get(next(stream)))
        except StopIteration:
            break
        except ValueError:
            found.append("failed")
    return found


def values_of(refs: Any) -> list[Any]:
    found: list[Any] = []
    for ref in refs:
        try:
            found.append(pool.get(ref))
        except ValueError:
            found.append("failed")
    return found


def test_waiting_for_generators(ray: Any, tmp_path: Path) -> None:
    assert drained(count_to.remote(3)) == [0, 1, 2]
    assert drained(count_then_fail.remote(2)) == [0, 1, "failed"]
    os.mkfifo(tmp_path / "gate")
    late, early = after.remote(str(tmp_path / "gate"), 1), count_to.remote(1)
    ref = double.remote(2)
    ready, rest = ray.wait([late, early, ref], num_returns=2)
    assert ready == [early, ref] and rest == [late]
    assert not late.next_ready() and not late.is_finished()
    assert ray.wait([late], timeout=0) == ([], [late])
    completed = late.completed()
    assert ray.wait([completed], timeout=0) == ([], [completed])
    (tmp_path / "gate").write_text("open")
    assert ray.get(completed) is None
    assert late.next_ready()
    assert values_of(late) == [0]
    assert late.is_finished() and not late.next_ready()


def test_waiting_for_generators_in_a_task(ray: Any) -> None:
    assert ray.get(drained_in_a_task.remote(2)) == ([0, 1], [0, "failed"], True)


async def give_up_once(gate: str) -> list[Any]:
    stream = after.remote(gate, 2)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(stream.__anext__(), 0.01)
    # The loop ends only if nothing of that waits any more.
    await asyncio.get_running_loop().shutdown_default_executor()
    with open(gate, "w"):
        pass
    return [await ref async for ref in stream]


def test_waiting_for_a_value_can_be_given_up(ray: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    assert asyncio.run(give_up_once(str(tmp_path / "gate"))) == [0, 1]


def test_waiting_for_a_value_can_be_given_up_in_a_task(ray: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")

    def action(gate: str) -> Any:
        return asyncio.run(give_up_once(gate))

    assert ray.get(ray.remote(action).remote(str(tmp_path / "gate"))) == [0, 1]


@pool.remote
def before_and_after(gate: str) -> Iterator[int]:
    """Yield, and once more when somebody has written to the fifo `gate`."""
    yield 0
    with open(gate) as file:
        file.read()
    yield 1


async def two_at_a_time(gate: str) -> list[Any]:
    stream = before_and_after.remote(gate)
    both = [asyncio.ensure_future(stream.__anext__()) for _ in range(2)]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    with open(gate, "w"):
        pass
    return sorted([await (await one) for one in both])


def test_a_coroutine_whose_value_another_one_has_taken_does_not_stop_the_loop(
    ray: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    assert asyncio.run(two_at_a_time(str(tmp_path / "gate"))) == [0, 1]


class Shared:
    """A stream of which another thread takes a value while this one waits for it."""

    def __init__(self) -> None:
        self.values = dict(enumerate("abc"))
        self.reader = ObjectRefGenerator(self)
        self.others: list[Any] = []

    def take(self, index: int) -> Any:
        if not self.others:
            self.others.append(None)
            self.others[0] = next(self.reader)
        return self.values.get(index)


class Forgetful(Shared):
    def let_go(self, index: int) -> None:
        del self.values[index]


@pytest.mark.parametrize("kind", [Shared, Forgetful])
def test_each_value_goes_to_one_of_several_threads(kind: type[Shared]) -> None:
    stream = kind()
    assert next(stream.reader) == "b"
    assert stream.others == ["a"]
    assert list(stream.reader) == ["c"]


def test_waiting_in_a_task_for_a_reference_and_something_else(ray: Any) -> None:
    def action() -> Any:
        ref, stream = double.remote(1), count_to.remote(1)
        assert pool.wait([ref, stream], num_returns=2) == ([ref, stream], [])
        with pytest.raises(TypeError, match="there is 5 in it"):
            pool.wait([ref, 5])
        return True

    assert ray.get(ray.remote(action).remote())


def test_a_generator_is_not_sent(ray: Any) -> None:
    stream = count_to.remote(1)
    for send in (ray.put, double.remote):
        with pytest.raises(TypeError, match="cannot be sent or stored: .*dynamic"):
            send([stream])
    assert values_of(stream) == [0]


def test_all_references_at_once(ray: Any) -> None:
    ref = count_to.options(num_returns="dynamic").remote(3)
    assert ray.get(lengths.remote(ref, [ref])) == (3, [0, 1, 2], [0, 1, 2])
    generator = ray.get(ref)
    assert isinstance(generator, ray.DynamicObjectRefGenerator)
    assert values_of(generator) == [0, 1, 2] and len(generator) == 0
    failing = count_then_fail.options(num_returns="dynamic", num_cpus=2).remote(2)
    assert values_of(ray.get(failing)) == [0, 1, "failed"]


@pytest.mark.parametrize("options", [{}, {"name": "yielding", "lifetime": "detached"}])
def test_all_references_of_a_method(ray: Any, options: dict[str, str]) -> None:
    yielding = Yielding.options(**options).remote()
    ref = yielding.count_to.options(num_returns="dynamic").remote(2)
    assert values_of(ray.get(ref)) == [0, 1]
    assert values_of(ray.get(yielding.count_then_fail.remote(1))) == [0, "failed"]
    assert values_of(yielding.two.remote()) == [1, "failed"]
    ray.kill(yielding)


def test_all_references_of_an_async_method(ray: Any) -> None:
    yielding = AsyncYielding.remote()
    ref = yielding.count_to.options(num_returns="dynamic").remote(2)
    assert values_of(ray.get(ref)) == [0, 1]
    assert ray.get(yielding.count_to.options(num_returns=2).remote(2)) == [0, 1]


@pytest.mark.parametrize("cpus", [1, 2])
def test_values_before_an_exception(ray: Any, cpus: int) -> None:
    task = three.options(num_cpus=cpus)
    assert values_of(task.remote(3, False)) == [0, 1, 2]
    assert values_of(task.remote(1, True)) == [0, "failed", "failed"]
    assert values_of(task.remote(0, True)) == ["failed"] * 3
    for n, error in ((4, False), (2, False), (3, True)):
        assert values_of(task.remote(n, error)) == ["failed"] * 3
    with pytest.raises(ValueError, match="yielded 2 values, and num_returns=3"):
        ray.get(task.remote(2, False)[0])


def test_a_generator_that_is_held_up_is_cancelled(ray: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    late = after.remote(str(tmp_path / "gate"), 1)
    completed = late.completed()
    with open(tmp_path / "gate", "w"):  # once its task waits there
        ray.cancel(late)
        assert ray.get(completed) is None
        with pytest.raises(exceptions.TaskCancelledError):
            ray.get(next(late))
        assert late.is_finished()


@pytest.mark.parametrize("kind", ["task", "process", "actor"])
def test_a_value_without_memory_for_it_is_an_error_in_its_place(
    ray: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    yielding = Yielding.remote()
    assert [ray.get(ref) for ref in yielding.count_to.remote(1)] == [0]
    stored, values = _parcels.stored, []

    def short(buffers: Any) -> Any:
        values.append(buffers)
        if len(values) == 2:
            raise MemoryError("none left")
        return stored(buffers)

    monkeypatch.setattr(_parcels, "stored", short)
    makers = {"task": lists, "process": lists.options(num_cpus=2), "actor": yielding.lists}
    stream = makers[kind].remote(3)
    assert ray.get(next(stream)) == [0]
    with pytest.raises(MemoryError, match="none left"):
        ray.get(next(stream))
    assert [ray.get(ref) for ref in stream] in ([], [[2]])
    assert [ray.get(ref) for ref in yielding.count_to.remote(2)] == [0, 1]
