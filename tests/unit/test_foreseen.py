"""Which modules of Python's own the tasks of a program are expected to need."""

from __future__ import annotations

import functools
import os
import resource
import sys
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from forking import run_in_fork

from pool._workers import _foreseen, _warmup
from pool._workers._foreseen import foreseen
from pool._workers._warmup import installed, is_shadowed, load_missing, load_next, news

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[..., ModuleType]

#: Modules that this test run has not loaded, or can do without.
PROBES = ("chunk", "colorsys", "nturl2path", "sndhdr", "stringprep", "tabnanny")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    """Return what makes a main module of a text, and other modules of texts by their names."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def make(main: str, **others: str) -> ModuleType:
        for name, text in {**others, "__main__": main}.items():
            module = sys.modules[name] = ModuleType(name)
            module.__file__ = f"/project/{name}.py"
            exec(textwrap.dedent(text), vars(module))
        return sys.modules["__main__"]

    return make


def seen() -> set[str]:
    return set(foreseen())


def test_what_functions_refer_to(program: Program) -> None:
    program(
        """
        import json, colorsys, wave, os.path as path
        from logging import getLogger
        from shlex import shlex

        def task(x):
            def inner():
                return json.dumps(x)
            return inner(), getLogger(), shlex(x)

        print(colorsys)  # in no function
        """
    )
    assert seen() >= {"json", "logging", "shlex"}
    assert not seen() & {"colorsys", "wave"}


@pytest.mark.parametrize("kind", ["", "@staticmethod", "@classmethod"])
def test_what_methods_refer_to(program: Program, kind: str) -> None:
    program(
        f"""
        import json
        class Task:
            {kind}
            def run(*args):
                return json.dumps(args)
        """
    )
    assert "json" in seen()


def test_modules_in_packages(program: Program) -> None:
    program(
        """
        import urllib.request, urllib.error, xml.dom.minidom
        def task(url):
            return urllib.request.urlopen(url)
        """
    )
    assert {"urllib", "urllib.request"} <= seen()
    assert not seen() & {"urllib.error", "xml", "xml.dom.minidom"}


def test_what_modules_of_the_program_refer_to(program: Program) -> None:
    program(
        "import one\ndef task(x): return one.work(x)",
        two="import logging\ndef work(x): pass",
        one="from two import work\nimport two, json\ntwo.one = two",
    )
    assert {"json", "logging"} <= seen()


def test_no_more_modules_are_looked_through_than_that(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {f"part{n}": f"import part{n + 1}" for n in range(9)}
    texts = {"part9": "import json", **dict(sorted(others.items(), reverse=True))}
    program("import part0\ndef task(): return part0", **texts)
    assert "json" in seen()
    monkeypatch.setattr(_foreseen, "OWN_MAX", 5)
    assert "json" not in seen()


def test_what_runs_has_done_its_work(program: Program) -> None:
    main = program(
        """
        import json, logging
        def main(look):
            json.loads("1")
            return look()
        def task(): return logging
        """
    )
    assert "logging" in main.main(seen)
    assert "json" not in main.main(seen)
    assert "json" in seen()


def test_other_modules_than_pythons_are_left_out(program: Program) -> None:
    main = program(
        """
        import pytest, pool, store, json, test
        def task(): return pytest, pool, store, json, test
        """
    )
    assert seen() == {"json"}
    # One of the program's own that has taken the name of one of Python's.
    other = sys.modules["json"] = vars(main)["json"] = ModuleType("json")
    other.__file__ = "/project/json.py"
    assert seen() == set()


def test_no_code_of_the_programs_runs(program: Program) -> None:
    program(
        """
        from types import ModuleType

        def fail(*args):
            raise RuntimeError(args)

        class Meta(type):
            __getattribute__ = fail

        class Task(metaclass=Meta):
            pass

        class Proxy:
            __getattribute__ = __hash__ = __eq__ = __bool__ = fail
            __class__ = property(fail)

        class Lazy(ModuleType):
            __getattribute__ = fail

        class Text(str):
            __hash__ = __eq__ = __format__ = __str__ = fail

        proxy, text, lazy = Proxy(), Text("json"), Lazy("lazy")
        nameless, odd, asking = map(ModuleType, ("nameless", "odd", "asking"))
        del nameless.__name__
        nameless.__getattr__ = asking.__getattr__ = fail
        odd.__name__ = proxy
        Proxy.__module__ = text

        def task():
            return Task, Proxy, proxy, text, lazy, nameless, odd, asking

        task.__module__ = proxy
        """
    )
    assert seen() == set()


def test_main_modules_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        __slots__ = ()

    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for odd in (Odd(), None):
        sys.modules["__main__"] = odd  # type: ignore[assignment]  # as a program may
        assert foreseen() == []
    del sys.modules["__main__"]
    assert foreseen() == []


# ---------------------------------------------------------------- whether to load anything


def test_a_module_of_the_program_may_have_the_name_of_one_of_pythons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert not is_shadowed()
    sys.modules["colorsys"] = module = ModuleType("colorsys")
    module.__file__ = "/venv/lib/python3.11/site-packages/setuptools/colorsys.py"
    assert not is_shadowed()
    sys.modules["colorsys"] = module = ModuleType("colorsys")
    module.__file__ = "/project/colorsys.py"
    assert is_shadowed()


def test_what_is_in_place_of_a_module_may_refuse_to_tell_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refuses:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    monkeypatch.setattr(sys, "modules", {**sys.modules, "odd": Refuses()})
    assert installed("odd") == ""
    assert news(len(sys.modules) - 1) == ([], {})


# ---------------------------------------------------------------- loading, in a forkserver


def in_fork(action: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(action)
    def test(*args: Any, **kwargs: Any) -> None:
        run_in_fork(lambda: action(*args, **kwargs))

    return test


@in_fork
def test_what_is_missing_is_loaded_once() -> None:
    sys.modules.pop("colorsys", None)
    assert load_missing(["os", "colorsys", "no_such_module", "json.no_such_part"])
    assert "colorsys" in sys.modules
    assert not load_missing(["os", "colorsys"])


@in_fork
def test_modules_are_loaded_one_after_the_other() -> None:
    for name in PROBES:
        sys.modules.pop(name, None)
    names = ["os", "colorsys", "sys", "no_such_module", "tabnanny"]
    assert load_next(names)
    assert names == ["sys", "no_such_module", "tabnanny"]
    assert load_next(names)
    assert names == ["tabnanny"]
    assert load_next(names)
    assert not load_next(names)
    assert {"colorsys", "tabnanny"} <= sys.modules.keys()


@in_fork
def shadowed(folder: Path) -> None:
    sys.modules.pop("colorsys", None)
    folder.joinpath("colorsys.py").write_text("raise SystemExit('run')")
    path = sys.path[:] = [str(folder), *sys.path]
    assert load_missing(["colorsys"])
    assert sys.modules["colorsys"].__file__ == os.path.join(_warmup.LIBRARY, "colorsys.py")
    assert sys.path == path


def test_nothing_is_loaded_from_folders_of_the_program(tmp_path: Path) -> None:
    shadowed(tmp_path)


@in_fork
def test_nothing_is_loaded_where_it_is_not_known_what_is_pythons() -> None:
    sys.modules.pop("colorsys", None)
    sys.path.remove(_warmup.LIBRARY[:-1])
    assert not load_missing(["colorsys"])
    assert not load_next(["colorsys"])


@in_fork
def test_there_may_be_no_descriptors_left() -> None:
    sys.modules.pop("colorsys", None)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    path = list(sys.path)
    load_missing(["colorsys"])
    assert sys.path == path
