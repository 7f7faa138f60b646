"""References of another runtime: a parent's, in the child of a fork, or one that was shut down."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forking import run_in_fork
from raytasks import Counter, double, get_inner, hold

import pool
from pool import exceptions

LATE = 30


@pytest.fixture
def held(ray: Any, tmp_path: Path) -> Iterator[Any]:
    """Return the reference to a task that runs until the test is over."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ref = hold.remote(str(gate))
    with open(gate, "w") as file:  # when somebody reads
        yield ref
        file.write("free")
    assert pool.get(ref) == "free"


def _among_others(held: Any) -> Any:
    return pool.get([double.remote(1), held], timeout=LATE)


def _as_argument(held: Any) -> Any:
    return pool.get(double.remote(held), timeout=LATE)


def _as_argument_of_a_process(held: Any) -> Any:
    return pool.get(double.options(num_cpus=0).remote(held), timeout=LATE)


def _as_argument_of_an_actor(held: Any) -> Any:
    return pool.get(Counter.remote().add.remote(held), timeout=LATE)


def _in_a_pool(held: Any) -> Any:
    with pool.Pool(1) as workers:
        return workers.map_async(str, [held]).get(LATE)


@pytest.mark.parametrize(
    "use",
    [
        _among_others, _as_argument, _as_argument_of_a_process, _as_argument_of_an_actor, _in_a_pool
    ],
)  # fmt: skip
def test_what_the_parent_was_promised_never_comes(held: Any, use: Callable[[Any], Any]) -> None:
    def child() -> None:
        with pytest.raises(exceptions.OwnerDiedError, match="promised to the process"):
            use(held)
        pool.shutdown()

    run_in_fork(child)


def test_wait_takes_that_for_an_error(held: Any) -> None:
    def child() -> None:
        refs = [double.remote(1), held]
        assert pool.wait(refs, num_returns=2, timeout=LATE) == (refs, [])
        assert pool.wait([held], timeout=0) == ([held], [])
        pool.shutdown()

    run_in_fork(child)


def test_what_is_there_goes_with_promises_of_its_own(held: Any) -> None:
    there = pool.put(1)

    def child() -> None:
        assert pool.get([there, double.remote(2)], timeout=LATE) == [1, 4]
        assert len(pool.wait([there, double.remote(2)], num_returns=2, timeout=LATE)[0]) == 2
        assert pool.get(get_inner.remote([there, double.remote(2)]), timeout=LATE) == [1, 4]
        pool.shutdown()

    run_in_fork(child)


def test_a_child_cancels_nothing_of_its_parents(held: Any) -> None:
    run_in_fork(lambda: pool.cancel(held))


def test_what_an_earlier_runtime_has_left_is_there_still(start: Callable[..., Any]) -> None:
    there = start(num_cpus=1).put(1)
    pool.shutdown()
    start(num_cpus=1)
    assert pool.get([there, double.remote(2)], timeout=LATE) == [1, 4]
    refs = [there, double.remote(2)]
    assert pool.wait(refs, num_returns=2, timeout=LATE) == (refs, [])
    assert pool.get(get_inner.remote(refs), timeout=LATE) == [1, 4]
    inner = pool.put([there])
    pool.shutdown()
    start(num_cpus=1)
    assert pool.get(get_inner.remote([inner]), timeout=LATE) == [[there]]
    assert pool.get(get_all.remote([inner]), timeout=LATE) == [1]


@pool.remote
def get_all(refs: list[Any]) -> Any:
    return pool.get(pool.get(refs[0]))


def test_a_child_calls_the_detached_actors_of_its_parent(start: Callable[..., Any]) -> None:
    # A web server that loads the program once, and forks what answers requests.
    ray = start(num_cpus=1, namespace="tests")
    shared = Counter.options(name="shared", lifetime="detached").remote()
    own = Counter.remote()
    assert ray.get([shared.add.remote(), own.add.remote()]) == [1, 1]

    def child() -> None:
        assert pool.get([shared.add.remote() for _ in range(3)], timeout=LATE) == [2, 3, 4]
        with pytest.raises(exceptions.OwnerDiedError, match="make it after the fork"):
            own.add.remote()
        pool.shutdown()

    run_in_fork(child)
    assert ray.get([shared.add.remote(), own.add.remote()]) == [5, 2]
    ray.kill(shared)
