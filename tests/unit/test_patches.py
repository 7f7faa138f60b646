"""What the text of a program says that it puts into modules, and what these names mean."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import subprocess
import sys
import textwrap
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy
import pytest
from interrupting import interrupted_at

from pool._pickling import _originals, dumps_to_worker, loads
from pool._workers import _imports
from pool._workers._carried._setting import packed
from pool._workers._patches import _applied, _effects, _setters, _taken, _texts
from pool._workers._patches._effects import due_with
from pool._workers._patches._mentions import Mentions, mentions_of
from pool._workers._patches._places import called, find
from pool._workers._patches._setters import CONTAINER, OTHER, set_by
from pool._workers._patches._state import become
from pool._workers._patches._texts import _drop_others, mentioned
from pool._workers._patches._touched import touched
from pool._workers._variables._data import known_tops
from pool._workers._variables._snapshot import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEXT = """
import json, os.path as path, sys
import numpy as np
from mimetypes import types_map
from yaml import (
    SafeLoader,
    Dumper as D,
)

np.float = float; json.limit = 3
if not hasattr(np, "int"): np.int = int
np.count += 1
json.encoder.x == 3
json.JSONEncoder.default = None
sys.modules["old"] = json
path.names.append(3)
json.table["key"] = 4
D.tables.rows.update(a=1)
np.random.seed(3)
SafeLoader.register(1, 2)
other = json.dumps(np.zeros(3))

class Some:
    def method(self):
        self.value = 3
        local = object()
        local.value = 4

def set_up():
    import xml.etree.ElementTree as ET
    from urllib import request
    ET.limit = 5
    request.install(6)
    D.ignore = lambda *args: True
"""


@pytest.mark.parametrize("form", ["text", "code"])
def test_what_a_program_says(form: str) -> None:
    found = Mentions(TEXT) if form == "text" else mentions_of(compile(TEXT, "program", "exec"))
    _drop_others(found)
    assert found
    assert found.assigned == {
        *("np.float", "json.limit", "np.int", "np.count", "json.JSONEncoder.default"),
        *("ET.limit", "D.ignore"),
    }
    assert found.changed == {"path.names", "json.table", "D.tables.rows"}
    assert found.modules == {"old"}
    assert {"np.random.seed", "SafeLoader.register", "request.install"} <= found.called
    assert "json.dumps" not in found.called
    imported = found.imported
    assert imported["np"] == "numpy"
    assert imported["path"] == "os.path"
    assert imported["types_map"] == "mimetypes.types_map"
    assert imported["D"] == "yaml.Dumper"
    assert imported["SafeLoader"] == "yaml.SafeLoader"
    assert imported["ET"] == "xml.etree.ElementTree"
    assert imported["request"] == "urllib.request"


def test_functions_that_replace() -> None:
    found = Mentions(
        textwrap.dedent(
            """
            import json
            from unittest import mock
            setattr(json, "one", 1)
            @mock.patch("json.two")
            def test(monkeypatch, mocker):
                monkeypatch.setattr(json.encoder, 'three', 3)
                monkeypatch.setattr("json.encoder.four", 4)
                mocker.patch.object(
                    json, "five"
                )
                with mock.patch.dict(json.table, a=1), mock.patch.dict("json.other", b=2):
                    pass
                setattr(json, name, 3)
            """
        )
    )
    assert found.assigned == {
        *("json.one", "json.two", "json.encoder.three", "json.encoder.four", "json.five", "json._")
    }
    assert found.changed == {"json.table", "json.other"}


def test_other_spellings() -> None:
    found = Mentions(
        textwrap.dedent(
            """
            import json, \\
                socket
            from mimetypes import types_map
            json.one, socket.two = 1, 2
            json.three = json.four = json.five == 3
            types_map[".x"] = 3
            del json.six, found.seven, json.table["x"]  # and json.eight
            model = "del json.nine"
            def test(monkeypatch, mocker):
                monkeypatch.delattr(json, "ten")
                monkeypatch.delattr("json.eleven")
                monkeypatch.setitem(json.table, "key", 3)
                with mocker.patch.multiple("json", twelve=1, thirteen=object):
                    pass
            names = ["none"]
            for name in ("fourteen", "fifteen"):
                if not hasattr(json, name):
                    setattr(json, name, None)
            '''
            json.sixteen = 3
            '''
            """
        )
    )
    assert found.assigned == {
        *("json.one", "socket.two", "json.three", "json.four", "json.twelve", "json.thirteen"),
        *("json.fourteen", "json.fifteen", "json._"),
    }
    assert found.changed == {"types_map", "json.table"}
    assert found.deleted == {"json.six", "json.ten", "json.eleven"}


def test_what_a_module_does_with_objects_of_its_own() -> None:
    text = textwrap.dedent(
        """
        rng = Random(1)
        table: dict[str, int] = Table()
        size = 3
        rng.seed(2)
        rng.limit = 3

        class Model:
            cache = Cache()

        def set_up(n):
            rng.seed(n); table["a"] = n
            rng.gauss_next, other = None, rng.random()
            local = Random(2)
            local.seed(n)
            size.x = 3
            rng()
            if n: rng.setstate(n)
            shown = {"a": table.a(), "b": [
                table.b(),
                n],
                "c": table.c(),
            }
            Model.cache.clear()
        """
    )
    found = Mentions(text)
    assert found.own == {"rng.seed", "rng.setstate", "rng.gauss_next", "table._"}
    assert found.changed == {"Model.cache"}
    assert found.assigned == set()
    assert not Mentions(text, is_main=True).own


@pytest.mark.parametrize(
    "text",
    [
        "",
        "def f(x):\n    return x.y\n",
        "value = 3\nitems = [x.y for x in value]\nvalue.attribute = 5\nvalue.append(3)\n",
        "import json\nclass A:\n    def f(self):\n        self.json = json.loads('3')\n",
    ],
)
def test_most_programs_say_nothing(text: str) -> None:
    assert not Mentions(text)
    found = mentions_of(compile(text, "program", "exec"))
    _drop_others(found)
    assert not found


def test_imports_that_nothing_names() -> None:
    text = """
import os, json
import numpy as np
import rioxarray  # noqa: F401
import hvplot.pandas, pandas as pd
import xml.dom
    from sklearn.experimental import enable_search, other
from old import used as name
import spare as spare_one
from package import (
    several,
)
def f(): return np.zeros(pd.size), other, name
"""
    found = Mentions(text, is_main=True)
    assert set(found.unused) == {
        *("rioxarray", "hvplot.pandas", "sklearn.experimental.enable_search"),
        "package.several",
    }
    assert not Mentions(text).unused


def test_what_looks_like_the_beginning_of_an_import_ends_with_its_line() -> None:
    text = """
# What we import (see there
template = "from package import ("
from mimetypes import (  # and (
    types_map,  # all)
    guess_type as guess,
)
if True: from json import (
    dumps)
import socket
types_map.x = guess.x = dumps.x = socket.x = template.x = 3
"""
    assert Mentions(text).assigned == {"types_map.x", "guess.x", "dumps.x", "socket.x"}
    assert Mentions("import json\n" + "def f(): 'import ('\n" * 20000).imported == {"json": "json"}


def test_cells_are_read_one_after_the_other() -> None:
    one = Mentions("import numpy as np, rioxarray, plugin\n", is_main=True)
    assert set(one.unused) == {"rioxarray", "plugin"}
    two = Mentions("np.float = float\nplugin.x()\n", is_main=True, before=one)
    assert two.assigned == {"np.float"}
    assert set(two.unused) == {"rioxarray"}
    three = Mentions("np.int = int\n", is_main=True, before=two)
    assert three.assigned == {"np.float", "np.int"}
    assert three.called == {"plugin.x"}
    assert three.imported["np"] == "numpy"


def test_a_script_is_read_that_a_shell_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by ``ipython script.py``, ``%run -i script.py`` or Spyder; and by pdb."""
    monkeypatch.setattr(_texts, "_known", {})
    script = tmp_path / "script.py"
    script.write_text("import json\njson.two = 2\n")
    names: dict[str, Any] = {"In": ["", "import json\njson.one = 1\n"], "get_ipython": print}

    def assigned() -> list[set[str]]:
        return [mentions.assigned for mentions in _texts._of_main(names)]

    assert assigned() == [{"json.one"}]
    names["__file__"] = str(script)
    assert assigned() == [{"json.one"}, {"json.two"}]
    del names["__file__"]
    names["In"].append("json.three = 3\n")
    assert assigned() == [{"json.one", "json.three"}]
    names = {"__file__": type("Target", (str,), {})(script)}
    assert assigned() == [{"json.two"}]


def test_modules_are_read_when_they_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that has lost its spec hides none of the others."""

    def assigned() -> list[set[str]]:
        found = {names["__name__"]: mentions.assigned for names, mentions in mentioned()}
        return [found.get(name, set()) for name in ("ownlost", "ownread")]

    monkeypatch.syspath_prepend(tmp_path)
    for name in ("ownlost", "ownread"):
        (tmp_path / f"{name}.py").write_text("import json\njson.one = 1\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name)
    monkeypatch.delattr("ownlost.__spec__")
    assert assigned() == [{"json.one"}, {"json.one"}]
    (tmp_path / "ownread.py").write_text("import json\njson.second = 2\n")
    assert assigned() == [{"json.one"}, {"json.one"}]
    importlib.reload(sys.modules["ownread"])
    assert assigned() == [{"json.one"}, {"json.second"}]
    for name in ("ownlost", "ownread"):
        monkeypatch.delitem(sys.modules, name)
    del json.one, json.second  # type: ignore[attr-defined]  # put there by this test


def test_what_is_imported_after_what(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str, **names: Any) -> ModuleType:
        module = ModuleType(name)
        module.__file__ = f"/usr/lib/site-packages/{name}.py"
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    base, own = make("base"), make("own")
    own.__file__ = "own.py"
    make("plugin", json=json)
    make("plugin.part", base=base, other=make("other"))
    assert due_with(["plugin.part"], ["base", "json"]) == [("base", "plugin.part")]
    assert due_with(["plugin.part.name"], ["base", "json"]) == []
    assert due_with(["plugin"], ["own"]) == []
    assert due_with(["own", "missing", "numpy"], ["base", "other"]) == []


@pytest.mark.parametrize(
    ("left", "effect"),
    [
        ("pass", False),
        ("from bought import limit", False),
        ("pandas.part.bought = bought", False),
        ("pandas.bought = bought.Type", True),
        ("pandas.types['bought'] = bought.Type", True),
        ("pandas.Frame.bought = bought.Accessor(bought.Type)", True),
        ("pandas.Frame.bought = property(bought.attribute)", True),
        ("pandas.part.registry.types.append(bought.Type)", True),
    ],
)
def test_what_leaves_nothing_in_pandas_is_not_imported_with_it(
    left: str, effect: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most packages use it, and workers have it from the start; many are imported for nothing."""
    texts = {
        "pandas": "class Frame: pass\ntypes = {}",
        "pandas.part": "class Registry: pass\nregistry = Registry()\nregistry.types = [int]",
        "bought": (
            "import pandas\nlimit = 3\nclass Type: pass\ndef attribute(self): pass\n"
            "class Accessor:\n def __init__(self, kind): self.kind = kind\n"
            " def __get__(self, *args): raise AssertionError"
        ),
    }
    for name, text in texts.items():
        module = ModuleType(name)
        module.__file__ = f"/usr/lib/site-packages/{name}.py"
        monkeypatch.setitem(sys.modules, name, module)
        exec(text, vars(module))
    monkeypatch.setattr(sys.modules["pandas"], "part", sys.modules["pandas.part"], raising=False)
    monkeypatch.setattr(_effects, "_uses", {})
    exec(left, {name: sys.modules[name] for name in ("pandas", "bought")})
    assert due_with(["bought"], ["pandas"]) == [("pandas", "bought")] * effect


def test_to_read_a_text_imports_nothing() -> None:
    """To import `re` would take longer than all the rest of a short program."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from pool._workers._patches._mentions import Mentions\n"
        "Mentions('import json\\njson.x = 3\\njson.f()\\n')\n"
        "print({'re', 'dis', 'ast', 'inspect'} & (set(sys.modules) - before))"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


class Proxy:
    """Shows another object's attributes, and fails if there is none now."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # as proxies do
        raise RuntimeError("outside of a request")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("outside of a request")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return a module that counts as an installed one."""
    module = ModuleType("bought")
    module.__file__ = "/usr/lib/site-packages/bought.py"
    monkeypatch.setitem(sys.modules, "bought", module)
    exec(
        textwrap.dedent(
            """
            import threading
            LIMIT = 1
            _conf = {}
            _ready = False
            _lock = None
            names = ["a"]

            class Kind:
                def __init__(self, **options): _conf.update(options)

                table = {}

                @classmethod
                def register(cls, name, value):
                    cls.table = cls.table.copy()
                    cls.table[name] = value

                @classmethod
                def begin(cls):
                    cls.begun = True
                    Kind.go_on()

                @classmethod
                def go_on(cls):
                    cls.later = True
                    Kind.begin()

                @classmethod
                def configure(cls, depth):
                    cls.depth = depth

            def set_limit(number):
                global LIMIT
                LIMIT = number

            def set_up():
                global _ready, _lock
                _ready, _lock = True, threading.Lock()

            _cache = {}

            def read(key):
                _cache[key] = names, _conf[key]
                return _cache[key]

            def change_others():
                import json
                from json.encoder import JSONEncoder as Encoder
                json.limit = 3
                setattr(Encoder, "method", None)
                names.attribute = 3
            """
        ),
        vars(module),
    )
    yield module


def test_names_that_mean_nothing_to_send(installed: ModuleType) -> None:
    vars(installed)["proxy"] = Proxy()
    mentions = Mentions("import bought\nbought.x = 1\n")
    names = {"bought": installed, "proxy": Proxy(), "number": 3}
    assert find("bought.proxy.user", names, mentions) is not None
    assert find("bought.proxy.user.name", names, mentions) is None
    assert find("proxy.user", names, mentions) is None
    assert find("number.real", names, mentions) is None
    assert find("missing.name", names, mentions) is None
    assert find("sys.path", {"sys": sys}, mentions) is None
    assert _taken.take([(names, Mentions("import bought\nbought.proxy.user = 3\n"))]) == ([], "")


def test_a_proxy_is_inherited_and_not_asked(installed: ModuleType) -> None:
    class Called(Proxy):
        __class__ = property(lambda self: pytest.fail("asked"))  # type: ignore[assignment]  # as proxies do

        def __reduce_ex__(self, protocol: object) -> Any:
            pytest.fail("asked")

    said = [({"bought": installed}, Mentions("import bought\nbought.current = 1\n"))]
    vars(installed)["current"] = Called()
    assert _taken.take(said) == ([], "bought.current")


def test_a_lazy_module_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    lazy = Lazy("lazily")
    monkeypatch.setitem(sys.modules, "lazily", lazy)
    text = "import lazily\nlazily.x = 3\nlazily.y.append(3)\nlazily.f()\nlazily.y.z = 3\n"
    assert _taken.take([({"lazily": lazy}, Mentions(text))]) == ([], "")


def test_a_lazy_module_of_the_program_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ownlazy.py").write_text("raise AssertionError('loaded')")
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.find_spec("ownlazy")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ownlazy", module)
    spec.loader.exec_module(module)
    text = "import sys\nsys.modules['ownlazy'] = 1\nimport ownlazy\nownlazy.x = ownlazy.y.z = 3\n"
    assert _taken.take([({"sys": sys, "ownlazy": module}, Mentions(text))]) == ([], "")
    assert "ownlazy" not in Snapshots().take_all()[0]


def test_places_have_the_names_that_others_know() -> None:
    mentions = Mentions("import json.encoder as e\ne.JSONEncoder.x = 1\n")
    place = find("e.JSONEncoder.x", {"e": json.encoder}, mentions)
    assert place is not None
    assert place.key == ("json.encoder", "JSONEncoder.x")
    place = find("json.JSONEncoder.x", {}, mentions)
    assert place is not None
    assert place.key == ("json.encoder", "JSONEncoder.x")


@pytest.mark.parametrize("package", ["app", "other"])
def test_an_object_may_have_the_name_of_its_package(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by ``from app.web import app``."""
    module = ModuleType(f"{package}.web")
    vars(module)["app"] = app = type("App", (), {"debug": False})()
    monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    mentions = Mentions(f"from {package}.web import app\napp.debug = True\n")
    for names in ({"app": app}, {}):
        place = find("app.debug", names, mentions)
        assert place is not None
        assert (place.owner, place.key) == (app, (module.__name__, "app.debug"))


def setters(installed: ModuleType, dotted: str) -> set[tuple[str, bool]]:
    text = f"import bought\n{dotted}()\n"
    function, place = called(dotted, {"bought": installed}, Mentions(text))
    return {(where.key[1], what == CONTAINER) for where, what in set_by(function, place)}


def test_what_functions_set(installed: ModuleType) -> None:
    assert setters(installed, "bought.set_limit") == {("LIMIT", False)}
    assert setters(installed, "bought.set_up") == {("_ready", False), ("_lock", False)}
    assert setters(installed, "bought.read") == set()
    assert setters(installed, "bought.Kind") == {("_conf", True)}
    assert setters(installed, "bought.Kind.register") == {("Kind.table", False)}
    assert setters(installed, "bought.Kind.begin") == {("Kind.begun", False), ("Kind.later", False)}
    assert setters(installed, "bought.Kind.configure") == {("Kind.depth", False)}


def test_an_interrupt_leaves_nothing_half_known(
    installed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_setters, "_variables_of", mock.Mock(side_effect=KeyboardInterrupt))
        setters(installed, "bought.set_limit")
    assert setters(installed, "bought.set_limit") == {("LIMIT", False)}


def test_what_functions_set_elsewhere(installed: ModuleType) -> None:
    mentions = Mentions("import bought\nbought.change_others()\n")
    function, place = called("bought.change_others", {"bought": installed}, mentions)
    found = [(where.key, what) for where, what in set_by(function, place)]
    assert sorted(found) == [
        (("json", "limit"), OTHER),
        (("json.encoder", "JSONEncoder.method"), OTHER),
    ]


def test_all_that_a_function_sets_or_nothing(installed: ModuleType) -> None:
    def sent(call: str) -> list[Any]:
        names = {"bought": installed}
        return [
            patch[:3] for patch in _taken.take([(names, Mentions(f"import bought\n{call}"))])[0]
        ]

    installed.set_limit(3)
    installed.set_up()
    assert sent("bought.set_limit(3)\n") == [("bought", (), "LIMIT")]
    assert sent("bought.set_up()\n") == []
    installed._lock = None
    assert len(sent("bought.set_up()\n")) == 2


def test_what_was_there_before_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before, kind = textwrap.dedent, textwrap.TextWrapper
    for name in ("dedent", "TextWrapper"):
        monkeypatch.setattr(textwrap, name, None)
        monkeypatch.setattr(_originals, "_replaced", _originals._replaced | {("textwrap", name)})
    encoded = dumps_to_worker((before, kind))
    found = loads(encoded.data, encoded.buffers)
    assert found[0] is before
    assert found[1] is kind


@pytest.mark.parametrize("autospec", [False, True])
@pytest.mark.parametrize("is_own", [False, True])
def test_mocks_have_to_be_inherited(installed: ModuleType, autospec: bool, is_own: bool) -> None:
    if is_own:
        installed.__file__ = "bought.py"
        known_tops.pop("bought", None)
    said = [({"bought": installed}, Mentions("import bought\nbought.read = 1\n"))]
    assert _taken.take(said)[1] == ""
    with mock.patch.object(installed, "read", autospec=autospec):
        assert _taken.take(said)[1] == "bought.read"
    known_tops.pop("bought", None)


def test_interrupts_leave_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever one strikes while a module is imported, and what was put into it is put in."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ownpatched.py").write_text("import ownother\nlimit = 1\n")
    (tmp_path / "ownother.py").write_text("limit = 1\ntable = {}\n")
    sent = [
        ("ownpatched", (), "limit", _applied.VALUE, 2),
        ("ownother", (), "limit", _applied.PICKLED, packed(2)),
        ("ownother", (), "table", _applied.CONTENTS, packed({"a": 1})),
    ]
    monkeypatch.setattr(_applied, "received", [])
    for moment in range(1000):
        for name in ("ownpatched", "ownother"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        before = list(sys.meta_path)
        _applied.take_over(sent)
        struck = interrupted_at(
            moment, lambda: importlib.import_module("ownpatched"), _applied, _imports
        )
        module, other = (importlib.import_module(name) for name in ("ownpatched", "ownother"))
        assert (module.limit, other.limit, other.table) == (2, 2, {"a": 1}), moment
        sys.meta_path[:] = before
        if not struck:
            break
    assert 20 < moment < 999


class Filled(dict[str, int]):
    pass


def test_an_object_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many modules call its methods: a logger, say, has each module of a program do so."""
    asked = []

    class Logger:
        def __reduce__(self) -> Any:
            asked.append(1)
            raise TypeError("not to be pickled")

    own = ModuleType("ownlog")
    vars(own)["log"] = Logger()
    monkeypatch.setitem(sys.modules, "ownlog", own)
    text = "from ownlog import log\nimport ownlog\nlog.info(1)\nlog.debug(2)\nownlog.log.warn(3)\n"
    names = {"log": own.log, "ownlog": own}
    assert _taken.take([(names, Mentions(text)), (names, Mentions(text))]) == ([], "")
    assert asked == [1]
    assert _taken.take([(names, Mentions(text + "log.level = 3\n"))]) == ([], "ownlog.log")


def test_what_threads_have_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web program's has something only while a request is answered, and in that thread."""
    own = ModuleType("ownlocal")
    vars(own)["local"] = threading.local()
    monkeypatch.setitem(sys.modules, "ownlocal", own)
    text = "from ownlocal import local\ndef answer(request):\n    local.request = request\n"
    said = [({"local": own.local}, Mentions(text))]
    thread = threading.Thread(target=setattr, args=(own.local, "request", 3))
    thread.start()
    thread.join()
    assert _taken.take(said) == ([], "")
    own.local.request = 3
    assert _taken.take(said) == ([], "ownlocal.local")


def test_an_object_gets_all_of_the_state_of_another_one() -> None:
    one, other = Filled(a=1, b=2), Filled(b=3)
    one.extra = 4  # type: ignore[attr-defined]  # which the other one has not
    other.kept = 5  # type: ignore[attr-defined]  # as above
    assert become(one, other)
    assert dict(one) == {"b": 3}
    assert vars(one) == {"kept": 5}
    assert not become(one, {})


def test_neither_draws_nor_properties_are_state(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        field = functools.partialmethod(max, 1)  # could be sent, but is part of the class
        rng = random.Random(1)

    own = ModuleType("owndrawn")
    own.Model = Model  # type: ignore[attr-defined]  # what its text would make
    own.rng = random.Random(1)  # type: ignore[attr-defined]  # likewise
    Model.__module__, Model.__qualname__ = "owndrawn", "Model"
    monkeypatch.setitem(sys.modules, "owndrawn", own)
    top = "class Model:\n    pass\nrng = Random(1)\n"

    def sent(line: str) -> list[tuple[Any, ...]]:
        patches, lost = touched([(vars(own), Mentions(f"{top}def f(n):\n    {line}\n"))])
        assert lost == ""
        return [patch[:3] for patch in patches]

    assert sent("rng.shuffle(n)") == sent("Model.field.check(n)") == []
    assert sent("rng.seed(n)") == [("owndrawn", (), "rng")]
    assert sent("Model.rng.seed(n)") == [("owndrawn", ("Model",), "rng")]


class Derived(random.Random):
    pass


@pytest.mark.parametrize(
    "make", [random.Random, Derived, numpy.random.RandomState, numpy.random.default_rng]
)
def test_generators_get_a_state_that_they_have_in_compiled_code(make: Callable[..., Any]) -> None:
    one, other = make(1), make(2)
    kept = one
    assert become(one, other)
    assert one is kept
    assert one.random() == other.random() == make(2).random()


def test_what_has_its_state_in_compiled_code_is_not_filled() -> None:
    class Counted(int):
        pass

    class Slotted:
        __slots__ = ("__dict__", "part")

    assert not become(Counted(1), Counted(2))
    assert not become(Slotted(), Slotted())


def test_the_main_module_stands_in_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script has no spec, as fakes have none; and texts that look it up have its name."""
    text = 'import sys\nthis = sys.modules[__name__]\nif __name__ == "__main__": run("fake")\n'
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setitem(sys.modules, "fake", ModuleType("fake"))
    found, lost = _taken._names_of_modules([({}, Mentions(text))])
    assert ([name for name, *_ in found], lost) == (["fake"], "")
