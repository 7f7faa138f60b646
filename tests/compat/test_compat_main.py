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
    printed = "4\n" if end == "close" else "[3, 4, 5]\n"
    done = run_program(program(library, source), tmp_path)
    assert done.succeeded() == printed + "closing\nclosing\n"


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
    "variables of closures": ("""
        def make():
            cache, count = {}, 0
            def put(key, value):
                nonlocal count
                cache[key] = value
                count += 1
            def get(key): return cache.get(key), count
            return put, get
        put, get = make()
        def work(x): return get(5)
        arguments = put, (5, 6)
    """, "[(6, 1)]"),
}  # fmt: skip


@both
@pytest.mark.parametrize("what", INITIALIZED)
def test_an_initializer_changes_the_globals_it_is_given(
    tmp_path: Path, library: str, what: str
) -> None:
    source, expected = INITIALIZED[what]
    source = textwrap.dedent(source) + textwrap.dedent("""
        p = Pool(1, *arguments, maxtasksperchild=1)
        for value in p.map(work, [1, 1], 1):  # the second in a worker that follows the first
            print([value])
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
    "the __dict__ of a module": ("return sys.modules[__name__].__dict__[name]", "X", "[5]"),
    "dir": (
        "return [n for n in dir(sys.modules[__name__]) if n[0] != '_' and n != 'p']", "",
        "[['CONF', 'X', 'add', 'multiprocessing', 'sys', 'work']]",
    ),
    "dir of a module that a task has added to": (
        "import __main__; __main__.Y = 1; return [n for n in dir(__main__) if n.isupper()]", "",
        "[['CONF', 'X', 'Y']]",
    ),
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


#: As numexpr, duckdb and patsy do: they look for the names in what they are given in their callers.
READING = """
import sys
def names(text):
    return [word for word in "".join(c if c.isalnum() or c == "_" else " " for c in text).split()]
def evaluate(text):
    return eval(text, sys._getframe(1).f_globals)
def sql(text):
    frame = sys._getframe(1).f_globals
    return sum(frame[after].total() for before, after in zip(names(text), names(text)[1:])
               if before in ("from", "JOIN"))
class Connection:
    def execute(self, text):
        table = names(text.partition("from")[2])[0]
        return sys._getframe(1).f_globals[table].total()
def ols(formula, data):
    return eval(formula.partition("~")[2], {**sys._getframe(1).f_globals, **data})
"""


@both
def test_names_in_texts_that_are_read_in_the_caller_s_globals(tmp_path: Path, library: str) -> None:
    (tmp_path / "reading.py").write_text(READING)
    source = f"""
        import math as m, sys
        import reading
        from reading import evaluate
        from {library} import Pool
        class Table:
            def __init__(self, n): self.data = bytes(n)
            def total(self): return len(self.data)
        few, many, orders = bytes(10), bytes(300_000), Table(300_000)
        connection = reading.Connection()
        def double(x): return triple(x) - x
        def triple(x): return 3 * x
        class Shift:
            def __init__(self, x): self.x = x
        FORMULA, FORMULAS = "y ~ double(x)", {{"a": "y ~ m.sqrt(x)"}}
        def one(_): return reading.evaluate("len(few) + len(many)"), evaluate("len(many)")
        def two(_): return reading.sql("select * from orders"), reading.sql("... JOIN orders on x")
        def three(_): return connection.execute("select x from orders")
        def four(x): return reading.ols("y ~ m.floor(m.sqrt(x)) + double(x)", dict(x=x))
        def five(x): return reading.ols("y ~ Shift(x).x", dict(x=x))
        def six(x): return reading.ols(FORMULA, dict(x=x))
        def seven(x): return reading.ols(FORMULAS["a"], dict(x=x))
        for work in (one, two, three, four, five, six, seven):
            with Pool(1) as p:
                print(p.map(work, [4]))
    """
    assert run_program(source, tmp_path).succeeded().splitlines() == [
        "[(300010, 300000)]",
        "[(300000, 300000)]",
        "[300000]",
        "[10]",
        "[4]",
        "[8]",
        "[2.0]",
    ]


LIBRARY = """
import sys
def read(name):
    import __main__
    return getattr(__main__, name)
def call(x):
    from __main__ import helper
    return helper(x)
def has(name):
    return hasattr(sys.modules["__main__"], name)
def announce(path):
    import __main__
    with open(path, "w") as file:
        file.write(__main__.helper(1))
def load(path):
    import pickle
    with open(path, "rb") as file:
        return pickle.load(file)
def nested(x):
    from {library} import Pool
    with Pool(1) as p:
        return p.map(call, [x])
"""


@pytest.mark.parametrize(("library", "method"), [("multiprocessing", "fork"), ("pool", "default"),
                                                 ("pool", "spawn")])  # fmt: skip
def test_modules_look_into_the_main_module(tmp_path: Path, library: str, method: str) -> None:
    (tmp_path / "looking.py").write_text(LIBRARY.format(library=library))
    source = f"""
        import pickle
        import looking
        from {library} import get_context
        SETTING = [9]
        def helper(x): return f"{{x}} {{SETTING}}"
        class Model:
            def __init__(self, n): self.n = n
            def __reduce__(self): return Model, (self.n,)
        def loaded(path):
            model = looking.load(path)
            return type(model) is Model, type(model).__module__, model.n
        if __name__ == "__main__":
            with open("model", "wb") as file:
                pickle.dump(Model(3), file)
            with get_context({None if method == "default" else method!r}).Pool(1) as p:
                print(p.apply(looking.has, ("SETTING",)), p.apply(looking.has, ("MISSING",)))
                print(p.apply(looking.call, (1,)), p.map(looking.read, ["SETTING"]))
                print(p.map(loaded, ["model"]), p.apply(looking.load, ("model",)).n)
                print(p.apply_async(looking.read, ("helper",)).get() is helper)
    """
    assert run_program(source, tmp_path).succeeded().splitlines() == [
        "True False",
        "1 [9] [[9]]",
        "[(True, '__main__', 3)] 3",
        "True",
    ]


@both
def test_values_of_a_manager_whose_classes_are_the_program_s(tmp_path: Path, library: str) -> None:
    source = f"""
        from {library} import Manager, Pool
        class Message:
            def __init__(self, n): self.n = n
        def read(shared): return shared["message"].n
        with Manager() as manager:
            shared = manager.dict(message=Message(4))
            with Pool(1) as p:
                print(p.map(read, [shared]))
    """
    assert run_program(source, tmp_path).succeeded() == "[4]\n"


@both
def test_an_initializer_looks_into_the_main_module_of_a_program_that_waits_for_it(
    tmp_path: Path, library: str
) -> None:
    (tmp_path / "looking.py").write_text(LIBRARY.format(library=library))
    source = f"""
        import os, looking
        from {library} import Pool
        def helper(x): return "ready"
        os.mkfifo("pipe")
        p = Pool(1, looking.announce, ("pipe",))
        with open("pipe") as file:   # nothing is asked of the pool meanwhile
            print(file.read())
        p.close()
        p.join()
    """
    assert run_program(source, tmp_path).succeeded() == "ready\n"


def test_workers_of_workers_look_into_the_main_module(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(LIBRARY.format(library="pool"))
    source = """
        import looking
        from pool import Pool
        base = 5
        def helper(x): return x + base
        with Pool(1) as p:
            print(p.map(looking.nested, [1]))
    """
    assert run_program(source, tmp_path).succeeded() == "[[6]]\n"


def test_names_that_were_looked_up_are_as_they_are_at_the_call(tmp_path: Path) -> None:
    source = """
        import sys
        from pool import Pool
        main = sys.modules[__name__]
        def look(name):
            value = getattr(sys.modules[__name__], name)
            return value() if callable(value) else len(value)
        def uses(x): return len(large) + x
        small, large, part = "a", bytes(200_000), 1
        def compute(): return part
        with Pool(1) as p:
            print([p.apply(look, (name,)) for name in ("small", "large", "compute")])
            small, large, part = "ab", bytes(300_000), 2
            print([p.apply(look, (name,)) for name in ("small", "large", "compute")])
            print(p.map(uses, [0]))
            other = p.map_async(uses, [0] * 4, 1)
            large = bytes(400_000)   # under the hands of tasks that rely on it
            print(p.apply(look, ("small",)), set(other.get()))
            del small
            print(p.apply(look, ("small",)))   # what is gone here stays there, as in a fork
    """
    assert run_program(source, tmp_path).succeeded().splitlines() == [
        "[1, 200000, 1]",
        "[2, 300000, 2]",
        "[300000]",
        "2 {300000}",
        "2",
    ]


def test_a_name_that_cannot_be_sent_says_so(tmp_path: Path) -> None:
    source = """
        import sys
        from pool import Pool
        generator = (n for n in range(3))
        def look(name):
            try:
                return getattr(sys.modules[__name__], name)
            except AttributeError as error:
                return str(error), str(error.__cause__)
        with Pool(1) as p:
            print(*p.apply(look, ("generator",)), sep="; ")
            print(p.apply(look, ("nothing",))[0])
    """
    first, second = run_program(source, tmp_path).succeeded().splitlines()
    assert first.startswith(
        "module '__main__' has no attribute 'generator' in a worker, since it cannot be sent; "
    )
    assert "cannot pickle 'generator' object" in first
    assert second == "module '__main__' has no attribute 'nothing'"


def test_threads_and_forks_of_a_task_look_up_names(tmp_path: Path) -> None:
    source = """
        import os, sys, threading, warnings
        from pool import Pool
        # Of forks beside threads: for the system, one that was joined may not have ended yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        a = b = c = d = 1
        def look(name): return getattr(sys.modules["__main__"], name)
        def in_threads(names):
            found = []
            threads = [
                threading.Thread(target=lambda name=name: found.append(look(name)))
                for name in names
            ]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            return found
        def in_a_fork(name):
            pid = os.fork()
            if not pid:
                os._exit(hasattr(sys.modules["__main__"], name))   # there is nobody to ask
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with Pool(1) as p:
            print(p.map(in_threads, ["abc" * 20])[0] == [1] * 60)
            print(p.map(in_a_fork, ["d"]), p.map(look, ["d"]))
    """
    out = run_program(source, tmp_path).succeeded()
    assert out == "True\n[0] [1]\n"
