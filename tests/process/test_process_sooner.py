"""Workers are forked from a program that has loaded much, if nothing speaks against it."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
from poolscripts import run_program

HEAD = """
    import _thread, os, socket, sys, threading
    import numpy
    from pool import Pool, get_context

    def starts(count=1, make=Pool):
        found = []
        for _ in range(count):
            with make(2) as p:
                assert p.map(abs, [-1, -2]) == [1, 2]
                found.append(p.stats()["start_method"])
        return found
"""


def run(body: str, folder: Path) -> str:
    source = textwrap.dedent(HEAD) + textwrap.dedent(body)
    return run_program(source, folder).succeeded()


LOADED = """
    from pool._workers import _servers

    def loaded(number):
        while not _servers._servers[number].is_up():
            time.sleep(0.01)
"""


def test_the_first_pools_of_a_program(tmp_path: Path) -> None:
    # The second one does not wait for the forkserver that is started for pools to come.
    body = """
    import time
    print(starts(), len(_servers._servers))
    print(starts(), len(_servers._servers))
    loaded(0)
    print(starts(2), len(_servers._servers))
    """
    assert (
        run(LOADED + body, tmp_path) == "['fork'] 0\n['fork'] 1\n['forkserver', 'forkserver'] 1\n"
    )


def test_no_pool_waits_for_a_forkserver_that_loads_modules(tmp_path: Path) -> None:
    (tmp_path / "gated.py").write_text(
        "import os\nopen(os.path.join(os.path.dirname(__file__), 'gate')).read()\n"
    )
    body = """
    import time
    from pool import set_forkserver_preload
    os.mkfifo("gate")
    set_forkserver_preload(["gated"])
    print(starts(4), len(_servers._servers))
    open("gate", "w").close()  # returns when the forkserver has begun to read
    loaded(0)
    print(starts())
    """
    assert run(LOADED + body, tmp_path) == ("['fork', 'fork', 'fork', 'fork'] 1\n['forkserver']\n")


def test_pools_whose_workers_have_other_settings(tmp_path: Path) -> None:
    # One worker may use more threads than each of two, so it has a forkserver of its own.
    body = """
    import time
    os.environ.pop("OMP_NUM_THREADS", None)
    single = lambda number: Pool(1, blas_threads=3)
    print(starts(2), starts(1, single), len(_servers._servers))
    loaded(0), loaded(1)
    print(starts(), starts(1, single), len(_servers._servers))
    """
    assert run(LOADED + body, tmp_path) == (
        "['fork', 'fork'] ['fork'] 2\n['forkserver'] ['forkserver'] 2\n"
    )


def test_a_pool_that_cannot_be_forked_waits_for_the_forkserver_that_is_started(
    tmp_path: Path,
) -> None:
    body = """
    starts(2)
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    print(starts(), len(_servers._servers))
    """
    assert run(LOADED + body, tmp_path) == "['forkserver'] 1\n"


def test_the_forkserver_is_killed_before_it_is_up(tmp_path: Path) -> None:
    body = """
    import signal
    starts(2)
    os.kill(_servers._servers[0].pid, signal.SIGKILL)
    os.waitid(os.P_PID, _servers._servers[0].pid, os.WEXITED | os.WNOWAIT)
    print(starts(2), len(_servers._servers))
    """
    assert run(LOADED + body, tmp_path) == "['forkserver', 'forkserver'] 1\n"


def test_a_program_that_ends_while_the_forkserver_is_started(tmp_path: Path) -> None:
    assert run("print(starts(2))", tmp_path) == "['fork', 'fork']\n"


def test_a_pool_that_is_in_use(tmp_path: Path) -> None:
    body = """
    p = Pool(1)
    print(p.map(abs, [-1]), p.stats()["start_method"], starts(), p.map(abs, [-2]))
    p.terminate()
    """
    assert run(body, tmp_path) == "[1] fork ['forkserver'] [2]\n"


def test_threads_of_libraries_that_forks_do_not_hurt(tmp_path: Path) -> None:
    # OpenBLAS ends its own; the allocator of Arrow, which pandas loads, sees to it.
    pytest.importorskip("pyarrow")
    body = """
    import pandas
    numpy.ones((500, 500)) @ numpy.ones((500, 500))
    print(len(os.listdir("/proc/self/task")) > 1, starts())
    """
    assert run(body, tmp_path) == "True ['fork']\n"


@pytest.mark.parametrize("imported", [True, False])
def test_threads_of_numexpr(tmp_path: Path, imported: bool) -> None:
    """A stand-in: threads that Python knows nothing of, started by a module with its name.

    pandas imports numexpr where it is installed.
    """
    body = f"""
    import ctypes, types
    libc = ctypes.CDLL(None)
    for _ in range(3):
        libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)
    if {imported}:
        module = sys.modules["numexpr.interpreter"] = types.ModuleType("numexpr.interpreter")
        module.count = 3
        module._get_num_threads = lambda: module.count
        module._set_num_threads = lambda count: setattr(module, "count", count)
    print(starts())
    with Pool(2) as p:
        print(p.map(lambda _: {imported} and sys.modules["numexpr.interpreter"].count, [1]))
    """
    is_limited = len(os.sched_getaffinity(0)) < 4  # to one for each of two workers
    count = (1 if is_limited else 3) if imported else False
    start = "fork" if imported else "forkserver"
    assert run(body, tmp_path) == f"['{start}']\n[{count}]\n"


@pytest.mark.parametrize(
    "against",
    [
        "thread = threading.Thread(target=done.wait); thread.start()",
        # As of a library in C, which `threading` does not know.
        "_thread.start_new_thread(lambda: done.wait(), ())",
        "listening = socket.socket()",
        "reading = os.pipe()",
        "import store; ref = store.put(numpy.ones(100_000))",
        "with get_context('forkserver').Pool(2): pass",
        "import pool._workers._sooner as sooner; sooner.MOST_NBYTES = 1 << 20",
        "import pool._workers._early as early; early.HEAVY = ()",
    ],
    ids=[
        "thread",
        "thread-in-c",
        "socket",
        "pipe",
        "stored",
        "forkserver",
        "large",
        "little-loaded",
    ],
)
def test_what_speaks_against_it(tmp_path: Path, against: str) -> None:
    body = f"done = threading.Event()\n{against}\nprint(starts())\ndone.set()\n"
    assert run(body, tmp_path) == "['forkserver']\n"


def test_pipes_of_whoever_started_the_program(tmp_path: Path) -> None:
    # As make hands them on.
    assert run("os.set_inheritable(os.pipe()[0], True)\nprint(starts())", tmp_path) == (
        "['forkserver']\n"  # the other end is the program's own
    )
    body = "for fd in os.pipe(): os.set_inheritable(fd, True)\nprint(starts())"
    assert run(body, tmp_path) == "['fork']\n"


def test_the_start_method_that_somebody_chose(tmp_path: Path) -> None:
    body = "print([starts(1, get_context(name).Pool) for name in ('forkserver', 'spawn')])"
    assert run(body, tmp_path) == "[['forkserver'], ['spawn']]\n"


def test_a_pool_that_a_module_makes_when_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(
        "from pool import Pool\np = Pool(1)\ndef double(n): return 2 * n\n"
    )
    body = """
    import service
    print(service.p.map(service.double, range(3)), service.p.stats()["start_method"])
    service.p.terminate()
    """
    assert run(body, tmp_path) == "[0, 2, 4] forkserver\n"


def test_workers_draw_different_numbers(tmp_path: Path) -> None:
    body = """
    numpy.random.seed(7)
    def draw(_):
        return os.getpid(), numpy.random.random()
    for _ in range(2):
        with Pool(2, maxtasksperchild=2) as p:
            pids, numbers = zip(*p.map(draw, range(12), 1))
            print(p.stats()["start_method"], len(set(pids)) > 2, len(set(numbers)))
    """
    assert run(body, tmp_path) == "fork True 12\nfork True 12\n"


def test_workers_that_follow_are_forked_from_what_the_first_were(tmp_path: Path) -> None:
    # Even if the program has threads by then.
    body = """
    state = "first"
    def look(_):
        return os.getpid()
    with Pool(1, maxtasksperchild=1) as p:
        first = p.map(look, range(2), 1)
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        print(len({*first, *p.map(look, range(3), 1)}), p.stats()["start_method"])
        event.set()
    """
    assert run(body, tmp_path) == "5 fork\n"
