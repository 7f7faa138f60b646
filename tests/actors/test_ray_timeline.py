"""What has run and when, as the workers saw it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from raytasks import Counter, die, double, fail, pid_of_worker


def test_timeline(ray: Any, tmp_path: Path) -> None:
    counter = Counter.remote()
    ray.get([double.remote(1), counter.add.remote()])
    names = {event["name"] for event in ray.timeline()}
    assert names >= {"double", "Counter.add"}
    ray.timeline(str(tmp_path / "trace.json"))
    assert (tmp_path / "trace.json").read_text().startswith("[")


def test_timeline_has_every_task_of_a_batch_in_the_lane_of_its_worker(ray: Any) -> None:
    ray.get([pid_of_worker.remote() for _ in range(500)])
    pids = set(ray.get([pid_of_worker.remote() for _ in range(500)]))
    events = [event for event in ray.timeline() if event["name"] == "pid_of_worker"]
    assert len(events) == 1000 and {event["tid"] for event in events} >= pids
    lanes: dict[int, float] = {}
    for event in events:
        assert event["args"]["submitted"] <= event["ts"]
        assert lanes.get(event["tid"], 0.0) <= event["ts"] and event["dur"] >= 0
        lanes[event["tid"]] = event["ts"] + event["dur"]
    titles = {event["args"]["name"] for event in ray.timeline() if event["name"] == "thread_name"}
    assert titles == {f"worker:{pid}" for pid in lanes}


def test_timeline_knows_what_runs_what_failed_and_who_was_killed(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(ray.exceptions.RayTaskError):
        ray.get(fail.remote("no"))
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(die.options(max_retries=0).remote())
    gate, began = tmp_path / "gate", tmp_path / "began"
    os.mkfifo(gate)
    os.mkfifo(began)

    @ray.remote
    def wait(began: str, gate: str) -> None:
        with open(began, "w") as fifo:
            fifo.write("began")
        open(gate).read()

    ref = wait.remote(str(began), str(gate))
    began.read_text()
    events = {event["name"]: event for event in ray.timeline()}
    running = next(event for name, event in events.items() if name.endswith("wait"))
    assert running["args"]["running"] and not running["args"]["failed"]
    assert events["fail"]["args"]["failed"] and events["die"]["args"]["failed"]
    gate.write_text("go")
    ray.get(ref)


def test_calls_side_by_side_have_lanes_of_their_own(ray: Any) -> None:
    @ray.remote
    class Meeting:
        def __init__(self) -> None:
            import asyncio

            self.there = 0
            self.all_there = asyncio.Event()

        async def attend(self) -> int:
            self.there += 1
            if self.there == 3:
                self.all_there.set()
            await self.all_there.wait()
            return os.getpid()

    meeting = Meeting.remote()
    (pid,) = set(ray.get([meeting.attend.remote() for _ in range(3)]))
    events = [event for event in ray.timeline() if event["name"].endswith("Meeting.attend")]
    assert len({event["tid"] for event in events}) == 3
    titles = {event["args"]["name"] for event in ray.timeline() if event["name"] == "thread_name"}
    assert titles == {f"worker:{pid}", f"worker:{pid} (2)", f"worker:{pid} (3)"}
