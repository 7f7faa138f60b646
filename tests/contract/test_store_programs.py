"""What a program puts into the store: its own classes and functions, found again everywhere."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import enum, functools, multiprocessing, pickle, sys
import numpy as np
import pool, store

class Outer:
    def __init__(self, array):
        self.array = array

    class Inner:
        pass

class Color(enum.Enum):
    RED = 1

@functools.lru_cache
def cached(x):
    return x

table = None

def load():
    global table
    table = {"set": "by the initializer"}

def look():
    return table

def check(outer, rest):
    inner, color, function, cache = rest
    assert type(outer) is Outer and outer.array.sum() == 50_000
    assert type(inner) is Outer.Inner and color is Color.RED and cache is cached
    assert function is look
    return function()

def total(outer):
    return outer.array.sum()

def totals(refs):
    return total(store.get(refs[0]))

def check_values(refs):
    return check(*map(store.get, refs))

def put():
    return [store.put(Outer(np.ones(50_000))), store.put((Outer.Inner(), Color.RED, look, cached))]
"""


def run(body: str, folder: Path) -> str:
    return run_program(HEAD + textwrap.dedent(body), folder).succeeded()


@pytest.mark.parametrize("method", ["None", "'fork'", "'spawn'", "'forkserver'"])
def test_a_program_without_main_guard(method: str, tmp_path: Path) -> None:
    """Before any worker knows of the classes; whatever is asked for first."""
    body = f"""
    refs = put()
    assert check_values(refs) is None
    context = pool.get_context({method}) if {method} else pool

    def within(refs):
        with pool.Pool(1) as p:
            return p.apply(check_values, (refs,))

    for function, args in [(total, refs[:1]), (totals, [refs])]:
        with context.Pool(1) as p:
            print(p.apply(function, args), p.apply(type, (refs[0],)) is Outer)
    for function, args in [(check, refs), (check_values, [refs]), (within, [refs])]:
        with context.Pool(1, load) as p:
            print(p.apply(function, args))
            returned = p.apply(put)
            check_values(returned)
            print(p.map(check_values, [returned, refs], 1) == [{{"set": "by the initializer"}}] * 2)
    """
    # In a pool of a task's own, no initializer has run; what the task has set goes along.
    line = "{'set': 'by the initializer'}\nTrue\n"
    assert run(body, tmp_path) == 2 * "50000.0 True\n" + 3 * line


def test_what_has_no_name_goes_with_what_has_one(tmp_path: Path) -> None:
    body = """
    outer = Outer(np.ones(50_000))
    ref = store.put([outer, lambda: (Outer, look)])

    def check_both(value):
        made, function = value
        assert type(made) is Outer and function() == (Outer, look)
        return look()

    print(check_both(store.get(ref)))
    with pool.Pool(1, load) as p:
        print(p.apply(check_both, (ref,)))
        print(p.apply(lambda refs: check_both(store.get(refs[0])), ([ref],)))
    """
    line = "{'set': 'by the initializer'}\n"
    assert run(body, tmp_path) == "None\n" + 2 * line


def test_a_module_that_a_worker_cannot_import(tmp_path: Path) -> None:
    body = """
    import types
    made = types.ModuleType("made")
    exec("class Point:\\n    pass\\ndef describe(): return Point", vars(made))
    sys.modules["made"] = made
    ref = store.put([made.Point(), made.describe])

    def kinds(value):
        point, describe = value
        return type(point) is describe(), type(point).__module__

    with pool.Pool(1) as p:
        print(p.apply(kinds, (ref,)))
    """
    assert run(body, tmp_path) == "(True, 'made')\n"


def test_tasks_and_actors(tmp_path: Path) -> None:
    body = """
    @pool.remote
    def task(*args):
        return check(*args)

    @pool.remote
    def within(refs):
        return check_values(refs)

    refs = put()
    print(pool.get(pool.remote(total).remote(refs[0])), pool.get(pool.remote(totals).remote(refs)))
    print(pool.get([task.remote(*refs), within.remote(refs)]))
    pool.shutdown()
    """
    assert run(body, tmp_path) == "50000.0 50000.0\n[None, None]\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_the_standard(method: str, tmp_path: Path) -> None:
    body = f"""
    refs = put()
    check_values(refs)

    def child(refs, queue):
        check_values(refs)
        queue.put(put())

    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        queue = context.Queue()
        process = context.Process(target=child, args=(refs, queue))
        process.start()
        print(check_values(queue.get()))
        process.join()
        with pool.Pool(1) as p:
            print(p.apply(check_values, (pickle.loads(pickle.dumps(refs)),)))
    """
    assert run(body, tmp_path) == "None\nNone\n"
