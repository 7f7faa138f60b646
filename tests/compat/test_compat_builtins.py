"""What a program adds to `builtins`, or replaces there, holds in its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from poolscripts import run_with as run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize(
    ("library", "method"),
    [("multiprocessing", "fork"), ("pool", ""), ("pool", "fork"), ("pool", "spawn")],
)


def test_names_that_the_program_adds(library: str, method: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(
        "def look(number):\n"
        "    return trace(number), LIMIT, shape.name, Odd(number).number, np.__name__, _('word')\n"
    )
    (tmp_path / "shapes.py").write_text(
        "class Shape:\n"
        "    def __init__(self, name):\n"
        "        self.name = name\n"
        "def say(word):\n"
        "    return 'said ' + word\n"
    )
    body = """
    import builtins
    import json, shapes, elsewhere

    def trace(number):
        return "traced", number

    class Odd:
        def __init__(self, number):
            self.number = 2 * number + 1

    builtins.trace, builtins.LIMIT, builtins.shape = trace, 5, shapes.Shape("round")
    builtins.Odd, builtins.np, builtins._ = Odd, json, shapes.say
    del trace, Odd

    def deeper(number):
        with Pool(1) as p:
            return p.map(elsewhere.look, [number])[0]

    with Pool(1) as p:
        expected = [(("traced", 3), 5, "round", 7, "json", "said word")]
        print(p.map(elsewhere.look, [3]) == expected)
        if multiprocessing.__name__ == "pool":
            print(p.map(deeper, [3]) == expected)
    """
    expected = "True\n" if library == "multiprocessing" else "True\nTrue\n"
    assert run(library, method, body, tmp_path) == expected


def test_functions_that_the_program_replaces(library: str, method: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("def work(number):\n    print('item', number)\n")
    body = """
    import builtins
    import functools, elsewhere
    before = print

    def loud(*args):
        before("loud:", *args, flush=True)

    def check(_number):
        return before is print, before.__name__, callable(before)

    def give(_number):
        return before

    print = loud  # in this module
    builtins.print = loud  # and in the others
    with Pool(1) as p:
        p.map(elsewhere.work, [1])
        before(p.map(check, [2]), flush=True)
        before(p.map(give, [2])[0] in (before, loud), flush=True)  # it can be sent either way
    builtins.print = functools.partial(before, "partial:", flush=True)
    with Pool(1) as p:
        p.map(elsewhere.work, [3])
    builtins.print = before
    with Pool(1) as p:
        p.map(elsewhere.work, [4])
    """
    expected = "loud: item 1\n[(False, 'print', True)]\nTrue\npartial: item 3\nitem 4\n"
    if library == "multiprocessing":
        body = body.replace("p.map(give, [2])[0]", "before")
    assert run(library, method, body, tmp_path) == expected


def test_what_cannot_be_sent(library: str, method: str, tmp_path: Path) -> None:
    """It is left out; tasks that do not use it do not notice."""
    body = """
    import builtins
    import threading

    class Shell:
        def show(self):
            return "shown"

    builtins.show = Shell().show  # what a shell or a debugger does: of an object that lives here
    builtins.frames = sys._getframe()
    builtins.lock = threading.Lock()

    def work(number):
        return number

    with Pool(1) as p:
        print(p.map(work, [1]))
    """
    assert run(library, method, body, tmp_path) == "[1]\n"


def test_a_package_that_takes_over_what_its_module_says(
    library: str, method: str, tmp_path: Path
) -> None:
    """It has the module's name, file and spec then; workers can import it all the same."""
    package = tmp_path / "copied"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from .parts import Part, make\n"
        "def early(number):\n"
        "    return make(number).number\n"
        "from . import version\n"
        "globals().update(vars(version))\n"
        "def late(number):\n"
        "    return make(number).number\n"
    )
    (package / "version.py").write_text("__version__ = '1'\n")
    (package / "parts.py").write_text(
        "class Part:\n"
        "    def __init__(self, number):\n"
        "        self.number = number\n"
        "def make(number):\n"
        "    return Part(number)\n"
        "def outer(scale):\n"
        "    def inner(number):\n"
        "        return make(number * scale)\n"
        "    return inner\n"
    )
    body = """
    import builtins
    import copied, copied.parts

    with Pool(1) as p:
        (part,) = p.map(copied.make, [4])
        print(copied.__name__, type(part) is copied.Part, p.map(copied.early, [5]))
        if multiprocessing.__name__ == "pool":
            print(p.map(copied.late, [6]), p.map(copied.parts.outer(2), [7])[0].number)
    """
    expected = "copied.version True [5]\n"
    if library == "pool":
        expected += "[6] 14\n"
    assert run(library, method, body, tmp_path) == expected
