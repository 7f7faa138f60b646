"""Classes are sent and arrive without cloudpickle, which may yet be told of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

import pool

ROOT = Path(pool.__file__).parents[1]

CLASSES = """
import abc, enum, sys
from pool import Pool, get_context

class Base(abc.ABC):
    @abc.abstractmethod
    def run(self): ...

class Job(Base):
    __slots__ = ("size",)
    registry = {}
    def __init__(self, size): self.size = size
    @classmethod
    def made(cls, size): return cls(size)
    @staticmethod
    def twice(x): return 2 * x
    @property
    def length(self): return self.twice(self.size)
    def run(self): return self.length

class Colour(enum.Enum):
    RED = 1
"""


def run(text: str, tmp_path: Path) -> list[str]:
    program = tmp_path / "program.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{CLASSES}{dedent(text)}")
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_workers_do_without_cloudpickle(tmp_path: Path) -> None:
    text = """
    def work(job):
        return job.run(), Job.made(3).length, "cloudpickle" in sys.modules, Colour(1) is Colour.RED
    with Pool(1) as p:
        print(p.map(work, [Job(1), Job(2)]))
        print([type(job) is Job for job in p.map(Job, [1])], p.map(Job(4).run.__func__, [Job(5)]))
        print(p.apply(lambda: "cloudpickle" in sys.modules))
    """
    assert run(text, tmp_path) == [
        "[(2, 6, False, True), (4, 6, False, True)]",
        "[True] [10]",
        "False",
    ]


def test_decorated_functions_need_no_cloudpickle(tmp_path: Path) -> None:
    text = """
    import functools, types
    def counted(function):
        calls = []
        @functools.wraps(function)
        def wrapper(*args):
            calls.append(1)
            return function(*args), len(calls)
        return wrapper
    @counted
    def work(x): return x, "cloudpickle" in sys.modules
    def kind_of(kind): return kind, kind is types.CellType
    with Pool(1) as p:
        print(p.map(work, [1]), "cloudpickle" in sys.modules)
        print(p.map(kind_of, [types.CellType, types.MethodType]), "cloudpickle" in sys.modules)
    """
    assert run(text, tmp_path) == [
        "[((1, False), 1)] False",
        "[(<class 'cell'>, True), (<class 'method'>, False)] False",
    ]


@pytest.mark.parametrize("maker", ["Pool", "get_context('spawn').Pool"])
def test_cloudpickle_is_told_of_classes_that_came_before_it(maker: str, tmp_path: Path) -> None:
    text = f"""
    def came(job): return "cloudpickle" in sys.modules
    def same(pickle):
        import cloudpickle
        return cloudpickle.loads(pickle) is Job, cloudpickle.loads(cloudpickle.dumps(Job)) is Job
    with {maker}(1) as p:
        p.map(came, [Job(1)])
        import cloudpickle
        print(p.apply(same, (cloudpickle.dumps(Job),)))
    """
    assert run(text, tmp_path) == ["(True, True)"]


KINDS = """
import collections, dataclasses, functools, types, typing
T = typing.TypeVar("T")
@dataclasses.dataclass(frozen=True, order=True)
class Data:
    a: int
    b: list = dataclasses.field(default_factory=list, metadata={"unit": "m"})
    c: typing.ClassVar[int] = 3
    d: dataclasses.InitVar[int] = 4
    _: dataclasses.KW_ONLY
    e: str = "e"
    def __post_init__(self, d): object.__setattr__(self, "given", d)
@dataclasses.dataclass(slots=True)
class Slotted:
    a: int
class Derived(Slotted):
    def text(self): return super().__repr__()
class Named(typing.NamedTuple):
    a: int
    b: str = "b"
Tuple = collections.namedtuple("Tuple", "x y")
class Generic(typing.Generic[T]):
    x: T
class OfInt(Generic[int]): ...
class Runs(typing.Protocol):
    def run(self) -> int: ...
class Typed(typing.TypedDict): a: int
class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()
Base.register(int)
class Full(Base):
    view = types.MappingProxyType({"a": 1})
    code = types.FunctionType.__code__
    size = Job.size
    three = functools.partialmethod(lambda self, y: y, 3)
    def run(self): return 1
    @property
    def doc(self): "text"
    @functools.cached_property
    def cached(self): return 5
    @functools.singledispatchmethod
    def kind(self, x): return "object"
    @kind.register
    def _(self, x: int): return "int"
"""

CHECKS = """
    def fields(data):
        a, b, e = dataclasses.fields(data)
        assert a.default is dataclasses.MISSING and b.metadata["unit"] == "m"
        assert Data.__dataclass_fields__["c"]._field_type is dataclasses._FIELD_CLASSVAR
        assert (data.given, data.c, dataclasses.replace(data, d=9).given) == (4, 3, 9)
        assert dataclasses.asdict(Slotted(1)) == {"a": 1} and Derived(1).text() == "Derived(a=1)"
        try:
            data.a = 3
        except dataclasses.FrozenInstanceError:
            return "cloudpickle" in sys.modules
    def rest(full, flags, *others):
        assert (full.three(), full.cached, full.kind(1), full.kind("")) == (3, 5, "int", "object")
        assert Full.view["a"] == 1 and Full.code is types.FunctionType.__code__
        assert Full.size is Job.size and Full.doc.__doc__ == "text" and issubclass(int, Base)
        assert flags & Flags.A is Flags.A and OfInt.__orig_bases__[0].__args__ == (int,)
        assert Runs._is_protocol and Typed.__required_keys__ == {"a"}
        assert isinstance(others[0], Named) and others[0]._replace(a=2) == (2, "b")
        return "cloudpickle" in sys.modules, Named(3), Tuple(1, 2), OfInt(), Flags.B, Data(1)
    with Pool(1) as p:
        print(p.map(fields, [Data(1)]))
        came, *made = p.apply(rest, (Full(), Flags.A | Flags.B, Named(1), Tuple(1, 2), OfInt()))
        print(came, [type(one) for one in made] == [Named, Tuple, OfInt, Flags, Data])
        print(made[3] is Flags.B, "cloudpickle" in sys.modules)
"""


def test_neither_workers_nor_programs_need_cloudpickle_for_classes(tmp_path: Path) -> None:
    assert run(indented(KINDS) + CHECKS, tmp_path) == ["[False]", "False True", "True False"]


def indented(text: str) -> str:
    return indent(text, "    ")


@pytest.mark.parametrize("maker", ["Pool", "get_context('fork').Pool", "get_context('spawn').Pool"])
def test_numbers_are_those_of_cloudpickle_whenever_it_is_imported(
    maker: str, tmp_path: Path
) -> None:
    # The same function each time, so that nothing is pickled anew.
    text = f"""
    def load(job, pickle, late=False):
        if pickle is None:
            return "cloudpickle" in sys.modules
        import cloudpickle
        again = cloudpickle.loads(cloudpickle.dumps(Job))
        return type(cloudpickle.loads(pickle)) is Job, again is Job
    with {maker}(1) as p:
        print(p.apply(load, (Job(1), None)), "cloudpickle" in sys.modules)
        import cloudpickle
        print(p.apply(load, (Job(1), cloudpickle.dumps(Job(2)))))
        class Job(Base):
            def run(self): ...
        pickle = cloudpickle.dumps(Job())  # known to cloudpickle before it is sent
        print(p.apply(load, (Job(), pickle)))
    """
    assert run(text, tmp_path) == ["False False", "(True, True)", "(True, True)"]


def test_classes_from_workers_have_one_number(tmp_path: Path) -> None:
    text = """
    def make():
        class Local:
            pass
        return Local
    def dumped(kind):
        import cloudpickle
        return cloudpickle.dumps(kind)
    def inner(kind): return dumped(kind)
    def through(kind):
        with Pool(1) as q:
            return q.apply(inner, (kind,)), "cloudpickle" in sys.modules
    with Pool(1) as p:
        Local = p.apply(make)
        pickles = [p.apply(through, (Local,)), p.apply(through, (Job,))]
        print("cloudpickle" in sys.modules, [late for _, late in pickles])
        import cloudpickle
        print([cloudpickle.loads(pickle) for pickle, _ in pickles] == [Local, Job])
        print(cloudpickle.loads(p.apply(dumped, (Local,))) is Local)
    """
    assert run(text, tmp_path) == ["False [False, False]", "True", "True"]
