"""Functions of every kind, by name or by value."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from picklingpeer import run_main

from pool._pickling import _names, dumps_to_worker


def test_opcode_numbers_are_those_of_this_interpreter() -> None:
    assert _names._NUMBERS[sys.version_info[:2]] == _names.look_up_numbers()


def test_names_of_globals() -> None:
    code = compile(
        "def f(a):\n"
        "    global stored, deleted\n"
        "    stored = read.attribute\n"
        "    del deleted\n"
        "    class C:\n"
        "        field = in_class\n"
        "    return [in_comprehension(x) for x in a], lambda: in_lambda, C\n",
        "f",
        "exec",
    ).co_consts[0]
    found = set(_names.global_names(code))
    assert {"stored", "deleted", "read", "in_class", "in_comprehension", "in_lambda"} <= found
    assert not {"attribute", "a", "x", "C", "field"} & found


def test_names_beyond_the_first_256() -> None:
    names = [f"n{i}" for i in range(40_000)]
    code = compile("def f():\n" + "".join(f"    {n}\n" for n in names), "f", "exec").co_consts[0]
    assert list(_names.global_names(code)) == names


def test_functions_of_a_library_go_by_name() -> None:
    import os.path

    assert b"join" in dumps_to_worker(os.path.join).data
    assert len(dumps_to_worker(os.path.join).data) < 60


def test_closures_and_cells(tmp_path: Path) -> None:
    run_main(
        """
        def counter():
            n = 0
            def inc():
                nonlocal n
                n += 1
                return n
            def get(): return n
            return inc, get
        def use(pair):
            inc, get = pair
            inc()
            inc()
            return get()
        pair = counter()
        pair[0]()
        assert w(use, pair) == 3 and pair[1]() == 1
        inc, get = counter()
        def through_globals():
            inc()
            return get()
        assert w(through_globals) == 1 and w(through_globals) == 2
        def recursive():
            def fact(n): return 1 if n == 0 else n * fact(n - 1)
            return fact
        assert w(recursive(), 5) == 120
        def unbound():
            def f():
                try:
                    return later
                except NameError:
                    return "unbound"
            if len("x") == 2:
                later = 1
            return f
        assert w(unbound()) == "unbound"
        make_cell = lambda: w
        cell = (lambda x: lambda: x)(3).__closure__[0]
        assert w(lambda c: c.cell_contents, cell) == 3
        """,
        tmp_path,
    )


def test_recursion_through_globals_and_containers(tmp_path: Path) -> None:
    run_main(
        """
        def even(n): return True if n == 0 else odd(n - 1)
        def odd(n): return False if n == 0 else TABLE["even"](n - 1)
        TABLE = {"even": even}
        assert w(even, 10) is True and w(odd, 10) is False
        def f(): return f.itself is f
        f.itself = f
        assert w(f)
        """,
        tmp_path,
    )


def test_everything_that_hangs_on_a_function(tmp_path: Path) -> None:
    run_main(
        '''
        import inspect
        def make(d):
            def f(a, /, b: int = 2, *c, e: "str" = d, **g) -> list:
                """Say something."""
                return a, b, c, e, g
            f.extra = {"k": 1}
            return f
        f = make("def")
        f.__doc__ = "Changed."
        def look(f):
            return (f(1), str(inspect.signature(f)), f.__doc__, f.__module__, f.__qualname__,
                    f.__name__, f.extra, f.__annotations__, f.__kwdefaults__, f.__defaults__,
                    f.__code__.co_filename, f.__code__.co_firstlineno)
        assert w(look, f) == look(f)
        def g(x: "Later") -> int: "Doc."; return x
        assert w(lambda: (g.__doc__, g.__annotations__)) == ("Doc.", {"x": "Later", "return": int})
        ''',
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of 3.12")
def test_type_parameters(tmp_path: Path) -> None:
    run_main(
        """
        def first[T: int](xs: list[T]) -> T: return xs[0]
        class Box[T]:
            def __init__(self, v: T) -> None: self.v = v
            def get(self) -> T: return self.v
        type Names = list[str]
        assert w(first, [3]) == 3
        names = w(lambda: (first.__type_params__[0].__name__, Box.__type_params__[0].__name__,
                           Names.__name__))
        assert names == ("T", "T", "Names")
        assert w(lambda b: b.get(), Box(4)) == 4
        assert type(w(lambda: Box[int](5))) is Box
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of 3.12")
def test_types_that_are_evaluated_late(tmp_path: Path) -> None:
    run_main(
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from collections.abc import Sized
        type Json = dict[str, Json] | None
        type Unknown = Sized
        type Pair[T] = tuple[T, T]
        type Nothing = None
        def size[T: Sized](x: T) -> int: return len(x)
        def load(x: Json, y: Unknown, z: Pair[int], n: Nothing) -> Json: return x
        assert w(size, [3]) == 1
        assert w(load, {}, 1, 2, 3) == {}
        def look():
            hints = load.__annotations__
            args = hints["x"].__value__.__args__
            bare = size.__annotations__["x"] is size.__type_params__[0]
            recursive = args[0].__args__[1] is hints["x"]
            return recursive, args[1] is type(None), bare, hints["n"].__value__
        assert w(look) == look() == (True, True, True, None)
        def parameters():
            return (len(Pair.__type_params__), Pair.__module__, str(Pair[int]),
                    Pair.__value__.__args__)
        assert str(w(parameters)) == str(parameters())
        def fails():
            try:
                return Unknown.__value__
            except NameError:
                return "name"
        assert w(fails) == "name"
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 13), reason="syntax of 3.13")
def test_defaults_of_type_parameters(tmp_path: Path) -> None:
    run_main(
        """
        def first[T = int, *Ts = *tuple[int, str], **P = [int]](x: T) -> T: return x
        def look():
            return [str(parameter.__default__) for parameter in first.__type_params__]
        assert w(look) == look()
        """,
        tmp_path,
    )


def test_functions_that_share_a_variable_with_one_that_cannot_be_sent(tmp_path: Path) -> None:
    run_main(
        """
        import sqlite3
        def make():
            n, connection = 5, sqlite3.connect(":memory:")
            return (lambda: n), (lambda: (n, connection))
        value, broken = make()
        assert w(lambda: value()) == 5
        """,
        tmp_path,
    )


def test_annotations_that_cannot_be_sent_are_left_behind(tmp_path: Path) -> None:
    run_main(
        """
        import sqlite3
        connection = sqlite3.connect(":memory:")
        def f(x: connection) -> int: return x
        assert w(f, 3) == 3
        assert w(lambda g: g(4), lambda x: f(x)) == 4
        """,
        tmp_path,
    )


def test_decorated_functions(tmp_path: Path) -> None:
    run_main(
        """
        import contextlib, functools
        def loud(prefix):
            def decorate(func):
                calls = 0
                @functools.wraps(func)
                def wrapper(*args):
                    nonlocal calls
                    calls += 1
                    return prefix, calls, func(*args)
                return wrapper
            return decorate
        @loud("!")
        def f(x): return x + 1
        assert w(f, 1) == ("!", 1, 2) and w(f, 1) == ("!", 2, 2)
        @functools.singledispatch
        def kind(x): return "object"
        @kind.register
        def _(x: int): return "int"
        assert w(kind, 3) == "int" and w(kind, "") == "object"
        @contextlib.contextmanager
        def managed():
            yield 5
        def use():
            with managed() as value:
                return value
        assert w(use) == 5
        class Memo:
            def __init__(self, func):
                functools.update_wrapper(self, func)
                self.func, self.seen = func, {}
            def __call__(self, x):
                return self.seen.setdefault(x, self.func(x))
        @Memo
        def slow(x): return x * 3
        assert w(slow, 2) == 6 and w(lambda: slow(3)) == 9
        assert w(functools.partial(f, 3)) == ("!", 3, 4)
        assert w(functools.partial(lambda a, b: a - b, b=1), 3) == 2
        def twice(): return cached(2), cached(2), cached.cache_info().hits
        def make():
            @functools.cache
            def local(n): return n if n < 2 else local(n - 1) + local(n - 2)
            return local
        assert w(make(), 20) == 6765
        cached = make()
        assert w(twice) == (1, 1, 1)
        """,
        tmp_path,
    )


def test_generated_functions(tmp_path: Path) -> None:
    run_main(
        """
        space = {"k": 4, "__name__": "generated"}
        exec("def f(x): return g(x) + k\\ndef g(x): return x * 2", space)
        assert w(space["f"], 3) == 10
        assert w(lambda f, g: f.__globals__ is g.__globals__, space["f"], space["g"])
        assert w(eval("lambda x: x + 1"), 2) == 3
        """,
        tmp_path,
    )


def test_generators_coroutines_and_nested_classes(tmp_path: Path) -> None:
    run_main(
        """
        import asyncio
        def gen(n):
            for i in range(n):
                yield helper(i)
        def helper(i): return i * i
        assert w(lambda: list(gen(4))) == [0, 1, 4, 9]
        async def co(): return helper(5)
        assert w(lambda: asyncio.run(co())) == 25
        def build():
            class Inner:
                value = helper(3)
                def get(self): return helper(self.value)
            return Inner().get()
        assert w(build) == 81
        """,
        tmp_path,
    )


def test_functions_come_back(tmp_path: Path) -> None:
    run_main(
        """
        K = 3
        def make(n): return lambda x: x + n + K
        add = w(make, 10)
        assert add(1) == 14
        K = 4
        assert add(1) == 15      # its globals are the program's
        """,
        tmp_path,
    )


def test_functions_within_functions_compare_with_sentinels(tmp_path: Path) -> None:
    run_main(
        """
        MISSING = object()
        class Unset: pass
        UNSET = Unset()
        nothing = None
        def make(captured):
            def within(given=MISSING, *, other=UNSET, none=None):
                return given is MISSING, other is UNSET, captured is MISSING, none is nothing
            return within
        assert w(make(MISSING)) == (True,) * 4
        assert w(lambda: make(MISSING)())  == (True,) * 4
        assert w(lambda: make(MISSING))() == (True,) * 4
        assert w(make(MISSING), 1) == (False, True, True, True)
        """,
        tmp_path,
    )


def test_what_functions_hold_is_newer_in_workers_only_if_it_is_here(tmp_path: Path) -> None:
    run_main(
        """
        class Cache:
            is_open = False
            def __init__(self, n): self.n = n
            def __setstate__(self, state):
                vars(self).update(state)
                if self.n < 0 and not Cache.is_open:
                    raise RuntimeError("closed")
        def f(cache=Cache(1), *, other=Cache(2)):
            return cache.n, other.n, getattr(f, "attribute", cache).n
        assert w(f) == (1, 2, 1)
        f.__defaults__ = (Cache(3),)
        f.attribute = Cache(4)
        assert w(f) == (3, 2, 4)
        def change():
            f.attribute = Cache(5)
        w(change)
        f.__kwdefaults__ = {"other": Cache(6)}
        assert w(f) == (3, 6, 5)
        del f.attribute
        assert w(f) == (3, 6, 3)
        f.__defaults__ = (Cache(-1),)
        for _ in range(2):
            try:
                w(f)
            except RuntimeError as error:
                assert "closed" in str(error)
            else:
                raise AssertionError
        Cache.is_open = True
        assert w(f) == (-1, 6, -1)
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 15), reason="syntax of 3.15")
def test_imports_that_are_done_when_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("print('imported')\nlazy import wave\nTEXT = 'late'\n")
    run_main(
        """
        import sys
        lazy import colorsys
        lazy import xml.dom.minidom
        lazy import xml.sax.saxutils as utils
        lazy from late import TEXT as text
        lazy from tqdm import tqdm
        lazy import missing
        def use():
            return (colorsys.rgb_to_hls(0, 0, 0), xml.dom.minidom.__name__, utils.escape("<"), text,
                    tqdm.__name__)
        def fail():
            return missing.name
        found = w(use)
        assert found == ((0.0, 0.0, 0.0), "xml.dom.minidom", "&lt;", "late", "tqdm"), found
        assert not {"colorsys", "xml.dom", "xml.sax", "late", "tqdm"} & set(sys.modules)
        def names(): return sorted({"colorsys", "late", "wave", "missing"} & set(sys.modules))
        assert w(names) == ["colorsys", "late"]
        try:
            w(fail)
        except Exception as error:
            assert "No module named 'missing'" in str(error), error
        else:
            raise AssertionError
        """,
        tmp_path,
    )


def test_objects_that_forward_to_others_are_not_asked_while_empty(tmp_path: Path) -> None:
    """As those that functions under pydantic's `validate_call` hold."""
    (tmp_path / "deco.py").write_text(
        "class Forwarding:\n"
        "    def __init__(self, inner): self.inner = inner\n"
        "    def __getattr__(self, name): return getattr(self.inner, name)\n"
        "class Slotted(Forwarding):\n"
        "    __slots__ = ('other',)\n"
        "def decorate(function, inner):\n"
        "    one, two = Forwarding(inner), Slotted(inner)\n"
        "    two.other = one\n"
        "    return lambda x: function(x) + one.real + two.other.real\n"
    )
    run_main(
        """
        from deco import decorate
        @lambda function: decorate(function, 5)
        def add(x): return x + 1
        assert w(lambda: add(1)) == 12
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 15), reason="built-in types of 3.15")
def test_sentinels_are_one_object(tmp_path: Path) -> None:
    (tmp_path / "marks.py").write_text(
        "NONE = sentinel('NONE')\n"
        "_unset = sentinel('unset')\n"
        "def look(x): return x is NONE, x is _unset\n"
    )
    run_main(
        """
        import marks
        MISSING = sentinel("MISSING")
        _other = sentinel("other", repr="<other>")
        class Box:
            EMPTY = sentinel("Box.EMPTY")
            def get(self, default=EMPTY): return default is self.EMPTY
        def is_missing(x, default=MISSING): return x is MISSING, default is MISSING
        def local():
            mark = sentinel("mark")
            return lambda x=mark: x is mark
        inner = local()
        table = frozendict(a=MISSING, b=Box.EMPTY)
        assert w(is_missing, MISSING) == (True, True)
        assert w(is_missing, _other) == (False, True)
        assert w(lambda x: (x is _other, repr(x)), _other) == (True, "<other>")
        assert w(lambda x: x.__module__, _other) == "__main__"
        assert w(lambda x: x is Box.EMPTY, Box.EMPTY)
        assert w(Box().get) and w(inner)
        assert w(lambda: (table["a"] is MISSING, table["b"] is Box.EMPTY)) == (True, True)
        for mark in (MISSING, _other, Box.EMPTY, marks.NONE, marks._unset):
            assert w(lambda x: x, mark) is mark, mark
        assert w(lambda: MISSING) is MISSING
        assert w(marks.look, marks.NONE) == (True, False)
        assert w(marks.look, marks._unset) == (False, True)
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 15), reason="built-in types of 3.15")
def test_dicts_that_cannot_be_changed(tmp_path: Path) -> None:
    run_main(
        """
        def double(x): return 2 * x
        class Tripled:
            SHARED = frozendict()
            def __call__(self, x): return 3 * x
        Tripled.SHARED = frozendict(own=Tripled(), double=double)
        class Frozen(frozendict):
            def call(self, x): return self["f"](x)
        TABLE = frozendict(double=double, inner=frozendict(triple=Tripled()))
        frozen = Frozen(f=double)
        def use(x):
            return (TABLE["double"](x), TABLE["inner"]["triple"](x), Tripled.SHARED["own"](x),
                    Tripled().SHARED["double"] is double, frozen.call(x))
        assert w(use, 5) == use(5), w(use, 5)
        assert w(frozen.call, 5) == 10
        made = w(lambda given: given | {"n": given["double"](1)}, TABLE)
        assert type(made) is frozendict and made["double"] is double and made["n"] == 2
        """,
        tmp_path,
    )
