"""Check pools used from threads, from tasks, from forked and daemonic processes, and forgotten."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from forking import run_in_fork
from poolkit import PATIENCE, Flavour, Gate
from pooltasks import add, hold, pid, square

if TYPE_CHECKING:
    from collections.abc import Callable

STANDARD_FAILS = {
    "test_a_pool_in_a_task_of_another_one_is_not_that_one": "pool objects cannot be pickled",
    "test_a_task_makes_a_pool": "daemonic processes are not allowed to have children",
    "test_a_task_makes_a_pool_in_a_task_of_a_pool": "as above",
    "test_a_task_starts_a_process": "as above",
    "test_a_daemonic_process_makes_a_pool": "as above",
    "test_a_task_uses_the_pool_it_came_from": "pool objects cannot be pickled",
    "test_a_forked_child_uses_the_pool_and_so_does_its_parent": "no thread serves the child; hangs",
    "test_a_child_process_uses_the_pool": "no thread serves the child; hangs",
    "test_a_forked_child_ends_its_copy": "waits for threads that the child does not have",
    "test_a_forgotten_pool_ends_its_workers": "waits, now and then, for a lock that a worker has",
    "test_a_pool_forgotten_with_work_does_not_hang": "as above",
}


@pytest.mark.every_method
def test_threads_share_a_pool(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    wrong: list[Any] = []

    def use(n: int) -> None:
        for k in range(5):
            numbers = range(n, n + 10 + k)
            squares = [x * x for x in numbers]
            got = [
                pool.map(square, numbers),
                list(pool.imap(square, numbers, 1 + k)),
                sorted(pool.imap_unordered(square, numbers)),
                pool.apply(square, (n,)),
                pool.starmap(add, [(n, k)] * 3),
                pool.apply_async(add, (n, k)).get(PATIENCE),
            ]
            if got != [squares, squares, squares, n * n, [n + k] * 3, n + k]:
                wrong.append(got)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_thread_waits_while_others_work(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(pool.apply(hold, (gate.path, "slow"))))
    waiter.start()
    gate.entered()
    assert pool.map(square, range(50)) == [n * n for n in range(50)]
    assert got == []
    gate.release()
    waiter.join()
    assert got == ["slow"]


def test_a_result_may_be_awaited_by_several_threads(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    result = make_pool(1).apply_async(hold, (gate.path, "value"))
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(result.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.entered()
    gate.release()
    for thread in threads:
        thread.join()
    assert got == ["value"] * 4


def test_a_pool_made_in_a_thread_outlives_it(make_pool: Callable[..., Any]) -> None:
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(make_pool(2)))
    thread.start()
    thread.join()
    # The workers must not end with the thread that started them.
    assert made[0].map(square, range(10)) == [n * n for n in range(10)]
    seen = {worker for _ in range(3) for worker in made[0].map(pid, range(20), 1)}
    assert len(seen) <= 2, "workers were replaced"


def test_close_in_one_thread_while_another_waits(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(1)
    result = pool.apply_async(hold, (gate.path, 5))
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(result.get()))
    waiter.start()
    gate.entered()
    pool.close()
    gate.release()
    pool.join()
    waiter.join()
    assert got == [5]


@pytest.mark.this_machine
@pytest.mark.every_method
def test_a_task_makes_a_pool(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    jobs = [(flavour.library, flavour.method, depth) for depth in (1, 1, 1)]
    assert pool.starmap(pool_in_task, jobs, 1) == [[0, 1, 4]] * 3


def test_a_task_makes_a_pool_in_a_task_of_a_pool(
    flavour: Flavour, make_pool: Callable[..., Any]
) -> None:
    assert make_pool(1).apply(pool_in_task, (flavour.library, flavour.method, 3)) == [0, 1, 4]


def pool_in_task(library: str, method: str | None, depth: int) -> list[int]:
    """Make a pool inside this task, whose tasks may do the same."""
    with Flavour(library, method).make(2) as pool:
        if depth > 1:
            result: list[int] = pool.apply(pool_in_task, (library, method, depth - 1))
        else:
            result = pool.map(square, range(3))
    pool.join()
    return result


def test_a_task_uses_the_pool_it_came_from(make_pool: Callable[..., Any]) -> None:
    # More such tasks than workers: each waits for tasks that need a worker.
    pool = make_pool(2)
    assert pool.map(use_again, [(pool, n, 2) for n in range(4)], 1) == [4 * n for n in range(4)]


def use_again(job: tuple[Any, int, int]) -> int:
    """Run two more tasks on the same pool, to some depth."""
    pool, value, depth = job
    if depth == 0:
        return value
    return sum(pool.map(use_again, [(pool, value, depth - 1)] * 2, 1))


def test_a_pool_in_a_task_of_another_one_is_not_that_one(make_pool: Callable[..., Any]) -> None:
    pool, other = (make_pool(1, _belong_to, (name,)) for name in ("pool", "other"))
    assert pool.apply(whose_tasks, (pool,)) == "pool"
    assert pool.apply(whose_tasks, (other,)) != "pool"


def _belong_to(name: str) -> None:
    # Not in a variable of a module, which workers of this process would take over.
    vars(multiprocessing.current_process())["owner"] = name


def _whose() -> str:
    found: str = vars(multiprocessing.current_process()).get("owner", "")
    return found


def whose_tasks(pool: Any) -> str:
    """Return where the tasks of a pool run that is used in a task."""
    found: str = pool.apply_async(_whose).get()
    return found


@pytest.mark.every_method
def test_a_task_starts_a_process(make_pool: Callable[..., Any]) -> None:
    assert make_pool(1).apply(process_in_task) == 0


def process_in_task() -> int | None:
    """Start a process inside this task."""
    child = multiprocessing.get_context("fork").Process(target=square, args=(2,))
    child.start()
    child.join()
    return child.exitcode


@pytest.mark.every_method
def test_a_daemonic_process_makes_a_pool(flavour: Flavour) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(
        target=answer_from_pool, args=(answers, flavour.library, flavour.method), daemon=True
    )
    child.start()
    assert answers.get() == [0, 1, 4]
    child.join()
    assert child.exitcode == 0
    answers.close()


def answer_from_pool(answers: Any, library: str, method: str | None) -> None:
    """Make a pool in a child process and send back what it computed, or why it did not."""
    try:
        answers.put(pool_in_task(library, method, 1))
    except BaseException:
        answers.put(traceback.format_exc())


@pytest.mark.this_machine
@pytest.mark.every_method
def test_a_forked_child_uses_the_pool_and_so_does_its_parent(
    make_pool: Callable[..., Any],
) -> None:
    pool = make_pool(2)
    before = set(pool.map(pid, range(30), 1))

    def use_in_child() -> None:
        assert pool.map(square, range(10)) == [n * n for n in range(10)]
        assert not before & set(pool.map(pid, range(30), 1))
        assert list(pool.imap(square, range(5))) == [0, 1, 4, 9, 16]

    run_in_fork(use_in_child)
    assert pool.map(square, range(10)) == [n * n for n in range(10)]
    run_in_fork(use_in_child)
    # Which of its workers a pool uses is its own affair; they are the same ones.
    assert set(pool.map(pid, range(30), 1)) <= {worker.pid for worker in pool._pool}


def test_a_forked_child_ends_its_copy(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    workers = {worker.pid for worker in pool._pool}

    def end_in_child() -> None:
        pool.terminate()
        pool.join()

    run_in_fork(end_in_child)
    # Which is not the parent's: no worker was ended and replaced.
    assert set(pool.map(pid, range(30), 1)) <= workers
    assert {worker.pid for worker in pool._pool} == workers


def test_a_forked_child_that_does_nothing(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    result = pool.apply_async(hold, (gate.path, 3))
    gate.entered()
    # The child must neither take the parent's results nor end the parent's workers.
    run_in_fork(gc.collect)
    gate.release()
    assert result.get(PATIENCE) == 3
    assert pool.map(square, range(10)) == [n * n for n in range(10)]


def test_a_child_process_uses_the_pool(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    assert pool.map(square, range(3)) == [0, 1, 4]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def use() -> None:
        answers.put(pool.map(square, range(4)))

    child = context.Process(target=use)
    child.start()
    assert answers.get() == [0, 1, 4, 9]
    child.join()
    assert child.exitcode == 0
    answers.close()
    assert pool.map(square, range(3)) == [0, 1, 4]


@pytest.mark.every_method
def test_a_forgotten_pool_ends_its_workers(flavour: Flavour) -> None:
    pool = flavour.make(2)
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    workers = [psutil.Process(number) for number in set(pool.map(pid, range(30), 1))]
    with warnings.catch_warnings():
        # The standard's class warns of this; whether ours does is its own affair.
        warnings.simplefilter("ignore", ResourceWarning)
        del pool
        gc.collect()
    # The standard module keeps its process objects, and zombies, until somebody asks.
    multiprocessing.active_children()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_a_pool_forgotten_with_work_does_not_hang(flavour: Flavour, gate: Gate) -> None:
    pool = flavour.make(2)
    results = [pool.apply_async(hold, (gate.path, 1)) for _ in range(2)]
    workers = [psutil.Process(gate.entered()) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        # The handles refer to the pool: it lives as long as one of them does.
        del pool
        gc.collect()
        gate.release(2)
        assert [result.get(PATIENCE) for result in results] == [1, 1]
        del results
        gc.collect()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    # The standard module keeps its process objects until somebody asks.
    multiprocessing.active_children()


@pytest.mark.every_method
def test_only_the_standard_may_leave_something(
    flavour: Flavour, request: pytest.FixtureRequest
) -> None:
    # The reference forgets pipes when it is forgotten; ours is held to account after each test.
    excused = request.node.get_closest_marker("reference") is not None
    assert excused == flavour.standard
