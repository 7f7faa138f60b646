"""Everything that programs import or bind at their top, used by a function of theirs.

Each name is used by a function of its own, so one that cannot travel fails alone.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import {library} as multiprocessing
multiprocessing.set_start_method({method!r}) if {method!r} else None
Pool = multiprocessing.Pool
"""

# What is bound, and an expression whose value a task and the program agree about.
BINDINGS = {
    "built-in functions of modules": """
        from math import sqrt, floor as down
        from time import perf_counter, sleep, time
        from os import getpid, path, sep
        from operator import add, itemgetter, attrgetter, mul as times
        from _collections import deque as fast_deque
        from itertools import chain, count, repeat
        from functools import partial, reduce, cmp_to_key
        from copy import deepcopy
        from json import dumps, loads
        from builtins import sorted as ordered
        ---
        sqrt(x) ; down(2.5) ; perf_counter() > 0 ; sleep(0) ; time() > 0 ; getpid() > 0
        path.basename("a/b") ; sep ; add(x, 1) ; itemgetter(1)([1, x]) ; attrgetter("real")(x)
        times(x, 2) ; list(fast_deque([x])) ; list(chain([x], [1])) ; next(count(x))
        list(repeat(x, 2)) ; partial(pow, 2)(x) ; reduce(add, [x, 1, 2]) ; deepcopy([x])
        ordered([2, x], key=cmp_to_key(lambda a, b: b - a)) ; dumps({"a": x}) ; loads("[1]")
    """,
    "what has been made of built-in types": """
        import collections, datetime, decimal, fractions, functools, operator, re, string, struct
        import types, uuid, pathlib, ipaddress, zoneinfo
        first = operator.itemgetter(0)
        upper = str.upper
        join = ", ".join
        pattern = re.compile(r"(\\d+)")
        find = pattern.findall
        packer = struct.Struct("<i")
        pack = packer.pack
        double = functools.partial(operator.mul, 2)
        point = types.SimpleNamespace(x=1)
        view = types.MappingProxyType({"a": 1})
        Pair = collections.namedtuple("Pair", "a b")
        pair = Pair(1, 2)
        counts = collections.Counter("hello")
        chained = collections.ChainMap({"a": 1}, {"b": 2})
        default = collections.defaultdict(int, a=1)
        lists = collections.defaultdict(list)
        today = datetime.date(2024, 2, 29)
        zone = zoneinfo.ZoneInfo("UTC")
        now = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
        parse = datetime.datetime.fromisoformat
        tenth = decimal.Decimal("0.1")
        third = fractions.Fraction(1, 3)
        template = string.Template("$a")
        where = pathlib.PurePosixPath("/a/b")
        name = uuid.UUID(int=5)
        network = ipaddress.ip_network("10.0.0.0/8")
        numbers = range(5)
        part = slice(1, 3)
        nothing, dots, missing = None, ..., NotImplemented
        big, imaginary, raw, mutable = 10**30, 1j, b"raw", bytearray(b"ab")
        some = frozenset({1, 2})
        text = memoryview(b"abc").tobytes()
        alias = list[int]
        union = int | None
        append = [].append
        get = {"a": 1}.get
        ---
        first([x]) ; upper("a") ; join("ab") ; pattern.match("1").group(1) ; find("1 2")
        packer.size ; pack(x) ; double(x) ; point.x ; view["a"] ; pair.b ; type(pair) is Pair
        counts["l"] ; chained["b"] ; default["a"], default["new"] ; lists["a"]
        today.year ; str(zone) ; now.isoformat() ; parse("2024-01-01").day ; tenth * x ; third * x
        template.substitute(a=x) ; str(where) ; name.int ; network.prefixlen ; numbers[x]
        [0, 1, 2, 3][part] ; nothing is None ; dots is ... ; missing is NotImplemented
        big + x ; imaginary * x ; raw ; mutable[0] ; sorted(some) ; text ; str(alias) ; str(union)
        append(x) ; get("a")
    """,
    "methods of objects of modules": """
        import random, logging, os, sys
        from random import randint, Random
        generator = Random(5)
        draw = generator.random
        log = logging.getLogger("some.name")
        debug = log.debug
        environ = os.environ
        flush = sys.stdout.flush
        ---
        randint(3, 3) ; 0 <= draw() < 1 ; 0 <= generator.random() < 1 ; log.name ; debug("x")
        "PATH" in environ ; flush()
    """,
    "numpy": """
        import numpy as np
        from numpy import sin, array, float32, pi, linalg, random
        from numpy.linalg import norm
        from numpy.random import default_rng
        rng = default_rng(5)
        normal = rng.normal
        legacy = np.random.RandomState(5)
        kind = np.dtype("f4")
        ones = np.ones(3)
        total = ones.sum
        scalar = np.float64(2.5)
        when = np.datetime64("2024-01-01")
        apply = np.vectorize(lambda value: value + 1)
        own = np.frompyfunc(lambda a: a + 1, 1, 1)
        curve = np.poly1d([1, 2])
        vector = np.add
        masked = np.ma.masked
        ---
        float(sin(0.0)) ; array([x]).tolist() ; float(float32(x)) ; pi ; float(norm([3, 4]))
        float(linalg.norm([3, 4])) ; random.rand(1).shape ; rng.random() >= 0 ; normal(0, 0)
        legacy.rand() >= 0 ; kind.itemsize ; ones.tolist() ; float(total()) ; float(scalar)
        str(when) ; apply([x]).tolist() ; own(x) ; float(curve(x)) ; int(vector(x, 1))
        masked is np.ma.masked
    """,
    "classes and what they offer": """
        import abc, dataclasses, enum, typing
        class Colour(enum.Enum):
            RED = 1
        RED = Colour.RED
        @dataclasses.dataclass
        class Point:
            x: int = 0
            @classmethod
            def origin(cls):
                return cls()
            @staticmethod
            def twice(value):
                return 2 * value
            def moved(self, by):
                return Point(self.x + by)
        here = Point(1)
        move = here.moved
        origin = Point.origin
        twice = Point.twice
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]):
            def __init__(self, value):
                self.value = value
        IntBox = Box[int]
        box = IntBox(3)
        class Singleton:
            def __reduce__(self):
                return "ONLY"
        ONLY = Singleton()
        class Token(typing.NamedTuple):
            kind: str
            value: int
        token = Token("a", 1)
        sentinel = object()
        ---
        Colour(1) is RED ; RED.name ; here.x ; move(2).x ; origin() ; twice(x) ; box.value
        isinstance(box, Box) ; IntBox(x).value ; type(ONLY).__name__ ; token.kind
        isinstance(move(1), Point) ; sentinel is not None ; T.__name__
    """,
}  # fmt: skip


def program(binding: str) -> str:
    """Return a program that uses each expression in the program and in a task."""
    bound, expressions = textwrap.dedent(binding).split("---\n")
    lines = [bound, "tasks = []"]
    for number, expression in enumerate(part for line in expressions.splitlines()
                                        for part in line.split(" ; ")):  # fmt: skip
        lines += [f"def task_{number}(x):", f"    return {expression.strip()}"]
        lines += [f"tasks.append((task_{number}, {expression.strip()!r}))"]
    return "\n".join(lines) + textwrap.dedent(
        """
        wrong = 0
        with Pool(2) as pool:
            for task, shown in tasks:
                expected = task(3)
                try:
                    got = pool.map(task, [3, 3])
                except Exception as error:
                    got = f"{type(error).__name__}: {error}"
                if got != [expected] * 2:
                    wrong += 1
                    print(shown, "gave", got, "instead of", expected)
        print(len(tasks) > 5, wrong)
        """
    )


@pytest.mark.parametrize("what", BINDINGS)
@pytest.mark.parametrize(
    ("library", "method"),
    [("multiprocessing", "fork"), ("pool", ""), ("pool", "fork"), ("pool", "spawn")],
)
def test_what_is_bound_at_the_top(library: str, method: str, what: str, tmp_path: Path) -> None:
    source = HEAD.format(library=library, method=method) + program(BINDINGS[what])
    assert run_program(source, tmp_path).succeeded() == "True 0\n"


def test_globals_that_are_bound_anew_after_the_fork_of_a_pool(tmp_path: Path) -> None:
    program = """
    import pool

    items = ["old"]
    kept = 1
    def keep():
        global kept
        kept = 2
    with pool.get_context("fork").Pool(1, keep) as p:
        items = ["new"]
        print(p.map(lambda i: items[i], [0]), p.map(lambda i: kept, [0]))
        items = ["newer"]
        print(p.map(lambda i: items[i], [0]))
    """
    assert run_program(textwrap.dedent(program), tmp_path).succeeded() == (
        "['new'] [2]\n['newer']\n"
    )


@pytest.mark.parametrize(
    ("library", "method"),
    [("multiprocessing", "fork"), ("pool", ""), ("pool", "fork"), ("pool", "spawn")],
)
def test_a_program_frees_its_copy_of_what_workers_have(
    library: str, method: str, tmp_path: Path
) -> None:
    program = """
    large = list(range(1000))

    def use(index):
        return large[index]

    with Pool(1) as p:
        print(p.map(use, [1]))
        del large
        print(p.map(use, [2]))
    """
    source = HEAD.format(library=library, method=method) + textwrap.dedent(program)
    assert run_program(source, tmp_path).succeeded() == "[1]\n[2]\n"


@pytest.mark.parametrize(("library", "method"), [("multiprocessing", "fork"), ("pool", "")])
def test_globals_that_refuse_to_be_pickled_by_an_error_of_any_kind(
    library: str, method: str, tmp_path: Path
) -> None:
    # Objects of Boost.Python raise a RuntimeError. No fork asks, as long as they are not items.
    program = """
    class Mine(Exception):
        pass

    class Boost:
        def __init__(self, error): self.error = error
        def __reduce__(self): raise self.error("not enabled")

    boost, own = Boost(RuntimeError), Boost(Mine)
    def of_boost(x): return boost.error.__name__, x
    def of_own(x): return own.error.__name__, x
    with Pool(1) as p:
        print(p.map(of_boost, [1]), list(p.imap(of_boost, [2])), p.apply(of_own, (3,)))
        print(p.apply_async(of_own, (4,)).get())
        for item in boost, own:
            try:
                p.map(str, [item])
            except (RuntimeError, Mine) as error:
                print(type(error).__name__, error)
    with Pool(1, lambda given: None, (own,)) as p:
        print(p.map(of_boost, [1]))
    """
    source = HEAD.format(library=library, method=method) + textwrap.dedent(program)
    assert run_program(source, tmp_path).succeeded().splitlines() == [
        "[('RuntimeError', 1)] [('RuntimeError', 2)] ('Mine', 3)",
        "('Mine', 4)",
        "RuntimeError not enabled",
        "Mine not enabled",
        "[('RuntimeError', 1)]",
    ]
