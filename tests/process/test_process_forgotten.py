"""Pools that nobody ends: what is told of them, by whom they are ended, and who may end them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import python, run_command, run_program

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import gc, os, pickle, select, subprocess, sys
from pool import Pool, PoolTerminated

def workers_of(pool):
    return [os.pidfd_open(worker.pid) for worker in pool._pool]

def wait_for_ends(workers):
    # As long as it takes: the test has a limit.
    for worker in workers:
        select.select([worker], [], [])
        os.close(worker)
"""


def program(body: str) -> str:
    return HEAD + textwrap.dedent(body)


def test_a_warning_that_is_an_error_is_shown_and_the_workers_end(tmp_path: Path) -> None:
    source = program("""
        p = Pool(2)
        workers = workers_of(p)
        del p
        gc.collect()
        wait_for_ends(workers)
        print("ended")
    """)
    done = run_command(python("-W", "error::ResourceWarning", "-c", source), tmp_path)
    assert (done.returncode, done.out) == (0, "ended\n"), done
    assert "Exception ignored" in done.err and "Pool.__del__" in done.err, done
    assert "ResourceWarning: unclosed running multiprocessing pool" in done.err, done


def test_the_tasks_of_a_forgotten_imap_run_and_then_the_workers_end(tmp_path: Path) -> None:
    source = program("""
        def note(n):
            os.write(1, b"x")
        p = Pool(2)
        workers = workers_of(p)
        p.imap(note, set(range(500)))
        del p
        wait_for_ends(workers)
    """)
    assert run_program(source, tmp_path).succeeded() == 500 * "x"


def test_a_finalizer_may_end_a_pool_in_the_midst_of_an_import(tmp_path: Path) -> None:
    source = HEAD.replace("import Pool, PoolTerminated", "import Pool") + textwrap.dedent("""
        import time
        class Ending:
            def __del__(self):
                p.terminate()
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "multiprocessing.process":
                    sys.meta_path.remove(self)
                    Ending()
        p = Pool(1)
        result = p.apply_async(time.sleep, (100,))
        assert "multiprocessing" not in sys.modules
        sys.meta_path.insert(0, Finder())
        import multiprocessing
        try:
            result.get()
        except Exception as error:
            print(error)
        p.join()
    """)
    assert "terminated" in run_program(source, tmp_path, as_before=False).succeeded()


def test_a_finalizer_may_end_a_pool_in_the_midst_of_the_lines_of_the_store(tmp_path: Path) -> None:
    # Whoever drives the pool then waits for the store, with the lead and the lock of the driver.
    source = program("""
        import sys, threading, time
        from store import _interrupts, _mappings, put
        class Owner:
            def __init__(self):
                self.pool = Pool(2)
                self.itself = self
            def __del__(self):
                self.pool.terminate()
        owner = Owner()
        pool = owner.pool
        result = pool.map_async(len, [bytes(1 << 20)] * 1000, 1)
        put(bytes(1 << 20))
        while not pool.stats()["tasks_done"]:
            time.sleep(0.001)
        def is_waited_for():
            frames = sys._current_frames()
            del frames[threading.get_ident()]
            return any(frame.f_code in waits for frame in frames.values())
        Lock = _interrupts.ShieldedLock
        waits = Lock.__enter__.__code__, Lock.acquire.__code__
        with _mappings.books:
            while not is_waited_for():
                time.sleep(0.001)
            del owner
            gc.collect()
        pool.join()
        try:
            result.get()
        except PoolTerminated:
            print("ended")
    """)
    assert run_program(source, tmp_path).succeeded() == "ended\n"


def test_an_endless_imap_ends_with_its_pool_when_both_are_forgotten(tmp_path: Path) -> None:
    source = program("""
        import itertools
        p = Pool(2)
        workers = workers_of(p)
        for n in p.imap(abs, itertools.count()):
            if n == 100:
                break
        del p
        gc.collect()
        wait_for_ends(workers)
        print("ended")
    """)
    assert run_program(source, tmp_path).succeeded() == "ended\n"


@pytest.mark.parametrize("before", ["", "p.close()"])
def test_what_a_class_does_when_it_is_terminated_is_not_done_by_the_collector(
    tmp_path: Path, before: str
) -> None:
    source = program(f"""
        class Mine(Pool):
            def terminate(self):
                print("terminate")
                super().terminate()
        p = Mine(1)
        p.map(abs, [1])
        workers = workers_of(p)
        {before}
        del p
        gc.collect()
        wait_for_ends(workers)
        print("ended")
        with Mine(1):
            pass
    """)
    assert run_program(source, tmp_path).succeeded() == "ended\nterminate\n"


def test_an_error_callback_may_end_the_pool_under_hundreds_of_calls(tmp_path: Path) -> None:
    # Each of them fails by that, and its own callback ends the pool again.
    source = program("""
        os.mkfifo("gate")
        def work(given):
            if given == [0]:
                open("gate").close()
                raise ValueError("failed")
            return given
        told = []
        def failed(error):
            told.append(type(error).__name__)
            p.terminate()
        p = Pool(1)
        results = [p.apply_async(work, ([n],), error_callback=failed) for n in range(800)]
        open("gate", "w").close()
        for result in results:
            result.wait()
        p.terminate()
        p.join()
        print(told.count("ValueError"), told.count("PoolTerminated"), len(told))
        for result in results[1:]:
            try:
                result.get()
            except PoolTerminated:
                pass
        try:
            p.apply(abs, (1,))
        except ValueError as error:
            print(error)
    """)
    assert run_program(source, tmp_path).succeeded() == "1 799 800\nPool not running\n"


def test_an_error_callback_may_end_the_pool_before_it_has_ended(tmp_path: Path) -> None:
    # The thread that ends the pool waits for those callbacks, and drives as long as it does.
    source = program("""
        import threading, time
        from pool._local._engine import LocalEngine
        dispose = LocalEngine.dispose
        others_know = threading.Event()
        def dispose_late(engine):
            if threading.get_ident() == ends:
                others_know.wait()
            others_know.set()
            dispose(engine)
        LocalEngine.dispose = dispose_late
        told = []
        def failed(error):
            global ends
            told.append(type(error).__name__)
            if told == ["ValueError"]:
                ends = threading.get_ident()
            if len(told) == 6:
                others_know.set()
            p.terminate()
        def work(given):
            raise ValueError("failed")
        p = Pool(1)
        first = p.apply_async(work, ([0],), error_callback=failed)
        others = [p.apply_async(time.sleep, (60,), error_callback=failed) for n in range(5)]
        first.wait()
        print(told.count("ValueError"), told.count("PoolTerminated"))
    """)
    assert run_program(source, tmp_path).succeeded() == "1 5\n"


ELSEWHERE = """
import pickle, psutil, sys
p = pickle.load(sys.stdin.buffer)
print(p._processes, p.stats()["workers"], psutil.Process().children(recursive=True))
print(p.map(abs, [-1, -2]), len(p._pool))
p.terminate()
p.join()
"""


def test_a_pool_that_was_sent_to_a_program_starts_when_it_is_used(tmp_path: Path) -> None:
    source = program(f"""
        with Pool(2) as p:
            sent = pickle.dumps(p)
            done = subprocess.run(
                [sys.executable, "-c", {ELSEWHERE!r}], input=sent, stdout=subprocess.PIPE
            )
            print(done.stdout.decode(), end="")
            print(pickle.loads(sent) is p)
    """)
    assert run_program(source, tmp_path).succeeded() == "2 [] []\n[1, 2] 2\nTrue\n"
