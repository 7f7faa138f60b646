"""What a program's objects hold, and which objects are one, when a pool is made.

Each program says the same with both libraries, under the start method that copies the program as it
is at that moment.
"""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

#: A module of the program's own, which tasks import.
SETTINGS = """
class Settings:
    debug = False

settings = Settings()
STATE = {"n": 0}
SENTINEL = object()
CACHE = []

def is_debug():
    return settings.debug

def count():
    return STATE["n"], len(CACHE)

def is_sentinel(value):
    return value is SENTINEL

def captured(cache=CACHE, state=STATE, settings=settings):
    return len(cache), state["n"], settings.debug
"""

PROGRAMS = {
    "contents that changed between two pools": """
        values = {"level": 1}
        settings = type("Settings", (), {"level": 1})()
        items = [1]
        def work(_):
            return values["level"], settings.level, items
        for level in (1, 2, 3):
            values["level"] = settings.level = items[0] = level
            with Pool(1) as p:
                print(p.map(work, [0]))
        """,
    "arguments of an initializer that changed": """
        values = {"level": 1}
        def init(given):
            global got
            got = given
        def work(_):
            return got["level"]
        for level in (1, 2):
            values["level"] = level
            with Pool(1, init, (values,)) as p:
                print(p.map(work, [0]))
        """,
    "contents that changed while another pool runs": """
        values = {"level": 1}
        def work(_):
            return values["level"]
        with Pool(1) as first:
            print(first.map(work, [0]))
            values["level"] = 2
            with Pool(1) as second:
                print(second.map(work, [0]), first.map(work, [0]))
        """,
    "objects imported by name": """
        from settings import settings, STATE, SENTINEL, CACHE
        from settings import captured, count, is_debug, is_sentinel
        STATE["n"] = 5
        CACHE.append(1)
        def init():
            settings.debug = True
        def work(_):
            STATE["n"] += 1
            CACHE.append(2)
            return is_debug(), count(), captured(), is_sentinel(SENTINEL)
        with Pool(1, init) as p:
            print(p.map(work, [0, 1]))
        """,
    "many values imported by name": """
        import settings
        from settings import CACHE, captured
        CACHE.extend(range(2000))
        def work(_):
            CACHE.append(1)
            return captured(), CACHE is settings.CACHE
        with Pool(1) as p:
            print(p.map(work, [0, 1]))
        """,
    "an object imported by name that an initializer of its module has changed": """
        import settings as module
        from settings import settings
        def work(_):
            return module.is_debug()
        def init():
            import settings
            settings.settings.debug = True
        with Pool(1, init) as p:
            print(p.map(work, [0]))
        """,
    "hooks that look at the contents of a class": """
        REGISTRY = {}
        class Plugin:
            def __init_subclass__(cls):
                REGISTRY[cls.name] = cls
                cls.slug = cls.name.upper()
        class A(Plugin):
            name = "a"
        def work(x):
            return A.name, A.slug, REGISTRY["a"] is A, len(REGISTRY)
        print(Pool(1).map(work, [1]))
        """,
    "a metaclass that reads the contents of a class": """
        MADE = []
        class Meta(type):
            def __init__(cls, name, bases, namespace):
                MADE.append(namespace["title"])
                super().__init__(name, bases, namespace)
        class A(metaclass=Meta):
            title = "a"
        def work(x):
            return A.title, MADE
        print(Pool(1).map(work, [1]))
        """,
    "a metaclass that allows no changes": """
        class Constants(type):
            def __setattr__(cls, name, value):
                raise AttributeError(f"{name} is a constant")
        class Limits(metaclass=Constants):
            upper = 3
        def work(x):
            return Limits.upper * x, Limits.__qualname__
        print(Pool(1).map(work, [1]))
        """,
    "unpickling that uses other globals": """
        SCALE = {"by": 2}
        class Model:
            def __init__(self, weight):
                self.weight = weight
            def __setstate__(self, state):
                self.__dict__.update(state, scaled=state["weight"] * SCALE["by"])
        model = Model(3)
        def work(x):
            return model.weight * x
        print(Pool(1).map(work, [1]))
        """,
    "an object that hands attributes on": """
        class Proxy:
            def __init__(self, inner):
                self._inner = inner
            def __getattr__(self, name):
                return getattr(self._inner, name)
        proxy = Proxy([1, 1])
        def work(x):
            return proxy.count(x)
        print(Pool(1).map(work, [1]))
        """,
    "an object with slots that allows no changes": """
        class Point:
            __slots__ = ("x",)
            def __init__(self, x):
                object.__setattr__(self, "x", x)
            def __setattr__(self, name, value):
                raise AttributeError(name)
        point = Point(3)
        def work(x):
            return point.x
        print(Pool(1).map(work, [1]))
        """,
    "a task that binds a name anew": """
        STORE = {"who": "parent"}
        HOLDER = [STORE]
        def reset(_):
            global STORE
            STORE = None
            STORE = {"who": "task"}
        def read(_):
            return HOLDER[0]["who"]
        with Pool(1) as p:
            p.map(reset, [0])
            print(p.map(read, [0]))
        """,
    "numbers that are bound anew": """
        from decimal import Decimal
        from datetime import date, timedelta
        def work(_):
            return rate, day
        rate, day = Decimal(1), date(2020, 1, 1)
        for _ in range(4):
            with Pool(1) as p:
                print(p.map(work, [1]))
            rate += 1
            rate += 1
            day += timedelta(1)
            day += timedelta(1)
        """,
    "sentinels of dataclasses": """
        import dataclasses
        @dataclasses.dataclass
        class Point:
            a: int
            b: int = 1
            c: list = dataclasses.field(default_factory=list)
        def work(_):
            fields = dataclasses.fields(Point)
            missing = dataclasses.MISSING
            @dataclasses.dataclass
            class Derived(Point):
                d: int = 2
            return (
                [f.name for f in fields if f.default is missing],
                [f.name for f in fields if f.default_factory is missing],
                Derived(1),
            )
        def said(x):
            return str(work(x))
        print(Pool(1).map(said, [1]))
        """,
    "two names of one object": """
        class Engine:
            runs = 0
        # Many: which one an object is known by must not be a matter of luck.
        primary = a = b = c = d = e = f = g = h = Engine()
        counts = i = j = k = l = m = n = o = q = []
        def change(_):
            primary.runs += 1
            counts.append(1)
        def read(_):
            engines, lists = (primary, a, b, c, d, e, f, g, h), (counts, i, j, k, l, m, n, o, q)
            return [x.runs for x in engines], [len(x) for x in lists], a is primary, i is counts
        with Pool(1) as p:
            p.map(change, [0])
            print(p.map(read, [0]))
        """,
    "an object that is reached through another one first": """
        class Registry:
            size = 0
        NAMES = {}
        REGISTRY = Registry()
        class Base:
            names = NAMES
            registry = REGISTRY
        def peek(_):
            return len(Base.names), Base.registry.size
        def add(_):
            NAMES["x"] = 1
            REGISTRY.size += 1
            return peek(0)
        with Pool(1) as p:
            print(p.map(peek, [0]))
            print(p.map(add, [0]))
        """,
    "classes that hold instances of their own": """
        import dataclasses, math
        from typing import NamedTuple
        class Point(NamedTuple):
            x: int
            y: int
        Point.ORIGIN = Point(0, 0)
        @dataclasses.dataclass(frozen=True, slots=True)
        class Color:
            name: str
        Color.RED = Color("red")
        Color.numbers = {Color.RED: 1}
        class Interned:
            made = {}
            def __new__(cls, key):
                if key not in cls.made:
                    self = cls.made[key] = super().__new__(cls)
                    self.key = key
                return cls.made[key]
            def __getnewargs__(self):
                return (self.key,)
        Interned("a")
        SCALE = 10
        class Scaled:
            def __init__(self, n):
                self.n = n
            def __getstate__(self):
                return math.floor(self.n / SCALE)
            def __setstate__(self, n):
                self.n = SCALE * n
            def __eq__(self, other):
                return self.n == other.n
            def __hash__(self):
                return hash(self.n)
            one = None
        Scaled.one = Scaled(40)
        Scaled.all = {Scaled(50)}
        def work(_):
            return [
                Point.ORIGIN, type(Point.ORIGIN) is Point, Color.RED, Color.numbers[Color("red")],
                Interned("a") is Interned.made["a"], len(Interned.made), Scaled.one.n,
                Scaled(50) in Scaled.all, Scaled(60) in Scaled.all,
            ]
        def said(_):
            return str(work(0))
        print(Pool(1).map(said, [0]))
        """,
    "classes that have one instance": """
        class Tested:
            instance = None
            def __new__(cls):
                if cls.instance is None:
                    cls.instance = super().__new__(cls)
                    cls.instance.n = 1
                return cls.instance
        class Looked:
            def __new__(cls):
                if not hasattr(cls, "instance"):
                    cls.instance = super().__new__(cls)
                    cls.instance.n = 2
                return cls.instance
        class Table(dict):
            instance = None
            def __new__(cls):
                if cls.instance is None:
                    cls.instance = super().__new__(cls)
                    cls.instance["n"] = 3
                return cls.instance
        class App:
            def __init__(self):
                self.parts = [[Tested(), Looked(), Table()]]
        app = App()
        named = Tested()
        def work(_):
            tested, looked, table = app.parts[0]
            return (
                tested is Tested() is Tested.instance is named, looked is Looked(),
                table is Table() is Table.instance, tested.n, looked.n, table["n"],
            )
        print(Pool(1).map(work, [0]))
        """,
    "descriptors and registries of classes": """
        import abc, enum, functools
        class Field:
            def __init__(self, kind, default=None):
                self.kind, self.default = kind, default
            def __set_name__(self, owner, name):
                self.name = name
            def __get__(self, obj, cls=None):
                return self if obj is None else obj.__dict__.get(self.name, self.default)
            def __set__(self, obj, value):
                obj.__dict__[self.name] = self.kind(value)
        class Model:
            n = Field(int, 5)
            objects = []
            @functools.cached_property
            def twice(self):
                return self.n * 2
            class Meta:
                ordering = ["n"]
        model = Model.first = Model()
        model.n = "7"
        Model.objects.append(model)
        class Node:
            all = set()
            def __init__(self, up=None):
                self.up = up
                Node.all.add(self)
        Node.root = Node()
        leaf = Node(Node.root)
        class Color(enum.Enum):
            RED = 1
            GREEN = 2
            def next(self):
                return ORDER[self]
        Color.letters = {Color.RED: "r"}
        ORDER = {Color.RED: Color.GREEN}
        class Shape(abc.ABC):
            kinds = {}
            def __init_subclass__(cls):
                Shape.kinds[cls.__name__] = cls
            @abc.abstractmethod
            def area(self): ...
        class Square(Shape):
            def area(self):
                return 1
        Square.unit = Square()
        def work(_):
            return (
                Model.n.kind, Model.objects[0] is Model.first is model, model.twice, Model().n,
                Model.Meta.ordering, leaf.up is Node.root, leaf in Node.all, len(Node.all),
                Color.RED.next() is Color.GREEN, Color.letters[Color.RED],
                Square.unit.area(), Shape.kinds["Square"] is Square,
            )
        print(Pool(1).map(work, [0]))
        """,
    "members of enumerations that are data": """
        from collections import Counter
        from datetime import date, datetime, timedelta
        from decimal import Decimal
        from enum import Enum
        from ipaddress import IPv4Address
        Day = Enum("Day", {"X": (2020, 1, 2)}, type=date)
        When = Enum("When", {"X": (2020, 1, 2, 3)}, type=datetime)
        Period = Enum("Period", {"X": 1}, type=timedelta)
        Price = Enum("Price", {"X": "0.5"}, type=Decimal)
        Letters = Enum("Letters", {"X": "a"}, type=frozenset)
        Parts = Enum("Parts", {"X": "ab"}, type=list)
        Table = Enum("Table", {"X": ({"a": 1},)}, type=dict)
        Counts = Enum("Counts", {"X": "hello"}, type=Counter)
        Host = Enum("Host", {"X": "1.2.3.4"}, type=IPv4Address)
        class Celsius(float):
            def __new__(cls, fahrenheit):
                return super().__new__(cls, (fahrenheit - 32) / 1.8)
        class HexInt(int):
            def __new__(cls, text):
                return super().__new__(cls, int(text, 16))
        Heat = Enum("Heat", {"X": 212}, type=Celsius)
        Mask = Enum("Mask", {"X": "ff"}, type=HexInt)
        class Point:
            def __init__(self, x, y, z):
                self.x, self.y, self.z = x, y, z
        Corner = Enum("Corner", {"X": (1, 2, 3)}, type=Point)
        def work(_):
            return str([
                Day.X.isoformat(), When.X.hour, Period.X.days, Price.X + 1, len(Letters.X),
                Parts.X[1], Table.X["a"], Counts.X["l"], int(Host.X), Heat.X + 0, Mask.X + 0,
                Corner.X.z, Heat.X.value, Mask.X.value, Day.X.value, Counts.X.value,
            ])
        print(Pool(1).map(work, [0]))
        """,
    "hooks of enumerations": """
        import enum
        KINDS = []
        class Listed(enum.Enum):
            def __init_subclass__(cls):
                KINDS.append(cls.__name__)
        class Labelled(enum.Enum):
            def __init_subclass__(cls, *, label):
                cls.label = label
        class Meta(enum.EnumType):
            def __new__(metacls, name, bases, space):
                for key in space._member_names:
                    assert isinstance(space[key][-1], str)
                    dict.__setitem__(space, key, space[key][0])
                made = super().__new__(metacls, name, bases, space)
                made.number = len(made)
                return made
        class A(Listed):
            X = 1
        class B(Labelled, label="b"):
            X = 2
        class C(enum.Enum, metaclass=Meta):
            X = 3, "x"
        def work(_):
            return KINDS, A.X.value, B.X.value, B.label, C.X.value, C.number, C(3) is C.X
        print(Pool(1).map(work, [0]))
        """,
    "globals that fail when they are asked for their class": """
        import sys, types
        class Lazy:
            @property
            def __class__(self):
                raise RuntimeError("not configured")
            def __reduce_ex__(self, protocol):
                raise RuntimeError("not configured")
        settings = Lazy()
        helpers = types.ModuleType("helpers")
        helpers.settings, helpers.number = settings, 5
        class Row:
            owner: "settings"
        def work(_):
            return Row.__annotations__, helpers.number
        print(Pool(1).map(work, [0]))
        """,
    "a module that goes by another name": """
        with open("odd.py", "w") as file:
            file.write('__name__ = "even"\\nSTATE = {"n": 0}\\n')
        from odd import STATE
        STATE["n"] = 5
        def work(_):
            import odd
            return odd.STATE["n"], odd.STATE is STATE
        print(Pool(1).map(work, [0]))
        """,
    "a class that registers in its own way": """
        import abc
        class Plugin(abc.ABC):
            names = []
            @classmethod
            def register(cls, name, kind):
                cls.names.append(name)
                return abc.ABCMeta.register(cls, kind)
        Plugin.register("number", int)
        def work(x):
            return isinstance(x, Plugin), Plugin.names
        print(Pool(1).map(work, [1]))
        """,
    "a function whose docstring was taken away": """
        def work(x):
            "Work."
            return work.__doc__
        work.__doc__ = None
        print(Pool(1).map(work, [1]))
        """,
    "attributes of the thread that makes the pool": """
        import threading
        class Numbered(threading.local):
            kind = "numbered"
            def __init__(self, n):
                self.n = n
        class Locked(threading.local):
            def __init__(self):
                self.lock = threading.Lock()
                self.made = iter([])
        numbered, locked, plain = Numbered(3), Locked(), threading.local()
        plain.items = locked.items = [5]
        def work(_):
            with locked.lock:
                list(locked.made)
            return numbered.n, numbered.kind, plain.items, locked.items, plain.__dict__
        print(Pool(1).map(work, [0]))
        """,
    "functions that share a variable": """
        def make():
            n = 0
            def increase():
                nonlocal n
                n += 1
            def value():
                return n
            return increase, value
        increase, value = make()
        def read(_):
            return value()
        def change(_):
            increase()
            return value()
        with Pool(1) as p:
            print(p.map(read, [0]), p.map(change, [0]), p.map(read, [0]))
        """,
    "attributes of errors": """
        class Refused(OSError):
            def __init__(self, *args):
                super().__init__(*args)
        def refuse(_):
            raise Refused(2, "no", "file.txt")
        p = Pool(1)
        try:
            p.map(refuse, [1])
        except OSError as error:
            print(error.filename, error.errno, error.strerror)
        """,
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_what_it_prints_is_what_it_prints_with_the_standard(tmp_path: Path, program: str) -> None:
    (tmp_path / "settings.py").write_text(SETTINGS)
    printed = [
        run_program(f"from {library} import Pool\n{dedent(program)}", tmp_path).succeeded()
        for library in ("multiprocessing", "pool")
    ]
    assert printed[0] == printed[1] != ""


def test_a_module_is_not_imported_for_the_sake_of_its_objects(tmp_path: Path) -> None:
    # That might take long, and nobody asks for it.
    (tmp_path / "settings.py").write_text(SETTINGS)
    source = """
from pool import Pool
from settings import STATE
STATE["n"] = 5
def work(_):
    import sys
    return STATE["n"], "settings" in sys.modules
def late(_):
    import settings
    return settings.STATE is STATE, settings.captured()
with Pool(1) as p:
    print(p.map(work, [0]), p.map(late, [0]))
"""
    printed = run_program(source, tmp_path).succeeded()
    assert printed == "[(5, False)] [(True, (0, 5, False))]\n"
