"""One namespace per worker: what an initializer sets, what the parent rebinds, what tasks keep."""

from __future__ import annotations

from pathlib import Path

import pytest
from picklingpeer import run, run_main


def test_initializer_sets_what_tasks_read(tmp_path: Path) -> None:
    run_main(
        """
        db = None
        def init(value):
            global db
            db = value
        def task():
            return db
        assert w(init, 5) is None
        assert w(task) == 5
        assert db is None
        """,
        tmp_path,
    )


def test_initializer_sets_a_name_that_the_parent_never_had(tmp_path: Path) -> None:
    run_main(
        """
        def init():
            global late
            late = [1]
        def task():
            late.append(2)
            return late
        w(init)
        assert w(task) == [1, 2] and w(task) == [1, 2, 2]
        assert 'late' not in globals()
        """,
        tmp_path,
    )


def test_name_set_through_globals_is_kept_when_first_sent(tmp_path: Path) -> None:
    run_main(
        """
        state = "parent"
        def init():
            globals()["state"] = "worker"
        def task():
            return state
        w(init)
        assert w(task) == "worker"
        """,
        tmp_path,
    )


def test_name_rebound_in_the_parent_is_sent_again(tmp_path: Path) -> None:
    run_main(
        """
        K = 1
        def task():
            return helper() + K
        def helper():
            return 10
        assert w(task) == 11
        K = 2
        assert w(task) == 12
        def helper():
            return 20
        assert w(task) == 22
        n = 0
        for _ in range(50):
            n += 1      # memory of the old numbers is used again
            n += 1
            assert w(lambda: n) == n
        """,
        tmp_path,
    )


def test_name_that_a_task_set_is_kept_until_the_parent_rebinds_it(tmp_path: Path) -> None:
    run_main(
        """
        count = 0
        other = 0
        def bump():
            global count
            count += 1
            return count, other
        assert w(bump) == (1, 0)
        assert w(bump) == (2, 0)
        other = 5
        assert w(bump) == (3, 5)
        count = 100
        assert w(bump) == (101, 5)
        """,
        tmp_path,
    )


def test_name_defined_later_in_the_parent_is_sent(tmp_path: Path) -> None:
    run_main(
        """
        def task():
            try:
                return later
            except NameError:
                return None
        assert w(task) is None
        later = 3
        assert w(task) == 3
        del later
        assert w(task) == 3    # the worker's own business now
        later = 4
        assert w(task) == 4
        """,
        tmp_path,
    )


def test_an_object_that_gets_a_second_name_stays_the_object_that_was_sent(tmp_path: Path) -> None:
    run_main(
        """
        first, second = [1], [2]
        def change():
            first.append(3)
            return len(second)
        def read():
            return second, first, second is first
        w(change)
        second = first
        assert w(read) == ([1, 3], [1, 3], True)
        first, second = [], first
        assert w(read) == ([1, 3], [], False)
        """,
        tmp_path,
    )


def test_what_changes_in_place_is_the_workers_own(tmp_path: Path) -> None:
    run_main(
        """
        cache = {}
        def task(x):
            cache[x] = 1
            return len(cache)
        assert w(task, 1) == 1 and w(task, 2) == 2
        assert cache == {}
        """,
        tmp_path,
    )


def test_notebook_redefines_function_and_class(tmp_path: Path) -> None:
    run_main(
        """
        def f(x): return x + 1
        def g(x): return f(x)
        assert w(f, 1) == 2 and w(g, 1) == 2
        old = f
        def f(x): return x + 100
        assert w(f, 1) == 101 and w(g, 1) == 101
        assert w(old, 1) == 2 and w(g, 1) == 101
        class C: tag = 1
        assert w(lambda: C.tag) == 1
        first = C()
        class C: tag = 2
        assert w(lambda: C.tag) == 2
        assert w(lambda c: (type(c) is C, c.tag), first) == (False, 1)
        assert type(w(lambda: C())) is C
        """,
        tmp_path,
    )


def test_main_module_of_the_worker(tmp_path: Path) -> None:
    run_main(
        """
        import sys
        X = 3
        def f():
            import __main__
            return __name__, __main__.__name__, __main__.X, X, f.__module__, __main__.f is f
        assert w(f) == ("__main__", "__main__", 3, 3, "__main__", True)
        """,
        tmp_path,
    )


def test_install_main_takes_what_it_says_of_itself(tmp_path: Path) -> None:
    run_main(
        """
        '''About this.'''
        import sys
        from importlib.machinery import ModuleSpec, SourceFileLoader
        loader = SourceFileLoader("some.where", "/some/where.py")
        spec = ModuleSpec("some.where", loader, origin="/some/where.py")
        spec.has_location = spec._initializing = True
        __package__, __spec__, __loader__, __file__ = "some", spec, loader, spec.origin
        def f(facts):
            from pool._pickling import install_main
            import sys
            install_main(facts)
            there = sys.modules["__main__"]
            spec = there.__spec__
            return (there.__doc__, there.__package__, there.__file__, spec.name, spec.origin,
                    spec.cached, spec.loader is there.__loader__, there.__loader__.path,
                    getattr(spec, "_initializing", False), hasattr(there, "f"))
        assert w(f, main_facts()) == (__doc__, "some", "/some/where.py", "some.where",
            "/some/where.py", spec.cached, True, "/some/where.py", False, False)
        # What only this process can do with is left here.
        class Loader: pass
        __loader__ = Loader()
        def g(facts):
            from pool._pickling import install_main
            import sys
            install_main(facts)
            return sys.modules["__main__"].__loader__, sys.modules["__main__"].__package__
        assert w(g, main_facts()) == (None, "some")
        __doc__ = type("Odd", (), {"__str__": None})()
        assert main_facts() == b""
        """,
        tmp_path,
    )


def test_functions_from_one_module_share_what_is_sent_in_different_messages(
    tmp_path: Path,
) -> None:
    run_main(
        """
        MISSING = object()
        class Config:
            x = 1
        class Service:
            def __init__(self, config): self.config = config
        CONFIG = Config()
        SERVICE = Service(CONFIG)
        def f(a=MISSING): return a is MISSING
        def g(a=MISSING): return a is MISSING
        def change(): CONFIG.x = 7
        def read(): return SERVICE.config.x, SERVICE.config is CONFIG
        assert w(f) and w(g)
        w(change)
        assert w(read) == (7, True)
        LATER = Service(CONFIG)
        def reach(): return LATER.config.x
        assert w(reach) == 7
        """,
        tmp_path,
    )


def test_containers_too(tmp_path: Path) -> None:
    run_main(
        """
        CACHE = {}
        NAMES = []
        KINDS = {1}
        BYTES = bytearray(b"x")
        MANY = list(range(5000))
        class Service:
            def __init__(self): self.parts = [CACHE, NAMES, KINDS, BYTES, MANY]
        def first():
            CACHE["k"] = 1
            NAMES.append("n")
            KINDS.add(2)
            BYTES.extend(b"y")
            MANY.append(0)
        w(first)
        SERVICE = Service()      # made when these had been sent
        def second(cache=CACHE):
            parts = SERVICE.parts
            return cache is parts[0], [len(part) for part in parts]
        assert w(second) == (True, [1, 1, 2, 2, 5001]), w(second)
        def third(): return CACHE is SERVICE.parts[0] and MANY is SERVICE.parts[4]
        assert w(third)
        with Worker() as fresh:
            assert fresh(second) == (True, [0, 0, 1, 1, 5000])
            assert fresh(third)
        NAMES = ["rebound"]
        assert w(lambda: NAMES) == ["rebound"]
        ring = [1]
        ring.append({"back": ring})
        other = {"ring": ring}
        assert w(lambda: ring[1]["back"] is ring)
        assert w(lambda: other["ring"] is ring)
        """,
        tmp_path,
    )


def test_a_worker_lets_go_of_what_a_name_was_bound_to(tmp_path: Path) -> None:
    run_main(
        """
        import gc
        def count(_):
            gc.collect()
            found = gc.get_objects()
            return len(MANY), sum(type(each) is list and each[:1] == ["mark"] for each in found)
        for length in (10, 5000):
            counts = []
            for _ in range(5):
                MANY = ["mark", *range(length)]
                counts.append(w(count, 0)[1])
            # The one that is bound, and what the last prelude holds.
            assert max(counts) <= 2, (length, counts)
        """,
        tmp_path,
    )


def test_globals_that_refer_to_each_other_stay_together(tmp_path: Path) -> None:
    run_main(
        """
        REGISTRY = {}
        class Base:
            registry = REGISTRY
        def lookup(): return REGISTRY is Base.registry
        assert w(lookup)
        loop = []
        loop.append(loop)
        assert w(lambda: loop[0] is loop)
        """,
        tmp_path,
    )


def test_data_that_needs_the_programs_functions_while_it_is_unpickled(tmp_path: Path) -> None:
    run_main(
        """
        def mix(n): return hash(("mix", n))
        class Key:
            def __init__(self, n): self.n = n
            def __reduce__(self): return Key, (self.n,)
            def __hash__(self): return mix(self.n)
            def __eq__(self, other): return self.n == other.n
        TABLE = {Key(n): n for n in range(3)}
        assert w(lambda: TABLE[Key(2)]) == 2
        """,
        tmp_path,
    )


def test_long_chain_of_functions(tmp_path: Path) -> None:
    run_main(
        """
        source = "def f0(n): return n\\n"
        source += "".join(f"def f{i}(n): return f{i-1}(n) + 1\\n" for i in range(1, 400))
        exec(source)
        assert w(f399, 0) == 399
        """,
        tmp_path,
    )


@pytest.mark.parametrize("how", ["stdin", "-c"])
def test_programs_without_a_file(how: str) -> None:
    script = (
        "from picklingpeer import Worker\n"
        "w = Worker()\n"
        "y = 2\n"
        "def f(x): return x * y\n"
        "class Spot(Exception): pass\n"
        "assert w(f, 4) == 8\n"
        "assert type(w(lambda: Spot(1))) is Spot\n"
        "print('done')\n"
    )
    if how == "stdin":
        assert run(["-"], input=script) == "done\n"
    else:
        assert run(["-c", script]) == "done\n"


def test_a_run_in_globals_of_its_own(tmp_path: Path) -> None:
    # As IPython's %run and `runpy` do: a main module that is not the registered one.
    program = tmp_path / "inner.py"
    program.write_text(
        "n = 0\n"
        "def init():\n    global n\n    n = 5\n"
        "def task(): return n, helper()\n"
        "def helper(): return 1\n"
    )
    run_main(
        f"""
        import runpy
        found = runpy.run_path({str(program)!r}, run_name="__main__")
        found["w"] = w
        w(found["init"])
        assert w(found["task"]) == (5, 1)
        bare = {{}}
        exec("k = 3\\ndef f(): return g() + k\\ndef g(): return 1", bare)
        assert w(bare["f"]) == 4
        """,
        tmp_path,
    )


def test_worker_does_not_overwrite_what_the_parent_has(tmp_path: Path) -> None:
    run_main(
        """
        def born():
            import __main__
            source = "limit = 1\\nfresh = 2\\ndef made(): return limit, fresh\\nclass Made: pass"
            exec(source, vars(__main__))
            return __main__.made, __main__.Made()
        limit = 100
        made, thing = w(born)
        assert limit == 100
        assert fresh == 2 and made() == (100, 2)
        assert type(thing).__name__ == "Made"
        again = w(lambda: __import__("__main__").Made())
        assert type(again) is type(thing)
        """,
        tmp_path,
    )


def test_submodules_are_imported_in_the_worker(tmp_path: Path) -> None:
    run_main(
        """
        import xml.dom.minidom
        import os.path
        def f(): return xml.dom.minidom.parseString("<a/>").documentElement.tagName
        assert w(f) == "a"
        def outer():
            import xml.sax.saxutils
            return lambda: xml.sax.saxutils.escape("<")
        assert w(outer()) == "&lt;"
        """,
        tmp_path,
    )


def test_two_workers_are_independent(tmp_path: Path) -> None:
    run_main(
        """
        other = Worker()
        n = 0
        def bump():
            global n
            n += 1
            return n
        assert w(bump) == 1 and w(bump) == 2 and other(bump) == 1
        n = 10
        assert other(bump) == 11 and w(bump) == 11
        """,
        tmp_path,
    )


def test_worker_with_workers_of_its_own(tmp_path: Path) -> None:
    run_main(
        """
        class Spot(Exception): pass
        K = 1
        def leaf(x):
            leaf.calls = getattr(leaf, "calls", 0) + 1
            return Spot(x + K), leaf.calls
        def middle():
            from picklingpeer import Worker
            with Worker() as nested:
                one, _ = nested(leaf, 1)
                two, calls = nested(leaf, 2)
                assert type(one) is Spot and calls == 2
                global K
                K = 50
                three, _ = nested(leaf, 1)
                return one, three, leaf
        one, three, function = w(middle)
        assert type(one) is Spot and one.args == (2,) and three.args == (51,)
        assert function is leaf
        K = 7
        assert w(leaf, 0)[0].args == (7,)
        """,
        tmp_path,
    )


def test_nothing_holds_the_main_module_at_its_end(tmp_path: Path) -> None:
    out = run_main(
        """
        import atexit, sys
        from pool._pickling import forget_all
        class Noted:
            all = []
            def __init__(self): self.all.append(self)
            def __del__(self): print("gone", flush=True)
        noted, kept = Noted(), [Noted()]
        def f(): return len(kept) + len(Noted.all)
        assert w(f) == 3
        w.close()
        atexit.register(forget_all)
        """,
        tmp_path,
    )
    assert out == "gone\ngone\n"


def test_names_that_are_found_as_they_are_when_the_function_is_called(tmp_path: Path) -> None:
    run_main(
        """
        x = 1
        def find(name): return globals().get(name)
        def evaluate(code): return eval(code)
        assert w(find, "x") == 1 and w(find, "later") is None
        x, later = 2, 3
        assert w(find, "x") == 2 and w(find, "later") == 3
        x = 3
        assert w(evaluate, "x + later") == 6 and w(lambda n: globals()[n], "x") == 3
        def f(): return x * 2
        assert w(evaluate, "f()") == 6
        """,
        tmp_path,
    )


def test_views_do_not_keep_other_globals_from_coming_along(tmp_path: Path) -> None:
    run_main(
        """
        import types
        limit = 5
        levels = types.MappingProxyType({"low": 1})
        names = {"a": 1}.keys()
        view = memoryview(b"abc")
        def find(name): return globals().get(name)
        assert w(find, "limit") == 5
        assert w(lambda: levels["low"]) == 1 and w(lambda: [*names]) == ["a"]
        assert w(find, "view") is None
        """,
        tmp_path,
    )


def test_what_only_comes_along_is_small_and_can_be_sent(tmp_path: Path) -> None:
    run_main(
        """
        import socket, threading
        large = [bytes(100)] * 100_000
        private = bytes(200_000)
        here, there = socket.socketpair()
        lock = threading.Lock()
        class Refusing:
            def __reduce__(self): raise ValueError("not me")
        class Meta(type):
            def __reduce__(cls): raise ValueError("nor me")
        refusing = Refusing()
        generator = (n for n in range(3))
        class Uses:
            def run(self): return globals()["uses"], len(large)
        uses = Uses()
        def uses_large(): return len(large)
        def fine(): return 1
        count = 5
        def find(): return sorted(name for name in globals() if not name.startswith("__"))
        names = w(find)
        assert {"fine", "count", "find"} <= set(names), names
        for name in "large private here there refusing generator uses uses_large".split():
            assert name not in names, name
        # Those that are named come all the same.
        def named(): return len(eval("large"))
        assert w(named) == 100_000
        assert len(dumps_function(find).encoded.data) < 20_000
        here.close(); there.close()
        """,
        tmp_path,
    )


def test_a_name_that_cannot_come_along_keeps_no_function_from_being_sent(tmp_path: Path) -> None:
    run_main(
        """
        class Odd:
            generator = (n for n in range(3))   # a class that no pickle can carry
        def find(name): return globals().get(name)
        x = 3
        def named(): return x, find("Odd")
        assert w(named) == (3, None)
        """,
        tmp_path,
    )


def test_words_of_texts_bring_nothing_that_is_large_or_only_looks_like_a_name(
    tmp_path: Path,
) -> None:
    run_main(
        """
        import json
        large = bytes(300_000)
        class Frame:
            def query(self, text): return text
            evaluate = execute = query
        frame = Frame()
        rows = [large]
        def uses_large(): return len(large)
        def plain(): return 1
        def ask(): return frame.query("large > 1"), frame.execute("select * from rows")
        def tell(): return "plain of json (that is, plain) or uses_large(1) failed"
        def doc():
            "Does as plain(x) does."
            return 1
        for func in (ask, tell, doc):
            assert len(dumps_function(func).encoded.data) < 5000, func
            assert w(func) == func()
        """,
        tmp_path,
    )


def test_classes_whose_annotations_name_each_other(tmp_path: Path) -> None:
    run_main(
        """
        import typing
        class A:
            b: "B"
            def run(self): return eval("A"), "query"
        class B:
            a: "A | None"
            def query(self): return self.query("A B C")
        class C(B):
            a: "list[A]"
        def hints(kind): return sorted(typing.get_type_hints(kind))
        assert w(hints, A) == ["b"] and w(hints, C) == ["a"]
        """,
        tmp_path,
    )


def test_main_modules_one_after_the_other(tmp_path: Path) -> None:
    # A server that runs a script anew for each visitor has such, and they live side by side.
    run_main(
        """
        import sys
        from types import ModuleType
        def visit(number):
            module = sys.modules["__main__"] = ModuleType("__main__")
            module.number = number
            exec("def helper(): return number", vars(module))
            exec("task = lambda: (number, helper())", vars(module))
            return module
        visits = []
        for number in range(3):
            visits.append(visit(number))
            assert w(visits[-1].task) == (number, number)
        """,
        tmp_path,
    )


def test_modules_that_are_loaded_anew_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "plugin.py").write_text(
        "TABLE = [0, 1, 2, 3, 3]\ndef helper(n): return TABLE[n]\ndef work(n): return helper(n)\n"
    )
    run_main(
        """
        import gc
        import importlib.util
        import sys
        from pool._pickling import _kept, _namespaces, _origins, _preludes
        file = __file__.replace("program", "plugins/plugin")
        def load(name):
            spec = importlib.util.spec_from_file_location(name, file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        def scopes():
            import gc
            from pool._pickling import _namespaces
            gc.collect()
            return [key for key in _namespaces._modules if "#" in key]
        kept = load("plugin")
        exec("def keep(n):\\n    global TABLE\\n    TABLE = [n]", vars(kept))
        w(kept.keep, 7)
        for n in range(20):
            assert w(load("plugin").work, 3) == 3
            gc.collect()
            assert w(kept.work, 0) == 7
        _kept.sweep()
        assert len(_origins._marks) == 1, _origins._marks
        assert 1 == len([key for key in _namespaces._sent if "#" in key])
        assert len([key for key, _ in _origins._scopes if "#" in key]) == 1
        assert len(_preludes._known) < 10
        assert len(w(scopes)) == 1, w(scopes)
        for n in range(20):
            sys.modules["plugin"] = module = load("plugin")
            assert w(module.work, 3) == 3
        del module, sys.modules["plugin"]
        gc.collect()
        _kept.sweep()
        assert w(kept.work, 0) == 7
        tables = [each for each in gc.get_objects() if each == [0, 1, 2, 3, 3]]
        assert len(tables) == 1, tables
        """,
        tmp_path,
    )
