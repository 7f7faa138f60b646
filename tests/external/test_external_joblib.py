"""joblib, and scikit-learn through it, on workers of this package."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from collections.abc import Iterator

joblib = pytest.importorskip("joblib")

from pool._cpus import usable_cpus  # noqa: E402  # after what may be missing
from pool.util.joblib import PoolBackend, register, register_ray  # noqa: E402  # needs joblib


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    register()
    with joblib.parallel_config(backend="pool", n_jobs=2):
        yield


def run(function: Any, items: Any, **options: Any) -> Any:
    return joblib.Parallel(**options)(joblib.delayed(function)(item) for item in items)


def test_results_in_order_from_other_processes() -> None:
    offset = 7
    lock = threading.Lock()

    def add(number: int) -> tuple[int, int]:
        with lock:
            return number + offset, os.getpid()

    values, pids = zip(*run(add, range(40), batch_size=1), strict=True)
    assert values == tuple(range(7, 47))
    assert os.getpid() not in pids and len(set(pids)) <= 2


@pytest.mark.parametrize("how", ["generator", "generator_unordered"])
def test_generators(how: str) -> None:
    found = list(run(lambda number: number * 2, range(20), return_as=how))
    assert sorted(found) == list(range(0, 40, 2))
    assert how == "generator_unordered" or found == sorted(found)


def test_arrays_are_private() -> None:
    np = pytest.importorskip("numpy")
    array = np.ones(200_000)

    def spoil(number: int) -> Any:
        array[0] += number
        return array

    found = run(spoil, range(4), batch_size=1)
    # joblib's own processes cannot write to it: it is a read-only map there.
    assert array[0] == 1 and all(result[1:].all() for result in found)
    assert [result[0] for result in found] == [1, 2, 3, 4]


def test_an_error_ends_the_call_and_the_next_one_works() -> None:
    def fail(number: int) -> int:
        if number == 3:
            raise KeyError(number)
        return number

    with joblib.Parallel() as parallel:
        with pytest.raises(KeyError):
            parallel(joblib.delayed(fail)(number) for number in range(6))
        assert parallel(joblib.delayed(fail)(number) for number in range(3)) == [0, 1, 2]
    with pytest.raises(multiprocessing.TimeoutError):  # joblib's
        run(lambda _: threading.Event().wait(), [0], timeout=0.2)


def test_workers_stay_within_a_context_and_nested_calls_are_threads() -> None:
    def nested(number: int) -> tuple[int, list[int]]:
        return os.getpid(), run(lambda _: os.getpid(), range(number))

    with joblib.Parallel() as parallel:
        rounds = [parallel(joblib.delayed(nested)(3) for _ in range(4)) for _ in range(2)]
    first, second = ({pid for pid, _ in found} for found in rounds)
    assert len(first | second) <= 2
    assert all(set(inner) == {pid} for found in rounds for pid, inner in found)


@pytest.mark.parametrize(
    ("asked", "number"), [(None, 1), (3, 3), (-1, "cpus"), (-1000, 1)], ids=str
)
def test_numbers_of_workers(asked: int | None, number: Any) -> None:
    expected = usable_cpus() if number == "cpus" else number
    assert PoolBackend().effective_n_jobs(asked) == expected


def test_no_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        run(abs, [1], n_jobs=0)


def test_arguments_of_the_pool() -> None:
    with joblib.parallel_config(backend="pool", n_jobs=2, maxtasksperchild=1):
        pids = run(lambda _: os.getpid(), range(6), batch_size=1)
    assert len(set(pids)) == 6
    with joblib.parallel_config(backend="pool"):
        pids = run(lambda _: os.getpid(), range(6), n_jobs=2, batch_size=1, maxtasksperchild=1)
        assert len(set(pids)) == 6
        with pytest.raises(TypeError, match="maxtaskperchild"):
            run(abs, [1, 2], n_jobs=2, maxtaskperchild=1)
        # One worker would be slower than none.
        assert run(lambda _: os.getpid(), range(3), n_jobs=1) == [os.getpid()] * 3


def test_calls_within_the_loop_over_a_generator(tmp_path: Path) -> None:
    gates = {number: tmp_path / f"gate{number}" for number in (1, 2)}
    for gate in gates.values():
        os.mkfifo(gate)

    def work(number: int) -> int:
        if number in gates:
            gates[number].read_text()
        return number * 2

    # The last one is not handed out before the call inside of the loop has ended.
    options = {"n_jobs": 3, "pre_dispatch": 2, "batch_size": 1, "return_as": "generator"}
    values = run(work, range(4), **options)
    assert next(values) == 0
    assert run(abs, [-5, -6], n_jobs=3) == [5, 6]
    for gate in gates.values():
        gate.write_text("x")
    assert list(values) == [2, 4, 6]


def test_all_cpus_are_those_that_may_be_used(tmp_path: Path) -> None:
    source = """
        import os
        from pool.util.joblib import PoolBackend
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print([PoolBackend().effective_n_jobs(asked) for asked in (-1, -2, 3)])
    """
    assert run_program(source, tmp_path).succeeded() == "[1, 1, 3]\n"


def test_the_name_that_ray_uses() -> None:
    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=2):
        assert os.getpid() not in run(lambda _: os.getpid(), range(4), batch_size=1)


def test_scikit_learn_finds_the_same() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV, cross_val_score

    features, kinds = load_iris(return_X_y=True)
    forest = RandomForestClassifier(n_estimators=10, random_state=3)

    def scores() -> Any:
        search = GridSearchCV(forest, {"max_depth": [2, 4]}, cv=3).fit(features, kinds)
        return search.best_params_, cross_val_score(forest, features, kinds, cv=3).tolist()

    here = scores()
    with joblib.parallel_config(backend="sequential"):
        assert scores() == here
