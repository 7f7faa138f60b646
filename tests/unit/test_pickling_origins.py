"""What goes by name and what by value: modules from a path, half imported, gone."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import sys
import types
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from picklingpeer import run_main

from pool._pickling import _constants, _homes, _origins
from pool._pickling._origins import modules_by_value
from pool._workers._patches import _effects
from pool._workers._variables._snapshot import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLUGIN = """
import json
LIMIT = 3
_state = []
class Thing:
    def __init__(self, x): self.x = helper(x)
class Failure(Exception): pass
def helper(x): return x + LIMIT
def work(x):
    _state.append(x)
    return Thing(x), len(_state), json.dumps(x), __name__
def fail(): raise Failure(1)
def count(): return len(_state)
"""

LOAD = """
import importlib.util, sys
def load(file, name, register):
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    if register:
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
"""


class Forward:
    """As `annotationlib.ForwardRef`."""

    __slots__ = ("__globals__",)


def test_class_with_globals_for_its_objects_goes_by_its_name() -> None:
    assert _origins.is_named(Forward)


def test_verdicts_on_modules() -> None:
    import collections.abc
    import json.decoder
    import os.path

    for module in (json.decoder, os.path, collections.abc, sys, pytest):
        assert _origins.importable(module.__name__), module
    assert not _origins.importable("__main__")
    assert not _origins.importable("never.heard.of")


def test_verdicts_keep_no_module_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shortlived.py").touch()
    module = weakref.ref(importlib.import_module("shortlived"))
    assert _origins.importable("shortlived")
    del sys.modules["shortlived"]
    gc.collect()
    assert module() is None
    assert not _origins.importable("shortlived")


def test_objects_in_place_of_modules_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slotted:
        __slots__ = ()

    monkeypatch.setitem(sys.modules, "slotted", Slotted())
    assert not _origins.importable("slotted")
    assert not _origins.importable("slotted")


def test_module_without_a_file_is_not_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "madeup", types.ModuleType("madeup"))
    assert not _origins.importable("madeup")


def test_module_made_by_its_package_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setitem(sys.modules, "json.made", types.ModuleType("json.made"))
    assert json is sys.modules["json"]
    assert _origins.importable("json.made")


def test_resolve_walks_dotted_names() -> None:
    class Outer:
        class Inner: ...

    assert _origins.resolve({"Outer": Outer}, "Outer.Inner") is Outer.Inner
    assert _origins.resolve({"Outer": Outer}, "Outer.<locals>.x") is None
    assert _origins.resolve({}, "Outer.Inner") is None


def test_what_a_package_offers_late_is_sent_as_a_name(tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "__init__.py").write_text(
        "def __getattr__(name):\n"
        "    if name == 'Thing':\n"
        "        from late._things import Thing\n"
        "        return Thing\n"
        "    raise AttributeError(name)\n"
    )
    (tmp_path / "late" / "_things.py").write_text(
        "class Thing:\n    __module__ = 'late'\n    def kind(self):\n        return Thing\n"
        "class Other:\n    __module__ = 'late'\n"
    )
    run_main(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        """
from late._things import Other, Thing
from pool._pickling._origins import is_named

assert is_named(Thing) and not is_named(Other)
assert w(lambda thing: type(thing) is thing.kind(), Thing())
assert w(lambda thing: type(thing) is sys.modules["late._things"].Thing, Thing())
assert type(w(Other)) is Other
""",
        tmp_path,
    )


@pytest.mark.parametrize("register", [True, False])
def test_module_loaded_from_a_path(tmp_path: Path, register: bool) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "plugin.py").write_text(PLUGIN)
    run_main(
        LOAD
        + f"""
plugin = load({str(folder / "plugin.py")!r}, "plugin", {register})
thing, n, text, name = w(plugin.work, 4)
assert type(thing) is plugin.Thing and thing.x == 7 and (n, text, name) == (1, "4", "plugin")
assert w(plugin.work, 4)[1] == 2
assert w(plugin.count) == 2 and plugin.count() == 0
assert type(w.raises(plugin.fail)) is plugin.Failure
plugin.LIMIT = 10
assert w(plugin.work, 0)[0].x == 10
assert w(lambda: plugin.helper(1)) == 11
assert w(lambda m: (m.LIMIT, m.helper(2), m.count()), plugin) == (10, 12, 3)
assert w(lambda t: type(t).__module__, plugin.Thing(1)) == "plugin"
""",
        tmp_path,
    )


def test_two_unregistered_modules_of_one_name(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "conf.py").write_text(
            f"n = {number}\ndef get():\n    return n\ndef bump():\n    global n\n    n += 10\n"
        )
    run_main(
        LOAD
        + f"""
one = load({str(tmp_path / "1" / "conf.py")!r}, "conf", False)
two = load({str(tmp_path / "2" / "conf.py")!r}, "conf", False)
assert (w(one.get), w(two.get)) == (1, 2)
w(two.bump)
assert (w(one.get), w(two.get)) == (1, 12)
""",
        tmp_path,
    )


def test_path_module_under_the_name_of_another(tmp_path: Path) -> None:
    # Importing the name in the worker gives something, but not this.
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "json.py").write_text("def dumps(x): return ('mine', x)\n")
    run_main(
        LOAD
        + f"""
mine = load({str(folder / "json.py")!r}, "colorsys", True)
assert w(mine.dumps, 1) == ("mine", 1)
""",
        tmp_path,
    )


def test_importable_modules_are_imported(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "import functools\n"
        "state = []\n"
        "def f(): state.append(1); return len(state)\n"
        "def deco(func):\n"
        "    @functools.wraps(func)\n"
        "    def wrapper(*a): return func(*a)\n"
        "    return wrapper\n"
        "@deco\n"
        "def g(): return f()\n"
        "h = lambda: f()\n"
        "def make(n): return lambda: (n, f(), __name__)\n"
        "def local():\n"
        "    class Local: pass\n"
        "    return Local\n"
        "class Spot: pass\n"
    )
    run_main(
        """
        import plain
        for func in plain.f, plain.Spot, plain.g:
            assert len(dumps_to_worker(func).data) < 60
        assert w(plain.f) == 1 and w(plain.g) == 2 and w(plain.h) == 3
        assert w(plain.make(5)) == (5, 4, "plain")
        kind = plain.local()
        assert type(w(lambda k: k(), kind)) is kind
        assert type(w(plain.Spot)) is plain.Spot
        assert w(lambda m: m.f(), plain) == 5 and plain.state == []
        """,
        tmp_path,
    )


def test_module_that_is_being_imported(tmp_path: Path) -> None:
    # Importing it in the worker would start a worker in the worker, and so on.
    (tmp_path / "busy.py").write_text(
        "import os, sys\n"
        "from picklingpeer import Worker\n"
        "assert os.getpid() == int(os.environ['PROGRAM']), 'imported in the worker'\n"
        "w = Worker()\n"
        "class Spot: pass\n"
        "def f(x): return Spot(), x + K\n"
        "K = 1\n"
        "got, three = w(f, 2)\n"
        "assert type(got) is Spot and three == 3\n"
    )
    run_main(
        """
        import os
        os.environ["PROGRAM"] = str(os.getpid())
        import busy
        # Sent by value once, always by value: the worker must not get a second Spot.
        assert type(busy.w(busy.f, 1)[0]) is busy.Spot
        assert busy.w(lambda s: type(s) is busy.Spot, busy.Spot())
        """,
        tmp_path,
        preamble="from pool._pickling import *\n",
    )


def test_submodule_of_a_package_that_is_being_imported(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "tasks.py").write_text("def f(x): return x * 2\n")
    (package / "__init__.py").write_text(
        "import os\n"
        "assert os.getpid() == int(os.environ['PROGRAM']), 'imported in the worker'\n"
        "from picklingpeer import Worker\n"
        "from . import tasks\n"
        "assert Worker()(tasks.f, 4) == 8\n"
    )
    run_main(
        """
        import os
        os.environ["PROGRAM"] = str(os.getpid())
        import pack
        """,
        tmp_path,
        preamble="",
    )


def test_module_that_is_gone_from_sys_modules(tmp_path: Path) -> None:
    (tmp_path / "brief.py").write_text("k = 2\ndef f(x): return g(x)\ndef g(x): return x * k\n")
    run_main(
        """
        import sys
        import brief
        (tmp := __import__("pathlib").Path(brief.__file__)).unlink()
        del sys.modules["brief"]
        assert w(brief.f, 3) == 6
        """,
        tmp_path,
    )


def test_reloaded_module(tmp_path: Path) -> None:
    (tmp_path / "edited.py").write_text("def f(): return 1\n")
    run_main(
        """
        import importlib
        import edited
        old = edited.f
        assert w(old) == 1
        importlib.reload(edited)
        assert w(old) == 1 and w(edited.f) == 1
        """,
        tmp_path,
    )


def test_modules_as_values(tmp_path: Path) -> None:
    run_main(
        """
        import math, os.path, types
        import xml.dom.minidom as minidom
        assert w(lambda m: m.sqrt(4), math) == 2
        assert w(lambda m: m.__name__, os.path) == "posixpath"
        assert w(lambda m: m.__name__, minidom) == "xml.dom.minidom"
        made = types.ModuleType("made")
        made.value = 3
        made.lock = (i for i in ())        # cannot be sent: left out
        assert w(lambda m: (m.value, hasattr(m, "lock"), m.__name__), made) == (3, False, "made")
        """,
        tmp_path,
    )


def test_what_modules_loaded_from_a_path_say_of_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "extra"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""About it."""\ndef own(): return __doc__, __path__\n')
    (folder / "helpers.py").write_text("def double(x): return 2 * x\n")
    (folder / "work.py").write_text(
        "def look(x):\n"
        "    from .helpers import double\n"
        "    return double(x), __package__, __spec__.name, __spec__.origin, __loader__.path\n"
    )
    run_main(
        LOAD
        + f"""
extra = load({str(folder / "__init__.py")!r}, "extra", True)
import extra.work
assert w(extra.own) == extra.own() == ("About it.", [{str(folder)!r}])
assert w(extra.work.look, 2) == extra.work.look(2)
""",
        tmp_path,
    )
    # First met by a module in it, whose name leads there by way of the package.
    run_main(
        LOAD
        + f"""
load({str(folder / "__init__.py")!r}, "extra", True)
import extra.work
assert w(extra.work.look, 2) == extra.work.look(2)
""",
        tmp_path,
    )


def test_program_that_runpy_has_not_made_the_main_module(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "helpers.py").write_text("def double(x): return 2 * x\n")
    (folder / "cli.py").write_text(
        "from picklingpeer import Worker\n"
        "def look(x):\n"
        "    from .helpers import double\n"
        "    return double(x), __name__, __package__, __spec__.name\n"
        "with Worker() as w:\n"
        "    assert w(look, 2) == look(2) == (4, '__main__', 'app', 'app.cli')\n"
    )
    run_main(
        f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "runpy.run_module('app.cli', run_name='__main__')\n",
        tmp_path,
        preamble="",
    )


HOOK = """
import ast, sys
from importlib.abc import Loader
from importlib.machinery import PathFinder, SourceFileLoader

class Doubling(ast.NodeTransformer):
    def visit_Return(self, node):
        node.value = ast.Call(ast.Name("_twice", ast.Load()), [node.value], [])
        return ast.fix_missing_locations(node)

class Rewriting(SourceFileLoader):
    def source_to_code(self, data, path, **_):
        tree = ast.parse(data)
        add = ast.parse("from twice import twice as _twice")
        tree = Doubling().visit(tree)
        tree.body[0:0] = add.body
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
    def get_code(self, fullname):
        return self.source_to_code(self.get_data(self.path), self.path)

class Watching(Loader):
    def __init__(self, loader): self.loader = loader
    def create_module(self, spec): return self.loader.create_module(spec)
    def exec_module(self, module): return self.loader.exec_module(module)

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path)
        if name == "rewritten":
            spec.loader = Rewriting(name, spec.origin)
        elif name == "watched":
            spec.loader = Watching(spec.loader)
        else:
            return None
        return spec

sys.meta_path.insert(0, Finder)
"""

REWRITTEN = """
import functools
state = []
class Thing:
    def __init__(self): self.x = 4
    def get(self): return self.x
    @staticmethod
    def fixed(): return 5
    @property
    def half(self): return self.x // 2
    class Inner:
        def get(self): return 7
def plain(x):
    state.append(x)
    return x
def outer():
    def inner(): return 1
    return inner()
@functools.lru_cache
def cached(x): return x
def is_same(): return state is plain.__globals__["state"]
"""


def test_functions_that_a_loader_has_rewritten(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text("def twice(x): return 2 * x\n")
    (tmp_path / "rewritten.py").write_text(REWRITTEN)
    (tmp_path / "watched.py").write_text(REWRITTEN)
    run_main(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        + HOOK
        + """
import pickle, rewritten, watched
from pool._pickling import _origins
def use(thing, cls, inner):
    import rewritten
    return (thing.get(), cls.fixed(), thing.half, inner.get(), rewritten.outer(),
            len(rewritten.state), type(thing) is rewritten.Thing,
            type(sys.modules["rewritten"].__loader__).__name__)
assert (w(rewritten.plain, 2), rewritten.plain(2)) == (4, 4)
assert (w(rewritten.cached, 3), w(rewritten.is_same)) == (6, 2)
thing = rewritten.Thing()
there = w(use, thing, rewritten.Thing, rewritten.Thing.Inner())
assert there == (8, 10, 4, 14, 4, 1, True, "SourceFileLoader"), there
assert w(lambda f: f, rewritten.plain) is rewritten.plain
assert type(w(lambda t: t, thing)) is rewritten.Thing
# Named in every message, sent in none but the first.
message = dumps_to_worker(thing)
body = message.data[len(message.prelude.prefix):]
assert body.count(b"Thing") == 1 and len(body) < 200
# A loader that does nothing but watch makes no difference.
assert w(watched.plain, 2) == 2 and list(_origins.rewritten) == ["rewritten"]
assert dumps_to_worker(watched.Thing()).data == pickle.dumps(watched.Thing(), 5)
""",
        tmp_path,
    )
    # Objects alone bring it along, and so does a lambda of the module.
    (tmp_path / "rewritten.py").write_text(REWRITTEN + "make = lambda: [Thing().get()]\n")
    run_main(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        + HOOK
        + """
import operator, rewritten
assert w(operator.methodcaller("get"), rewritten.Thing()) == 8
""",
        tmp_path,
    )
    run_main(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        + HOOK
        + "import rewritten\nassert w(rewritten.make) == [8]\n",
        tmp_path,
    )


def test_modules_that_lie_where_they_are_looked_for_are_importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "on")
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    before = set(modules_by_value())
    for folder in ("on", "off"):
        package = tmp_path / folder / f"lies{folder}"
        package.mkdir(parents=True)
        for file in (package / "__init__.py", package / "part.py"):
            file.write_text("")
            name = ".".join(file.relative_to(tmp_path / folder).with_suffix("").parts)
            name = name.removesuffix(".__init__")
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.modules["byhand"] = types.ModuleType("byhand")
    assert set(modules_by_value()) - before == {"liesoff", "liesoff.part", "byhand"}


def test_a_package_with_the_name_of_its_module_is_in_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after ``globals().update(vars(version))``, in a package that cannot be imported."""
    package = types.ModuleType("copiedhere")
    vars(package).update(__name__="copiedhere.version", __package__="copiedhere", __file__="gone")
    monkeypatch.setitem(sys.modules, "copiedhere", package)
    scope = _origins.scope_of(vars(package))
    assert scope is not None
    assert scope.package is None


class Importing:
    """Garbage whose finalizer imports a module, and leaves such garbage behind."""

    _numbers = itertools.count()
    imported: list[str] | None = None

    def __init__(self) -> None:
        self._itself = self

    def __del__(self) -> None:
        if Importing.imported is not None:
            name = f"imported_{next(self._numbers)}"
            sys.modules[name] = types.ModuleType(name)
            Importing.imported.append(name)
            Importing()


@pytest.fixture
def importing() -> Iterator[None]:
    """Have garbage collected again and again, up to Python 3.11 between any two objects."""
    before = gc.get_threshold()
    imported = Importing.imported = []
    Importing()
    gc.set_threshold(100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        Importing.imported = None
        gc.collect()
        for name in imported:
            del sys.modules[name]


@pytest.mark.parametrize(
    "look",
    [
        modules_by_value,
        lambda: _homes.home_of("nowhere", [1]),
        lambda: _constants.reduce_bare(None, object()),  # type: ignore[arg-type]  # not used
        lambda: _effects._modules_of("pool"),
        lambda: Snapshots().modules(),
    ],
)
def test_modules_are_looked_through_while_finalizers_import(
    importing: None, look: Callable[[], object]
) -> None:
    look()
    assert Importing.imported
