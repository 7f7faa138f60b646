"""Concurrency groups of actors: each has calls of its own that run beside those of others."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import pool
from pool import exceptions
from pool._objects._mailbox import WINDOW

#: More calls than one message, or one window, has room for.
MANY = 3 * WINDOW


@pool.remote(concurrency_groups={"io": 2, "control": 1})
class Threads:
    """Calls that wait for one of another group."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()
        self.pair = threading.Barrier(2)
        self.lock = threading.Lock()
        self.running = self.peak = 0
        self.log: list[int] = []

    def work(self, n: int = 0) -> int:
        self.log.append(n)
        self.begun.set()
        assert self.opened.wait(60)
        return n

    @pool.method(concurrency_group="io")
    def read(self) -> int:
        with self.lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
        self.pair.wait(60)
        with self.lock:
            self.running -= 1
        return self.peak

    @pool.method(concurrency_group="control", num_returns=2)
    def open(self) -> tuple[bool, list[int]]:
        log = list(self.log)
        self.opened.set()
        return True, log

    @pool.method(concurrency_group="control")
    def count(self, n: int) -> Any:
        self.opened.set()
        yield from range(n)

    @pool.method(concurrency_group="control")
    def leave(self) -> None:
        assert self.begun.wait(60)
        self.opened.set()
        pool.actor.exit_actor()

    def handle(self) -> Any:
        return pool.get_runtime_context().current_actor


@pool.remote(concurrency_groups={"io": 2, "control": 1}, max_concurrency=1)
class Loop:
    """The same on event loops, each of which has one group."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()
        self.running = self.peak = 0
        self.log: list[int] = []
        self.full = asyncio.Event()

    async def work(self, n: int = 0) -> int:
        self.log.append(n)
        self.begun.set()
        assert await asyncio.to_thread(self.opened.wait, 60)
        return n

    @pool.method(concurrency_group="io")
    async def read(self) -> int:
        self.running += 1
        self.peak = max(self.peak, self.running)
        if self.running == 2:
            self.full.set()
        await self.full.wait()
        await asyncio.sleep(0)
        self.running -= 1
        return self.peak

    @pool.method(concurrency_group="control", num_returns=2)
    async def open(self) -> tuple[bool, list[int]]:
        log = list(self.log)
        self.opened.set()
        return True, log

    @pool.method(concurrency_group="control")
    async def count(self, n: int) -> Any:
        self.opened.set()
        for number in range(n):
            yield number

    @pool.method(concurrency_group="control")
    async def leave(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 60)
        self.opened.set()
        pool.actor.exit_actor()

    async def handle(self) -> Any:
        return pool.get_runtime_context().current_actor


DETACHED = {"name": "grouped", "lifetime": "detached"}
CASES = [(kind, options) for kind in (Threads, Loop) for options in ({}, DETACHED)]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_calls_of_one_group_do_not_wait_for_those_of_another(
    ray: Any, kind: Any, options: dict[str, Any]
) -> None:
    actor = kind.options(**options).remote()
    waiting = [actor.work.remote(n) for n in range(MANY)]
    assert max(ray.get([actor.read.remote() for _ in range(MANY)])) == 2
    assert ray.get(actor.open.remote()) in ([True, []], [True, [0]])  # one at most runs, and waits
    assert ray.get(waiting) == list(range(MANY))
    assert ray.get(actor.open.remote())[1] == list(range(MANY))
    if options:
        ray.kill(actor)


@pytest.mark.parametrize("options", [{}, DETACHED])
def test_a_method_that_blocks_its_event_loop_holds_up_no_other_group(
    ray: Any, options: dict[str, Any]
) -> None:
    @ray.remote(concurrency_groups={"health": 1})
    class Blocking:
        def __init__(self) -> None:
            self.loops = [asyncio.get_running_loop()]
            self.asked = threading.Event()

        async def work(self) -> bool:
            self.loops.append(asyncio.get_running_loop())
            return self.asked.wait(60)

        @pool.method(concurrency_group="health")
        async def check(self) -> list[bool]:
            self.asked.set()
            return [loop is asyncio.get_running_loop() for loop in self.loops]

    actor = Blocking.options(**options).remote()
    assert ray.get(actor.check.remote()) == [False]
    working = actor.work.remote()
    assert not any(ray.get(actor.check.remote()))
    assert ray.get(working)
    if options:
        ray.kill(actor)


@pytest.mark.parametrize("kind", [Threads, Loop])
def test_a_call_may_run_in_another_group_than_its_method_says(ray: Any, kind: Any) -> None:
    actor = kind.remote()
    first = actor.work.remote()
    assert ray.get(actor.handle.options(concurrency_group="io").remote()) == actor

    @ray.remote
    def ask(actor: Any) -> Any:
        beside = actor.work.options(concurrency_group="io").remote(1)
        again = actor.work.options(num_returns=1).options(concurrency_group="io").remote(2)
        numbers = actor.count.options(concurrency_group="control").remote(3)
        return [pool.get(ref) for ref in [*numbers, beside, again]]

    assert ray.get(ask.remote(actor)) == [0, 1, 2, 1, 2]
    assert ray.get(first) == 0
    handle = ray.get(actor.handle.remote())
    with pytest.raises(ValueError, match=r"method work: .* no concurrency group 'net' among \['io"):
        handle.work.options(concurrency_group="net")

    async def through_itself(self: Any) -> Any:
        itself = pool.get_runtime_context().current_actor
        return await itself.count.options(num_returns=1, concurrency_group="io").remote(2)

    if kind is Loop:
        assert ray.get(actor.__ray_call__.remote(through_itself)) == [0, 1]


@pytest.mark.parametrize("kind", [Threads, Loop])
def test_a_call_that_waits_in_its_group_is_cancelled(ray: Any, kind: Any) -> None:
    actor = kind.remote()
    first, second = actor.work.remote(1), actor.work.remote(2)
    ray.cancel(second)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(second)
    ray.get(actor.open.remote())
    assert ray.get(first) == 1
    assert ray.get(actor.open.remote()) == [True, [1]]


@pytest.mark.parametrize("kind", [Threads, Loop])
def test_calls_of_other_groups_end_before_the_actor_that_leaves(ray: Any, kind: Any) -> None:
    actor = kind.remote()
    other = actor.work.remote(3)
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(actor.leave.remote())
    assert ray.get(other) == 3


def test_groups_that_do_not_fit() -> None:
    class Plain:
        @pool.method(concurrency_group="io")
        def read(self) -> None: ...

    with pytest.raises(ValueError, match=r"Plain.read: there is no concurrency group 'io' among"):
        pool.remote(Plain).remote()
    for groups, error in (
        (["io"], TypeError),
        ({1: 1}, TypeError),
        ({"": 1}, ValueError),
        ({"io": 0}, ValueError),
        ({"io": None}, TypeError),
    ):
        with pytest.raises(error, match="concurrency_groups"):
            pool.remote(concurrency_groups=groups)(Plain)
