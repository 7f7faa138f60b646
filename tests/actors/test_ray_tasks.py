"""Tasks and objects: what goes in, what comes out, and in which order."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from raytasks import (
    count_then_fail,
    count_to,
    double,
    fail,
    fib,
    get_inner,
    halves,
    kind_of,
    make_refs,
    total,
)

from pool import exceptions


def test_value_of_a_task(ray: Any) -> None:
    ref = double.remote(21)
    assert ray.get(ref) == 42
    assert ray.get([double.remote(i) for i in range(100)]) == [2 * i for i in range(100)]


def test_first_use_starts_the_runtime(start: Any) -> None:
    import pool

    assert not pool.is_initialized()
    assert pool.get(double.remote(1)) == 2
    assert pool.is_initialized()
    with pytest.raises(RuntimeError, match="runs already"):
        pool.init()
    pool.init(ignore_reinit_error=True)
    pool.shutdown()
    assert not pool.is_initialized()


def test_starts_again_after_shutdown(ray: Any) -> None:
    assert ray.get(double.remote(1)) == 2
    ray.shutdown()
    assert ray.get(double.remote(2)) == 4


def test_arguments_by_name_and_references_among_them(ray: Any) -> None:
    one = ray.put(1)
    assert ray.get(total.remote(one, 2, start=double.remote(one))) == 5


def test_top_level_references_arrive_as_values_and_nested_ones_stay(ray: Any) -> None:
    ref = ray.put([1])
    assert ray.get(kind_of.remote(ref)) == "list"
    assert ray.get(kind_of.remote([ref])) == "list"
    assert ray.get(get_inner.remote([ref, double.remote(ref)])) == [[1], [1, 1]]


def test_chain_of_dependencies(ray: Any) -> None:
    ref = ray.put(1)
    for _ in range(50):
        ref = double.remote(ref)
    assert ray.get(ref) == 2**50


def test_array_arrives_writable_and_private(ray: Any) -> None:
    array = np.arange(100_000)
    ref = ray.put(array)
    array[0] = -1  # put has copied
    first, second = ray.get([ref, ref])
    first[1] = -1
    assert (second == np.arange(100_000)).all()
    assert (ray.get(double.remote(ref)) == 2 * np.arange(100_000)).all()


def test_arguments_are_copied_when_submitted(ray: Any) -> None:
    items = [1, 2]
    refs = [double.remote(items) for _ in range(50)]
    items.append(3)
    assert ray.get(refs) == [[1, 2, 1, 2]] * 50


def test_error_is_also_what_was_raised(ray: Any) -> None:
    ref = fail.remote("because")
    with pytest.raises(ValueError, match="because") as caught:
        ray.get(ref)
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert type(caught.value.cause) is ValueError
    assert "in fail" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, ValueError) and isinstance(again, exceptions.RayTaskError)


def test_error_passes_through_dependents(ray: Any) -> None:
    ref = double.remote(double.remote(fail.remote("first")))
    with pytest.raises(ValueError, match="first") as caught:
        ray.get(ref)
    assert caught.value.function_name == "fail"


def test_several_values(ray: Any) -> None:
    left, right = halves.remote("abcd")
    assert ray.get([left, right]) == ["ab", "cd"]
    assert double.options(num_returns=0).remote(1) is None
    with pytest.raises(ValueError, match="returned 2 values, and num_returns=3"):
        ray.get(halves.options(num_returns=3).remote("abcd")[0])


def test_get_gives_up_after_a_timeout(ray: Any, tmp_path: Any) -> None:
    import os

    from raytasks import hold

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ref = hold.remote(str(gate))
    with pytest.raises(exceptions.GetTimeoutError) as caught:
        ray.get([ref, ray.put(1)], timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert ray.wait([ref], timeout=0) == ([], [ref])
    gate.write_text("open")
    assert ray.get(ref) == "open"


def test_get_raises_an_error_without_waiting_for_the_others(ray: Any, tmp_path: Any) -> None:
    import os

    from raytasks import hold

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    held = hold.remote(str(gate))
    with pytest.raises(ValueError, match="early"):
        ray.get([held, ray.put(1), fail.remote("early")])
    assert ray.wait([held], timeout=0) == ([], [held])
    gate.write_text("open")
    assert ray.get([held, ray.put(1)]) == ["open", 1]


def test_wait_splits_in_the_given_order(ray: Any) -> None:
    refs = [double.remote(i) for i in range(20)]
    ready, rest = ray.wait(refs, num_returns=5)
    assert len(ready) == 5
    assert sorted(map(refs.index, ready + rest)) == list(range(20))
    ready, rest = ray.wait(refs, num_returns=20)
    assert (ready, rest) == (refs, [])
    with pytest.raises(ValueError, match="num_returns=3 of 2"):
        ray.wait(refs[:2], num_returns=3)
    with pytest.raises(TypeError, match="list of ObjectRef"):
        ray.wait([1])


def test_wait_loop_sees_each_reference_once(ray: Any) -> None:
    left = [double.remote(i) for i in range(500)]
    values = []
    while left:
        ready, left = ray.wait(left)
        values += ray.get(ready)
    assert sorted(values) == [2 * i for i in range(500)]


def test_nested_tasks_on_one_cpu(start: Any) -> None:
    ray = start(num_cpus=1)
    assert ray.get(fib.remote(7)) == 13


def test_references_made_by_a_task_outlive_it(ray: Any) -> None:
    refs = ray.get(make_refs.remote(3))
    assert ray.get(refs) == [0, 1, 2, 6]


def test_generator_gives_references_while_it_runs(ray: Any) -> None:
    stream = count_to.remote(5)
    assert [ray.get(ref) for ref in stream] == [0, 1, 2, 3, 4]
    got = []
    with pytest.raises(ValueError, match="enough"):
        for ref in count_then_fail.remote(2):
            got.append(ray.get(ref))
    assert got == [0, 1]


def test_direct_call_says_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"double.remote\("):
        double(1)


def test_unknown_option_is_named() -> None:
    with pytest.raises(ValueError, match="unknown option 'num_cpu'"):
        double.options(num_cpu=1)
    with pytest.raises(ValueError, match="not 'pip': workers have"):
        double.options(runtime_env={"pip": ["numpy"]})
    with pytest.raises(ValueError, match="max_calls=-1: a whole number from 0 on"):
        double.options(max_calls=-1)


def test_reference_is_not_sent_by_other_ways(ray: Any) -> None:
    ref = ray.put(1)
    with pytest.raises(TypeError, match="within the program"):
        pickle.dumps(ref)
    assert repr(ref) == f"ObjectRef({ref.hex()})" and len(ref.hex()) == 56
    with pytest.raises(TypeError, match="reference already"):
        ray.put(ref)


def test_future_and_await(ray: Any) -> None:
    import asyncio

    assert double.remote(4).future().result() == 8
    assert isinstance(fail.remote("x").future().exception(), ValueError)

    async def both() -> Any:
        return await asyncio.gather(double.remote(1), double.remote(2).as_future())

    assert asyncio.run(both()) == [2, 4]


def test_closure_over_a_reference(ray: Any) -> None:
    ref = ray.put(20)

    @ray.remote
    def read(x: int) -> Any:
        return ray.get(ref) + x

    assert ray.get([read.remote(i) for i in range(3)]) == [20, 21, 22]


def test_an_answer_to_a_waiting_thread_stays_the_same(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it may go on is asked by the thread that drives, and again by the one that waits."""
    refs = [ray.put(number) for number in range(3)]
    runtime = refs[0]._home
    answers: list[list[bool]] = []

    def wait(ready: Any, timeout: float | None) -> None:
        answers.append([ready() for _ in range(3)])

    monkeypatch.setattr(runtime.engine, "wait", wait)
    runtime.wait(refs, 2, None)
    runtime.wait(refs[:1], 1, None)
    assert answers == [[True] * 3] * 2
