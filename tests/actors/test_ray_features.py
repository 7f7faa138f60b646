"""Concurrency in actors, resources, logs, and what tasks know of themselves."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from raytasks import Counter, double, fail, hold

import pool
from pool import exceptions
from pool._runtime import _grants


@pool.remote
class Meeting:
    """Methods that return only when enough of them run at the same time."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.waiting: Any = None

    def meet(self) -> int:
        return self.barrier.wait()

    def die(self) -> None:
        os._exit(1)


@pool.remote
class AsyncMeeting:
    def __init__(self, size: int) -> None:
        import asyncio

        self.size = size
        self.here = 0
        self.full = asyncio.Event()

    async def meet(self) -> int:
        self.here += 1
        mine = self.here
        if self.here == self.size:
            self.full.set()
        await self.full.wait()
        return mine

    async def ever(self) -> None:
        import asyncio

        await asyncio.Event().wait()

    async def twice(self, x: int) -> Any:
        return await double.remote(x)

    async def count_to(self, n: int) -> Any:
        for i in range(n):
            yield i

    async def fail(self) -> None:
        raise KeyError("async")

    async def leave(self) -> None:
        pool.actor.exit_actor()


@pool.remote
class Speaker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Speaker({self.name})"

    def say(self, *words: str, end: str = "\n") -> int:
        print(*words, end=end)
        return os.getpid()


@pool.remote
def speak(text: str) -> int:
    import logging
    import sys

    print(text)
    logging.getLogger("speak").warning("careful")
    print("to stderr", file=sys.stderr)
    print("no end", end="")
    return os.getpid()


@pool.remote
def visible() -> tuple[Any, Any]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), pool.get_gpu_ids()


@pool.remote
class Device:
    def seen(self) -> tuple[Any, Any]:
        return os.environ.get("CUDA_VISIBLE_DEVICES"), pool.get_gpu_ids()


@pool.remote
def about_me() -> dict[str, Any]:
    context = pool.get_runtime_context()
    return {
        "task": context.get_task_name(),
        "actor": context.get_actor_id(),
        "resources": context.get_assigned_resources(),
        "job": context.get_job_id(),
    }


# ---------------------------------------------------------------------- concurrency


def test_threads_of_an_actor_run_side_by_side(ray: Any) -> None:
    meeting = Meeting.options(max_concurrency=3).remote(3)
    assert sorted(ray.get([meeting.meet.remote() for _ in range(3)])) == [0, 1, 2]


def test_death_with_several_calls_running(ray: Any) -> None:
    meeting = Meeting.options(max_concurrency=3).remote(3)
    refs = [meeting.meet.remote() for _ in range(2)]
    refs.append(meeting.die.remote())
    for ref in refs:
        with pytest.raises(exceptions.ActorDiedError, match="exited with code 1"):
            ray.get(ref)


def test_async_methods_run_side_by_side(ray: Any) -> None:
    meeting = AsyncMeeting.remote(20)
    assert sorted(ray.get([meeting.meet.remote() for _ in range(20)])) == list(range(1, 21))
    assert ray.get(meeting.twice.remote(4)) == 8
    assert [ray.get(ref) for ref in meeting.count_to.remote(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="async"):
        ray.get(meeting.fail.remote())


def test_async_call_is_cancelled(ray: Any) -> None:
    meeting = AsyncMeeting.remote(1)
    ever = meeting.ever.remote()
    ray.get(meeting.meet.remote())
    ray.cancel(ever)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ever)
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(meeting.leave.remote())


def test_call_that_waits_in_the_mailbox_is_cancelled(ray: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    counter = Counter.remote()
    held = counter.hold.remote(str(gate))
    refs = [counter.add.remote() for _ in range(100)]
    ray.cancel(refs[-1])
    with pytest.raises(exceptions.TaskCancelledError, match="Counter.add"):
        ray.get(refs[-1])
    gate.write_text("open")
    assert ray.get([held, *refs[:-1]])[-1] == 99


def test_limit_of_waiting_calls(ray: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    counter = Counter.options(max_pending_calls=2).remote()
    refs = [counter.hold.remote(str(gate)), counter.add.remote()]
    with pytest.raises(exceptions.PendingCallsLimitExceeded, match="max_pending_calls=2"):
        counter.add.remote()

    def call_it(counter: Any) -> Any:
        ref = counter.add.remote()
        with pytest.raises(exceptions.PendingCallsLimitExceeded, match="max_pending_calls=2"):
            pool.get(ref)
        return True

    assert ray.get(ray.remote(call_it).remote(counter))
    gate.write_text("open")
    assert ray.get(refs) == ["open", 1]


def test_options_that_are_none_are_as_not_given(ray: Any) -> None:
    assert ray.get(double.options(max_retries=None).remote(1)) == 2
    counter = Counter.options(
        max_restarts=None, max_task_retries=None, max_pending_calls=None, max_concurrency=None
    ).remote()
    assert ray.get(counter.add.remote()) == 1


# ---------------------------------------------------------------------- resources


def test_gpus_are_told_apart(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    ray = start(num_cpus=2)
    assert {"CPU": 2.0, "GPU": 2.0}.items() <= ray.cluster_resources().items()
    devices = [Device.options(num_gpus=1).remote() for _ in range(2)]
    seen = ray.get([device.seen.remote() for device in devices])
    assert sorted(seen) == [("5", [5]), ("6", [6])]
    waiting = visible.options(num_gpus=0.5).remote()
    assert ray.wait([waiting], timeout=0.05) == ([], [waiting])
    ray.kill(devices.pop())
    assert ray.get(waiting) in (("5", [5]), ("6", [6]))
    assert ray.get_gpu_ids() == []


def test_impossible_request_is_an_error_at_once(ray: Any) -> None:
    with pytest.raises(exceptions.TaskUnschedulableError, match="asks for 3 CPU, and there are 2"):
        double.options(num_cpus=3).remote(1)
    with pytest.raises(ValueError, match="asks for 1 GPU, and there are 0"):
        Counter.options(num_gpus=1).remote()
    with pytest.raises(ValueError, match="asks for 1 disk"):
        double.options(resources={"disk": 1}).remote(1)


def test_actor_that_waits_for_a_gpu_holds_up_only_who_wants_one(start: Any) -> None:
    ray = start(num_cpus=2, num_gpus=1, resources={"license": 1})
    holder = Counter.options(num_gpus=1).remote()
    assert ray.get(holder.add.remote()) == 1
    waiting = Counter.options(num_gpus=1).remote().add.remote()
    task = double.options(num_gpus=1).remote(1)
    assert ray.get([double.options(num_cpus=2).remote(1), double.remote(2)]) == [2, 4]
    other = Counter.options(num_cpus=0.5, resources={"license": 1}).remote()
    assert ray.get(other.add.remote()) == 1
    assert ray.wait([waiting, task], num_returns=2, timeout=0) == ([], [waiting, task])
    del holder
    assert ray.get([waiting, task]) == [1, 2]
    # Who is ended while it waits holds nobody up, either.
    held = Counter.options(num_cpus=1).remote()
    large = Counter.options(num_cpus=2).remote()
    small = double.options(num_cpus=0.5).remote(4)
    ray.kill(large)
    assert ray.get([small, held.add.remote()]) == [8, 1]


def test_without_a_cpu_there_are_no_ordinary_tasks(start: Any) -> None:
    ray = start(num_cpus=0, resources={"disk": 1})
    for task in (double, double.options(num_returns="streaming"), double.options(name="twice")):
        with pytest.raises(exceptions.TaskUnschedulableError, match="1 CPU, and there are 0"):
            task.remote(1)

    @ray.remote
    class Caller:
        def call(self) -> Any:
            return pool.get(double.remote(1))

    with pytest.raises(ValueError, match="1 CPU, and there are 0"):
        ray.get(Caller.remote().call.remote())
    light, heavy = (double.options(num_cpus=0, resources={"disk": n}) for n in (0, 1))
    assert ray.get([light.remote(1), heavy.remote(2)]) == [2, 4]
    assert ray.get(Counter.remote().add.remote()) == 1


def test_tasks_with_resources_of_their_own(start: Any, tmp_path: Path) -> None:
    ray = start(num_cpus=2, resources={"disk": 1})
    refs = [double.options(num_cpus=2).remote(i) for i in range(4)]
    assert ray.get(refs) == [0, 2, 4, 6]
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    held = hold.options(resources={"disk": 1}).remote(str(gate))
    with open(gate, "w") as writer:
        assert ray.available_resources().get("disk") is None
        writer.write("x")
    assert ray.get(held) == "x"
    with pytest.raises(ValueError, match="in its own process"):
        ray.get(fail.options(num_cpus=2).remote("in its own process"))


def test_programs_that_choose_this_machine(ray: Any) -> None:
    from pool.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Affinity

    (node,) = ray.nodes()
    here = ray.get_runtime_context().node_id
    for strategy in (Affinity(node["NodeID"], False), Affinity(here, False), Affinity("", True)):
        assert ray.get(double.options(scheduling_strategy=strategy).remote(1)) == 2
    with pytest.raises(ValueError, match="there is no machine 'ab'; this one is"):
        Counter.options(scheduling_strategy=Affinity("ab", soft=False))
    names = [name for name in ray.cluster_resources() if name.startswith("node:")]
    assert f"node:{node['NodeManagerAddress']}" in names
    for name in names:  # in the older way: a little of what each machine has one of
        assert ray.get(double.options(resources={name: 0.01}).remote(1)) == 2
    with pytest.raises(ValueError, match=r"asks for 0\.01 node:10\.0\.0\.9"):
        double.options(resources={"node:10.0.0.9": 0.01}).remote(1)
    with pytest.raises(ImportError, match="PlacementGroupSchedulingStrategy is not here: there is"):
        exec("from pool.util.scheduling_strategies import PlacementGroupSchedulingStrategy")


def test_with_a_limit_of_calls_none_finds_what_another_has_left(ray: Any) -> None:
    @ray.remote(max_calls=1, num_returns=2)
    def leave_something(n: int) -> tuple[Any, int]:
        found = getattr(os, "_left_by_a_call", None)
        os._left_by_a_call = n  # type: ignore[attr-defined]  # left there by this call
        return found, os.getpid()

    refs = [leave_something.remote(ray.put(n)) for n in range(3)]
    refs.append(leave_something.options(num_cpus=2).remote(3))
    found, pids = zip(*[ray.get(pair) for pair in refs], strict=True)
    assert found == (None,) * 4
    assert len({*pids}) == 4
    assert ray.get(double.options(max_calls=0).remote(1)) == 2  # no limit


@pytest.mark.parametrize("num_cpus", [1, 2])
def test_a_task_that_exits_has_failed(ray: Any, tmp_path: Path, num_cpus: int) -> None:
    @ray.remote(num_cpus=num_cpus, max_retries=3)
    def leave() -> None:
        with open(tmp_path / "runs", "a") as runs:
            runs.write("x")
        raise SystemExit("enough")

    with pytest.raises(exceptions.RayTaskError, match="SystemExit: enough"):
        ray.get(leave.remote())
    assert (tmp_path / "runs").read_text() == "x"


def test_actors_take_cpus_from_tasks(
    ray: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_grants, "CLAIMED", 0.01)
    counters = [Counter.options(num_cpus=1).remote() for _ in range(2)]
    assert ray.get([c.add.remote() for c in counters]) == [1, 1]
    assert "CPU" not in ray.available_resources()
    ref = double.remote(1)
    told = ""
    while not told:
        assert ray.wait([ref], timeout=0.05) == ([], [ref])
        told = capsys.readouterr().err
    assert told.startswith("All 2 CPUs are held by actors")
    del counters[0]
    assert ray.get(ref) == 2


# ---------------------------------------------------------------------- logs, context


def test_output_of_workers_comes_line_by_line(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pid = ray.get(speak.remote("one\ntwo"))
    seen = capsys.readouterr()
    prefix = f"(speak pid={pid}) "
    assert seen.out.splitlines() == [prefix + "one", prefix + "two", prefix + "no end"]
    assert seen.err.splitlines() == [prefix + "careful", prefix + "to stderr"]


def test_actor_says_who_it_is(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker.remote("me")
    pid = ray.get(speaker.say.remote("hello", end=""))
    assert capsys.readouterr().out == f"(Speaker(me) pid={pid}) hello\n"


def test_output_can_be_turned_off(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    ray = start(num_cpus=1, log_to_driver=False)
    ray.get(speak.remote("not shown"))
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == ("", "")


def test_context(ray: Any) -> None:
    found = ray.get(about_me.remote())
    assert found["task"] == "about_me"
    assert found["actor"] is None
    assert found["resources"] == {"CPU": 1.0}
    context = ray.get_runtime_context()
    assert found["job"] == context.get_job_id()
    assert context.get_task_name() is None and context.get_actor_id() is None
    (node,) = ray.nodes()
    assert node["Alive"] and node["Resources"]["CPU"] == 2


def test_actor_knows_itself(ray: Any) -> None:
    @ray.remote
    class Selfish:
        def me(self) -> Any:
            return pool.get_runtime_context().current_actor

        def name(self) -> Any:
            context = pool.get_runtime_context()
            return context.get_actor_name(), context.get_actor_id()

    actor = Selfish.options(name="I").remote()
    assert ray.get(actor.me.remote()) == actor
    assert ray.get(actor.name.remote()) == ("I", actor._actor_id.hex())


def test_actor_knows_itself_while_it_is_made(ray: Any) -> None:
    @ray.remote
    class Selfish:
        def __init__(self) -> None:
            self.itself = pool.get_runtime_context().current_actor
            self.text = repr(self.itself)

        def me(self) -> Any:
            return self.itself, self.text

    actor = Selfish.remote()
    itself, text = ray.get(actor.me.remote())
    assert itself == actor and "Selfish" in text
    assert ray.get(itself.me.remote()) == (actor, text)


def test_calls_that_take_turns_know_which_one_they_are(ray: Any) -> None:
    def seen() -> Any:
        context = pool.get_runtime_context()
        return context.get_task_name(), context.get_task_id()

    @ray.remote
    class Turns:
        def __init__(self) -> None:
            import asyncio

            self.all_here = asyncio.Barrier(3)

        async def one(self) -> Any:
            before = seen()
            await self.all_here.wait()
            return before, seen()

        async def other(self) -> Any:
            import asyncio

            before = seen()
            return before, await asyncio.create_task(self.again())

        async def again(self) -> Any:
            await self.all_here.wait()
            return seen()

    actor = Turns.remote()
    refs = [actor.one.remote(), actor.other.remote(), actor.one.remote()]
    names = [f"Turns.{name}" for name in ("one", "other", "one")]
    for name, ref, (before, after) in zip(names, refs, ray.get(refs), strict=True):
        assert before == after == (name, ref.hex())


# ---------------------------------------------------------------------- ActorPool


def test_actor_pool(ray: Any) -> None:
    actors = [Counter.remote() for _ in range(2)]
    workers = ray.util.ActorPool(actors)
    results = list(workers.map(lambda actor, value: actor.add.remote(value), [1, 2, 3, 4]))
    assert len(results) == 4
    unordered = workers.map_unordered(lambda actor, value: actor.both.remote()[0], range(6))
    assert len(list(unordered)) == 6
    workers.submit(lambda actor, value: actor.add.remote(value), 0)
    assert workers.has_next()
    workers.get_next()
    assert not workers.has_next()
    with pytest.raises(StopIteration):
        workers.get_next()
    idle = workers.pop_idle()
    assert idle in actors
    workers.push(idle)
    with pytest.raises(ValueError, match="already"):
        workers.push(idle)


def outcomes(workers: Any) -> list[Any]:
    """Return all results that are to come, or the names of their errors."""
    found = []
    while workers.has_next():
        try:
            found.append(workers.get_next())
        except exceptions.RayError as error:
            found.append(type(error).__name__)
    return found


def test_dead_actors_get_no_more_of_the_work(ray: Any) -> None:
    mortal, other = Counter.remote(), Counter.remote()
    workers = ray.util.ActorPool([other, mortal])
    workers.submit(lambda actor, value: actor.die.remote(), 0)
    for _ in range(6):
        workers.submit(lambda actor, value: actor.add.remote(), 0)
    assert outcomes(workers) == ["ActorDiedError", 1, 2, 3, 4, 5, 6]


def test_nothing_is_lost_with_the_last_actor(ray: Any) -> None:
    workers = ray.util.ActorPool([Counter.remote()])
    for method in ("add", "die", "add", "add"):
        workers.submit(lambda actor, name: getattr(actor, name).remote(), method)
    assert outcomes(workers) == [1, *["ActorDiedError"] * 3]


def test_who_meets_a_dead_actor_is_not_dead(ray: Any) -> None:
    dead, *actors = (Counter.remote() for _ in range(3))
    ray.kill(dead)
    failed = dead.add.remote()
    workers = ray.util.ActorPool(actors)
    for value in [dead, dead, dead]:
        workers.submit(lambda actor, value: actor.call_other.remote(value), value)
        workers.submit(lambda actor, value: actor.add.remote(value), failed)
    assert set(outcomes(workers)) == {"ActorDiedError", "RayTaskError(ActorDiedError)"}
    assert {workers.pop_idle(), workers.pop_idle()} == set(actors)


def test_calls_of_an_actor_pool_with_several_values(ray: Any) -> None:
    workers = ray.util.ActorPool([Counter.remote(3)])
    assert list(workers.map(lambda actor, _: actor.both.remote(), range(2))) == [[3, -3]] * 2
    unordered = workers.map_unordered(lambda actor, _: actor.both.remote(), range(2))
    assert list(unordered) == [[3, -3]] * 2


def test_results_that_are_late_are_dropped_on_request(ray: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    workers = ray.util.ActorPool([Counter.remote()])
    workers.submit(lambda actor, value: actor.hold.remote(value), str(gate))
    workers.submit(lambda actor, value: actor.add.remote(value), 5)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            workers.get_next(timeout=0)
    with pytest.raises(TimeoutError):
        workers.get_next(timeout=0, ignore_if_timedout=True)
    gate.write_text("free")
    assert workers.get_next() == 5
    assert not workers.has_next()
