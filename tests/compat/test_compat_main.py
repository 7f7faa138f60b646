"""What becomes of the main module's own objects: in workers, while pools live, and at the end.

Whole programs, on both libraries. The standard forks its workers: they have all that the program
has. Ours have what they are sent, and must not let the program notice.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

both = pytest.mark.parametrize("library", ["multiprocessing", "pool"])

MEASURE = """
import gc, os
from {library} import Pool
def held():
    "Return the MiB of memory of its own that this process holds; the store's pages are not."
    gc.collect()
    with open("/proc/self/status") as file:
        return int(file.read().partition("RssAnon:")[2].split()[0]) >> 10
"""


def program(library: str, source: str) -> str:
    """Put before a program what it needs to see how much memory it holds."""
    return MEASURE.format(library=library) + textwrap.dedent(source)


CELL = """
    big = os.urandom(40 << 20)
    def f(x): return len(big) + x
    {call}
"""


@pytest.mark.parametrize(
    ("library", "call"),
    [
        # The standard's workers have to be forked after the cell has been run.
        ("multiprocessing", "with Pool(1) as p: p.map(f, [1, 2])"),
        ("pool", "with Pool(1) as p: p.map(f, [1, 2])"),
        ("pool", "P.map(f, [1, 2])"),
        ("pool", "P.apply_async(f, (1,)).get()"),
        ("pool", "P.apply(f, (1,))"),
    ],
)
def test_a_cell_that_is_run_again_leaves_no_data_behind(
    tmp_path: Path, library: str, call: str
) -> None:
    source = f"""
        def f(x): return x
        P = Pool(1)
        cell = {textwrap.dedent(CELL).format(call=call)!r}
        P.map(f, [1])
        before = held()
        for _ in range(6):
            exec(cell)
        # One array, and at most one pickle of it.
        assert held() < before + 130, (before, held())
        del f, big
        assert held() < before + 20, (before, held())
        P.terminate()
        print("done")
    """
    assert run_program(program(library, source), tmp_path).succeeded() == "done\n"


@both
@pytest.mark.parametrize("value", ["os.urandom(60 << 20)", "[bytes(60 << 20)]"])
def test_nothing_of_a_pool_that_has_ended_is_held(tmp_path: Path, library: str, value: str) -> None:
    source = f"""
        before = held()
        big = {value}
        def f(x): return len(big) + x
        with Pool(1) as p:
            p.map(f, [1, 2])
        del p, big
        assert held() < before + 30, (before, held())
        print("done")
    """
    assert run_program(program(library, source), tmp_path).succeeded() == "done\n"


@pytest.mark.parametrize("rebound", ["big = None", "del big", "def f(x): return x"])
def test_data_of_an_idle_pool_go_when_garbage_is_collected(tmp_path: Path, rebound: str) -> None:
    source = f"""
        before = held()
        big = [bytes(60 << 20)]
        def f(x): return len(big) + x
        P = Pool(1)
        P.map(f, [1, 2])
        {rebound}
        assert held() < before + {80 if "def" in rebound else 30}, (before, held())
        P.terminate()
        print("done")
    """
    assert run_program(program("pool", source), tmp_path).succeeded() == "done\n"


def test_workers_let_go_of_what_came_with_functions_that_are_gone(tmp_path: Path) -> None:
    cell = """
        def f(x, big=os.urandom(40 << 20)):
            return held()
        seen += P.map(f, [1])
    """
    source = f"""
        P = Pool(1)
        cell = {textwrap.dedent(cell)!r}
        seen = []
        for _ in range(6):
            exec(cell)
        assert max(seen[1:]) < seen[0] + 90, seen
        P.terminate()
        print("done")
    """
    assert run_program(program("pool", source), tmp_path).succeeded() == "done\n"


@both
@pytest.mark.parametrize("end", ["with", "terminate", "close", "none"])
def test_objects_of_the_program_are_finalized_at_its_end(
    tmp_path: Path, library: str, end: str
) -> None:
    ended = {
        "with": "with p: print(p.map(f, range(3)))",
        "terminate": "print(p.map(f, range(3))); p.terminate(); p.join()",
        "close": "print(p.apply_async(f, (1,)).get()); p.close(); p.join()",
        "none": "print(p.map(f, range(3))); atexit.register(p.terminate)",
    }
    source = f"""
        import atexit
        class Connection:
            all = []
            def __init__(self): self.all.append(self)
            def __del__(self): print("closing", flush=True)
        connection = Connection()
        kept = [Connection()]
        def f(x): return x + len(kept) + len(Connection.all)
        p = Pool(2)
        {ended[end]}
    """
    out = run_program(program(library, source), tmp_path).out.splitlines()
    assert out[1:] == ["closing", "closing"], out


INITIALIZED = {
    "a dict": ("""
        cache = {}
        def init(given): given["k"] = 1
        def work(x): return cache
        arguments = init, (cache,)
    """, "[{'k': 1}]"),
    "inside an argument": ("""
        cache, other, both = [], {1}, bytearray(b"x")
        def init(config, more):
            config["cache"].append(1); more[0].add(2); both.extend(b"y")
        def work(x): return cache, other, both
        arguments = init, ({"cache": cache}, (other, both))
    """, "[([1], {1, 2}, bytearray(b'xy'))]"),
    "a bound method": ("""
        class App:
            def __init__(self): self.connection = None
            def init(self, value): self.connection = value
        app = App()
        def work(x): return app.connection
        arguments = app.init, ("c",)
    """, "['c']"),
    "a partial": ("""
        from functools import partial
        class App:
            def init(self, value): self.connection = value
            def work(self, x): return app is self or app.connection
        app = App()
        def work(x): return app.connection
        arguments = partial(app.init, "c"), ()
    """, "['c']"),
    "an instance": ("""
        class Settings: level = 0
        settings = Settings()
        table = {"settings": settings}
        def init(given, value): given.level = value
        def work(x): return settings.level, table["settings"] is settings
        arguments = init, (settings, 3)
    """, "[(3, True)]"),
    "an array": ("""
        import array
        numbers = array.array("d", [0.0]) * 50_000
        def init(given, text): given[1] = len(text)
        def work(x): return numbers[1]
        arguments = init, (numbers, ["not a global"] * 5)
    """, "[5.0]"),
}  # fmt: skip


@both
@pytest.mark.parametrize("what", INITIALIZED)
def test_an_initializer_changes_the_globals_it_is_given(
    tmp_path: Path, library: str, what: str
) -> None:
    source, expected = INITIALIZED[what]
    source = textwrap.dedent(source) + textwrap.dedent("""
        p = Pool(1, *arguments, maxtasksperchild=1)
        print(p.map(work, [1]))
        print(p.map(work, [1]))  # in a worker that has taken the place of the first
        p.close()
        p.join()
    """)
    out = run_program(program(library, source), tmp_path).succeeded()
    assert out == f"{expected}\n" * 2


DYNAMIC = """
import sys
import {library} as multiprocessing
X, CONF = 5, {{"k": 3}}
def add(x): return x + X
def work(name): {body}
with multiprocessing.Pool(1) as p:
    print(p.map(work, [{argument!r}]))
"""

UNNAMED = {
    "globals": ("return globals()[name](10)", "add", "[15]"),
    "globals, listed": (
        "return sorted(name for name in globals() if name.isupper())", "", "[['CONF', 'X']]",
    ),
    "vars": ("return vars(sys.modules[__name__])[name](10)", "add", "[15]"),
    "vars of __main__": ("import __main__; return vars(__main__)[name]", "X", "[5]"),
    "eval": ("return eval(name)", "add(10) + CONF['k']", "[18]"),
    "eval of a constant": ("return eval('add(X) if X else CONF')", "", "[10]"),
    "exec": ("exec('global X; X = CONF[\"k\"]'); return X", "", "[3]"),
    "format": ("return '{X} {CONF}'.format(**globals())", "", "[\"5 {'k': 3}\"]"),
    "a lambda": ("return (lambda: eval(name))()", "add(1)", "[6]"),
    "another function's globals": ("return add.__globals__['CONF']", "", "[{'k': 3}]"),
}  # fmt: skip


@both
@pytest.mark.parametrize("what", UNNAMED)
def test_globals_that_a_function_finds_by_name(tmp_path: Path, library: str, what: str) -> None:
    body, argument, expected = UNNAMED[what]
    source = DYNAMIC.format(library=library, body=body, argument=argument)
    assert run_program(source, tmp_path).succeeded() == expected + "\n"


@both
def test_type_hints_that_are_strings(tmp_path: Path, library: str) -> None:
    source = f"""
        import typing
        from {library} import Pool
        class Inner: pass
        class Outer:
            one: "Inner"
            many: "typing.List[Inner]"
            back: "Outer"
        class Inner:  # the one that counts
            outer: "Outer"
        def hinted(a: "Inner") -> "Outer": return a
        def of_class(kind): return sorted(typing.get_type_hints(kind))
        def of_function(_): return typing.get_type_hints(hinted)["return"] is Outer
        with Pool(1) as p:
            print(p.map(of_class, [Outer]), p.map(of_function, [1]))
    """
    out = run_program(source, tmp_path).succeeded()
    assert out == "[['back', 'many', 'one']] [True]\n"


@both
def test_fields_of_classes_that_are_filled_from_plain_data(tmp_path: Path, library: str) -> None:
    (tmp_path / "filling.py").write_text(
        "import typing\n"
        "def fill(kind, data):\n"
        "    made = kind()\n"
        "    for name, of in typing.get_type_hints(kind).items():\n"
        "        setattr(made, name, fill(of, data[name]) if isinstance(data[name], dict)\n"
        "                else of(data[name]))\n"
        "    return made\n"
    )
    source = f"""
        from __future__ import annotations
        from {library} import Pool
        from filling import fill
        class Job:
            name: str
            place: Place
        class Place:
            x: int
        def work(data): return fill(Job, data).place.x
        with Pool(1) as p:
            print(p.map(work, [{{"name": "a", "place": {{"x": "7"}}}}]))
    """
    assert run_program(source, tmp_path).succeeded() == "[7]\n"


@both
def test_names_in_the_query_of_a_frame(tmp_path: Path, library: str) -> None:
    pytest.importorskip("pandas")
    source = f"""
        import pandas as pd
        from {library} import Pool
        limit, column = 1, "a"
        frame = pd.DataFrame({{"a": [1, 2, 3]}})
        def work(_): return frame.query("a > @limit").a.tolist(), frame.eval("a + @limit").sum()
        with Pool(1) as p:
            print(p.map(work, [1])[0][0], int(p.map(work, [1])[0][1]))
    """
    assert run_program(source, tmp_path).succeeded() == "[2, 3] 9\n"
