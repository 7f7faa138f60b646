"""End programs in every way, and see that nothing of them is left."""

from __future__ import annotations

import os
import signal
import textwrap
from typing import TYPE_CHECKING

import pytest
from forking import forking_as_before
from poolscripts import finish, orphans_come_here, python, read_line, run_program, start

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["", "fork", "spawn", "forkserver"]
HEAD = """
import atexit, gc, os, signal, sys, threading, time
from pool import Pool, get_context

def say(word):
    os.write(1, f"{word}\\n".encode())

def hold(n):
    say("began")
    signal.pause()

def hold_in_python(n):
    say("began")
    while True:
        pass

def hold_stubbornly(n):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    say("began")
    while True:
        signal.pause()

def hold_nested(n):
    with Pool(2) as inner:
        inner.map(hold, range(2), 1)

def square(n):
    return n * n

"""
WORK = {
    "idle": "p.map(square, range(10)); say('began'); signal.pause()",
    "waiting": "p.map(hold, range(4), 1)",
    "busy": "p.map(hold_in_python, range(4), 1)",
    "stubborn": "p.map(hold_stubbornly, range(4), 1)",
    "nested": "p.map(hold_nested, range(2), 1)",
    "not waited for": "r = p.map_async(hold, range(4), 1); signal.pause()",
}


def program(body: str, method: str = "") -> str:
    """Put the imports before a program and a pool in it."""
    made = f"p = get_context({method or None!r}).Pool(2)\n"
    return HEAD + made + textwrap.dedent(body)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP], ids=str)
@pytest.mark.parametrize("work", WORK)
def test_nothing_is_left_when_the_program_is_killed(tmp_path: Path, work: str, number: int) -> None:
    check_killed(program(WORK[work]), tmp_path, number)


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("work", ["idle", "busy", "stubborn"])
def test_nothing_is_left_under_each_start_method(tmp_path: Path, work: str, method: str) -> None:
    check_killed(program(WORK[work], method), tmp_path, signal.SIGKILL)


def check_killed(source: str, folder: Path, number: int) -> None:
    """Run a program, kill it and only it, and wait for whatever it leaves to end."""
    with orphans_come_here():
        process = start(python("-c", source), folder)
        assert read_line(process) == "began"
        process.send_signal(number)
        # Ends when the last process that holds the program's output has ended.
        outcome = finish(process)
    assert outcome.returncode == -number, outcome
    assert "Traceback" not in outcome.err, outcome


def test_nothing_is_left_when_killed_while_starting(tmp_path: Path) -> None:
    body = """
        def slow():
            say("began")
            signal.pause()
        q = get_context(None).Pool(2, slow)
        q.map(square, range(4))
    """
    check_killed(program(body), tmp_path, signal.SIGKILL)


def test_a_child_of_the_program_does_not_keep_workers(tmp_path: Path) -> None:
    # It inherits the program's descriptors, so workers must not wait for those alone to close.
    body = """
        r, w = os.pipe()
        p.map(square, range(10))
        if os.fork() == 0:
            os.close(w)
            os.read(r, 1)
            os._exit(0)
        p.map_async(hold, range(2), 1)
        signal.pause()
    """
    check_killed(program(body), tmp_path, signal.SIGKILL)


ENDINGS = {
    "falls off the end": "",
    "with work outstanding": "p.map_async(hold, range(8), 1)",
    "with busy work": "r = p.map_async(hold_in_python, range(8), 1)",
    "with an unfinished iterator": "it = p.imap(square, iter(int, 1)); next(it)",
    "sys.exit": "p.map_async(hold, range(8), 1); sys.exit(0)",
    "sys.exit inside with": "with p: sys.exit(0)",
    "closed, not joined": "p.close()",
    "closed with work": "r = p.map_async(square, range(100), 1); p.close()",
    "terminated, not joined": "p.map_async(hold, range(8), 1); p.terminate()",
    "deleted": "del p",
    "deleted and collected": "del p; gc.collect()",
    "in a cycle": "class C: pass\nc = C(); c.p = p; c.c = c; del c, p",
    "in a class attribute": "class C: pool = p\ndel p",
    "in a default argument": "def f(p=p): pass",
    "in an atexit function": "atexit.register(p.map, square, range(5))",
    "made and never used": "q = Pool(2)",
    "with a waiting thread": (
        "t = threading.Thread(target=lambda: p.map(square, range(50), 1)); t.start()"
    ),
    "with a daemonic waiting thread": (
        "threading.Thread(target=p.map, args=(hold, [1]), daemon=True).start()"
    ),
    "many pools": "ps = [Pool(1) for _ in range(10)]; ps[3].map(square, [1])",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_exit_without_close(tmp_path: Path, ending: str) -> None:
    source = program(f"say(p.map(square, range(4), 1))\n{ENDINGS[ending]}")
    outcome = run_program(source, tmp_path)
    lines = [line for line in outcome.out.splitlines() if line != "began"]
    assert lines == ["[0, 1, 4, 9]"], outcome
    assert outcome.returncode == 0, outcome
    assert outcome.err == "", outcome


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("ending", ["falls off the end", "with work outstanding", "deleted"])
def test_exit_without_close_under_each_start_method(
    tmp_path: Path, ending: str, method: str
) -> None:
    source = program(f"say(p.map(square, range(4), 1))\n{ENDINGS[ending]}", method)
    outcome = run_program(source, tmp_path)
    assert (outcome.returncode, outcome.err) == (0, ""), outcome


def test_os_exit_leaves_nothing(tmp_path: Path) -> None:
    outcome = run_program(program("r = p.map_async(hold, range(4), 1); os._exit(3)"), tmp_path)
    assert outcome.returncode == 3, outcome


def test_an_error_ends_the_program_as_usual(tmp_path: Path) -> None:
    outcome = run_program(program("p.map_async(hold, range(4), 1); 1 / 0"), tmp_path)
    assert outcome.returncode == 1, outcome
    assert outcome.err.count("Traceback") == 1, outcome
    assert outcome.err.rstrip().endswith("ZeroDivisionError: division by zero"), outcome


MODULE = """
import {library}
pool = {library}.Pool(2)
def square(n):
    return n * n
def squares(n):
    return pool.map(square, range(n))
"""


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_a_pool_made_when_a_module_is_imported(tmp_path: Path, library: str) -> None:
    # The standard forks before `square` exists, which its own documentation warns of.
    order = MODULE if library == "pool" else "def square(n):\n    return n * n\n" + MODULE
    (tmp_path / "service.py").write_text(forking_as_before(order.format(library=library)))
    source = """
        import service
        print(service.squares(5))
        print(service.pool.map(service.square, [7]))
        service.pool.terminate()
        service.pool.join()
    """
    folder_first = {"PYTHONSAFEPATH": ""}
    outcome = run_program(source, tmp_path, env=folder_first)
    if library == "multiprocessing":
        assert outcome.out == "[0, 1, 4, 9, 16]\n[49]\n"
    else:
        assert outcome.succeeded() == "[0, 1, 4, 9, 16]\n[49]\n"


def test_a_pool_that_has_to_fork_has_all_of_the_module_that_makes_it(tmp_path: Path) -> None:
    # With the standard workers lack what the module defines below its pool.
    (tmp_path / "service.py").write_text(
        textwrap.dedent("""
            import multiprocessing
            from pool import Pool
            counter = multiprocessing.Value("i", 0)
            def load(factor):
                global model
                model = factor
            workers = Pool(2, load, (3,))
            other = Pool(1)
            unused = Pool(1)
            def work(n):
                with counter.get_lock():
                    counter.value += 1
                return Item(n).times(model)
            class Item:
                def __init__(self, n):
                    self.n = n
                def times(self, factor):
                    return self.n * factor
            """)
    )
    out = run_program(
        """
        import service
        print(service.workers.map(service.work, [1, 2]), service.counter.value)
        print(service.other.apply(service.Item(2).times, (5,)))
        for pool in (service.workers, service.other, service.unused):
            pool.close()
            pool.join()
        """,
        tmp_path,
    ).succeeded()
    assert out == "[3, 6] 2\n10\n"


def test_a_pool_used_while_its_module_is_imported(tmp_path: Path) -> None:
    body = MODULE.format(library="pool") + "table = pool.map(square, range(5))\n"
    (tmp_path / "service.py").write_text(body)
    source = """
        import service
        print(service.table, service.squares(3))
    """
    assert run_program(source, tmp_path).succeeded() == "[0, 1, 4, 9, 16] [0, 1, 4]\n"


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_made_while_an_exception_is_handled(tmp_path: Path, method: str) -> None:
    source = program(
        """
        try:
            1 / 0
        except ZeroDivisionError:
            with get_context(None).Pool(2) as q:
                say(q.map(square, [3]))
        p.terminate()
        """,
        method,
    )
    assert run_program(source, tmp_path).succeeded() == "[9]\n"


def test_raising_callbacks_are_reported_and_harm_nothing(tmp_path: Path) -> None:
    body = """
        def bad(value):
            raise LookupError(f"callback {value}")
        seen = []
        bads = [p.apply_async(square, (n,), callback=bad) for n in range(3)]
        fine = p.apply_async(square, (5,), callback=seen.append)
        failed = p.apply_async(divmod, (1, 0), error_callback=bad)
        say([r.get(90) for r in bads])
        say((fine.get(90), seen))
        failed.wait(90)
        say(failed.successful())
        say(p.map(square, range(3)))
        p.close()
        p.join()
    """
    outcome = run_program(program(body), tmp_path)
    assert outcome.returncode == 0, outcome
    assert outcome.out == "[0, 1, 4]\n(25, [25])\nFalse\n[0, 1, 4]\n", outcome
    for text in ("callback 0", "callback 1", "callback 4", "Traceback", "in bad"):
        assert text in outcome.err, outcome
    assert outcome.err.count("LookupError: callback") == 4, outcome


@pytest.mark.parametrize("submit", ["apply_async(time.sleep, (600,)", "map_async(hold, range(4)"])
def test_terminate_may_be_called_with_a_lock_that_error_callbacks_take(
    tmp_path: Path, submit: str
) -> None:
    body = f"""
        lock = threading.Lock()
        called = threading.Semaphore(0)
        def told(error):
            with lock:
                say(type(error).__name__)
            called.release()
        results = [p.{submit}, error_callback=told) for _ in range(20)]
        while all(thread.name != "actorpool" for thread in threading.enumerate()):
            time.sleep(0.001)  # until there is a thread that drives
        with lock:
            p.terminate()
        p.join()
        for _ in results:
            called.acquire()
    """
    outcome = run_program(program(body), tmp_path).succeeded().splitlines()
    assert [word for word in outcome if word != "began"] == ["PoolTerminated"] * 20


def test_output_of_the_program_is_not_written_twice(tmp_path: Path) -> None:
    # Text that waits in a buffer when workers start must come out once.
    source = """
        import sys
        from pool import Pool, get_context
        sys.stdout.write("once ")
        sys.stderr.write("")
        for method in ("fork", "spawn", "forkserver", None):
            with get_context(method).Pool(2) as p:
                assert p.map(abs, [-1]) == [1]
            p.join()
        print("end")
    """
    outcome = run_program(source, tmp_path, env={"PYTHONUNBUFFERED": ""})
    assert outcome.succeeded() == "once end\n"


NO_THREADS = {
    "refused": """
        def start(thread):
            raise RuntimeError("can't create new thread at interpreter shutdown")
    """,
    # Before 3.12, in finalizers that come behind the exit functions.
    "never run": """
        def start(thread):
            os.write(2, b"started a thread that never runs")
            os._exit(1)
        sys.is_finalizing = lambda: True
    """,
}


@pytest.mark.parametrize("how", NO_THREADS)
def test_calls_at_the_end_where_python_starts_no_thread(tmp_path: Path, how: str) -> None:
    body = """
        def call():
            threading.Thread.start = start
            say(p.apply_async(square, (3,)).get())
            say(p.map_async(square, range(3), callback=say).get())
            say(sum(p.imap(square, (n for n in range(100)))))
        p = Pool(2)
        p.map(square, range(3))
        atexit.register(call)
    """
    source = HEAD + textwrap.dedent(NO_THREADS[how]) + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "9\n[0, 1, 4]\n[0, 1, 4]\n328350\n"


def test_exit_functions_of_the_program_run_once(tmp_path: Path) -> None:
    source = """
        import atexit, os
        from pool import get_context
        atexit.register(os.write, 1, b"bye\\n")
        for method in ("fork", "spawn", "forkserver", None):
            with get_context(method).Pool(2) as p:
                assert p.map(abs, [-1]) == [1]
            p.join()
    """
    assert run_program(source, tmp_path).succeeded() == "bye\n"


@pytest.mark.parametrize("call", ["p.apply(abs, (-1,))", "p.apply_async(abs, (-1,))"])
def test_calls_that_come_too_late_start_no_workers(tmp_path: Path, call: str) -> None:
    source = f"""
        import atexit
        def late():
            try:
                print({call})
            except RuntimeError as error:
                print("the program is ending" in str(error))
        atexit.register(late)
        from pool import Pool
        p = Pool(1)
        print(p.apply(abs, (-5,)))
    """
    assert run_program(source, tmp_path).succeeded() == "5\nTrue\n"


def test_workers_print_where_the_program_does(tmp_path: Path) -> None:
    source = """
        from pool import Pool
        def work(n):
            print("working", n)
            return n
        with Pool(1) as p:
            assert p.map(work, [1, 2]) == [1, 2]
            p.close()
            p.join()
    """
    assert run_program(source, tmp_path).succeeded() == "working 1\nworking 2\n"


@pytest.mark.parametrize("method", ["", "fork", "spawn"])
@pytest.mark.parametrize("nbytes", [10, 1 << 20])  # the latter are sent by reference, and kept
def test_idle_workers_of_a_terminated_pool_end_in_good_order(
    tmp_path: Path, method: str, nbytes: int
) -> None:
    """What they have put into queues is there; with the standard it mostly is, too."""
    source = f"""
import os, threading, time
import numpy
import pool as multiprocessing
from multiprocessing import util

def note():
    time.sleep(0.02)  # longer than it takes to send a signal
    with open("ended", "a") as file:
        file.write("x")

def start():
    util.Finalize(None, note, exitpriority=10)

held = numpy.zeros({nbytes}, "u1")

def pid(_):
    time.sleep(0.01)  # as slow work, which is shared out: one worker may do all of what is quick
    return len(held) and os.getpid()

threading.Thread(target=threading.Event().wait, daemon=True).start()  # no fork of the program
with multiprocessing.get_context({method!r} or None).Pool(2, start) as p:
    seen = set()
    while len(seen) < 2:  # both have started
        seen.update(p.map(pid, range(8), 1))
p.join()
print(len(open("ended").read()))
"""
    assert run_program(source, tmp_path).succeeded() == "2\n"


def test_no_worker_holds_anything_when_the_program_has_ended(tmp_path: Path) -> None:
    """The next program of a script takes the lock that a task held until it was ended."""
    source = """
        import atexit, fcntl, signal, time

        def take():
            fcntl.flock(open("lock", "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("free")

        atexit.register(take)  # before the pool's own, so that it is called after them
        from pool import Pool

        def end(*_):
            time.sleep(0.05)  # longer than to come to the lock
            raise SystemExit(1)

        def hold():
            signal.signal(signal.SIGTERM, end)
            with open("lock", "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                with open("began", "w") as began:
                    began.write("x")
                time.sleep(600)

        pool = Pool(1)
        result = pool.apply_async(hold)
        with open("began") as began:
            began.read()
    """
    os.mkfifo(tmp_path / "began")
    assert run_program(source, tmp_path).succeeded() == "free\n"


def test_no_file_is_left(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    source = """
        import os
        from pool import Pool
        from poolscripts import mapped_files
        p = Pool(2)
        blocks = p.map(bytes, [30_000_000] * 4)
        assert [len(block) for block in blocks] == [30_000_000] * 4
        everybody = [os.getpid(), *(worker.pid for worker in p._pool)]
        files = [file for pid in everybody for file in mapped_files(pid)]
        print([file for file in files if file.startswith("/dev/shm/")])
        r = p.map_async(bytes, [30_000_000] * 4)
    """
    folder = {"TMPDIR": str(tmp_path / "tmp")}
    assert run_program(source, tmp_path, env=folder).succeeded() == "[]\n"
    assert os.listdir(tmp_path / "tmp") == []
