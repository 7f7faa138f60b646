"""Run programs that are modules of a package: what a module says of itself holds in its tasks."""

from __future__ import annotations

import textwrap
import zipfile
from typing import TYPE_CHECKING

import pytest
from poolscripts import Outcome, python, run_command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize(
    ("library", "method"),
    [
        ("multiprocessing", "fork"),
        ("multiprocessing", "spawn"),
        ("pool", ""),
        ("pool", "fork"),
        ("pool", "spawn"),
    ],
)

PROGRAM = '''
"""About the program."""
import sys
import {library} as multiprocessing
from .helpers import double

def imports(x):
    from . import helpers
    from .helpers import double as same
    return helpers.double(x), same is double

def looks(_):
    import importlib.resources, pkgutil
    text = importlib.resources.files(__package__).joinpath("words.txt").read_text()
    data = pkgutil.get_data(__package__, "words.txt")
    return (text, data, __package__, __spec__.name, __spec__.parent, __doc__,
            type(__loader__).__name__, __spec__.loader is __loader__, __file__)

if __name__ == "__main__":
    if {method!r}:
        multiprocessing.set_start_method({method!r})
    with multiprocessing.Pool(1) as p:
        print(p.map(imports, [1, 2]))
        print(p.map(looks, [0]) == [looks(0)], looks(0)[2:6])
'''


def package(folder: Path, library: str, method: str) -> None:
    app = folder / "app"
    app.mkdir()
    program = PROGRAM.format(library=library, method=method)
    for name in ("__main__", "cli"):
        (app / f"{name}.py").write_text(program)
    (app / "__init__.py").write_text("")
    (app / "helpers.py").write_text("def double(x): return 2 * x\n")
    (app / "words.txt").write_text("some words")


def check(outcome: Outcome, module: str) -> None:
    told = f"True ('app', '{module}', 'app', 'About the program.')"
    assert outcome.succeeded() == f"[(2, True), (4, True)]\n{told}\n"


@pytest.mark.parametrize(
    ("name", "module"), [("app.cli", "app.cli"), ("app", "app.__main__")], ids=["module", "package"]
)
def test_dash_m(library: str, method: str, name: str, module: str, tmp_path: Path) -> None:
    if (library, method, name) == ("multiprocessing", "spawn", "app"):
        pytest.skip("multiprocessing: finds no functions in a __main__.py")
    package(tmp_path, library, method)
    check(run_command(python("-m", name), tmp_path), module)


def test_runpy(library: str, method: str, tmp_path: Path) -> None:
    if (library, method) == ("multiprocessing", "spawn"):
        pytest.skip("multiprocessing: finds no functions of a module that is not the main one")
    package(tmp_path, library, method)
    call = "import runpy; runpy.run_module('app.cli', run_name='__main__', alter_sys=True)"
    check(run_command(python("-c", call), tmp_path), "app.cli")


def test_zipapp(library: str, method: str, tmp_path: Path) -> None:
    if (library, method) == ("multiprocessing", "spawn"):
        pytest.skip("multiprocessing: finds no functions in a __main__.py")
    program = f"""
        import {library} as multiprocessing
        import helpers
        def look(x):
            return (helpers.double(x), type(__loader__).__name__, __spec__.name, __package__,
                    __loader__.get_source("helpers")[:3])
        if __name__ == "__main__":
            if {method!r}:
                multiprocessing.set_start_method({method!r})
            with multiprocessing.Pool(1) as p:
                print(p.map(look, [1]))
    """
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("__main__.py", textwrap.dedent(program))
        archive.writestr("helpers.py", "def double(x): return 2 * x\n")
    outcome = run_command(python("app.zip"), tmp_path)
    assert outcome.succeeded() == "[(2, 'zipimporter', '__main__', '', 'def')]\n"
