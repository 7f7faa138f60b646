"""Actors: state, order, handles, and how they end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from raytasks import AsyncCounter, Counter, Refusing, add_to, double, fail

import pool
from pool import exceptions
from pool._objects import _home
from pool._objects._refs import FAILED


def test_state_is_kept_and_calls_stay_in_order(ray: Any) -> None:
    counter = Counter.remote(5)
    assert ray.get([counter.add.remote() for _ in range(200)]) == list(range(6, 206))
    assert ray.get(counter.pid.remote()) != os.getpid()


def test_more_actors_than_cpus(ray: Any) -> None:
    counters = [Counter.remote() for _ in range(5)]
    assert ray.get([c.add.remote() for c in counters]) == [1] * 5
    for _ in range(4):
        last = [c.add.remote() for c in counters]
    assert ray.get(last) == [5] * 5
    assert len(set(ray.get([c.pid.remote() for c in counters]))) == 5


def test_arguments_that_are_references_keep_the_order(ray: Any) -> None:
    counter = Counter.remote(double.remote(1))
    refs = [counter.add.remote(double.remote(i)) for i in range(5)]
    assert ray.get(refs) == [2, 4, 8, 14, 22]


@pytest.mark.parametrize(
    "options", [{"max_concurrency": 2}, {"allow_out_of_order_execution": True}]
)
def test_arguments_that_are_not_there_hold_back_no_other_call(
    ray: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    @ray.remote
    def number_from(gate: str) -> int:
        with open(gate) as file:
            return int(file.read())

    number = number_from.remote(str(gate))
    counters = [Counter.options(**options).remote(), AsyncCounter.remote()]
    late = [counter.add.remote(number) for counter in counters]
    assert ray.get([counter.add.remote(3) for counter in counters]) == [3, 3]
    assert ray.wait(late, timeout=0) == ([], late)
    gate.write_text("5")
    assert ray.get(late) == [8, 8]


def test_calls_side_by_side_have_no_order(ray: Any) -> None:
    in_order = {"allow_out_of_order_execution": False}
    for actor in (Counter.options(max_concurrency=2, **in_order), AsyncCounter.options(**in_order)):
        with pytest.raises(ValueError, match="side by side"):
            actor.remote()


def test_calls_behind_those_that_cannot_be_sent_keep_the_order(ray: Any) -> None:
    counter = Counter.remote()
    assert ray.get(counter.add.remote(0)) == 0
    runtime: Any = _home.current()
    failed = fail.remote("no number")
    ray.wait([failed])
    pending = pool.ObjectRef(runtime)
    failing = [counter.add.remote(ref) for ref in [pending] + [failed] * 40]
    first = counter.add.remote(1)

    def let_go() -> Any:
        second = counter.add.remote(10)  # in the mailbox when this function has ended
        pending._seal(FAILED, ValueError("no number"))
        return second

    second = runtime.locked(let_go)
    assert ray.get([first, second]) == [1, 11]
    for ref in failing:
        with pytest.raises(ValueError, match="no number"):
            ray.get(ref)


def test_error_of_a_method_leaves_the_actor_alive(ray: Any) -> None:
    counter = Counter.remote()
    with pytest.raises(KeyError, match="gone") as caught:
        ray.get(counter.fail.remote("gone"))
    assert caught.value.function_name == "Counter.fail"
    assert ray.get(counter.add.remote()) == 1


def test_constructor_that_raises(ray: Any) -> None:
    actor = Refusing.remote("no model")
    with pytest.raises(exceptions.ActorDiedError, match="Refusing.*add.*no model") as caught:
        ray.get(actor.add.remote())
    assert isinstance(caught.value.__cause__, exceptions.RayTaskError)
    assert caught.value.actor_init_failed
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.add.remote())


def test_handle_passed_to_tasks_and_actors(ray: Any) -> None:
    counter = Counter.remote()
    assert ray.get(add_to.remote(counter, 5)) == 5
    other = Counter.remote()
    assert ray.get(other.call_other.remote(counter)) == 15


def test_several_values_and_generators(ray: Any) -> None:
    counter = Counter.remote(3)
    assert ray.get(list(counter.both.remote())) == [3, -3]
    assert ray.get(counter.both.options(num_returns=1).remote()) == (3, -3)
    assert [ray.get(ref) for ref in counter.count_to.remote(4)] == [0, 1, 2, 3]


def test_ends_with_its_last_handle_after_its_calls(ray: Any) -> None:
    counter = Counter.remote()
    process = psutil.Process(ray.get(counter.pid.remote()))
    ref = counter.add.remote()
    del counter
    assert ray.get(ref) == 1
    psutil.wait_procs([process], timeout=30)
    assert not process.is_running()


def test_kept_references_outlive_the_call(ray: Any) -> None:
    counter = Counter.remote()
    ray.get(counter.keep.remote([ray.put("kept"), double.remote(4)]))
    assert ray.get(counter.kept.remote()) == ["kept", 8]


def test_unknown_method_is_named(ray: Any) -> None:
    counter = Counter.remote()
    with pytest.raises(AttributeError, match="'Counter' has no method 'substract'"):
        counter.substract.remote()
    with pytest.raises(TypeError, match=r"handle.add.remote\("):
        counter.add()
    with pytest.raises(TypeError, match=r"Counter.remote\("):
        Counter()


def test_kill(ray: Any) -> None:
    counter = Counter.remote()
    ray.get(counter.add.remote())
    ray.kill(counter)
    with pytest.raises(exceptions.ActorDiedError, match=r"Counter \(pid \d+\).*add.*kill\(\)"):
        ray.get(counter.add.remote())


def test_exit_actor(ray: Any) -> None:
    counter = Counter.options(max_restarts=3).remote()
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(counter.exit.remote())
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(counter.add.remote())


def test_named_actor(ray: Any) -> None:
    counter = Counter.options(name="one", namespace="here").remote(1)
    found = ray.get_actor("one", namespace="here")
    assert found == counter
    assert ray.get(found.add.remote()) == 2
    with pytest.raises(exceptions.ActorAlreadyExistsError, match="exists already") as taken:
        Counter.options(name="one", namespace="here").remote()
    assert isinstance(taken.value, ValueError)
    same = Counter.options(name="one", namespace="here", get_if_exists=True).remote()
    assert same == counter
    ray.kill(counter)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(counter.add.remote())
    with pytest.raises(ValueError, match="no actor named 'one'"):
        ray.get_actor("one", namespace="here")
