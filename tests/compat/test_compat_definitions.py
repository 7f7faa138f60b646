"""Classes and functions of the program's own arrive in workers with all that there is to them.

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

PROGRAMS = {
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
    "classes that are found by the class that they derive from": """
        import abc
        class Shape(abc.ABC):
            @classmethod
            def named(cls, name):
                return {kind.__name__: kind for kind in cls.__subclasses__()}[name]()
            @abc.abstractmethod
            def area(self): ...
        class Square(Shape):
            def area(self): return squared(2)
        class Circle(Shape):
            def area(self): return 3
        class Small(Square):
            pass
        def squared(x):
            return x * x
        def below(kind):
            for derived in kind.__subclasses__():
                yield derived.__name__
                yield from below(derived)
        def work(x):
            return Shape.named(x).area(), list(below(Shape)), squared(3)
        print(Pool(1).map(work, ["Square", "Circle"]))
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
    "a metaclass that no module has": """
        module = [
            "class Hidden(type):",
            "    pass",
            "class Native(metaclass=Hidden):",
            "    pass",
            "Hidden.__module__ = 'hidden_builtins'  # as that of pybind11's classes",
            "del Hidden",
        ]
        with open("hiding.py", "w") as file:
            file.write("\\n".join(module))
        from hiding import Native
        class A(Native):
            limit = 3
            def __init__(self, x): self.x = x
        class B(A):
            pass
        def work(x):
            return B(x).x, A.limit, type(A) is type(B), type(A).__name__, isinstance(B(x), A)
        print(Pool(1).map(work, [1]))
        """,
    "structures of ctypes, whose metaclass is in C": """
        import ctypes
        class Point(ctypes.Structure):
            _fields_ = [("x", ctypes.c_int)]
            origin = 0
            def double(self): return 2 * self.x
        def work(x):
            return Point(x).double(), Point.origin, Point.__qualname__
        print(Pool(1).map(work, [1]))
        Point.origin = 1
        print(Pool(1).map(work, [1]))
        """,
    "a descriptor that pickles as the attribute of its class": """
        class Cached:
            def __init__(self, func): self.func = func
            def __set_name__(self, owner, name):
                if not hasattr(self, "name"):
                    self.owner, self.name = owner, name
            def __get__(self, obj, kind=None): return lambda *args: self.func(obj, *args)
            def __reduce__(self): return look_up, (self.owner, self.name)
        def look_up(owner, name):
            return vars(owner)[name]
        class A:
            factor = 2
            @Cached
            def method(self, x): return self.factor * x
        class B(A):
            factor = 3
            other = vars(A)["method"]
        def work(x):
            return A().method(x), B().method(x), B().other(x), B.other is not None
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
    "objects of a module that are compared by identity": """
        module = [
            "MISSING = object()",
            "class Action:",
            "    def __init__(self, name):",
            "        self.name = name",
            "shift, late = Action('shift'), Action('late')",
            "class Parser:",
            "    def __init__(self):",
            "        self.default, self.action, self.other = MISSING, shift, Action('shift')",
            "        self.late = late",
            "    def look(self):",
            "        shifts = self.action is shift, self.other is shift",
            "        return self.default is MISSING, shifts, self.late.name",
        ]
        with open("grammar.py", "w") as file:
            file.write("\\n".join(module))
        import grammar
        parser = grammar.Parser()
        made = [parser, {"again": (parser.action, parser.default)}]
        def work(x):
            action, default = made[1]["again"]
            return parser.look(), action is parser.action, default is grammar.MISSING
        def look(x):
            return parser.look(), parser.action.name
        def change(action):
            action.name = "changed"
        print(Pool(1).map(work, [1]))
        grammar.late.name = "changed"
        print(Pool(1).map(look, [1]))
        with Pool(1) as p:
            p.map(change, [grammar.shift])  # an argument is a copy
            print(p.map(look, [1]))
        """,
    "classes of which a package keeps account, as SQLAlchemy does of those with tables": """
        import json
        class Row:
            _sa_registry = None
            def __init__(self, number):
                self.number = number
        json.tables = {Row: "rows"}
        def look(row):
            return json.tables[type(row)], row.number, type(row) is Row
        def make(number):
            return Row(number)
        with Pool(2) as p:
            print(p.map(look, [Row(1), Row(2)]), p.apply(look, (Row(3),)))
            rows = p.map(make, [1, 2])
            print([json.tables[type(row)] for row in rows], list(p.imap(look, rows)))
        """,
    "functions under a decorator of a package that pickles as the function's name": """
        import os, sys
        source = '''
        import functools
        class Memo:
            def __init__(self, function):
                functools.update_wrapper(self, function)
                self.known = {}
            def __call__(self, x):
                if x not in self.known:
                    self.known[x] = self.__wrapped__(x)
                return self.known[x]
            def __reduce__(self):
                return self.__qualname__
        '''
        with open("memo.py", "w") as file:
            print(source, file=file)
        sys.path.insert(0, os.getcwd())
        import memo
        @memo.Memo
        def double(x):
            return 2 * x
        def twice(x):
            return double(double(x)), len(double.known)
        with Pool(1) as p:
            print(p.map(double, [1, 2]), p.map(twice, [1, 2]), p.apply(twice, (5,)))
        """,
    "modules whose folder is taken off the path again, after a first pool": """
        import os, sys
        os.makedirs("lib", exist_ok=True)
        with open("lib/plugin.py", "w") as file:
            print("def double(x): return 2 * x", "class Row: pass", sep=chr(10), file=file)
        sys.path.insert(0, os.path.abspath("lib"))  # as Celery does while it imports the program
        import plugin
        with Pool(1) as p:
            print(p.map(plugin.double, [1]))
        sys.path.remove(os.path.abspath("lib"))
        def within(_):
            import plugin
            return plugin.double(4)
        with Pool(1) as p:
            print(p.map(plugin.double, [2]), type(p.apply(plugin.Row)) is plugin.Row)
            print(p.map(within, [0]))
        """,
    "objects whose class cannot make them without arguments": """
        class Template:
            def __new__(cls, source):
                made = object.__new__(cls)
                made.source = source
                return made
        class Named(Template):
            def __getnewargs__(self):
                return (self.source,)
        TEMPLATE, NAMED = Template("x"), Named("y")
        def work(n):
            return TEMPLATE.source * n, NAMED.source
        with Pool(1) as p:
            print(p.map(work, [2]), p.apply(work, (3,)), p.apply(len, ([Named("z")],)))
        """,
    "functions curried by toolz": """
        from toolz import compose, curry
        @curry
        def add(a, b, c=0):
            return a + b + c
        def work(x):
            return add(x)(1), add(c=5)(x, 1), type(add).__name__, add.__name__
        with Pool(1) as p:
            print(p.map(add(1), [1, 2]), p.map(compose(str, add(1, c=3)), [1]), p.map(work, [1]))
            print(p.apply(add, (1, 2)), p.apply(add, (1,))(3))
        """,
    "classes within classes": """
        import enum
        class Outer:
            class Error(Exception):
                pass
            class State(enum.Enum):
                ON = 1
            class Inner:
                class Innermost:
                    pass
        def work(_):
            return Outer.State.ON, Outer.Inner.Innermost(), Outer.Inner
        def fail(_):
            raise Outer.Error("caught")
        with Pool(1) as p:
            for state, thing, kind in p.map(work, [1]):
                print(state is Outer.State.ON, kind is Outer.Inner)
                print(type(thing) is Outer.Inner.Innermost)
            try:
                p.map(fail, [1])
            except Outer.Error as error:
                print(error)
        """,
    "modules that cannot be imported": """
        import importlib.machinery, importlib.util, sys, types
        with open("elsewhere.txt", "w") as file:
            file.write('''
        import enum
        class Kind:
            class Within:
                pass
        class State(enum.Enum):
            ON = 1
        class Error(Exception):
            pass
        def make(_):
            return Kind(), Kind.Within, State.ON
        def fail(_):
            raise Error("caught")
        ''')
        loader = importlib.machinery.SourceFileLoader("elsewhere", "elsewhere.txt")
        spec = importlib.util.spec_from_loader("elsewhere", loader)
        loaded = sys.modules["elsewhere"] = importlib.util.module_from_spec(spec)
        loader.exec_module(loaded)
        made = sys.modules["made"] = types.ModuleType("made")
        with open("elsewhere.txt") as file:
            exec(file.read(), vars(made))
        with Pool(1) as p:
            for module in (loaded, made):
                for thing, kind, state in p.map(module.make, [1]):
                    print(type(thing) is module.Kind, state is module.State.ON)
                    print(kind is module.Kind.Within)
                try:
                    p.map(module.fail, [1])
                except module.Error as error:
                    print(error)
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
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_what_it_prints_is_what_it_prints_with_the_standard(tmp_path: Path, program: str) -> None:
    if "toolz" in program:
        pytest.importorskip("toolz")  # comes with Dask
    standard, *ours = [
        run_program(f"{start}\n{dedent(program)}", tmp_path).succeeded()
        for start in (
            "from multiprocessing import Pool",
            "from pool import Pool",
            "from pool import get_context; Pool = get_context('fork').Pool",
        )
    ]
    assert ours == [standard, standard]
    assert standard
