"""Event loops of concurrency groups."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from pool._in_worker._lanes import LaneBeside, open_lanes


def test_without_groups_calls_run_on_the_loop_that_receives_them() -> None:
    async def receive() -> Any:
        lanes = open_lanes(3, {}, pytest.fail)
        assert list(lanes) == [""]
        return await lanes[""].construct(asyncio.get_running_loop) is asyncio.get_running_loop()

    assert asyncio.run(receive())


def test_a_call_that_is_cancelled_before_its_first_step_is_begun() -> None:
    gate = threading.Event()
    seen: list[Any] = []

    async def blocks() -> None:
        assert gate.wait(60)

    async def call() -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")

    async def receive() -> None:
        lane = LaneBeside(1, "io", lambda: None)
        over = asyncio.Event()
        lane.start(blocks(), lambda: None)
        cancel = lane.start(call(), over.set)
        cancel()
        gate.set()
        await over.wait()
        lane.close(wait=True)
        cancel()  # which comes too late, and does nothing

    asyncio.run(receive())
    assert seen == ["begun", "cancelled"]


def test_what_runs_at_the_end_is_cancelled_and_what_leaves_is_told() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("background")

    async def leaves() -> None:
        asyncio.get_running_loop().call_soon(exit)

    async def receive() -> None:
        left = threading.Event()
        lanes = open_lanes(1, {"io": 1}, left.set)
        lane = lanes["io"]
        # Held, as by who runs the calls of an actor: a loop does not hold its tasks.
        held = [lane.start(call(), lambda: None) for call in (background, leaves)]
        assert await asyncio.to_thread(left.wait, 60)
        assert not ended
        for lane in lanes.values():
            lane.close(wait=True)
        del held

    asyncio.run(receive())
    assert ended == ["background"]
