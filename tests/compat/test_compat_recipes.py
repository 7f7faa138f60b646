"""Recipes that programs have from answers and cookbooks, which look behind the public names."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("library", ["multiprocessing", "pool"])


def run(library: str, body: str, folder: Path) -> str:
    head = f"""
import os, pickle
import {library} as multiprocessing
import {library}.pool

def square(x):
    return x * x
"""
    return run_program(head + textwrap.dedent(body), folder).succeeded()


@pytest.mark.parametrize("method", ["", "'fork'"])
def test_pools_within_pools(library: str, method: str, tmp_path: Path) -> None:
    """In the standard library, workers are daemons, which may not have children."""
    body = f"""
    class NoDaemonProcess(multiprocessing.Process):
        @property
        def daemon(self):
            return False

        @daemon.setter
        def daemon(self, value):
            pass

    class NoDaemonContext(type(multiprocessing.get_context({method}))):
        Process = NoDaemonProcess

    class NestablePool(multiprocessing.pool.Pool):
        def __init__(self, *args, **kwargs):
            kwargs["context"] = NoDaemonContext()
            super().__init__(*args, **kwargs)

    def total(n):
        with multiprocessing.Pool(2) as inner:
            return sum(inner.map(square, range(n)))

    with NestablePool(2) as p:
        print(p.map(total, [3, 4]), NoDaemonContext().get_start_method())
    """
    assert run(library, body, tmp_path) == "[5, 14] fork\n"


def test_how_many_chunks_are_left(library: str, tmp_path: Path) -> None:
    body = """
    def wait(path):
        with open(path) as gate:
            gate.read()

    names = list("01234")
    for name in names:
        os.mkfifo(name)
    with multiprocessing.Pool(1) as p:
        result = p.map_async(wait, names, chunksize=2)
        seen = [result._number_left]
        for name in names:
            open(name, "w").close()
            while name in "13" and result._number_left == seen[-1]:
                result.wait(0.01)
            if name in "13":
                seen.append(result._number_left)
        result.get()
        print(seen, result._number_left, result._chunksize)
        print(p.map_async(square, [])._number_left)
        failed = p.map_async(square, "a")
        failed.wait()
        print(failed._number_left)
    """
    assert run(library, body, tmp_path) == "[3, 2, 1] 0 2\n0\n0\n"


def test_how_workers_ended(library: str, tmp_path: Path) -> None:
    body = """
    p = multiprocessing.Pool(2)
    workers = p._pool[:]
    p.map(square, range(8))
    print([worker.exitcode for worker in workers], all(worker.is_alive() for worker in workers))
    p.close()
    p.join()
    print([worker.exitcode for worker in workers], any(worker.is_alive() for worker in workers))

    p = multiprocessing.Pool(2)
    p.map(square, range(8))
    workers = p._pool[:]
    p.terminate()
    p.join()
    # One that was told to end may be quicker than the signal.
    print({worker.exitcode for worker in workers} <= {-15, 0})
    """
    expected = "[None, None] True\n[0, 0] False\nTrue\n"
    assert run(library, body, tmp_path) == expected


def test_contexts_of_ones_own_are_pickled(library: str, tmp_path: Path) -> None:
    body = """
    class Mine(type(multiprocessing.get_context("spawn"))):
        pass

    copy = pickle.loads(pickle.dumps(Mine()))
    print(type(copy) is Mine, copy.get_start_method())
    """
    assert run(library, body, tmp_path) == "True spawn\n"
