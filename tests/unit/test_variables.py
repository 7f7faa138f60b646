"""Which variables of modules are sent, and how they are put into other processes' modules."""

from __future__ import annotations

import _pickle
import gc
import importlib
import importlib.util
import json
import sys
import textwrap
import weakref
import zipfile
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from interrupting import interrupted_at

from pool._workers import _imports
from pool._workers._patches import _taken
from pool._workers._patches._applied import VALUE
from pool._workers._patches._mentions import Mentions
from pool._workers._variables import _assigned, _data, _restored, _snapshot, _views
from pool._workers._variables._assigned import assigned_in
from pool._workers._variables._contents import apart, is_alike
from pool._workers._variables._data import SIZE_MAX, TooLarge, is_plain
from pool._workers._variables._primitives import to_be_inherited
from pool._workers._variables._snapshot import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Return a function that makes modules of some texts, and imports the last one."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def write(**texts: str) -> ModuleType:
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
            made.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(made[-1])

    yield write
    for name in made:
        sys.modules.pop(name, None)


def anew(*names: str) -> list[ModuleType]:
    """Import modules as another process would, with the variables that this one would send."""
    sent = {name: packed for name, packed in Snapshots().take()[0].items() if name in names}
    for name in names:
        del sys.modules[name]
    forget()
    _restored.take_over(sent)
    return [importlib.import_module(name) for name in names]


def forget() -> None:
    """Forget the objects of modules that were imported earlier, as another process would."""
    _restored._targets.clear()
    _restored._prepared.clear()


def test_what_binds_the_names_of_a_module(write: Callable[..., ModuleType]) -> None:
    module = write(
        assignedhere="""
        import os
        from sys import path, version as which
        from string import digits
        CONSTANT, first = 5, os.getpid()
        EMPTY = {}
        NOTHING: int = 7
        made = os.getpid()
        table = {"a": 1}
        digits = digits + "x"
        both = 1
        both = os.getpid()
        lazy = os.getpid()
        one = another = {}
        got = taken = os.getpid()
        perhaps = os.getpid() if CONSTANT else None
        annotated: int

        def bind():
            global lazy, later
            lazy = 1

            def deeper():
                global later
                later = 2

        class Class:
            inside = os.getpid()
            set_up = os.getpid()
            empty = None

            @classmethod
            def change(cls):
                cls.later = 1
        """
    )
    found = assigned_in(module)[""]
    expected = {"first", "made", "table", "digits", "both", "perhaps", "got", "taken"}
    expected |= {"bind", "Class", "os", "path", "which"}
    by_python = {"__annotate__", "__classdictcell__"}  # for annotations, since 3.14
    # Of several at once, none is known to be constant.
    assert found.made - {"CONSTANT", *by_python} == expected
    assert {"EMPTY", "NOTHING", "lazy", "later", "made"} <= found.own
    assert not {"path", "which"} & found.own
    assert {"one", "another"} <= found.own
    assert found.defined - by_python == {"bind"}
    assert found.imported == {"path": "path", "which": "version"}
    found = assigned_in(module)["Class"]
    assert found.made - by_python == {"inside", "set_up", "change", "__module__"}
    assert {"inside", "empty", "later"} <= found.own


def test_what_binds_names_of_which_there_are_many(write: Callable[..., ModuleType]) -> None:
    """From the 257th on, instructions have arguments that do not fit into one."""
    text = "".join(f"number{n} = {n}\n" for n in range(300))
    text += "from os import getcwd as here\none = other = None\nlong = 'text'\n"
    found = assigned_in(write(manynames=text))[""]
    assert found.made == {"here"}
    assert found.imported == {"here": "getcwd"}
    assert found.constants == {"long": {hash("text")}}


def test_long_texts_are_not_compiled_again(
    write: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_assigned, "TEXT_MAX", 20)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert assigned_in(write(withcode="import os\nnumber = os.getpid()\n"))[""].made
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.raises(ValueError, match="longtext is compiled again"):
        assigned_in(write(longtext="import os\nnumber = os.getpid()\n"))
    assert assigned_in(write(shorttext="number = 3\n"))


def test_a_module_in_an_archive_tells_what_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("inarchive.py", "import os\nnumber = os.getpid()\n")
    monkeypatch.syspath_prepend(tmp_path / "archive.zip")
    module = importlib.import_module("inarchive")
    monkeypatch.delitem(sys.modules, "inarchive")
    assert assigned_in(module)[""].made == {"os", "number"}


def test_a_module_without_code_tells_nothing() -> None:
    with pytest.raises(Exception, match="_io"):
        assigned_in(sys.modules["_io"])


def test_a_module_that_is_as_imported_is_not_touched(write: Callable[..., ModuleType]) -> None:
    write(
        untouched="""
        class Part:
            pass

        part = Part()
        part.inner = Part()
        table = {"part": part.inner}
        kept = part.inner
        number = 3
        """
    )
    (module,) = anew("untouched")
    assert module.table["part"] is module.part.inner is module.kept
    module.number = 4
    (module,) = anew("untouched")
    assert module.number == 4
    assert module.table["part"] is module.part.inner is module.kept


def test_objects_stay_and_are_filled(write: Callable[..., ModuleType]) -> None:
    write(
        filled="""
        names = ["a"]
        one = other = {}
        apart = []
        same = []

        def default(given=names):
            return given
        """
    )
    module: Any = sys.modules["filled"]
    module.names.append("b")
    module.one["k"] = 1
    module.other = {"l": 2}
    module.same = module.apart
    module.apart.append(module.apart)
    (module,) = anew("filled")
    assert module.default() is module.names
    assert (module.names, module.one, module.other) == (["a", "b"], {"k": 1}, {"l": 2})
    assert module.same is module.apart
    assert module.apart[0] is module.apart


def test_objects_are_made_again_without_their_class(write: Callable[..., ModuleType]) -> None:
    module: Any = write(
        madeagain="""
        from types import SimpleNamespace

        class Point:
            made = 0

            def __new__(cls, x):
                cls.made += 1
                return object.__new__(cls)

            def __init__(self, x):
                self.x = x

        spaces = {"a": SimpleNamespace(x=1)}
        space = point = None
        """
    )
    module.spaces["a"].x = 2
    module.space = module.SimpleNamespace(y=module.Point(4))
    module.point = module.Point(3)
    (module,) = anew("madeagain")
    assert (module.spaces["a"].x, module.space.y.x, module.point.x) == (2, 4, 3)
    assert module.Point.made == 2


def test_two_names_of_an_object_that_cannot_be_sent(write: Callable[..., ModuleType]) -> None:
    module: Any = write(
        twonames="""
        class Handler:
            def __init__(self, step):
                self.step = step

        def make():
            return lambda: 1

        handler = Handler(make())
        default = handler
        by_name = {"default": handler}
        limit = 1
        """
    )
    module.limit = 2
    module.by_name["also"] = module.handler
    (module,) = anew("twonames")
    assert module.limit == 2
    assert module.default is module.handler is module.by_name["also"]
    assert module.handler.step() == 1


def test_an_object_belongs_to_the_module_that_made_it(write: Callable[..., ModuleType]) -> None:
    write(
        maker="table = {}\nother = []\n",
        taker="from maker import table\nfrom maker import *\nown = [table]\n",
    )
    maker: Any = sys.modules["maker"]
    maker.table["k"] = 1
    maker.other.append(2)
    maker, taker = anew("maker", "taker")
    maker.table["set by"] = "a task"
    assert taker.table is maker.table is taker.own[0]
    assert taker.other is maker.other == [2]
    # Whichever of them was imported first.
    taker, maker = anew("taker", "maker")
    assert taker.table is maker.table is taker.own[0]
    assert maker.table == {"k": 1, "set by": "a task"}


def test_objects_in_place_of_others_of_any_kind(write: Callable[..., ModuleType]) -> None:
    write(
        kinds="""
        import threading
        number = 1
        nothing = None
        lock = threading.Lock()
        kind = int
        """
    )
    module: Any = sys.modules["kinds"]
    module.number, module.nothing, module.lock, module.kind = {"k": 1}, [2], {3}, object()
    (module,) = anew("kinds")
    assert (module.number, module.nothing, module.lock) == ({"k": 1}, [2], {3})
    assert type(module.kind) is object


@pytest.mark.parametrize(
    "change",
    [
        "module.nothing = open",
        "module.nothing = (number for number in ())",
        "module.nothing = {'deep': [lambda: 1]}",
        "module.empty['lock'] = __import__('threading').Lock()",
        f"module.nothing = bytes({SIZE_MAX + 1})",
        "module.new = __import__('threading').Lock()",
        "module.lazy = object.__new__(type('Odd', (), {}))",
    ],
)
def test_all_of_a_module_or_nothing(write: Callable[..., ModuleType], change: str) -> None:
    module = write(
        whole="""
        import threading
        lock = threading.Lock()
        nothing = None
        empty = {}
        number = 1
        lazy = len("abc")

        def bind():
            global lazy
            lazy = 1
        """
    )
    module.number = 2  # type: ignore[attr-defined]  # of a module that was just written
    assert "whole" in Snapshots().take()[0]
    exec(change, {"module": module})
    if change == "module.nothing = open":
        assert "whole" in Snapshots().take()[0]  # a function has a name everywhere
    else:
        assert "whole" not in Snapshots().take()[0]


def test_what_an_import_fills_has_no_pool_forked(write: Callable[..., ModuleType]) -> None:
    module = write(
        registry="""
        import functools, operator, threading
        from pathlib import Path

        folders = []
        folders.append(Path("x"))
        actions = {}
        actions["b"] = functools.partial(int, base=2), operator.itemgetter(0)
        locks = {}
        locks["a"] = threading.Lock()
        later = {}
        number = 1
        """
    )
    module.number = 2  # type: ignore[attr-defined]  # of a module that was just written
    sent, lost = Snapshots().take()
    assert not lost
    names = _pickle.loads(sent["registry"][0]["registry"][0])[0]
    assert names == ["folders", "actions", "later", "number"]
    module.later["a"] = module.locks["a"]
    assert Snapshots().take()[1] == "registry.later"


def test_long_constants_have_no_pool_forked(write: Callable[..., ModuleType]) -> None:
    module = write(
        longconstants=f"""
        BYTES: bytes = {b"x" * SIZE_MAX!r}
        SEVERAL = {("x" * SIZE_MAX, 3)!r}
        limit = 3

        class Tables:
            TEXT = {"y" * SIZE_MAX!r}
        """
    )
    snapshots = Snapshots()
    for _ in range(2):
        sent, lost = snapshots.take()
        assert not lost
        assert list(sent["longconstants"][0]) == ["longconstants"]
    # Another one, which the program has put there; also one that cannot be hashed.
    for changed in ("z" * SIZE_MAX, (*module.SEVERAL, 3), (*module.SEVERAL, [])):
        module.SEVERAL = changed
        assert snapshots.take()[1] == "longconstants.SEVERAL"
    del module.SEVERAL
    module.Tables.TEXT *= 2
    assert snapshots.take()[1] == "longconstants.Tables.TEXT"


@pytest.mark.parametrize(
    "value",
    [np.zeros(SIZE_MAX), np.zeros((2, SIZE_MAX)).T, np.broadcast_to(1.0, SIZE_MAX), "x" * SIZE_MAX],
)
def test_what_is_large_is_said_to_be(value: Any) -> None:
    with pytest.raises(TooLarge):
        is_plain([value])


@pytest.mark.skipif(sys.version_info < (3, 15), reason="syntax of 3.15")
def test_lazy_imports_are_left_to_the_code(write: Callable[..., ModuleType]) -> None:
    module = write(lazyhere="lazy import colorsys\nlazy from wave import open\nlimit = 1\n")
    module.limit = 2  # type: ignore[attr-defined]  # of a module that was just written
    sent, lost = Snapshots().take()
    assert "lazyhere" in sent
    assert not lost
    (again,) = anew("lazyhere")
    assert again.limit == 2
    assert "colorsys" not in sys.modules
    assert again.colorsys.__name__ == "colorsys"


@pytest.mark.skipif(sys.version_info < (3, 15), reason="built-in types of 3.15")
def test_sentinels_and_frozen_dicts_are_data(write: Callable[..., ModuleType]) -> None:
    text = "_unset = sentinel('unset')\nvalue = None\ntable = frozendict(a=1)\n"
    module: Any = write(newerhere=text)
    module.value = module._unset
    module.table = module.table | {"b": module._unset}
    sent, lost = Snapshots().take()
    assert "newerhere" in sent
    assert not lost
    (again,) = anew("newerhere")
    assert again.value is again._unset
    assert repr(again.table) == "frozendict({'a': 1, 'b': unset})"
    assert again.table["b"] is again._unset


def test_what_is_not_imported_yet_may_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody asks for a class of its, by name; then it is imported, and so is a part of it."""
    assert _data.is_of_program("comeslater.part")
    for name in ("comeslater", "comeslater.part"):
        module = type(sys)(name)
        module.__file__ = f"{sys.prefix}/lib/site-packages/{name}.py"
        monkeypatch.setitem(sys.modules, name, module)
    assert not _data.is_of_program("comeslater.part")
    assert "comeslater.part" not in Snapshots().modules()


def test_a_collection_may_come_while_it_is_imported() -> None:
    """It empties classes that nobody holds, also those that somebody still looks into."""
    spec = importlib.util.find_spec("pool._workers._variables._data")
    assert spec is not None
    assert spec.loader is not None
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(200):
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    finally:
        gc.set_threshold(*before)


def test_proxies_are_not_asked(write: Callable[..., ModuleType]) -> None:
    """To pickle one is to connect to a database, or to have an object made before its time."""
    module = write(
        lazilymade="""
        asked = []

        def made():
            asked.append(1)
            return 5

        class Proxy:
            __class__ = property(lambda self: made().__class__)

            def __getattr__(self, name):
                return getattr(made(), name)

            def __reduce_ex__(self, protocol):
                return int, (made(),)

        # As one that is written in C, which says no module of its own.
        Compiled = type("Proxy", (Proxy,), {"__module__": "builtins"})
        late = None
        """
    )
    for proxy in (module.Proxy(), [module.Proxy()], module.Compiled(), {"a": module.Compiled()}):
        module.late = proxy
        assert Snapshots().take()[1] == "lazilymade.late"
    assert module.asked == []


@pytest.mark.parametrize("asked", ["__name__", "__module__", "__hash__", "__eq__"])
def test_what_may_not_be_asked_hides_nothing_else(
    write: Callable[..., ModuleType], asked: str
) -> None:
    """Classes of libraries may have a class of their own, which answers for them."""
    write(fineown="limit = 1")
    module = write(
        askedown=f"""
        class Meta(type):
            def __getattribute__(cls, name):
                if name == {asked!r}:
                    raise RuntimeError(name)
                return type.__getattribute__(cls, name)

            if {asked!r} in ("__hash__", "__eq__"):
                def answer(self, *args):
                    raise RuntimeError
                locals()[{asked!r}] = answer

        class Class(metaclass=Meta):
            pass

        instance = later = None
        """
    )
    module.instance = type.__call__(module.Class)
    vars(module)[3] = "not a text"
    snapshots = Snapshots()
    assert "fineown" in snapshots.take()[0]
    __import__("multiprocessing.synchronize")
    assert not to_be_inherited()
    said = Mentions("import askedown, json\naskedown.instance.x = 3\njson.limit = 4\n")
    json.limit = 4  # type: ignore[attr-defined]  # put there by this test
    try:
        patches, _ = _taken.take([({"askedown": module, "json": json}, said)])
    finally:
        del json.limit  # type: ignore[attr-defined]  # as above
    assert ("json", (), "limit", VALUE, 4) in patches


def test_modules_that_are_not_the_programs_own(write: Callable[..., ModuleType]) -> None:
    module = write(ownmodule="number = 1\n")
    snapshots = Snapshots()
    taken, _ = snapshots.take()
    assert "ownmodule" in taken
    for name in taken:
        assert name.partition(".")[0] not in {
            "pool",
            "store",
            "numpy",
            "psutil",
            "__main__",
            "json",
        }
    del sys.modules[module.__name__]
    assert "ownmodule" not in snapshots.take()[0]
    sys.modules["ownmodule"] = module
    assert "ownmodule" in snapshots.take()[0]


def test_packages_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``google`` and ``zope`` are: theirs are the folders in which their parts are."""
    bought, mine = tmp_path / "site-packages", tmp_path / "mine"
    for folder, package in ((bought, "shop"), (bought, "shared"), (mine, "shared")):
        (folder / package).mkdir(parents=True)
        (folder / package / f"of_{folder.name[0]}.py").write_text("number = 1\n")
    monkeypatch.setattr(sys, "path", [str(bought), str(mine), *sys.path])
    names = ["shop.of_s", "shared.of_s", "shared.of_m"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    for name in ("shop", "shared"):
        monkeypatch.setitem(sys.modules, name, sys.modules[name])
    assert [name for name in names if name in Snapshots().modules()] == names[1:]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (bytearray(b"ab"), bytearray(b"ba")),
        (bytearray(b"ab"), bytearray(b"aab")),
        ([1, 2], [2, 1]),
        ({1, 2}, {1, 3}),
        (deque([1, 2]), deque([2, 1])),
        ({1: 2}, {2: 1}),
        (Counter("aab"), Counter("abb")),
    ],
)
def test_contents_that_were_changed_are_not_alike(before: Any, after: Any) -> None:
    def contents(value: Any) -> tuple[Any, ...]:
        return (apart(value)[1],)

    assert is_alike(contents(before), contents(before))
    assert not is_alike(contents(before), contents(after))


def test_variables_that_a_thread_changes_meanwhile(
    write: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(changedmeanwhile="limit = 1\ntable = dict(a={})\n")
    changes = iter([RuntimeError("dictionary changed size during iteration")] * 2)
    real = _snapshot.pickled

    def pickled(*args: Any) -> Any:
        if "limit" in args[1] and (change := next(changes, None)):
            raise change
        return real(*args)

    monkeypatch.setattr(_snapshot, "pickled", pickled)
    sent, lost = Snapshots().take()
    assert "changedmeanwhile" in sent["changedmeanwhile"][0]
    assert not lost


def test_modules_that_are_gone_are_forgotten(write: Callable[..., ModuleType]) -> None:
    """With all that they have defined: a program may load plugins one after the other."""
    snapshots = Snapshots()
    module = write(
        forgotten="""
        def twice(function):
            return lambda: function() * 2

        @twice
        def four():
            return 2

        number = 3
        """
    )
    four = weakref.ref(module.four)
    snapshots.take()
    del module, sys.modules["forgotten"]
    snapshots.take()
    gc.collect()
    assert four() is None


def test_interrupts_leave_no_variable_hidden(
    write: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever one strikes while a module is imported, and the variables of both are put in."""
    names = "interruptedfirst", "interruptedlater"
    later = write(
        interruptedfirst="level = 1\nnames = []",
        interruptedlater="import interruptedfirst\nseen = None\ninterruptedfirst.names.append('x')",
    )
    later.interruptedfirst.level, later.seen = 2, 5  # type: ignore[attr-defined]  # of a module that was just written
    sent, _ = Snapshots().take()
    # Whatever other threads the process of the tests has.
    monkeypatch.setattr(_restored, "count_threads", lambda: 0)
    for moment in range(1000):
        for name in names:
            del sys.modules[name]
        forget()
        _restored._restored.clear()
        _restored.take_over({name: sent[name] for name in names})
        first = importlib.import_module(names[0])
        if not interrupted_at(
            moment, lambda: importlib.import_module(names[1]), _restored, _views, _imports
        ):
            break
        assert (first.level, first.names) == (2, ["x"]), moment
        assert importlib.import_module(names[1]).seen == 5, moment
        assert (first.level, first.names) == (2, ["x"]), moment
    assert 50 < moment < 999
