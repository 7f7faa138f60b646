"""The runtime as tasks and actors use it: everything that a program can do, they can."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forking import run_in_fork
from raytasks import (
    Counter,
    Meeting,
    count_to,
    double,
    fail,
    halves,
    hold,
    meet,
    meet_in_words,
)

import pool
from pool import exceptions


def inside(ray: Any, action: Any, *args: Any) -> Any:
    """Run a function as a task and return what it returns."""
    return ray.get(ray.remote(action).remote(*args))


def test_wait_and_get_with_timeouts(ray: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)

    def action(gate: str) -> Any:
        held = hold.remote(gate)
        quick = double.remote(1)
        ready, rest = pool.wait([held, quick])
        assert (ready, rest) == ([quick], [held])
        assert pool.wait([held], timeout=0) == ([], [held])
        assert pool.wait([held], timeout=0.01) == ([], [held])
        try:
            pool.get(held, timeout=0.01)
        except exceptions.GetTimeoutError:
            Path(gate).write_text("late")
        return pool.get([held, quick])

    assert inside(ray, action, gate) == ["late", 2]


def test_get_raises_an_error_without_waiting_for_the_others(ray: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)

    def action(gate: str) -> Any:
        held = hold.remote(gate)
        with pytest.raises(ValueError, match="early"):
            pool.get([held, pool.put(1), fail.remote("early")])
        assert pool.wait([held], timeout=0) == ([], [held])
        Path(gate).write_text("open")
        return pool.get([held, pool.put(1)])

    assert inside(ray, action, gate) == ["open", 1]


def test_errors_of_nested_tasks_keep_their_class(ray: Any) -> None:
    def action() -> Any:
        try:
            pool.get(fail.remote("inner"))
        except ValueError as error:
            caught = type(error).__name__
        return caught, pool.get(fail.remote("outer"))

    with pytest.raises(ValueError, match="outer") as caught:
        inside(ray, action)
    assert caught.value.function_name == "fail"


def test_put_and_large_values(ray: Any) -> None:
    def action() -> Any:
        array = np.arange(200_000)
        ref = pool.put(array)
        array[:] = 0
        mine = pool.get(ref)
        mine[0] = -1
        return ref, int(pool.get(ref)[0]), int(mine[0]), pool.get(double.remote(ref))

    ref, kept, mine, doubled = inside(ray, action)
    assert (kept, mine) == (0, -1)
    assert (doubled == 2 * np.arange(200_000)).all()
    assert (ray.get(ref) == np.arange(200_000)).all()


def test_several_values_generators_and_futures(ray: Any) -> None:
    def action() -> Any:
        left, right = halves.remote("abcd")
        numbers = [pool.get(ref) for ref in count_to.remote(4)]
        return pool.get([left, right]), numbers, double.remote(4).future().result()

    assert inside(ray, action) == (["ab", "cd"], [0, 1, 2, 3], 8)


def test_actors_made_named_found_and_killed(ray: Any) -> None:
    def action() -> Any:
        made = Counter.options(name="inner").remote(1)
        found = pool.get_actor("inner")
        assert found == made
        values = pool.get([made.add.remote(), found.add.remote()])
        try:
            Counter.options(name="inner").remote()
        except ValueError as error:
            taken = "exists already" in str(error)
        pool.kill(made)
        try:
            pool.get(found.add.remote())
        except exceptions.ActorDiedError as error:
            return values, taken, error.method

    assert inside(ray, action) == ([2, 3], True, "add")


def test_cancel_from_a_task(ray: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)

    def action(gate: str) -> str:
        held = hold.remote(gate)
        with open(gate, "w"):
            pool.cancel(held)
            try:
                pool.get(held)
            except exceptions.TaskCancelledError:
                return "cancelled"
        return "not cancelled"

    assert inside(ray, action, gate) == "cancelled"


def test_facts(ray: Any) -> None:
    def action() -> Any:
        return pool.cluster_resources()["CPU"], pool.is_initialized(), pool.get_gpu_ids()

    assert inside(ray, action) == (2.0, True, [])


def start_again(refs: Any = None) -> Any:
    """Start the runtime unless it runs, as programs do."""
    if not pool.is_initialized():
        pool.init(num_cpus=7)
    pool.init(num_cpus=7, ignore_reinit_error=True)
    with pytest.raises(RuntimeError, match="runs already"):
        pool.init()
    return pool.cluster_resources()["CPU"], pool.get(double.remote(1))


@pool.remote
class Starter:
    def start(self) -> Any:
        return start_again()


@pytest.mark.parametrize("where", ["task", "task of its own", "actor", "worker of a Pool"])
def test_runtime_runs_already_where_its_tasks_do(ray: Any, where: str) -> None:
    if where == "worker of a Pool":
        with pool.Pool(1) as p:
            found = p.apply(start_again, ([ray.put(1)],))
    elif where == "actor":
        found = ray.get(Starter.remote().start.remote())
    else:
        cpus = 2 if "own" in where else 1
        found = ray.get(ray.remote(start_again).options(num_cpus=cpus).remote())
    assert found == (2.0, 2)
    assert ray.get(double.remote(2)) == 4


def test_impossible_request_of_a_task(ray: Any) -> None:
    def action() -> Any:
        return pool.get(double.options(num_cpus=5).remote(1))

    with pytest.raises(ValueError, match="asks for 5 CPU"):
        inside(ray, action)


def test_actor_keeps_references_that_its_program_dropped(ray: Any) -> None:
    counter = Counter.remote()
    for number in range(20):
        ray.get(counter.keep.remote([ray.put([number])]))
    assert ray.get(counter.kept.remote()) == [[19]]


def test_handle_that_a_task_returns_keeps_its_actor(ray: Any) -> None:
    def action() -> Any:
        counter = Counter.remote(5)
        pool.get(counter.add.remote())
        return [counter]

    (counter,) = inside(ray, action)
    assert ray.get(counter.add.remote()) == 7


def test_memory_of_dropped_objects_is_free(ray: Any) -> None:
    from store._depot import depot

    def action(arrays: list[Any]) -> int:
        return len(pool.get(arrays))

    for _ in range(3):
        assert inside(ray, action, [ray.put(np.ones(1_000_000)) for _ in range(3)]) == 3
    # Loans come back with the end of the borrower at the latest.
    ray.shutdown()
    depot().sweep()
    assert not list(depot().ledger.holders())


@pool.remote
def hold_inside(gate: str, told: str) -> Any:
    ref = hold.remote(gate)
    Path(told).write_text(str(os.getpid()))
    return pool.get(ref)


def test_task_that_holds_all_cpus_lends_them_while_it_waits(ray: Any, tmp_path: Path) -> None:
    @ray.remote(num_cpus=2)
    def outer(depth: int) -> Any:
        if depth:
            return pool.get(outer.remote(depth - 1)) + pool.get(double.remote(depth))
        return 0

    assert ray.get(outer.remote(3)) == 12
    # All of them have been given back, none twice.
    assert ray.get([double.options(num_cpus=2).remote(1), double.remote(2)]) == [2, 4]
    gate, told = str(tmp_path / "gate"), str(tmp_path / "told")
    os.mkfifo(gate)
    os.mkfifo(told)
    ref = hold_inside.options(num_cpus=2, max_retries=0).remote(gate, told)
    pid = int(Path(told).read_text())
    with open(gate, "w"):  # until the inner one has a CPU
        os.kill(pid, 9)
        with pytest.raises(exceptions.WorkerCrashedError):
            ray.get(ref)
    assert ray.get([double.options(num_cpus=2).remote(1), double.remote(2)]) == [2, 4]


@pytest.mark.parametrize("task", [meet, meet_in_words])
def test_tasks_of_one_message_that_wait_for_each_other(ray: Any, task: Any) -> None:
    meeting = Meeting.options(name="meeting").remote(20)
    # Known to be quick, so that many of them travel together.
    ray.get([task.remote("") for _ in range(2000)])
    refs = [task.remote("meeting" if n % 2 else "") for n in range(40)]
    found = ray.get(refs)
    assert found[1::2] == [20] * 20 or found[1::2] == ["20"] * 20
    assert found[::2] in ([0] * 20, ["none"] * 20)
    assert ray.get(meeting.__ray_ready__.remote())


def test_threads_of_actors_are_answered_while_the_program_is_idle(
    start: Any, tmp_path: Path
) -> None:
    ray = start(num_cpus=1, log_to_driver=False)
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)

    @ray.remote
    class Busy:
        def begin(self, counter: Any, gate: str) -> None:
            threading.Thread(target=self.work, args=(counter, gate)).start()

        def work(self, counter: Any, gate: str) -> None:
            Path(gate).read_text()  # from here on the program only waits for the end
            numbers = [pool.get(counter.add.remote()) for _ in range(100)]
            Path(gate).write_text(str(numbers[-1]))

    busy, counter = Busy.remote(), Counter.remote()
    ray.get([busy.begin.remote(counter, gate), counter.add.remote(0)])
    Path(gate).write_text("go")
    assert Path(gate).read_text() == "100"


def test_who_awaits_lends_its_slot_too(start: Any) -> None:
    ray = start(num_cpus=1)

    def action() -> Any:
        async def both() -> Any:
            return [await double.remote(1), await double.remote(2)]

        return [*asyncio.run(both()), double.remote(3).future().result()]

    assert ray.get(ray.remote(action).remote(), timeout=60) == [2, 4, 6]
    alone = ray.remote(action).options(num_cpus=0)
    assert ray.get(alone.remote(), timeout=60) == [2, 4, 6]


@pytest.mark.parametrize("cpus", [0, 1])
def test_a_child_of_a_fork_asks_for_itself(ray: Any, tmp_path: Path, cpus: int) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)

    def action(gate: str) -> Any:
        array = pool.put(np.arange(100_000))
        held, counter = hold.remote(gate), Counter.options(num_cpus=0).remote()
        future = held.future()
        assert pool.get(double.remote(1)) == 2

        def look() -> None:
            # The parent waits as well; what comes for it is not taken here.
            numbers = pool.get([counter.add.remote(), counter.add.remote()], timeout=60)
            found = pool.get(array, timeout=60).sum() == np.arange(100_000).sum()
            made = pool.get(double.remote(pool.put(4)), timeout=60)
            Path(gate).write_text("x")
            assert found and (numbers, made, held.future().result(60)) == ([1, 2], 8, "x")

        run_in_fork(look)
        # What the child let go, it let go for itself.
        return future.result(60), len(pool.get(array)), pool.get(counter.add.remote())

    asked = ray.remote(action).options(num_cpus=cpus)
    assert ray.get(asked.remote(gate), timeout=90) == ("x", 100_000, 3)


def fork_and_wait(*, exits: bool) -> tuple[str, int]:
    """Fork a child that ends by itself, or just returns; return this pid in the parent."""
    if not os.fork():
        if exits:
            sys.exit(0)
        return "child", os.getpid()
    return f"child ended with {os.waitstatus_to_exitcode(os.wait()[1])}", os.getpid()


class Forking:
    def fork(self, *, exits: bool) -> tuple[str, int]:
        return fork_and_wait(exits=exits)

    def fork_and_yield(self, *, exits: bool) -> Any:
        yield from fork_and_wait(exits=exits)

    def pid(self) -> int:
        return os.getpid()


class AsyncForking:
    async def fork(self, *, exits: bool) -> tuple[str, int]:
        return fork_and_wait(exits=exits)

    async def fork_and_yield(self, *, exits: bool) -> Any:
        for found in fork_and_wait(exits=exits):
            yield found

    async def pid(self) -> int:
        return os.getpid()


@pytest.mark.parametrize("exits", [True, False])
@pytest.mark.parametrize("concurrency", [1, 2, "async"])
def test_a_child_that_a_method_has_forked_is_no_second_actor(
    ray: Any, concurrency: Any, exits: bool
) -> None:
    if concurrency == "async":
        actor = ray.remote(AsyncForking).remote()
    else:
        actor = ray.remote(Forking).options(max_concurrency=concurrency).remote()
    pid = ray.get(actor.pid.remote())
    assert ray.get(actor.fork.remote(exits=exits)) == ("child ended with 0", pid)
    yielded = list(actor.fork_and_yield.remote(exits=exits))
    assert ray.get(yielded) == ["child ended with 0", pid]
    assert ray.get(actor.pid.remote()) == pid


@pytest.mark.parametrize("exits", [True, False])
def test_a_child_that_a_task_with_a_process_of_its_own_has_forked(ray: Any, exits: bool) -> None:
    task = ray.remote(fork_and_wait).options(num_cpus=2)
    assert ray.get(task.remote(exits=exits))[0] == "child ended with 0"
