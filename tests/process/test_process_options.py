"""What there is beyond the standard, end to end: on real workers, by every method that takes it."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from crashtasks import hold_first
from poolkit import PATIENCE, Gate
from poolscripts import run_program
from pooltasks import add, hold, pass_gate, square

from pool import Pool, ProgressEvent, WorkerDied
from pool._local import _starting
from pool._workers import _patches
from pool._workers._variables._snapshot import snapshots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.ours_only

MAPS = ["map", "map_async", "imap", "imap_unordered"]
STARMAPS = ["starmap", "starmap_async", "istarmap", "istarmap_unordered"]
CALLS = ["apply", "apply_async"]


def called(pool: Any, method: str, func: Any, count: int, **extra: Any) -> list[Any]:
    """Call a function on so many numbers by a method that takes many, in order if that has one."""
    items: list[Any] = [(n,) for n in range(count)] if "star" in method else list(range(count))
    outcome = getattr(pool, method)(func, items, **extra)
    if method.endswith("async"):
        outcome = outcome.get(PATIENCE)
    return list(outcome)


# ---------------------------------------------------------------------- methods


def test_istarmap_unordered(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    pairs = [(n, 2 * n) for n in range(50)]
    sums = [3 * n for n in range(50)]
    assert sorted(pool.istarmap_unordered(add, pairs)) == sums
    assert sorted(pool.istarmap_unordered(add, iter(pairs), chunksize=7)) == sums
    # As they come: what is slow is overtaken.
    held = [(gate.path, -1), *((None, n) for n in range(20))]
    results = pool.istarmap_unordered(hold_or_pass, held)
    assert sorted(next(results) for _ in range(20)) == list(range(20))
    gate.release()
    assert list(results) == [-1]


def hold_or_pass(path: str | None, value: int) -> int:
    if path is not None:
        pass_gate(path)
    return value


# ---------------------------------------------------------------------- seed


def draw(_: Any = None) -> tuple[float, float]:
    return random.random(), float(np.random.random())


def test_seeds_give_the_same_numbers_by_every_method(make_pool: Callable[..., Any]) -> None:
    one, other = make_pool(1), make_pool(3)
    wanted = one.map(draw, range(12), seed=7)
    assert len({number for pair in wanted for number in pair}) == 24
    for method in (*MAPS, *STARMAPS):
        for extra in ({}, {"chunksize": 5}, {"return_exceptions": True}):
            drawn = called(other, method, draw, 12, seed=7, **extra)
            if "unordered" in method:
                assert sorted(drawn) == sorted(wanted), method
            else:
                assert drawn == wanted, method
    assert called(other, "map", draw, 12, seed=8) != wanted
    single = one.apply(draw, seed=7)
    assert single == other.apply(draw, seed=7) == other.apply_async(draw, seed=7).get(PATIENCE)
    assert single != one.apply(draw, seed=8)


@pytest.mark.parametrize("method", [*MAPS, *STARMAPS])
def test_seeds_are_not_seen_in_what_is_told_of_progress(
    make_pool: Callable[..., Any], method: str
) -> None:
    events: list[ProgressEvent] = []
    pool = make_pool(2)
    called(pool, method, draw, 12, seed=7, progress=events.append)
    pool.close()
    pool.join()  # the last of them was told
    name = f"{method}({__name__}.draw)"
    assert {(event.label, event.total) for event in events} == {(name, 12)}
    assert events[-1].done == 12


# ---------------------------------------------------------------------- retries and errors


def test_a_task_that_took_too_long_is_tried_again(
    make_pool: Callable[..., Any], tmp_path: Path
) -> None:
    pool = make_pool(1)
    for method in (*CALLS, "map", "imap", "starmap"):
        log = str(tmp_path / method)
        # Once more would be enough, but on a machine where that takes as long.
        options: dict[str, Any] = {"timeout": 1.0, "retries": 5}
        if method in CALLS:
            result = getattr(pool, method)(hold_first, (log,), **options)
            assert (result if method == "apply" else result.get(PATIENCE)) == "done"
        else:
            items = [(log,)] if method == "starmap" else [log]
            assert list(getattr(pool, method)(hold_first, items, **options)) == ["done"]
        with open(log) as runs:
            assert len(set(runs.read().split())) >= 2  # each in a worker of its own


@pytest.mark.parametrize("caught", [False, True])
def test_all_failing_items_are_counted(make_pool: Callable[..., Any], caught: bool) -> None:
    for method in ("map", "map_async", "imap", "imap_unordered"):
        events: list[ProgressEvent] = []
        pool = make_pool(2)
        options = {"progress": events.append, "return_exceptions": caught}
        with contextlib.suppress(ZeroDivisionError):
            outcome = getattr(pool, method)(divide_rest, range(20), 1, **options)
            if method == "map_async":
                outcome.wait(PATIENCE)
            elif method != "map":
                exhaust(outcome)
        pool.close()
        pool.join()
        last = events[-1]
        assert (last.done, last.total, last.errors) == (20, 20, 4), method


@pytest.mark.parametrize("caught", [False, True])
def test_a_failing_call_is_counted(make_pool: Callable[..., Any], caught: bool) -> None:
    for item, errors in ((0, 1), (1, 0)):
        events: list[ProgressEvent] = []
        pool = make_pool(1)
        options = {"progress": events.append, "return_exceptions": caught}
        pool.apply_async(divide_rest, (item,), **options).wait(PATIENCE)
        pool.close()
        pool.join()
        assert (events[-1].done, events[-1].total, events[-1].errors) == (1, 1, errors)


class Unsendable:
    def __reduce__(self) -> Any:
        raise LookupError("no pickle of this")


@pytest.mark.parametrize("caught", [False, True])
def test_a_call_that_its_own_argument_keeps_from_being_sent(
    make_pool: Callable[..., Any], caught: bool
) -> None:
    events: list[ProgressEvent] = []
    values: list[Any] = []
    pool = make_pool(1)
    options = {"progress": events.append, "return_exceptions": caught}
    result = pool.apply_async(
        square, (Unsendable(),), callback=values.append, error_callback=values.append, **options
    )
    result.wait()
    assert result.successful() == caught
    assert [type(value) for value in values] == [LookupError]
    assert [(event.done, event.total, event.errors) for event in events] == [(1, 1, 1)]


def divide_rest(n: int) -> float:
    return 1 / (n % 5)


def exhaust(iterator: Any) -> None:
    while True:
        try:
            next(iterator)
        except ZeroDivisionError:
            continue
        except StopIteration:
            return


def test_a_bar(tmp_path: Path) -> None:
    source = """
        import sys
        from pool import Pool
        def square(n): return n * n
        with Pool(2) as p:
            print(p.map(square, range(5), progress=True))
            print(list(p.imap(square, range(3), progress=True)))
            print(p.apply(square, (3,), progress=True))
        p.join()
    """
    done = run_program(source, tmp_path)
    assert (done.returncode, done.out) == (0, "[0, 1, 4, 9, 16]\n[0, 1, 4]\n9\n"), done
    for end in ("map(square): 100%", "5/5", "imap(square): 100%", "3/3", "apply(square)", "1/1"):
        assert end in done.err, done


def test_what_usually_ends_a_worker_so(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    seen = []
    for how in (os._exit, kill_itself):
        with pytest.raises(WorkerDied) as caught:
            pool.apply(how, (signal.SIGKILL,))
        for died in (caught.value, pickle.loads(pickle.dumps(caught.value))):
            assert died.cause and died.remedy
            assert f"; {died.cause}; {died.remedy}" in str(died)
        seen.append(caught.value)
    assert (seen[0].exitcode, seen[1].exitcode) == (9, -9)
    assert "exit" in seen[0].cause and "memory" in seen[1].cause


def kill_itself(number: int) -> None:
    os.kill(os.getpid(), number)


# ---------------------------------------------------------------------- looking


def test_statistics(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    assert pool.map(square, range(10), 1) == [n * n for n in range(10)]
    with pytest.raises(TypeError):
        pool.apply(square, ("x",))
    # Once both workers have answered, the pool knows of both that they are up.
    answers = [pool.apply_async(hold, (gate.path,)) for _ in range(2)]
    pids = {gate.entered(), gate.entered()}
    gate.release(2)
    for answer in answers:
        answer.get(PATIENCE)
    held = [pool.apply_async(hold, (gate.path,)) for _ in range(3)]
    assert {gate.entered(), gate.entered()} == pids
    stats = pool.stats()
    assert {**stats, "workers": None} == {
        "processes": 2,
        "start_method": "forkserver",
        "state": "RUN",
        "workers": None,
        "jobs": stats["jobs"],
        "queued": stats["queued"],
        "tasks_done": 13,
        "tasks_failed": 1,
        "restarts": 0,
    }
    assert stats["jobs"] >= 1 and stats["queued"] <= 1
    assert {worker["pid"] for worker in stats["workers"]} == pids
    assert [set(worker) for worker in stats["workers"]] == [
        {"worker_id", "pid", "host", "state", "tasks_done", "nbytes"}
    ] * 2
    assert {worker["state"] for worker in stats["workers"]} == {"busy"}
    html = pool._repr_html_()
    assert all(f"<td>{pid}</td>" in html for pid in pids)
    assert "<b>pool.Pool</b> RUN, 2 workers" in html and "1 failed" in html
    gate.release(3)
    for result in held:
        result.get(PATIENCE)
    pool.close()
    pool.join()
    assert pool.stats()["state"] == "CLOSE" and pool.stats()["jobs"] == 0
    assert pool._repr_html_().startswith("<div><b>pool.Pool</b> CLOSE")


# ---------------------------------------------------------------------- workers

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_threads_of_numerical_libraries(tmp_path: Path, method: str) -> None:
    source = f"""
        import os
        for name in {THREADS}:
            os.environ.pop(name, None)  # what is set already holds for workers too
        from pool import cpu_count, get_context
        def threads(_):
            return [os.environ.get(name) for name in {THREADS}]
        make = get_context({method!r}).Pool
        for workers in (1, 2):
            with make(workers) as p:
                share = str(max(1, cpu_count() // workers))
                print(p.map(threads, [0]) == [[share] * {len(THREADS)}])
        with make(2, blas_threads=3) as p:
            print(p.map(threads, [0]))
        print(threads(0))
    """
    expected = f"True\nTrue\n[{['3'] * len(THREADS)}]\n{[None] * len(THREADS)}\n"
    assert run_program(source, tmp_path).succeeded() == expected


@pytest.mark.parametrize("method", [None, "fork"])
def test_threads_of_libraries_that_the_program_has_loaded(
    tmp_path: Path, method: str | None
) -> None:
    """A forked worker has them with as many threads as there are CPUs."""
    source = f"""
        import os
        for name in {THREADS}:
            os.environ.pop(name, None)
        import numpy
        from pool import get_context
        def threads(_):
            numpy.ones((500, 500)) @ numpy.ones((500, 500))
            return len(os.listdir("/proc/self/task"))
        threads(0)
        for most in (1, 2):
            with get_context({method!r}).Pool(2, blas_threads=most) as p:
                print(max(p.map(threads, range(8), 1)) <= most)
    """
    assert run_program(source, tmp_path).succeeded() == "True\n" * 2


def test_nothing_of_these_tests_has_to_be_inherited() -> None:
    """Their own modules, and what pytest has loaded, would have all of them test forks only."""
    assert not _starting._has_shared_primitives()
    found = snapshots.take_all()[1], _starting._must_be_inherited(), _patches.take()[1]
    assert found == ("", "", "")
    with Pool(1) as p:
        assert p.stats()["start_method"] == "forkserver"
