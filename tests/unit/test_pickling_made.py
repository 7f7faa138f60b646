"""What workers need for classes that arrive: not cloudpickle, which may yet be told of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

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
