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
import os, pickle, time
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


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_are_processes_at_once(library: str, method: str, tmp_path: Path) -> None:
    """Programs pin them to CPUs, watch their memory, change their priority."""
    body = f"""
    def pid_of_this(_):
        return os.getpid()

    if __name__ == "__main__":
        p = multiprocessing.get_context({method!r}).Pool(2)
        pids = [worker.pid for worker in p._pool]
        [os.kill(pid, 0) for pid in pids]
        print(len({{*pids, os.getpid()}}), pids == [worker.ident for worker in p._pool])
        print(set(p.map(pid_of_this, range(20), 1)) <= set(pids))
        p.terminate()
        p.join()
    """
    assert run(library, body, tmp_path) == "3 True\nTrue\n"


def test_the_pid_of_a_worker_does_not_wait_for_its_initializer(
    library: str, tmp_path: Path
) -> None:
    body = """
    def wait_for(path):
        while not os.path.exists(path):
            time.sleep(0.001)

    p = multiprocessing.Pool(2, wait_for, ("go",))
    print(len({worker.pid for worker in p._pool}), None in [worker.pid for worker in p._pool])
    open("go", "w").close()
    print(p.map(square, range(3)))
    """
    assert run(library, body, tmp_path) == "2 False\n[0, 1, 4]\n"


def test_contexts_of_ones_own_are_pickled(library: str, tmp_path: Path) -> None:
    body = """
    class Mine(type(multiprocessing.get_context("spawn"))):
        pass

    copy = pickle.loads(pickle.dumps(Mine()))
    print(type(copy) is Mine, copy.get_start_method())
    """
    assert run(library, body, tmp_path) == "True spawn\n"


def test_classes_of_the_standard_module(library: str, tmp_path: Path) -> None:
    """Libraries ask for these to tell what they were given."""
    body = """
    import functools
    from multiprocessing.pool import (
        ApplyResult, AsyncResult, IMapIterator, IMapUnorderedIterator, MapResult, Pool, ThreadPool
    )

    @functools.singledispatch
    def kind(thing):
        return "thing"

    @kind.register
    def _(thing: Pool):
        return "pool"

    def kinds(thing, *classes):
        print([isinstance(thing, each) for each in classes])

    def inside(p):
        return isinstance(p, Pool)

    with multiprocessing.Pool(2) as p:
        kinds(p, Pool, ThreadPool, multiprocessing.pool.Pool, int)
        one, many = p.apply_async(square, (2,)), p.map_async(square, [3])
        kinds(one, ApplyResult, AsyncResult, MapResult)
        kinds(many, ApplyResult, AsyncResult, MapResult)
        kinds(p.imap(square, []), IMapIterator, IMapUnorderedIterator)
        kinds(p.imap_unordered(square, []), IMapIterator, IMapUnorderedIterator)
        print(kind(p), type(p).__name__, p.__class__.__name__, AsyncResult[int].__args__)
        # The standard's pool may hang if it is ended while tasks are under way.
        one.wait(), many.wait()
    """
    expected = (
        "[True, False, True, False]\n[True, True, False]\n[True, True, True]\n"
        "[True, False]\n[True, True]\npool Pool Pool (<class 'int'>,)\n"
    )
    assert run(library, body, tmp_path) == expected


def test_classes_derived_from_pool_are_themselves(library: str, tmp_path: Path) -> None:
    body = """
    class Counting(multiprocessing.pool.Pool):
        made = 0

        def __init__(self, *args):
            super().__init__(*args)
            self.__class__.made += 1

        def __repr__(self):
            return f"{self.__class__.__name__}({self._processes})"

    with Counting(1) as p:
        print(p, Counting.made, isinstance(p, multiprocessing.pool.Pool), type(p) is p.__class__)
        print(p.map(square, [3]))

    class Other(multiprocessing.pool.Pool):
        def twice(self, x):
            return 2 * self.apply(square, (x,))

    with multiprocessing.Pool(1) as p:
        p.__class__ = Other
        print(p.twice(3), isinstance(p, Other))
    """
    assert run(library, body, tmp_path) == "Counting(1) 1 True True\n[9]\n18 True\n"


def test_waiting_until_nothing_is_left(library: str, tmp_path: Path) -> None:
    body = """
    import threading

    def wait(path):
        with open(path) as gate:
            gate.read()
        return path

    os.mkfifo("gate")
    done = []
    called, going_on = threading.Event(), threading.Event()

    def slowly(value):
        called.set()
        going_on.wait()
        done.append(value)

    with multiprocessing.Pool(2) as p:
        print(len(p._cache))
        held = p.apply_async(wait, ("gate",), callback=slowly)
        mapped = p.map_async(square, range(10))
        each = [p.apply_async(square, (n,), callback=done.append) for n in range(20)]
        print(held._job in p._cache, held._job in held._cache, p._cache[held._job] is held)
        open("gate", "w").close()
        going_on.set()
        ordered, unordered = p.imap(square, range(300)), p.imap_unordered(square, range(300))
        print(ordered._job != unordered._job)
        while p._cache:
            held.wait(0.01)
        print(sorted(done, key=str) == sorted([*(n * n for n in range(20)), "gate"], key=str))
        print(held._event.is_set(), mapped.ready(), all(result.ready() for result in each))
        print(list(ordered) == [n * n for n in range(300)], len(list(unordered)))
        print(held._job in p._cache, {mapped._job, *(result._job for result in each)} & {*p._cache})
        called.clear()
        going_on.clear()
        late = p.apply_async(square, (2,), callback=slowly)
        called.wait()
        print(len(p._cache), late._job in p._cache)
        going_on.set()
    """
    expected = "0\nTrue True True\nTrue\nTrue\nTrue True True\nTrue 300\nFalse set()\n1 True\n"
    assert run(library, body, tmp_path) == expected


def test_waiting_until_no_children_are_left(library: str, tmp_path: Path) -> None:
    """Programs that have closed a pool do so in place of `join`, and then look at its work."""
    body = """
    def write(path):
        with open(path + ".gate") as gate:
            gate.read()
        open(path, "w").close()

    def begin(*paths):
        for path in paths:
            os.mkfifo(path + ".gate")
        p = multiprocessing.Pool(2)
        for path in paths:
            p.apply_async(write, (path,))
        print(len(multiprocessing.active_children()), len(p._ctx.active_children()))
        p.close()
        for path in paths:
            open(path + ".gate", "w").close()
        return p

    p = begin("a", "b", "c")
    while multiprocessing.active_children():
        time.sleep(0.01)
    print([os.path.exists(path) for path in "abc"])
    p = begin("d", "e", "f")
    for child in multiprocessing.active_children():
        child.join()
    print([os.path.exists(path) for path in "def"])
    p = multiprocessing.Pool(2)
    other = multiprocessing.Process(target=time.sleep, args=(60,))
    other.start()
    print(len({child.pid for child in multiprocessing.active_children()}))
    print(other in multiprocessing.active_children())
    other.kill()
    other.join()
    p.terminate()
    p.join()
    print(multiprocessing.active_children())
    """
    assert run(library, body, tmp_path) == "2 2\n[True, True, True]\n" * 2 + "3\nTrue\n[]\n"


def test_how_many_results_have_come_in(library: str, tmp_path: Path) -> None:
    """Nobody takes a result as long as this is shown."""
    body = """
    import time

    for method in ("imap", "imap_unordered"):
        p = multiprocessing.Pool(2)
        results = getattr(p, method)(square, iter(range(500)))
        p.close()
        while (done := results._index) != 500:
            time.sleep(0.01)
        while results._length is None:
            time.sleep(0.01)
        print(done, results._length, sum(results) == sum(n * n for n in range(500)))
        p.join()

    def broken():
        yield 1
        raise LookupError("broken")

    with multiprocessing.Pool(2) as p:
        results = p.imap(square, broken())
        print(next(results))
        while results._length is None or results._index < results._length:
            time.sleep(0.01)
        print(results._length)
    """
    assert run(library, body, tmp_path) == "500 500 True\n500 500 True\n1\n2\n"


def test_how_much_waits(library: str, tmp_path: Path) -> None:
    body = """
    import time

    def wait(path):
        with open(path) as gate:
            gate.read()

    os.mkfifo("gate")
    with multiprocessing.Pool(1) as p:
        print(p._taskqueue.empty(), p._taskqueue.qsize(), p._inqueue.empty(), p._outqueue.empty())
        results = [p.apply_async(wait, ("gate",)) for _ in range(3)]
        while p._inqueue.empty():
            time.sleep(0.01)
        for result in results:
            # Each task has closed its end before it returns: what opens is the next one's.
            os.close(os.open("gate", os.O_WRONLY))
            result.wait()
        print(p._taskqueue.empty(), p._inqueue.empty(), p._outqueue.empty())
        # The way to hand out no more than is worked off.
        count = 0
        for n in range(500):
            while p._taskqueue.qsize() > 20:
                time.sleep(0.001)
            count += 1
            last = p.apply_async(square, (n,))
        print(count, last.get())
    """
    assert run(library, body, tmp_path) == "True 0 True True\nTrue True True\n500 249001\n"


@pytest.mark.parametrize("where", ["outside", "in-terminate"])
def test_workers_that_are_killed_with_their_pool(library: str, where: str, tmp_path: Path) -> None:
    """As programs do whose compiled code does not listen to SIGTERM."""
    body = f"""
    import signal
    from {library}.pool import TERMINATE, Pool

    def block(name):
        open(name, "w").close()
        os.mkfifo(name + ".gate")
        open(name + ".gate").close()

    def kill(pool):
        # So that nobody is replaced.
        pool._state = TERMINATE
        pool._worker_handler._state = TERMINATE
        for worker in pool._pool:
            os.kill(worker.pid, signal.SIGKILL)
        while any(worker.is_alive() for worker in pool._pool):
            time.sleep(0.001)

    class Killed(Pool):
        def terminate(self):
            kill(self)
            super().terminate()

    p = Pool(2) if {where == "outside"} else Killed(2)
    workers = p._pool[:]
    print(p._worker_handler._state)
    calls = [p.apply_async(block, (name,)) for name in "abcd"]
    while not (os.path.exists("a") and os.path.exists("b")):
        time.sleep(0.001)
    if {where == "outside"}:
        kill(p)
    p.terminate()
    p.join()
    print([worker.is_alive() for worker in workers], p._worker_handler._state, p._state)
    """
    expected = "RUN\n[False, False] TERMINATE TERMINATE\n"
    assert run(library, body, tmp_path) == expected


def test_what_a_pool_was_made_with(library: str, tmp_path: Path) -> None:
    body = """
    def start(value):
        global started
        started = value

    context = multiprocessing.get_context("fork")
    p = multiprocessing.pool.Pool(2, start, (1,), 7, context)
    print(p._initializer is start, p._initargs, p._maxtasksperchild, p._processes)
    print(p._ctx is context, p._wrap_exception, p._state)
    handlers = p._worker_handler, p._task_handler, p._result_handler
    print([handler.is_alive() for handler in handlers], {handler.daemon for handler in handlers})
    process = p.Process(p._ctx, target=print, args=("hello",))
    process.start()
    process.join()
    p.close()
    print(p._state)
    p.join()
    print([handler.is_alive() for handler in handlers])
    with multiprocessing.Pool(1) as p:
        print(p._initializer, p._initargs, p._maxtasksperchild, p._ctx.get_start_method())
    print(p._state)
    p.join()
    print([handler.is_alive() for handler in handlers])
    """
    expected = (
        "True (1,) 7 2\nTrue True RUN\n[True, True, True] {True}\nhello\nCLOSE\n"
        "[False, False, False]\nNone () None fork\nTERMINATE\n[False, False, False]\n"
    )
    assert run(library, body, tmp_path) == expected


def test_more_workers(library: str, tmp_path: Path) -> None:
    body = """
    def meet(_):
        # Only workers of which there are three can do that.
        barrier.wait(60)
        return os.getpid()

    barrier = multiprocessing.Barrier(3)
    def start(value):
        global barrier
        barrier = value

    with multiprocessing.Pool(1, start, (barrier,)) as p:
        p.apply(square, (1,))
        p._processes = 3
        p._repopulate_pool()
        print(len(p._pool), len(set(p.map(meet, range(3), 1))))
    """
    assert run(library, body, tmp_path) == "3 3\n"


def test_calls_are_seen_by_derived_classes(library: str, tmp_path: Path) -> None:
    body = """
    class LoggingPool(multiprocessing.pool.Pool):
        def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None):
            print("apply_async", func.__name__, args, kwds)
            return super().apply_async(func, args, kwds, callback, error_callback)

        def _map_async(self, func, iterable, *rest, **more):
            print("_map_async", func.__name__, iterable)
            return super()._map_async(func, iterable, *rest, **more)

    def add(a, b=1):
        return a + b

    with LoggingPool(2) as p:
        print(p.apply(add, (1,), {"b": 2}))
        print(p.apply_async(add, (1,)).get())
        print(p.map(square, [1, 2]), p.map(square, [3], 1))
        print(p.map_async(square, [4], callback=print).get())
        print(p.starmap(add, [(1, 2)]), p.starmap_async(add, [(3, 4)], 1).get())
        print(list(p.imap(square, [5])))
    """
    expected = """\
apply_async add (1,) {'b': 2}
3
apply_async add (1,) {}
2
_map_async square [1, 2]
_map_async square [3]
[1, 4] [9]
_map_async square [4]
[16]
[16]
_map_async add [(1, 2)]
_map_async add [(3, 4)]
[3] [7]
[25]
"""
    assert run(library, body, tmp_path) == expected


def test_calls_are_seen_by_patches(library: str, tmp_path: Path) -> None:
    body = """
    from unittest import mock
    from multiprocessing.pool import mapstar, starmapstar

    Pool = multiprocessing.pool.Pool
    with Pool(1) as p:
        with mock.patch.object(Pool, "apply_async", autospec=True) as patched:
            patched.return_value.get.return_value = "mocked"
            print(p.apply(square, (3,)), patched.call_count)
        print(p.apply(square, (3,)))
        p.apply_async = mock.Mock(wraps=p.apply_async)
        print(p.apply(square, (4,)), p.apply_async.call_args.args)
        with mock.patch.object(p, "_map_async", wraps=p._map_async) as patched:
            print(p.map(square, [1, 2]), p.starmap(pow, [(2, 3)]), patched.call_count)
        print(p._map_async(square, [1, 2], mapstar).get())
        print(p._map_async(pow, [(2, 3)], starmapstar).get())
    """
    expected = "mocked 1\n9\n16 (<function square at"
    printed = run(library, body, tmp_path)
    assert printed.startswith(expected)
    assert printed.endswith(", (4,), {})\n[1, 4] [8] 2\n[1, 4]\n[8]\n")


def test_a_lazy_starmap_made_by_hand(library: str, tmp_path: Path) -> None:
    """Of an answer that very many programs have copied, as a patch or in a class of their own."""
    body = f"""
    import {library}.pool as mpp

    def istarmap(self, func, iterable, chunksize=1, kind=mpp.IMapIterator):
        self._check_running()
        batches = mpp.Pool._get_tasks(func, iterable, chunksize)
        result = kind(self)
        tasks = self._guarded_task_generation(result._job, mpp.starmapstar, batches)
        self._taskqueue.put((tasks, result._set_length))
        return (item for chunk in result for item in chunk)

    class Starred(mpp.Pool):
        lazily = istarmap

    with Starred(2) as p:
        print(list(p.lazily(pow, [(n, 2) for n in range(7)], chunksize=3)))
        print(sum(p.lazily(max, zip(range(99), range(99)), 9, mpp.IMapUnorderedIterator)))
        results = p.lazily(divmod, [(7, 2), (1, 0)])
        print(next(results))
        try:
            next(results)
        except ZeroDivisionError:
            print("raised")
    mpp.Pool.istarmap = istarmap
    with multiprocessing.Pool(2) as p:
        print(list(p.istarmap(pow, [(1, 2), (3, 4)])))
    """
    expected = "[0, 1, 4, 9, 16, 25, 36]\n4851\n(3, 1)\nraised\n[1, 81]\n"
    assert run(library, body, tmp_path) == expected


def test_derived_classes_are_terminated_once(library: str, tmp_path: Path) -> None:
    body = """
    import gc

    class Ending(multiprocessing.pool.Pool):
        def terminate(self):
            print("terminate")
            super().terminate()

    with Ending(1) as p:
        print(p.apply(square, (3,)))
    p.join()
    del p
    gc.collect()
    p = Ending(1)
    p.close()
    p.join()
    del p
    gc.collect()
    """
    assert run(library, body, tmp_path) == "9\nterminate\n"
