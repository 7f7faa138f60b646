"""What a program has put into installed modules, and into Python's own, is there in tasks."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_command, run_with

if TYPE_CHECKING:
    from pathlib import Path

as_forks = pytest.mark.parametrize("library", ["multiprocessing", "pool"])


def run(library: str, body: str, folder: Path, method: str = "") -> str:
    """Run a program that has `Pool`; return what it prints."""
    return run_with(
        library, method or ("fork" if library == "multiprocessing" else ""), body, folder
    )


@as_forks
def test_modules(library: str, tmp_path: Path) -> None:
    body = """
        import collections, collections.abc, inspect, json, logging, mimetypes, socket, ssl, time
        import urllib.request as request
        from email import charset

        collections.Iterable = collections.abc.Iterable
        inspect.getargspec = inspect.getfullargspec
        unverified = ssl._create_unverified_context
        time.clock = time.process_time; ssl._create_default_https_context = unverified
        if not hasattr(json, "missing"): json.missing = None
        setattr(json, "given", "by name")
        json.encoder.INFINITY = "null"
        request.limit = 3
        request.limit += 4
        logging.NOTICE = 25
        mimetypes.types_map[".zzz"] = "z/z"
        charset.ALIASES.update(latin="iso-8859-1")
        sleep = time.sleep

        def no_sleep(seconds):
            sleep(0)
            return f"{seconds} s"

        time.sleep = no_sleep

        def set_up():
            import email.utils as utils
            utils.supports_strftime = "no"

        def task(_):
            import email.utils
            return (
                collections.Iterable.__name__, inspect.getargspec is inspect.getfullargspec,
                time.clock.__name__, ssl._create_default_https_context.__name__, json.missing,
                json.given, json.encoder.INFINITY, request.limit, logging.NOTICE,
                mimetypes.types_map[".zzz"], charset.ALIASES["latin"], time.sleep(9),
                sleep is time.sleep, email.utils.supports_strftime,
            )

        if __name__ == "__main__":
            set_up()
            with Pool(2) as p:
                print(p.map(task, range(4))[3])
    """
    assert run(library, body, tmp_path) == (
        "('Iterable', True, 'process_time', '_create_unverified_context', None, 'by name', 'null', "
        "7, 25, 'z/z', 'iso-8859-1', '9 s', False, 'no')\n"
    )


@as_forks
def test_classes(library: str, tmp_path: Path) -> None:
    body = """
        import functools, json, logging, socket
        import pandas as pd

        def default(self, obj):
            to_json = getattr(obj, "to_json", None)
            return default.before(self, obj) if to_json is None else to_json()

        default.before = json.JSONEncoder.default
        json.JSONEncoder.default = default

        class Point:
            def to_json(self):
                return "point"

        def notice(self, message):
            return f"{self.name}: {message}"

        logging.Logger.notice = notice
        pd.DataFrame.first_row = lambda self: self.iloc[0].tolist()
        pd.DataFrame.size_of = property(lambda self: len(self))
        pd.DataFrame.title = "frame"

        @classmethod
        def make(cls):
            return cls({"a": [7, 8]})

        pd.DataFrame.make = make
        pd.DataFrame.plain = staticmethod(lambda: "plain")
        logging.Formatter.format = functools.partialmethod(logging.Formatter.format)

        class Socket(socket.socket):
            kind_of = "mine"

        socket.socket = Socket

        def task(_):
            frame = pd.DataFrame.make()
            try:
                json.dumps(object())
            except TypeError as error:
                refused = "not JSON serializable" in str(error)
            with socket.socket() as one:
                record = logging.makeLogRecord({"msg": "m"})
                return (
                    json.dumps(Point()), refused, logging.getLogger("log").notice("n"),
                    frame.first_row(), frame.size_of, frame.title, frame.plain(), one.kind_of,
                    isinstance(one, Socket), logging.Formatter().format(record),
                )

        if __name__ == "__main__":
            with Pool(2) as p:
                print(p.map(task, range(2))[1])
    """
    assert run(library, body, tmp_path) == (
        "('\"point\"', True, 'log: n', [7], 2, 'frame', 'plain', 'mine', True, 'm')\n"
    )


@as_forks
def test_however_it_is_written(library: str, tmp_path: Path) -> None:
    """Several names at once, names from a loop, names that are deleted, functions that wrap."""
    body = """
        import functools, json, mimetypes, shutil, string, time
        from mimetypes import types_map
        from unittest import mock

        json.one, json.two = 1, 2
        json.three = json.four = 3
        del json.detect_encoding, string.capwords
        for name in ("alpha", "beta"):
            if not hasattr(json, name):
                setattr(json, name, name.upper())
        types_map[".q"] = "q/q"
        types_map.update({".r": "r/r"})

        @functools.wraps(time.sleep)
        def sleep(seconds):
            return f"slept {seconds}"

        time.sleep = sleep
        copyfile = shutil.copyfile

        @functools.wraps(copyfile)
        def noted(*args):
            try:
                return copyfile(*args)
            except OSError as error:
                return type(error).__name__

        shutil.copyfile = noted

        def task(_):
            return (
                json.one, json.two, json.three, json.four, json.alpha, json.beta,
                hasattr(json, "detect_encoding"), hasattr(string, "capwords"),
                types_map[".q"], mimetypes.types_map[".r"], time.sleep(3),
                shutil.copyfile("missing", "other"), json.loads("[1]"),
            )

        def patched(_):
            return json.five, json.six, noted is shutil.copyfile

        if __name__ == "__main__":
            with Pool(2) as p:
                print(p.map(task, range(2))[1])
            with mock.patch.multiple(json, five=5, six=6, create=True), Pool(2) as p:
                print(p.map(patched, range(2))[1])
    """
    assert run(library, body, tmp_path) == (
        "(1, 2, 3, 3, 'ALPHA', 'BETA', False, False, 'q/q', 'r/r', 'slept 3', "
        "'FileNotFoundError', [1])\n(5, 6, True)\n"
    )


@as_forks
def test_while_a_module_of_the_program_is_imported(library: str, tmp_path: Path) -> None:
    """The value is of a module which imports, before it has that, the one where it is put."""
    (tmp_path / "own.py").write_text(
        "import netrc\ndef default(self): return 'own'\nclass Kind: pass\n"
    )
    body = """
        import netrc
        import own

        netrc.netrc.default = own.default
        netrc.Kind = own.Kind

        def task(_):
            import own, netrc
            return netrc.Kind is own.Kind, netrc.netrc.default is own.default

        if __name__ == "__main__":
            with Pool(1) as p:
                print(p.map(task, [0]))
    """
    assert run(library, body, tmp_path) == "[(True, True)]\n"


@as_forks
def test_a_module_that_logging_imports(library: str, tmp_path: Path) -> None:
    """Its patch is put in while `logging` is only half imported."""
    body = """
        import string
        string.vowels = "aeiou"

        def task(_):
            import logging, string as late
            return late.vowels, logging.getLogger("x").name

        if __name__ == "__main__":
            with Pool(2) as p:
                print(p.map(task, range(2))[1])
    """
    assert run(library, body, tmp_path) == "('aeiou', 'x')\n"


@as_forks
def test_before_the_task_imports_it(library: str, tmp_path: Path) -> None:
    """A module that only builds on what was put there can be imported, also by a task itself."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "oldlib.py").write_text(
        "from collections import Callable\nkey = None\ndef ask(): return key, Callable.__name__\n"
    )
    body = """
        import sys
        sys.path.append("site-packages")
        import collections, collections.abc
        collections.Callable = collections.abc.Callable

        def task(_):
            import oldlib
            return oldlib.ask()

        def set_up(key):
            import oldlib
            oldlib.key = key

        if __name__ == "__main__":
            set_up("secret")
            with Pool(2) as p:
                print(p.map(task, range(2))[1])
    """
    assert run(library, body, tmp_path) == "('secret', 'Callable')\n"


BOUGHT = """
LIMIT = 1
_conf = {}
_ready = False
_lock = None
LEVELS = {"low": 1}

class Options:
    def __init__(self, **options): _conf.update(options)

class Loader:
    constructors = {"int": int}

    @classmethod
    def add_constructor(cls, name, function):
        cls.constructors = cls.constructors.copy()
        cls.constructors[name] = function

class Resolvers:
    table = {}

    @staticmethod
    def register(name, function): Resolvers.table[name] = function

    @staticmethod
    def register_new(name, function):
        # The name that it had before.
        return Resolvers.register(name, function)

class Conf:
    def __init__(self): self._level = 1
    @property
    def level(self): return self._level
    @level.setter
    def level(self, value): self._level = value

conf = Conf()
registry = {}

class Frame: pass

class Accessor:
    def __init__(self, kind): self.kind = kind
    def __get__(self, frame, owner): return self.kind(frame)

def register(name, function): registry[name] = function

def register_accessor(name):
    def decorator(kind):
        setattr(Frame, name, Accessor(kind))
        return kind
    return decorator

def set_limit(number):
    global LIMIT
    LIMIT = number

def set_up():
    global _ready, _lock
    import threading
    _ready, _lock = True, threading.Lock()

def state():
    made = Loader.constructors["own"]("3"), Resolvers.table["own"](5)
    return LIMIT, _conf, *made, conf.level, registry["own"](4), LEVELS

def is_usable():
    return _ready == (_lock is not None)
"""


@as_forks
def test_functions_that_set_up_packages(library: str, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "bought.py").write_text(BOUGHT)
    body = """
        import sys
        sys.path.append("site-packages")
        import bought
        from bought import Options, register

        def double(x):
            return 2 * x

        @bought.register_accessor("size")
        class Size:
            def __init__(self, frame):
                self.name = type(frame).__name__

        def set_up():
            bought.set_limit(7)
            Options(depth=3)
            bought.Loader.add_constructor("own", lambda text: text * 2)
            bought.Resolvers.register_new("own", lambda x: x + 1)
            bought.conf.level = 5
            bought.LEVELS["high"] = 9
            register("own", double)
            bought.set_up()

        def task(_):
            import bought
            return bought.state(), bought.is_usable(), bought.Frame().size.name

        if __name__ == "__main__":
            set_up()
            with Pool(2) as p:
                print(p.map(task, range(2))[1])
    """
    assert run(library, body, tmp_path) == (
        "((7, {'depth': 3}, '33', 6, 5, 8, {'low': 1, 'high': 9}), True, 'Frame')\n"
    )


SEED = """
        import sys
        sys.path.append("site-packages")
        import clib

        def task(_):
            return clib.draw()

        if __name__ == "__main__":
            CALL
            with Pool(1) as p:
                print(p.map(task, [1]) == [clib.draw()], getattr(p, "stats", dict)())
"""


def run_seed(library: str, call: str, folder: Path) -> str:
    """Run a program that sets a seed which is known to compiled code only: that of libc."""
    site = folder / "site-packages"
    site.mkdir()
    (site / "clib.py").write_text(
        "import _clib\nset_seed = _clib.srand\ndraw = _clib.rand\n"
        "class Global:\n    @staticmethod\n    def SetSeed(*args):\n"
        "        return _clib.srand(*args)\n"
    )
    (site / "_clib.py").write_text(
        "import ctypes\nlibc = ctypes.CDLL(None)\nsrand = libc.srand\nrand = libc.rand\n"
    )
    return run(library, SEED.replace("CALL", call), folder)


@as_forks
@pytest.mark.parametrize("call", ["clib.set_seed(5)", "clib.Global.SetSeed(5)"])
def test_what_is_set_in_compiled_code(library: str, tmp_path: Path, call: str) -> None:
    assert run_seed(library, call, tmp_path).startswith("True ")


@as_forks
@pytest.mark.parametrize("how", ["import os", "from os import register_at_fork"])
def test_what_is_to_be_done_in_forks(library: str, how: str, tmp_path: Path) -> None:
    """Workers draw numbers of their own, as the program wants it."""
    name = how.replace("import os", "os.register_at_fork").rpartition(" ")[2]
    body = f"""
        import random
        {how}

        rng = random.Random(1)
        {name}(after_in_child=rng.seed)

        def draw(_):
            return rng.random()

        if __name__ == "__main__":
            with Pool(1) as p, Pool(1) as q:
                print(len({{draw(0), *p.map(draw, [0]), *q.map(draw, [0])}}))
    """
    assert run(library, body, tmp_path) == "3\n"


@as_forks
def test_what_python_itself_keeps_in_compiled_code(library: str, tmp_path: Path) -> None:
    body = """
        import codecs, faulthandler, os, signal
        from codecs import register_error

        def find(name):
            return codecs.lookup("utf-8") if name == "own" else None

        def task(text):
            signal.raise_signal(signal.SIGUSR1)
            return text.encode("ascii", "mine"), text.encode("own")

        if __name__ == "__main__":
            CALL
            with Pool(1) as p:
                print(p.map(task, ["abc"]))
        """
    calls = (
        "codecs.register(find)",
        "register_error('mine', codecs.ignore_errors)",
        "faulthandler.register(signal.SIGUSR1, file=open(os.devnull, 'w'))",
    )
    whole = body.replace("CALL", "; ".join(calls))
    assert run(library, whole, tmp_path) == "[(b'abc', b'abc')]\n"


@as_forks
def test_what_is_put_into_sys(library: str, tmp_path: Path) -> None:
    """Numbers and texts; the rest belongs to the process, or is carried in other ways."""
    body = """
        import mimetypes, sys
        sys.verbose = 3
        sys.tracebacklimit = 0
        sys.owner = task_owner = object()
        sys.path.append("there")
        mimetypes.add_type("x/y", ".zzy")

        def task(_):
            return sys.verbose, sys.tracebacklimit, sys.path[-1], mimetypes.guess_type("a.zzy")

        if __name__ == "__main__":
            with Pool(1) as p:
                print(p.map(task, [1]))
    """
    assert run(library, body, tmp_path) == "[(3, 0, 'there', ('x/y', None))]\n"


def test_what_is_set_in_compiled_code_beside_its_threads(tmp_path: Path) -> None:
    """A fork might wait for them for ever."""
    thread = "import ctypes; libc = clib._clib.libc; number = ctypes.c_ulong()"
    call = f"{thread}; libc.pthread_create(ctypes.byref(number), None, libc.pause, None)"
    assert "'start_method': 'forkserver'" in run_seed(
        "pool", f"clib.set_seed(5)\n            {call}", tmp_path
    )


@as_forks
def test_tables_of_packages(library: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    body = """
        import shutil
        import yaml

        class Point:
            def __init__(self, x):
                self.x = x

        def pack(base, folder, **options):
            return f"{base} of {factor}"

        factor = 3
        shutil.register_archive_format("mine", pack)
        yaml.add_representer(Point, lambda dumper, point: dumper.represent_int(point.x * factor))
        yaml.SafeLoader.add_constructor(
            "!times", lambda loader, node: int(loader.construct_scalar(node)) * factor
        )

        def look(x):
            known = shutil.make_archive("a", "mine"), "zip" in dict(shutil.get_archive_formats())
            return known, yaml.dump(Point(x)).split()[0], yaml.safe_load(f"!times {x}")

        if __name__ == "__main__":
            with Pool(1) as p:
                print(p.map(look, [2]))
            del shutil._ARCHIVE_FORMATS["mine"]
            with Pool(1) as p:
                known = shutil.get_archive_formats()
                print(p.map(len, [known])[0] == len(known))
    """
    assert run(library, body, tmp_path) == "[(('a of 3', True), '6', 6)]\nTrue\n"


@as_forks
def test_what_was_registered(library: str, tmp_path: Path) -> None:
    """With generic functions and abstract classes, by the main module and by plugins."""
    (tmp_path / "forms.py").write_text("""
import abc
import functools

class Shape(abc.ABC):
    @functools.singledispatchmethod
    def scale(self, by):
        return "any"

    @scale.register
    def _(self, by: int):
        return "int"

class Square(Shape):
    pass

@functools.singledispatch
def text(value):
    return "any"

@text.register(int)
def _(value):
    return "int"
""")
    (tmp_path / "plugin.py").write_text("""
import forms

@forms.text.register
def _(value: set):
    return f"set of {len(value)}"

@forms.text.register(list)
def of_list(value):
    return "list"
""")
    main = """
    import collections.abc, decimal, importlib, numbers, forms

    importlib.import_module("plugin")

    class Money:
        pass

    class Row:
        pass

    @forms.text.register
    def _(value: Money):
        return "money"

    forms.text.register(decimal.Decimal, lambda value: "decimal")
    forms.Shape.scale.register(str, lambda self, by: "str")
    forms.Shape.register(Money)
    numbers.Number.register(Money)
    collections.abc.Sequence.register(Row)

    def task(value):
        kinds = forms.Shape, numbers.Number, collections.abc.Sequence
        scaled = forms.Square().scale(value)
        return forms.text(value), scaled, *(isinstance(value, kind) for kind in kinds)

    with Pool(1) as p:
        for row in p.map(task, [1, "a", Money(), Row(), {1, 2}, [], decimal.Decimal(1)]):
            print(*row)
    """
    assert run(library, main, tmp_path) == (
        "int int False True False\nany str False False True\nmoney any True True False\n"
        "any any False False True\nset of 2 any False False False\nlist any False False True\n"
        "decimal any False True False\n"
    )


@as_forks
def test_methods_of_classes_of_the_programs_own(library: str, tmp_path: Path) -> None:
    """Replaced by the main module, and by a test that puts them back."""
    (tmp_path / "models.py").write_text("""
def decorated(function):
    def inner(self):
        return "decorated", function(self)
    return inner

class Model:
    def predict(self, x):
        return x

    def size(self):
        return 1

    @staticmethod
    def fetch():
        return "fetched"

    @property
    def name(self):
        return "model"

    @decorated
    def check(self):
        return 1

class Derived(Model):
    @classmethod
    def kind(cls):
        return "derived"

    def speed(self):
        return "slow"

    def _fast(self):
        return "fast"

def be_fast():
    Derived.speed = Derived._fast
""")
    main = """
    import models
    from models import Derived, Model
    from unittest import mock

    original = Model.predict

    def predict(self, x):
        return original(self, x) * 100

    def task(n):
        model = Model(), Derived()
        parts = [(m.predict(n), m.fetch(), m.name, m.check(), m.size()) for m in model]
        return parts, Derived.kind(), model[1].speed()

    def run():
        with Pool(1) as p:
            print(*p.map(task, [2]))

    Model.predict = predict
    Model.size = models.decorated(Model.size)
    Derived.kind = classmethod(lambda cls: cls.__name__)
    with mock.patch.object(Model, "fetch", staticmethod(lambda: "fake")):
        with mock.patch("models.Model.name", property(lambda self: "patched")):
            run()
    Model.predict = original
    models.be_fast()
    setattr(Model, "check", lambda self: "unchecked")
    run()
    """
    both = [(200, "fake", "patched", ("decorated", 1), ("decorated", 1))] * 2
    last = [(2, "fetched", "model", "unchecked", ("decorated", 1))] * 2
    assert run(library, main, tmp_path) == (
        f"({both}, 'Derived', 'slow')\n({last}, 'Derived', 'fast')\n"
    )


@as_forks
def test_descriptors(library: str, tmp_path: Path) -> None:
    body = """
        import argparse, colorsys, functools
        from fractions import Fraction

        factor = 3

        class Kept:
            limit = 4

        colorsys.grey = lambda share: share * factor
        Fraction.of = staticmethod(lambda n: Fraction(n, factor))
        Fraction.made = classmethod(lambda cls, n: cls(n, factor))
        Fraction.third = property(lambda self: self / factor)
        argparse.Namespace.size = functools.cached_property(lambda self: len(vars(self)))
        argparse.Namespace.size.__set_name__(argparse.Namespace, "size")
        argparse.Namespace.Kept = Kept

        def look(x):
            space = argparse.Namespace(a=1, b=2)
            return (
                colorsys.grey(x), str(Fraction.of(x)), str(Fraction.made(x)),
                str(Fraction(x).third), space.size, space.Kept is Kept,
            )

        if __name__ == "__main__":
            with Pool(1) as p:
                print(p.map(look, [2]))
    """
    assert run(library, body, tmp_path) == "[(6, '2/3', '2/3', '2/3', 2, True)]\n"


@as_forks
def test_what_was_there_before(library: str, tmp_path: Path) -> None:
    body = """
        import time

        before = time.sleep
        time.sleep = lambda seconds: "slept"

        def first(_):
            return time.sleep(1)

        def second(_):
            return before is time.sleep, before(0)

        if __name__ == "__main__":
            with Pool(1) as p:
                print(p.map(first, [0]), p.map(second, [0]))
    """
    assert run(library, body, tmp_path) == "['slept'] [(False, None)]\n"


@as_forks
def test_modules_imported_for_their_effect(library: str, tmp_path: Path) -> None:
    """Nothing refers to the plugin; a task that does without the package does not load it."""
    site = tmp_path / "site-packages"
    (site / "plugin").mkdir(parents=True)
    (site / "base.py").write_text("makers = {}\ndef make(name): return makers[name]()\n")
    (site / "plugin" / "__init__.py").write_text("")
    text = "import base, functools\nbase.makers['pong'] = functools.partial(int, '7')\n"
    (site / "plugin" / "games.py").write_text(text)
    body = """
        import sys
        sys.path.append("site-packages")
        import base
        import plugin.games  # noqa: F401

        def loaded(_):
            return ".".join(["plugin", "games"]) in sys.modules

        def task(_):
            return base.make("pong")

        def late(_):
            from base import make
            return make("pong")

        if __name__ == "__main__":
            with Pool(1) as p:
                if Pool.__module__.startswith("pool"):
                    assert not p.apply(loaded, (0,))
                print(p.map(late, range(2)), p.map(task, range(2)), p.apply(loaded, (0,)))
    """
    assert run(library, body, tmp_path) == "[7, 7] [7, 7] True\n"


@as_forks
def test_mocks_are_inherited(library: str, tmp_path: Path) -> None:
    # With names that its code does not tell, so that only the mock is known to be the program's.
    (tmp_path / "own.py").write_text("from math import *\ndef fetch(x): return 'real'\n")
    body = """
        import shutil
        from unittest import mock
        import own

        def task(x):
            return own.fetch(x), shutil.disk_usage("/")

        def replaced(x):
            return "replaced"

        def own_alone(x):
            return own.fetch(x)

        if __name__ == "__main__":
            with mock.patch("shutil.disk_usage", return_value=5):
                with mock.patch.object(own, "fetch") as fetch:
                    fetch.return_value = 6
                    with Pool(2) as p:
                        print(p.map(task, range(2)))
            with mock.patch("shutil.disk_usage", replaced), Pool(2) as p:
                print(p.map(task, range(2)))
            with mock.patch("own.fetch", return_value=7), Pool(1) as p:
                print(p.apply(own_alone, (0,)))
    """
    assert run(library, body, tmp_path) == (
        "[(6, 5), (6, 5)]\n[('real', 'replaced'), ('real', 'replaced')]\n7\n"
    )


@as_forks
def test_what_no_pickle_can_carry_is_inherited(library: str, tmp_path: Path) -> None:
    body = """
        import json
        json.numbers = (n for n in (3, 4))

        def task(_):
            return next(json.numbers)

        if __name__ == "__main__":
            with Pool(1) as p:
                print(p.map(task, range(2)))
            print(next(json.numbers))
    """
    assert run(library, body, tmp_path) == "[3, 4]\n3\n"


@as_forks
def test_names_of_modules(library: str, tmp_path: Path) -> None:
    body = """
        import json, pickle, sys, types
        sys.modules["cPickle"] = pickle
        sys.modules["gone.now"] = json
        sys.modules['absent'] = None
        fake = types.ModuleType("fake")
        fake.value = 5
        fake.ask = lambda: fake.value
        sys.modules["fake"] = fake

        def task(_):
            import cPickle, fake
            from gone.now import dumps
            try:
                import absent
            except ImportError as error:
                return cPickle.__name__, dumps.__module__, fake.ask(), error.name

        if __name__ == "__main__":
            with Pool(2) as p:
                print(p.map(task, range(2))[0])
    """
    assert run(library, body, tmp_path) == "('pickle', 'json', 5, 'absent')\n"


@as_forks
@pytest.mark.parametrize("mocks", [False, True])
@pytest.mark.parametrize(
    "put",
    [
        "mock.patch.dict('sys.modules', {'torch': torch, 'json': None, 'cv2': cv2}).start()",
        "mock.patch.dict(sys.modules, torch=torch, json=None, cv2=cv2).start()",
        "pytest.MonkeyPatch().setitem(sys.modules, 'cv2', cv2); sys.modules.update(others)",
        "for name in ['cv2', *others]: sys.modules[name] = {'cv2': cv2, **others}[name]",
    ],
)
def test_what_stands_in_for_modules(library: str, put: str, mocks: bool, tmp_path: Path) -> None:
    """Real ones that the text names as well are left alone; mocks are inherited."""
    body = f"""
        import os, sys, types
        from unittest import mock
        import pytest

        def task(_):
            import cv2, torch
            try:
                import json
            except ImportError as error:
                return torch.ask(), cv2.imread("a"), error.name

        if __name__ == "__main__":
            torch = types.ModuleType("torch")
            torch.size = 5
            torch.ask = lambda: torch.size
            cv2 = types.SimpleNamespace(imread=lambda name: name * 2)
            if {mocks}:
                cv2 = mock.MagicMock(**{{"imread.side_effect": cv2.imread}})
            others = {{"torch": torch, "json": None, "os.path": os.path}}
            {put}
            with Pool(1) as p:
                print(*p.map(task, [1]))
    """
    assert run(library, body, tmp_path) == "(5, 'aa', 'json')\n"


@as_forks
def test_pools_after_the_modules_are_what_they_were(library: str, tmp_path: Path) -> None:
    body = """
        from unittest import mock

        def task(number):
            return -number

        if __name__ == "__main__":
            with mock.patch.dict("sys.modules", {"fake": mock.MagicMock()}):
                with Pool(1) as p:
                    print(p.map(task, [1]))
            with Pool(1) as p:
                print(p.map(task, [2]), list(p.imap(task, [3])), p.apply(task, (4,)))
            with mock.patch.dict("sys.modules", clear=False):
                with Pool(1) as p:
                    print(p.starmap(task, [(5,)]), list(p.imap_unordered(task, [6])))
            with Pool(1) as p:
                print(p.map_async(task, [7]).get())
    """
    expected = "[-1]\n[-2] [-3] -4\n[-5] [-6]\n[-7]\n"
    assert run(library, body, tmp_path) == expected


@pytest.mark.parametrize("method", ["", "spawn", "forkserver"])
def test_pools_in_tasks_and_other_methods(method: str, tmp_path: Path) -> None:
    body = """
        import json, time
        json.limit = 3
        time.clock = time.process_time

        def inner(_):
            import json
            return json.limit, time.clock.__name__

        def outer(_):
            with Pool(1) as p:
                return p.map(inner, [0])

        if __name__ == "__main__":
            with Pool(2) as p:
                print(p.map(outer, range(2))[1])
    """
    assert run("pool", body, tmp_path, method) == "[(3, 'process_time')]\n"


PROGRAM = """
import sys
import numpy as np
from pool import Pool
np.float = float
sys.modules["numbers_of_old"] = np
def set_up():
    import json, unittest.mock
    json.key = "k"
    unittest.mock.patch("json.encoder.INFINITY", "null").start()
def task(_):
    import json, numbers_of_old
    return np.float(2), json.key, json.encoder.INFINITY, numbers_of_old is np
set_up()
with Pool(2) as p:
    print(p.map(task, range(2))[0])
"""


@pytest.mark.parametrize("way", ["-", "-c"])
def test_programs_without_a_file(way: str, tmp_path: Path) -> None:
    command = [sys.executable, "-"] if way == "-" else [sys.executable, "-c", PROGRAM]
    outcome = run_command(command, tmp_path, text=PROGRAM if way == "-" else None)
    assert outcome.succeeded() == "(2.0, 'k', 'null', True)\n"


def test_in_a_test_of_pytest(tmp_path: Path) -> None:
    """Tests replace what would ask a server; tasks are not to ask it after all."""
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import urllib.request
            from unittest import mock

            from pool import Pool

            def ask(url):
                return urllib.request.urlopen(url)

            def test_by_monkeypatch(monkeypatch):
                monkeypatch.setattr(urllib.request, "urlopen", lambda url: f"of {url}")
                with Pool(2) as p:
                    assert p.map(ask, ["a", "b"]) == ["of a", "of b"]

            def test_by_name(monkeypatch):
                monkeypatch.setattr("urllib.request.urlopen", lambda url: f"by name {url}")
                with Pool(2) as p:
                    assert p.map(ask, ["a"]) == ["by name a"]

            @mock.patch("urllib.request.urlopen", return_value=3)
            def test_by_mock(urlopen):
                with Pool(2) as p:
                    assert p.map(ask, ["a"]) == [3]
            """
        )
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    assert "3 passed" in run_command(command, tmp_path).succeeded()


def test_it_is_as_it_was_when_the_pool_was_made(tmp_path: Path) -> None:
    body = """
        import json
        json.limit = 3

        def task(_):
            return json.limit

        if __name__ == "__main__":
            with Pool(2) as p:
                json.limit = 4
                print(p.map(task, range(2)))
            with Pool(2) as p:
                print(p.map(task, range(2)))
            del json.limit
            with Pool(1) as p:
                print(p.apply(eval, ("hasattr(__import__('json'), 'limit')",)))
    """
    assert run("multiprocessing", body, tmp_path) == "[3, 3]\n[4, 4]\nFalse\n"
    assert run("pool", body, tmp_path) == "[3, 3]\n[4, 4]\nFalse\n"
