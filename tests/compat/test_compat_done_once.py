"""What the program's modules did when they were imported, or keep since, is not done again."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_as_fork as run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("library", ["multiprocessing", "pool"])


@pytest.mark.parametrize("decorator", ["lru_cache", "cache", "lru_cache(maxsize=3)"])
def test_results_that_functions_keep(library: str, decorator: str, tmp_path: Path) -> None:
    """The program has changed what its function gives to all who call it."""
    settings = f"""
    import functools, uuid

    class Settings:
        def __init__(self):
            self.debug = False

    @functools.{decorator}
    def get_settings():
        return Settings()

    @functools.{decorator}
    def run_name():
        return uuid.uuid4().hex

    class Store:
        opened = 0

        @classmethod
        @functools.{decorator}
        def of(cls, name):
            return [name, {{}}]
    """
    main = f"""
    import functools, settings

    @functools.{decorator}
    def table(path):
        return {{"path": path}}

    def task(n):
        found = settings.Store.of("a"), table("b")
        return settings.get_settings().debug, settings.run_name(), *found

    with Pool(1) as p:
        p.map(abs, [1])  # before there is anything
    settings.get_settings().debug = True
    settings.Store.of("a")[1]["x"] = 1
    table("b")["y"] = 2
    name = settings.run_name()
    expected = [(True, name, ["a", {{"x": 1}}], table("b"))]
    with Pool(1) as p:
        print(p.map(task, [1]) == expected)
    """
    assert run(library, tmp_path, settings=settings, main=main) == "True\n"


def test_what_imports_make(library: str, tmp_path: Path) -> None:
    """A folder that may not be there yet, files that are truncated, names that are drawn."""
    results = """
    import logging, os, tempfile
    from pathlib import Path

    os.makedirs(os.path.join("results", "1"))
    out = open("results/1/out.txt", "w")
    logging.basicConfig(filename="run.log", filemode="w", format="%(message)s")

    class Place:
        def __init__(self):
            self.folder = tempfile.TemporaryDirectory()

    place = Place()
    """
    work = """
    import logging, os, results

    def task(n):
        logging.warning("task")
        with open(os.path.join(results.place.folder.name, str(n)), "w") as file:
            file.write("x")
        return n
    """
    main = """
    import logging, os, results, work

    results.out.write("first\\n")
    results.out.flush()
    logging.warning("begin")
    with Pool(2) as p:
        for n in p.map(work.task, range(3)):
            results.out.write(f"{n}\\n")
    results.out.close()
    print(open("results/1/out.txt").read().split(), sorted(open("run.log").read().split()))
    print(sorted(os.listdir(results.place.folder.name)))
    """
    assert run(library, tmp_path, results=results, work=work, main=main) == (
        "['first', '0', '1', '2'] ['begin', 'task', 'task', 'task']\n['0', '1', '2']\n"
    )


@pytest.mark.parametrize(
    "effect",
    [
        "import shutil; shutil.rmtree('old', ignore_errors=True)\nfirst = True",
        "import fcntl\nlock = open('lock', 'a')\nfcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "def clean():\n    import shutil\n    shutil.rmtree('old', ignore_errors=True)\nclean()",
        "from datetime import datetime; os.makedirs(f'runs/{datetime.now()}', exist_ok=True)",
    ],
    ids=["delete", "lock", "function", "named-by-time"],
)
def test_what_imports_do(library: str, effect: str, tmp_path: Path) -> None:
    """In the program they did it before it made what is there now."""
    module = f"""import os
{effect}

def task(n):
    return os.path.exists("old"), sorted(os.listdir("."))
"""
    (tmp_path / "first.py").write_text(module)
    main = """
    import os, first

    os.mkdir("old")
    dated = os.path.exists("runs")
    with Pool(1) as p:
        print(p.map(first.task, [1]) == [(True, sorted(os.listdir(".")))])
    print(len(os.listdir("runs")) if dated else 1)
    """
    assert run(library, tmp_path, main=main) == "True\n1\n"


@pytest.mark.parametrize(
    "made",
    [
        "import pickle; table = pickle.load(open('table', 'rb'))",
        "table = [n * n for n in range(200_000)]",
        "import numpy; table = numpy.arange(2_000_000).reshape(2, -1)[0]; both = table.base",
        "table = [0, 1, 4]; print('made')",
    ],
    ids=["loaded", "list", "array", "printed"],
)
def test_what_takes_long_or_is_seen(library: str, made: str, tmp_path: Path) -> None:
    """No worker makes its own table, nor prints a line that the program has printed."""
    (tmp_path / "table").write_bytes(pickle.dumps([0, 1, 4]))
    module = f"with open('imports', 'a') as file: file.write('x')\n{made}\n"
    (tmp_path / "data.py").write_text(module)
    main = """
    import data

    def task(n):
        return int(data.table[n])

    for _ in range(2):
        with Pool(2) as p:
            assert p.map(task, [0, 1]) == [0, 1]
    print(open("imports").read())
    """
    printed = "made\n" if "print" in made else ""
    assert run(library, tmp_path, main=main) == f"{printed}x\n"


def test_modules_that_are_objects(library: str, tmp_path: Path) -> None:
    """Only their class knows what is in them."""
    settings = """
    import sys

    class Settings:
        def __init__(self):
            self.debug = False

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return f"no {name}"

    sys.modules[__name__] = Settings()
    """
    lazy = """
    import sys, types

    option = "slow"

    class Lazy(types.ModuleType):
        @property
        def mode(self):
            return self.option * 2

    sys.modules[__name__].__class__ = Lazy
    """
    main = """
    import lazy, settings

    def task(n):
        return settings.debug, settings.other, lazy.mode

    settings.debug = True
    lazy.option = "fast"
    with Pool(1) as p:
        print(p.map(task, [1]))
    """
    assert run(library, tmp_path, settings=settings, lazy=lazy, main=main) == (
        "[(True, 'no other', 'fastfast')]\n"
    )


def test_modules_that_only_the_program_finds(library: str, tmp_path: Path) -> None:
    """A finder of its own makes them of files that Python does not know."""
    hooks = """
    import importlib.util, os, sys

    class Finder:
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if os.path.exists(f"{name}.conf"):
                return importlib.util.spec_from_file_location(name, f"{name}.conf", loader=cls)

        @staticmethod
        def create_module(spec):
            return None

        @staticmethod
        def exec_module(module):
            exec(open(module.__spec__.origin).read(), vars(module))

    sys.meta_path.append(Finder)
    """
    main = """
    import hooks, rules

    def task(n):
        return rules.limit + rules.twice(n)

    rules.limit += 1
    with Pool(1) as p:
        print(p.map(task, [1]), p.map(rules.twice, [4]))
    """
    (tmp_path / "rules.conf").write_text("limit = 10\ndef twice(n):\n    return 2 * n\n")
    assert run(library, tmp_path, hooks=hooks, main=main) == "[13] [8]\n"


def test_loggers_and_flags_of_packages(library: str, tmp_path: Path) -> None:
    """Stand-ins for loguru, absl, gin, h5py and others, which have what these have inside."""
    main = """
    import os, sys, types

    parent = os.getpid()

    class Logger:
        class _core:
            handlers, handlers_count, levels, extra = {1: sys.stdout}, 2, range(7), {}
            patcher = activation_list = None

    class Flags:
        def __getstate__(self):
            raise TypeError("no pickle")

        def is_parsed(self):
            return self.parsed

    def package(name, **names):
        module = sys.modules[name] = types.ModuleType(name)
        vars(module).update(names)
        return module

    which = sys.argv[1]
    if which == "loguru":
        package("loguru", logger=Logger())
    elif which == "h5py":
        class File:
            get_intent = lambda _: 1
        opened = [File()]
        kinds = {"OBJ_ALL": 31, "OBJ_FILE": 1, "ACC_RDWR": 1}
        package("h5py")
        package("h5py.h5f", get_obj_ids=lambda *_: opened, **kinds)
    elif which == "spacy":
        kind = type("Underscore", (), {f"{of}_extensions": {} for of in ("doc", "span", "token")})
        package("spacy")
        package("spacy.tokens")
        package("spacy.tokens.underscore", Underscore=kind).Underscore.doc_extensions["n"] = 1
    elif which == "QuantLib":
        chosen = package("QuantLib.QuantLib", Date=type("Date", (), {"todaysDate": lambda: 20}))
        chosen.Settings = type("Settings", (), {"instance": lambda: chosen})
        chosen.evaluationDate = 15
    elif which == "pint":
        registry = package("pint.registry", UnitRegistry=type("UnitRegistry", (), {}))
        units = registry.UnitRegistry()
    elif which == "time_machine":
        hatch = package("time_machine", escape_hatch=types.ModuleType("hatch")).escape_hatch
        hatch.is_travelling = lambda: True
        hatch.pid = os.getpid()
    elif which == "gin":
        package("gin")
        package("gin.config", _CONFIG={"scaled": {"factor": 7}})
    else:
        package("absl")
        flags = package("absl.flags", FLAGS=Flags())
        flags.FLAGS.parsed = True

    def task(n):
        if which == "gin":
            return sys.modules["gin.config"]._CONFIG["scaled"]
        if which == "absl":
            return sys.modules["absl.flags"].FLAGS.parsed
        if which == "spacy":
            return sys.modules["spacy.tokens.underscore"].Underscore.doc_extensions
        if which == "time_machine":
            return sys.modules["time_machine"].escape_hatch.pid == parent
        if which == "QuantLib":
            return sys.modules["QuantLib.QuantLib"].evaluationDate
        if which == "pint":
            return type(units) is sys.modules["pint.registry"].UnitRegistry
        if which == "h5py":
            return len(sys.modules["h5py.h5f"].get_obj_ids(31, 1))
        return list(sys.modules["loguru"].logger._core.handlers)

    with Pool(1) as p:
        print(p.map(task, [1]))
    """
    all_of = {
        "loguru": "[[1]]",
        "absl": "[True]",
        "gin": "[{'factor': 7}]",
        "h5py": "[1]",
        "spacy": "[{'n': 1}]",
    }
    all_of |= {"QuantLib": "[15]", "pint": "[True]", "time_machine": "[True]"}
    for name, expected in all_of.items():
        text = main.replace("sys.argv[1]", repr(name))
        assert run(library, tmp_path, main=text) == f"{expected}\n"
