"""Run whole programs, written as people write them, with nothing changed but the import.

None of them has a main guard. On the standard library only fork can run those.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import on_terminal, run_program

if TYPE_CHECKING:
    from pathlib import Path

WAYS = ["file", "stdin", "-c", "-m"]
# Library and the start method that the program asks for; empty: none.
STANDARD = [("multiprocessing", "fork")]
OURS = [("pool", ""), ("pool", "fork"), ("pool", "spawn"), ("pool", "forkserver")]

HEAD = """
import {library} as multiprocessing
method = {method!r}
if method:
    multiprocessing.set_start_method(method)
Pool = multiprocessing.Pool
"""

CLASSIC = """
    from functools import partial
    import time, random

    def f(x):
        return x * x

    def power(base, exponent):
        return base ** exponent

    pool = Pool(processes=4)
    print(pool.map(f, range(10)))
    for i in pool.imap_unordered(f, range(3)):
        assert i in (0, 1, 4)
    print(pool.apply_async(f, (20,)).get(timeout=90))
    print(pool.starmap(power, [(2, 3), (3, 2)]))
    print(list(pool.imap(partial(power, 2), range(5))))
    pool.close()
    pool.join()
"""
CLASSIC_OUT = """\
[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
400
[8, 9]
[1, 2, 4, 8, 16]
"""

GLOBALS = """
    counter = 0
    table = None
    FACTOR = 3

    def setup(values):
        global table
        table = dict(values)

    def look(key):
        return table[key] * FACTOR

    def count(_):
        global counter
        counter += 1
        return counter

    with Pool(1, setup, ([("a", 1), ("b", 2)],)) as p:
        print(p.map(look, "abab"))
        print(p.map(count, range(3)), p.apply(count, (0,)))
        print([p.apply(count, (0,)) for _ in range(2)])
    p.join()
    print(table, counter)
"""
GLOBALS_OUT = """\
[3, 6, 3, 6]
[1, 2, 3] 4
[5, 6]
None 0
"""

CLASSES = """
    import dataclasses, enum, collections

    class Colour(enum.Enum):
        RED = 1
        BLUE = 2

    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int
        y: int = 0

        def swapped(self):
            return Point(self.y, self.x)

    Pair = collections.namedtuple("Pair", "left right")

    class Spot(Exception):
        def __init__(self, where):
            super().__init__(where)
            self.where = where

    class Base:
        def name(self):
            return "base"

    class Derived(Base):
        def name(self):
            return super().name() + "+derived"

    def paint(colour):
        assert colour is Colour.RED or colour is Colour.BLUE
        return Colour.BLUE if colour is Colour.RED else Colour.RED

    def fail(where):
        raise Spot(where)

    with Pool(2) as p:
        print([c is Colour.BLUE for c in p.map(paint, [Colour.RED, Colour.RED])])
        points = p.map(Point.swapped, [Point(1, 2), Point(3)])
        print(points, points[0] == Point(2, 1), type(points[0]) is Point)
        print(p.starmap(Pair, [(1, 2)]), type(p.apply(Pair, (1, 2))) is Pair)
        print(p.apply(Derived().name))
        try:
            p.map(fail, [Point(5, 5)])
        except Spot as error:
            print("caught", error.where, type(error.where) is Point)
    p.join()
"""
CLASSES_OUT = """\
[True, True]
[Point(x=2, y=1), Point(x=0, y=3)] True True
[Pair(left=1, right=2)] True
base+derived
caught Point(x=5, y=5) True
"""

CACHES = """
    import functools, os

    calls = []

    @functools.lru_cache(maxsize=None)
    def fib(n):
        calls.append(n)
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    def logged(function):
        @functools.wraps(function)
        def wrapper(*args):
            return ("logged", function(*args))
        return wrapper

    @logged
    def double(x):
        return 2 * x

    def run(n):
        before = len(calls)
        value = fib(n)
        return value, len(calls) - before

    with Pool(1) as p:
        print(p.map(run, [20, 20, 10], 1))
        print(p.map(double, [1, 2]))
        print(p.apply(fib, (15,)))
    p.join()
    print(len(calls))
"""
CACHES_OUT = """\
[(6765, 21), (6765, 0), (55, 0)]
[('logged', 2), ('logged', 4)]
610
0
"""

SHARED = """
    lock, total = multiprocessing.Lock(), multiprocessing.Value("i", 0, lock=False)
    done = multiprocessing.Queue()

    def setup(a_lock, a_total, a_queue):
        global my_lock, my_total, my_queue
        my_lock, my_total, my_queue = a_lock, a_total, a_queue

    def work(n):
        with my_lock:
            my_total.value += n
        my_queue.put(n)

    with Pool(2, setup, (lock, total, done)) as p:
        p.map(work, range(50), 1)
        print(total.value, sorted(done.get() for _ in range(50)) == list(range(50)))
    p.join()
"""
SHARED_OUT = "1225 True\n"

FAILURES = """
    import traceback

    def invert(x):
        return 1 / x

    p = Pool(2)
    try:
        p.map(invert, [1, 0])
    except ZeroDivisionError as error:
        text = "".join(traceback.format_exception(error))
        print("return 1 / x" in text or "in invert" in text, error)
    try:
        p.apply_async(invert, ("a",)).get()
    except TypeError:
        print("type")
    errors = []
    p.apply_async(invert, (0,), error_callback=errors.append).wait()
    print(errors)
    p.terminate()
    p.join()
    try:
        p.map(invert, [1])
    except ValueError as error:
        print(error)
"""
FAILURES_OUT = """\
True division by zero
type
[ZeroDivisionError('division by zero')]
Pool not running
"""

# Needs more reach than pickle has: only ours runs it.
REACH = """
    import logging, threading, os

    offset = 100

    class Analyzer:
        def __init__(self):
            self.lock = threading.Lock()
            self.log = logging.getLogger("analyzer")
            self.pool = Pool(2)

        def run(self, xs):
            return self.pool.map(self.work, xs)

        def work(self, x):
            with self.lock:
                return x + offset

    def outer(n):
        def inner(x):
            return x * n
        return inner

    def nested(n):
        with Pool(2) as q:
            return sum(q.map(lambda x: x * n, range(4)))

    with Pool(2) as p:
        print(p.map(lambda x: x + offset, range(3)))
        print(p.map(outer(5), range(3)))
        print(p.map(nested, [1, 2]))
        local = type("Local", (), {"twice": lambda self, x: 2 * x})()
        print(p.map(local.twice, range(3)))
    p.join()
    a = Analyzer()
    print(a.run(range(3)))
    a.pool.terminate()
    a.pool.join()
"""
REACH_OUT = """\
[100, 101, 102]
[0, 5, 10]
[6, 12]
[0, 2, 4]
[100, 101, 102]
"""

PROGRAMS = {
    "classic": (CLASSIC, CLASSIC_OUT),
    "globals": (GLOBALS, GLOBALS_OUT),
    "classes": (CLASSES, CLASSES_OUT),
    "caches": (CACHES, CACHES_OUT),
    "shared": (SHARED, SHARED_OUT),
    "failures": (FAILURES, FAILURES_OUT),
}
OUR_PROGRAMS = PROGRAMS | {"reach": (REACH, REACH_OUT)}


def program(body: str, library: str, method: str) -> str:
    """Put the imports before a program."""
    return HEAD.format(library=library, method=method) + textwrap.dedent(body)


def check(name: str, library: str, method: str, how: str, folder: Path) -> None:
    """Run one program in one way and compare what it prints."""
    body, expected = OUR_PROGRAMS[name]
    assert run_program(program(body, library, method), folder, how).succeeded() == expected


# How a program is started makes no difference to what the standard forks.
@pytest.mark.parametrize(
    ("name", "how"),
    [*((name, "file") for name in PROGRAMS), *(("classes", how) for how in WAYS[1:])],
)
def test_on_the_standard(tmp_path: Path, name: str, how: str) -> None:
    check(name, "multiprocessing", "fork", how, tmp_path)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", OUR_PROGRAMS)
def test_on_ours(tmp_path: Path, name: str, how: str) -> None:
    check(name, "pool", "", how, tmp_path)


# The two that have most in their main module are those that could miss its file.
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    ("name", "how"),
    [*((name, "file") for name in OUR_PROGRAMS), ("classes", "stdin"), ("reach", "stdin")],
)
def test_on_ours_with_a_start_method(tmp_path: Path, name: str, method: str, how: str) -> None:
    check(name, "pool", method, how, tmp_path)


@pytest.mark.parametrize(("library", "method"), STANDARD + OURS)
def test_only_the_first_import_differs(tmp_path: Path, library: str, method: str) -> None:
    getter = f"get_context({method!r}).Pool" if method else "Pool"
    source = f"""
        import {library}
        Pool = {library}.{getter}
        def f(x):
            return x + 1
        with Pool(2) as p:
            print(p.map(f, [1, 2, 3]))
    """
    assert run_program(source, tmp_path).succeeded() == "[2, 3, 4]\n"


@pytest.mark.parametrize(("library", "method"), STANDARD + OURS)
def test_a_manager_that_is_made_after_the_pool(tmp_path: Path, library: str, method: str) -> None:
    """Also in a child of the program and in a task, where the key comes from the program."""
    body = f"""
        import os, sys, warnings
        # Of a fork beside the threads of the standard's pool, from Python 3.12 on.
        warnings.simplefilter("ignore", DeprecationWarning)

        method = {method!r}
        if method:
            Pool = multiprocessing.get_context(method).Pool

        def put(queue, value):
            queue.put(value)

        def talk():
            queue = multiprocessing.Manager().Queue()
            p.starmap(put, [(queue, n) for n in range(2)])
            return sorted(queue.get() for _ in range(2))

        def key(_):
            import multiprocessing
            return bytes(multiprocessing.current_process().authkey)

        def inner(_):
            with Pool(1) as pool:
                return pool.map(key, [0])[0]

        p = Pool(2)
        child = os.fork()
        if not child:
            with Pool(2) as p:
                print(talk(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        if multiprocessing.__name__ == "pool":  # workers of the standard have no pools
            assert method or sys.version_info >= (3, 14) or "multiprocessing" not in sys.modules
            assert p.map(inner, [0]) == p.map(key, [0]) == [key(0)]
        print(talk())
        p.close()
        p.join()
    """
    assert run_program(program(body, library, ""), tmp_path).succeeded() == "[0, 1]\n" * 2


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_with_a_main_guard(tmp_path: Path, library: str) -> None:
    source = f"""
        from {library} import Pool, freeze_support
        def f(x):
            return x + 1
        if __name__ == "__main__":
            freeze_support()
            with Pool(2) as p:
                print(p.map(f, [1, 2, 3]))
        else:
            print("imported again")
    """
    assert run_program(source, tmp_path).succeeded() == "[2, 3, 4]\n"


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_functions_of_the_program_s_own_modules(tmp_path: Path, library: str) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from .tasks import double\n")
    (tmp_path / "package" / "tasks.py").write_text("def double(x): return 2 * x\n")
    source = f"""
        from {library} import Pool
        import package
        with Pool(2) as p:
            print(p.map(package.double, [1, 2, 3]))
    """
    assert run_program(source, tmp_path).succeeded() == "[2, 4, 6]\n"


@pytest.mark.parametrize(("library", "method"), STANDARD + OURS)
def test_a_relative_folder_of_modules_and_a_program_that_goes_elsewhere(
    tmp_path: Path, library: str, method: str
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "tasks.py").write_text("def double(x): return 2 * x\n")
    source = "import sys\nsys.path.insert(0, 'src')\nimport tasks\n" + program(
        """
        import os
        os.mkdir("results")
        os.chdir("results")
        with Pool(2) as p:
            print(p.map(tasks.double, [1, 2]), os.path.basename(p.apply(os.getcwd)))
        """,
        library,
        method,
    )
    assert run_program(source, tmp_path).succeeded() == "[2, 4] results\n"


@pytest.mark.parametrize(("library", "method"), STANDARD + OURS)
def test_a_module_loaded_from_its_file_under_another_name(
    tmp_path: Path, library: str, method: str
) -> None:
    (tmp_path / "plug-in.py").write_text(
        "class Node: pass\ndef is_node(value): return type(value) is Node\n"
    )
    source = HEAD.format(library=library, method=method) + textwrap.dedent(
        """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("nodes", "plug-in.py")
        nodes = sys.modules["nodes"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(nodes)
        with Pool(1) as p:
            print(p.map(nodes.is_node, [nodes.Node(), 3]))
        """
    )
    assert run_program(source, tmp_path).succeeded() == "[True, False]\n"


@pytest.mark.parametrize(("library", "method"), STANDARD + OURS)
def test_functions_put_in_place_of_others(tmp_path: Path, library: str, method: str) -> None:
    (tmp_path / "tools.py").write_text(
        "import functools\n"
        "def decorated(f):\n"
        "    @functools.wraps(f)\n"
        "    def wrapper(x): return 'by the module', f(x)\n"
        "    return wrapper\n"
        "def f(x): return x\n"
        "@functools.lru_cache\n"
        "def cached(x): return x\n"
        "@decorated\n"
        "def g(x): return x\n"
        "class Tool:\n"
        "    def use(self, x): return x\n"
        "    def leave(self, x): return x\n"
    )
    body = """
    import functools, tools

    original, calls = tools.f, []

    @functools.wraps(original)
    def patched(x):
        calls.append(x)
        return "patched", original(x), len(calls)

    def patch(where, name):
        inner = getattr(where, name)

        @functools.wraps(inner)
        def wrapper(*args):
            return "wrapped", inner(*args)

        setattr(where, name, wrapper)

    tools.f = patched
    tools.cached = functools.lru_cache(functools.wraps(tools.cached)(lambda x: ("cached", x)))
    patch(tools.Tool, "use")
    tool = tools.Tool()
    with Pool(1) as p:
        print(p.map(tools.f, [1, 2]), p.map(tools.f, [3]), calls)
        print(p.map(tools.cached, [1]), p.map(tools.g, [1]))
        print(p.map(tool.use, [1]), p.map(tool.leave, [1]), p.starmap(tools.Tool.use, [(tool, 1)]))
    """
    assert run_program(program(body, library, method), tmp_path).succeeded() == (
        "[('patched', 1, 1), ('patched', 2, 2)] [('patched', 3, 3)] []\n"
        "[('cached', 1)] [('by the module', 1)]\n"
        "[('wrapped', 1)] [1] [('wrapped', 1)]\n"
    )


@pytest.mark.parametrize(("library", "method"), STANDARD + OURS)
def test_callbacks_and_pointers_of_ctypes(tmp_path: Path, library: str, method: str) -> None:
    body = """
    import ctypes

    class Point(ctypes.Structure):
        _fields_ = [("x", ctypes.c_int)]

    add = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)
    point = ctypes.pointer(Point(5))

    def work(x):
        return add(x), point.contents.x

    def move(point):
        point.x += 1
        return point

    with Pool(1) as p:
        print(p.map(work, [1, 2]), [moved.x for moved in p.map(move, [Point(3)])])
    """
    told = run_program(program(body, library, method), tmp_path).succeeded()
    assert told == "[(2, 5), (3, 5)] [4]\n"


@pytest.mark.parametrize(("library", "method"), STANDARD + OURS)
def test_in_an_interactive_session(tmp_path: Path, library: str, method: str) -> None:
    with on_terminal(["-q", "-i"], tmp_path) as terminal:
        terminal.expect(">>> ")
        made = f"p = get_context({method or None!r}).Pool(2)"
        terminal.type(f"from {library} import get_context; {made}\n")
        terminal.expect(">>> ")
        terminal.type("def f(x): return x * 7\n\n")
        terminal.expect(">>> ")
        # The standard forked its workers before `f` was typed, so it needs new ones.
        terminal.type(f"p.terminate(); p.join(); {made}\n")
        terminal.expect(">>> ")
        terminal.type("p.map(f, range(4))\n")
        terminal.expect("[0, 7, 14, 21]")
        terminal.expect(">>> ")
        terminal.type("p.map(f, [None])\n")
        terminal.expect("TypeError: unsupported operand")
        terminal.expect(">>> ")
        terminal.type("p.terminate(); p.join(); exit()\n")
        assert terminal.end() == 0


@pytest.mark.parametrize("method", ["", "fork", "spawn", "forkserver"])
def test_functions_typed_after_the_pool_was_made(tmp_path: Path, method: str) -> None:
    with on_terminal(["-q", "-i"], tmp_path) as terminal:
        terminal.expect(">>> ")
        made = f"p = get_context({method or None!r}).Pool(2)"
        terminal.type(f"from pool import get_context; {made}\n")
        terminal.expect(">>> ")
        terminal.type("p.map(abs, [-1])\n")
        terminal.expect("[1]")
        for factor in (7, 8):
            # Typed twice: the second definition must be the one that runs.
            terminal.expect(">>> ")
            terminal.type(f"def f(x): return x * {factor}\n\n")
            terminal.expect(">>> ")
            terminal.type("p.map(f, range(1, 4))\n")
            terminal.expect(str([factor, 2 * factor, 3 * factor]))
        terminal.expect(">>> ")
        terminal.type("exit()\n")
        assert terminal.end() == 0
