"""Run pools where a test has put something else in the place of what Python has."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from poolscripts import run_program

# As tools do that freeze the time: each module that has imported a clock gets another one.
FROZEN = """
import sys, time

started = time.monotonic()
real = [time.time, time.monotonic, time.perf_counter]

def frozen():
    return 1325376000.0

def freeze():
    for module in list(sys.modules.values()):
        if module is None or module.__name__.startswith(("threading", "multiprocessing")):
            continue
        for name, value in list(vars(module).items()):
            if any(value is clock for clock in real) and module is not sys.modules["__main__"]:
                setattr(module, name, frozen)
"""


@pytest.mark.parametrize("first", ["import pool", "freeze()"], ids=["afterwards", "beforehand"])
@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_clocks_that_stand(tmp_path: Path, first: str, method: str) -> None:
    body = f"""
    {first}
    from pool import TaskTimeout, TimeoutError, get_context
    freeze()
    assert time.monotonic() == time.perf_counter() == frozen()

    def work(seconds):
        time.sleep(seconds)
        return seconds

    with get_context({method!r}).Pool(2) as p:
        print(p.map(work, [0] * 5, 1), list(p.imap_unordered(work, [0])))
        result = p.apply_async(work, (0.4,))
        try:
            result.get(0.1)
        except TimeoutError:
            print("not yet")
        print(result.ready(), result.get(20))
        try:
            p.apply(work, (60,), timeout=0.3)
        except TaskTimeout as error:
            print("over")
        waiting = p.map_async(work, [60])
    p.join()
    p = get_context({method!r}).Pool(2)
    last = p.map_async(work, [0.1])
    p.close()
    p.join()
    print(last.get(), real[1]() - started < 30)
    """
    done = run_program(FROZEN + textwrap.dedent(body), tmp_path).succeeded()
    assert done == "[0, 0, 0, 0, 0] [0]\nnot yet\nFalse 0.4\nover\n[0.1] True\n"


def test_clocks_that_stand_while_actors_work(tmp_path: Path) -> None:
    body = """
    import pool as ray
    freeze()

    @ray.remote
    def work(seconds):
        return seconds

    @ray.remote
    class Worker:
        def work(self, seconds):
            real_sleep = time.sleep
            real_sleep(seconds)
            return seconds

    worker = Worker.remote()
    slow = worker.work.remote(0.5)
    print(ray.wait([slow], timeout=0.05), ray.get([work.remote(1), slow], timeout=20))
    ray.shutdown()
    print(real[1]() - started < 30)
    """
    done = run_program(FROZEN + textwrap.dedent(body), tmp_path).succeeded()
    assert done.startswith("([], [ObjectRef(") and done.endswith(" [1, 0.5]\nTrue\n"), done


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_files_that_are_made_up(tmp_path: Path, method: str) -> None:
    body = f"""
    import os
    from unittest import mock
    from pool import get_context

    def work(n):
        return n * n

    with mock.patch("builtins.open", mock.mock_open(read_data="made up")):
        with mock.patch("os.path.exists", return_value=False), mock.patch("time.sleep"):
            with get_context({method!r}).Pool(2) as p:
                print(p.map(work, range(4), 1))
    """
    assert run_program(textwrap.dedent(body), tmp_path).succeeded() == "[0, 1, 4, 9]\n"
