"""Variables of the program's own modules hold in tasks as they were when the pool was made."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_as_fork as run

if TYPE_CHECKING:
    from pathlib import Path

as_forks = pytest.mark.parametrize("library", ["multiprocessing", "pool"])


CONFIG = """
    import argparse, collections, dataclasses, datetime, enum, logging, re, threading, typing

    class Mode(enum.Enum):
        SLOW = 1
        FAST = 2

    @dataclasses.dataclass
    class Options:
        depth: int = 1
        paths: list = dataclasses.field(default_factory=list)

    class Point(typing.NamedTuple):
        x: int
        y: int = 2

    MISSING = object()

    class Settings:
        def __init__(self):
            self.level = 1
            self.tags = []
            self.default = MISSING

    log = logging.getLogger(__name__)
    lock = threading.Lock()
    PATTERN = re.compile("a+")
    LIMIT: int = 3
    verbose = False
    mode = Mode.SLOW
    settings = Settings()
    options = Options()
    arguments = None
    space = argparse.Namespace(x=1)
    counts = collections.Counter()
    lists = collections.defaultdict(list)
    latest = collections.deque(maxlen=3)
    names = ["a"]
    alias = names
    apart = names
    seen = set()
    raw = bytearray(b"x")
    point = Point(1)
    when = None
    registry = {}

    def register(function):
        registry[function.__name__] = function
        return function

    def set_up(given):
        global arguments, verbose
        arguments = given
        verbose = True
"""

APP = """
    import config
    from config import MISSING, counts, names, options, register, settings

    class App:
        def __init__(self):
            self.settings = settings
            self.names = names
            self.runs = 0

    app = App()

    def by_default(table=names):
        return table is names

    @register
    def one(number):
        return number

    def look(number):
        c = config
        with c.lock:
            c.log.debug("looked")
        plain = (
            c.LIMIT, c.verbose, c.PATTERN.pattern, c.mode.name, c.mode is c.Mode(c.mode.value),
            vars(c.settings).keys(), c.settings.level, c.settings.tags, c.options, c.arguments,
            c.space, dict(c.counts), dict(c.lists), c.lists["new"], c.latest, c.names, c.apart,
            c.seen, c.raw, c.point, c.when, sorted(c.registry), app.runs, getattr(c, "added", None),
        )
        same = (
            settings is c.settings is app.settings, settings.default is MISSING is c.MISSING,
            names is c.names is c.alias is app.names, by_default(), c.apart is c.names,
            counts is c.counts, options is c.options, c.registry["one"] is one,
            type(options) is c.Options, type(c.point) is c.Point,
        )
        return repr((plain, same))
"""


@as_forks
def test_data_of_every_kind(library: str, tmp_path: Path) -> None:
    """What was changed is there, and what was one object is one."""
    extra = """
    import config

    @config.register
    def two(number):
        return 2 * number
    """
    main = """
    import argparse, datetime
    import config, app, extra

    def look_deeper(number):
        with Pool(1) as p:
            return p.map(app.look, [number])[0]

    with Pool(1) as p:
        (before,) = p.map(app.look, [1])
    here = app.look(1)
    print(before == here)
    config.set_up(argparse.Namespace(path="p", given={"k": (1, 2)}))
    config.LIMIT, config.mode, config.point = 7, config.Mode.FAST, config.Point(4, 5)
    config.when, config.added = datetime.date(2020, 1, 2), frozenset({"new"})
    config.settings.level = 5
    config.settings.tags.append("t")
    config.options.paths.append("here")
    config.space.x, config.space.y = 2, 3
    config.counts.update("aab")
    config.lists["k"].append(1)
    config.latest.extend(range(5))
    config.names.append("b")
    config.apart = ["b"]
    config.seen.add(4)
    config.raw += b"y"
    app.app.runs = 9
    here = app.look(1)
    with Pool(1) as p:
        (after,) = p.map(app.look, [1])
        print(after == here, after != before)
        if multiprocessing.__name__ == "pool":
            print(p.map(look_deeper, [1]) == [here])
        config.LIMIT = 8
        print(p.map(app.look, [1]) == [here])  # it is that of the moment the pool was made
    """
    expected = "True\nTrue True\n" + ("True\n" if library == "pool" else "") + "True\n"
    assert run(library, tmp_path, config=CONFIG, app=APP, extra=extra, main=main) == expected


@as_forks
def test_attributes_of_classes(library: str, tmp_path: Path) -> None:
    config = """
    import abc, threading

    class Config:
        DEBUG = False
        paths = []
        lock = threading.Lock()
        instance = None

        def __init__(self):
            self.level = 1

        @classmethod
        def get(cls):
            if cls.instance is None:
                cls.instance = cls()
            return cls.instance

        @property
        def twice(self):
            return 2 * self.level

    class Plugin(abc.ABC):
        registry = {}

        def __init_subclass__(cls):
            Plugin.registry[cls.__name__] = cls

        @abc.abstractmethod
        def run(self):
            return 1

    class One(Plugin):
        def run(self):
            return 2

    class Broken:
        ready = False
        connection = None

        @classmethod
        def connect(cls):
            cls.connection = open("connection", "w")
            cls.ready = True

    paths = Config.paths

    def look(number):
        with Config.lock:
            return (
                Config.DEBUG, Config.paths, paths is Config.paths, Config.get().level,
                Config.get().twice, list(Plugin.registry), Plugin.registry["One"] is One,
                One().run(), hasattr(Config, "extra") and Config.extra,
            )

    def broken(number):
        return Broken.ready, Broken.connection is None
    """
    main = """
    import config
    config.Config.DEBUG = True
    config.Config.extra = {"a": config.Config}
    config.Config.paths.append("p")
    config.Config.get().level = 5

    with Pool(1) as p:
        print(p.map(config.look, [1]) == [config.look(1)])
    config.Broken.connect()
    with Pool(1) as p:
        print(p.map(config.broken, [1]))
    """
    assert run(library, tmp_path, config=config, main=main) == "True\n[(True, False)]\n"


@as_forks
def test_classes_that_are_attributes_of_classes(library: str, tmp_path: Path) -> None:
    models = """
    import collections

    class Slow:
        pass

    class Fast:
        pass

    def make():
        class Made:
            pass

        return Made

    class Model:
        class Meta:
            level = 1

        backend = table = Slow
        made = make()
        mine = None

    class Other:
        class Meta:
            pass

        Meta.level = 2

    def look(number):
        return (
            Model.backend is Fast, Model.table is collections.OrderedDict, Model.mine().__class__
            is Model.mine, Model.mine.__name__, Model.made().__class__.__name__, Model.Meta.level,
            Other.Meta is Model.Meta, Model.late is Slow,
        )
    """
    main = """
    import collections
    import models

    class Mine(models.Slow):
        pass

    def choose(model, backend):
        model.backend = backend
        model.mine = Mine
        setattr(model, "late", models.Slow)

    choose(models.Model, models.Fast)
    models.Model.table = collections.OrderedDict
    models.Other.Meta = models.Model.Meta

    def is_same(number):
        return models.Model.mine is Mine

    with Pool(1) as p:
        print(p.map(models.look, [1]) == [models.look(1)], p.map(is_same, [1]))
    """
    assert run(library, tmp_path, models=models, main=main) == "True [True]\n"


@as_forks
def test_attributes_of_functions_and_counters(library: str, tmp_path: Path) -> None:
    """What functions have been given, and how far numbers have been drawn."""
    ids = """
    import functools, itertools

    numbers = itertools.count(1)

    def counted(function):
        @functools.wraps(function)
        def inner(*args):
            inner.calls += 1
            inner.seen.append(args)
            return function(*args)
        inner.calls = 0
        inner.seen = []
        inner.reset = lambda: None
        return inner

    class Ticket:
        _ids = itertools.count(10, 5)

        def __init__(self):
            self.number = next(self._ids), next(numbers)

    @counted
    def shout(text):
        return text.upper() if shout.loud else text

    shout.loud = False
    """
    main = """
    import ids

    def task(n):
        return ids.Ticket().number, ids.shout("a"), ids.shout.calls, ids.shout.seen

    print(ids.Ticket().number, ids.Ticket().number, ids.shout("b"))
    ids.shout.loud = True
    with Pool(1) as p:
        print(p.map(task, [1]), p.map(task, [1]))
    """
    assert run(library, tmp_path, ids=ids, main=main) == (
        "(10, 1) (15, 2) b\n"
        "[((20, 3), 'A', 2, [('b',), ('a',)])] [((25, 4), 'A', 3, [('b',), ('a',), ('a',)])]\n"
    )


@as_forks
def test_context_variables(library: str, tmp_path: Path) -> None:
    """What the program has set them to, in any module, until a task sets them."""
    request = """
    import contextvars

    ident = contextvars.ContextVar("ident", default="none")
    user = contextvars.ContextVar("user")
    unset = contextvars.ContextVar("unset")
    number = contextvars.ContextVar("number", default=0)

    def begin():
        user.set("of the initializer")

    def next_number():
        number.set(number.get() + 1)
        return ident.get(), number.get()
    """
    main = """
    import contextvars
    import request
    from request import unset, user

    level = contextvars.ContextVar("level", default=1)
    other = contextvars.ContextVar("other", default="default")
    request.ident.set("r1")
    request.number.set(5)
    user.set("of the program")
    level.set(42)

    def modules(n):
        return request.next_number(), user is request.user, user.get(), unset.get("nothing")

    def raised(n):
        level.set(level.get() + 1)
        return level.get(), other.get(), other.name

    with Pool(1) as p:
        print(p.map(modules, [1]), p.map(modules, [1]))
        print(p.map(raised, [1]), p.apply(raised, (1,)))
    with Pool(1, request.begin) as p:
        print(p.map(modules, [1]))
    print(level.get(), request.number.get())
    """
    assert run(library, tmp_path, request=request, main=main) == (
        "[(('r1', 6), True, 'of the program', 'nothing')]"
        " [(('r1', 7), True, 'of the program', 'nothing')]\n"
        "[(43, 'default', 'other')] (44, 'default', 'other')\n"
        "[(('r1', 6), True, 'of the initializer', 'nothing')]\n"
        "42 5\n"
    )


@as_forks
def test_classes_that_derive_from_one_of_a_module(library: str, tmp_path: Path) -> None:
    """Those of the main module, and of modules that the program has imported for them alone."""
    shapes = """
    class Shape:
        @classmethod
        def kinds(cls):
            return [kind.__name__ for kind in cls.__subclasses__()]
    """
    plugins = """
    from shapes import Shape

    class Circle(Shape):
        pass
    """
    main = """
    import shapes
    import plugins

    class Square(shapes.Shape):
        pass

    def task(n):
        return shapes.Shape.kinds()

    with Pool(1) as p:
        print(p.map(task, [1]), p.apply(shapes.Shape.kinds))
    """
    assert run(library, tmp_path, shapes=shapes, plugins=plugins, main=main) == (
        "[['Circle', 'Square']] ['Circle', 'Square']\n"
    )


@as_forks
def test_hooks_of_modules_register_classes_once(library: str, tmp_path: Path) -> None:
    base = """
    class Base:
        names = []

        def __init_subclass__(cls):
            Base.names.append(cls.__name__)

    class Meta(type):
        names = []

        def __new__(meta, name, bases, space):
            made = super().__new__(meta, name, bases, space)
            meta.names.append(name)
            return made

    class Named(metaclass=Meta):
        pass
    """
    main = """
    import base

    class One(base.Base):
        pass

    class Two(base.Named):
        pass

    def look(number):
        return One, Two, base.Base.names, base.Meta.names

    def by_base(number):
        return One.names, type(Two).names

    for task in (look, by_base):
        with Pool(1) as p:
            print(p.map(task, [1, 2]) == [task(1), task(2)])
    """
    assert run(library, tmp_path, base=base, main=main) == "True\nTrue\n"


@as_forks
def test_a_program_that_is_installed(library: str, tmp_path: Path) -> None:
    """By `pip install .`, as in a container; its main module is a script of two lines."""
    package = tmp_path / "site-packages" / "installed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "config.py").write_text("limit = 1\n\nclass Model:\n    scale = 1\n")
    cli = f"""
        from {library} import Pool
        from . import config

        factor = 1

        def scaled(x):
            return x * factor * config.limit * config.Model.scale

        def main():
            global factor
            factor = config.limit = config.Model.scale = 10
            with Pool(1) as p:
                print(p.map(scaled, [1, 2]))
        """
    (package / "cli.py").write_text(textwrap.dedent(cli))
    main = """
        import sys
        sys.path.append("site-packages")
        from installed.cli import main

        if __name__ == "__main__":
            for _ in range(2):  # of which all modules have been looked at before
                with Pool(1) as p:
                    p.map(abs, [1])
            sys.exit(main())
        """
    assert run(library, tmp_path, main=main) == "[1000, 2000]\n"


@as_forks
def test_what_tasks_have_changed_stays(library: str, tmp_path: Path) -> None:
    """Though another module that has imported it by name is imported later."""
    state = """
    STATE = {}
    KNOWN = []

    def set_state(value):
        STATE["value"] = value
        KNOWN.append(value)
    """
    user = """
    from state import KNOWN, STATE
    import state
    LIMIT = 1

    def look(number):
        return STATE, KNOWN, STATE is state.STATE, LIMIT
    """
    main = """
    import user, state
    user.LIMIT = 2
    state.KNOWN.append(0)
    with Pool(1, state.set_state, (5,)) as p:
        print(p.map(user.look, [1]))
    """
    expected = "[({'value': 5}, [0, 5], True, 2)]\n"
    assert run(library, tmp_path, state=state, user=user, main=main) == expected


@as_forks
def test_functions_that_were_replaced(library: str, tmp_path: Path) -> None:
    work = """
    def fetch(number):
        return "real", number

    def load(number):
        return fetch(number)
    """
    main = """
    import unittest.mock
    import work

    prefix = "fake"

    def fetch(number):
        return prefix, number

    with unittest.mock.patch("work.fetch", fetch), Pool(1) as p:
        print(p.map(work.load, [1]))
    with unittest.mock.patch("work.fetch", lambda number: (prefix, -number)), Pool(1) as p:
        print(p.map(work.load, [1]))
    with Pool(1) as p:
        print(p.map(work.load, [1]))
    """
    expected = "[('fake', 1)]\n[('fake', -1)]\n[('real', 1)]\n"
    assert run(library, tmp_path, work=work, main=main) == expected


@as_forks
def test_what_an_import_makes_is_made_again(library: str, tmp_path: Path) -> None:
    """It cannot be sent, or need not; what else the module has is sent all the same."""
    work = """
    import functools, logging, os, random, socket, threading
    from concurrent.futures import ThreadPoolExecutor

    log = logging.getLogger(__name__)
    lock = threading.Lock()
    local = threading.local()
    connection, other = socket.socketpair()
    file = open(os.devnull)
    generator = random.Random(1)
    threads = ThreadPoolExecutor(1)
    handlers = {"lock": threading.Lock(), "add": lambda number: number + 1}
    half = functools.partial(int, base=2)
    LIMIT = 1

    @functools.lru_cache
    def cached(number):
        return number

    def look(number):
        connection.send(b"1")
        assert other.recv(1) == b"1"
        return LIMIT, handlers["add"](1), half("11"), cached(4), file.closed, generator.random() < 1
    """
    main = """
    import work
    work.LIMIT = 2
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    """
    assert run(library, tmp_path, work=work, main=main) == "[(2, 2, 3, 4, False, True)]\n"


@as_forks
def test_containers_of_classes_of_modules(library: str, tmp_path: Path) -> None:
    """Their items are no attributes; `AttrDict` is in many programs."""
    config = """
    import collections

    class AttrDict(dict):
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__

    class Names(list):
        pass

    class Ordered(collections.OrderedDict):
        pass

    class Tags(set):
        pass

    options, names, ordered, tags = AttrDict(a=1), Names("ab"), Ordered(x=1, y=2), Tags("c")
    """
    main = """
    import config
    from config import names, options, ordered, tags

    options.b = 2
    ordered.move_to_end("x")

    def task(_):
        return options.a, options.b, names, list(ordered), tags == {"c"}, config.options

    if __name__ == "__main__":
        with Pool(1) as p:
            print(p.map(task, [0]))
    """
    assert run(library, tmp_path, config=config, main=main) == (
        "[(1, 2, ['a', 'b'], ['y', 'x'], True, {'a': 1, 'b': 2})]\n"
    )


@as_forks
def test_instances_with_items_or_slots(library: str, tmp_path: Path) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "nodes.py").write_text(
        textwrap.dedent(
            """
            class Node(dict):
                def __getattr__(self, name):
                    return self[name]

                def __setattr__(self, name, value):
                    self[name] = value

                def __getstate__(self):
                    return dict(self)

                def __setstate__(self, state):
                    self.update(state)
            """
        )
    )
    config = """
    import collections, dataclasses
    from nodes import Node

    class Registry(dict):
        def __init__(self):
            self.order = []

        def __setitem__(self, name, value):
            self.order.append(name)
            super().__setitem__(name, value)

    class Names(list):
        __slots__ = ("first",)

    @dataclasses.dataclass(slots=True)
    class Options:
        depth: int
        late: object = None

    _node = Node()
    _node.size = 1
    node = _node
    registry = Registry()
    registry["a"] = Options(1)
    names = Names()
    options = registry["a"]
    unset = Options(2)
    user = collections.UserDict(a=1)
    chain = collections.ChainMap({}, {"x": 0})

    def update(node, size):
        node.size = size

    def load():
        registry["b"] = options
        names.append("n")
        names.first = names
        options.depth = 3
        options.late = Options(5, options)
        del unset.late
        user["b"] = 2
        chain["x"] = 3
    """
    work = """
    import config
    from config import node, registry

    def look(number):
        options = config.options
        return (
            node.size, node is config._node, dict(registry), registry.order,
            registry["a"] is registry["b"] is options, options.late.late is options,
            options.depth, list(config.names), config.names.first is config.names,
            hasattr(config.unset, "late"), config.user, config.chain,
        )
    """
    main = """
    import sys
    sys.path.append("site-packages")
    import config, work
    from config import node, update

    def look(number):
        return repr(work.look(number))

    update(node, 5)
    config.load()
    with Pool(1) as p:
        print(p.map(look, [1]) == [look(1)])
    """
    assert run(library, tmp_path, config=config, work=work, main=main) == "True\n"


@as_forks
def test_objects_of_imports_that_were_replaced(library: str, tmp_path: Path) -> None:
    """What a module has made as it was imported, and the program has put another one in place."""
    config = """
    import functools, operator
    from pathlib import Path
    import numpy as np

    class Slots:
        __slots__ = ("value",)

        def __init__(self, value):
            self.value = value

    out = Path("out")
    folders = {"in": Path("in")}
    slots = Slots(1)
    shared = Slots(1)
    weights = np.zeros(2)
    key = operator.itemgetter(0)
    number = functools.partial(int, base=2)
    made = {"a": Slots(1)}
    """
    other = """
    from config import shared, slots
    """
    main = """
    import functools, operator
    from pathlib import Path
    import numpy as np
    import config, other

    config.out = Path("mine")
    config.folders["in"] = Path("here")
    config.slots = config.Slots(2)
    other.shared = config.shared = config.Slots(3)
    config.weights = np.ones(3)
    config.key = operator.itemgetter(1)
    config.number = functools.partial(int, base=3)
    config.made["b"] = config.Slots(4)

    def task(_):
        return (
            str(config.out), str(config.folders["in"]), config.slots.value, other.slots.value,
            config.shared.value, other.shared.value, config.weights.tolist(),
            config.key("ab"), config.number("11"), sorted(config.made),
        )

    if __name__ == "__main__":
        with Pool(2) as p:
            print(p.map(task, range(2))[1])
    """
    assert run(library, tmp_path, config=config, other=other, main=main) == (
        "('mine', 'here', 2, 1, 3, 3, [1.0, 1.0, 1.0], 'b', 4, ['a', 'b'])\n"
    )


@as_forks
def test_large_arrays_that_were_replaced_or_changed(library: str, tmp_path: Path) -> None:
    config = """
    import numpy as np

    weights = np.zeros(2)
    table = np.zeros(100_000)
    """
    main = """
    import numpy as np
    import config

    def task(_):
        return config.weights.sum(), config.table.sum()

    if __name__ == "__main__":
        config.weights = np.ones(100_000)
        with Pool(1) as p:
            print(p.apply(task, (0,)))
        config.table[:] = 2
        with Pool(1) as p:
            print(p.apply(task, (0,)))
    """
    assert run(library, tmp_path, config=config, main=main) == (
        "(np.float64(100000.0), np.float64(0.0))\n(np.float64(100000.0), np.float64(200000.0))\n"
    )


def test_what_methods_do_to_objects_of_imports(tmp_path: Path) -> None:
    """Objects stay complete; `add` of what is no container is no reason to fork the program."""
    state = """
    import os, threading

    class Registry:
        def __init__(self, name):
            self.name = name
            self.items = []

        def use(self, item):
            self.items.append(item)

        def __reduce__(self):
            return Registry, (self.name,)

    class Frame:
        __slots__ = ("_cells",)

        def __init__(self):
            self._cells = [1, 2]

        @property
        def cells(self):
            return self._cells

    class Session:
        def __init__(self):
            self.lock = threading.Lock()
            self.process = os.getpid()

        def add(self, item):
            pass

    registry = Registry("r")
    registry.use("one")
    frame = Frame()
    session = Session()

    def task(_):
        return registry.items, frame.cells, session.process == os.getppid()
    """
    main = """
    import os, state
    from state import registry, session

    registry.use("two")
    state.frame.cells[0] = 5
    session.add(3)
    state.session.add(3)

    def task(parent):
        return *state.task(0)[:2], state.session.process == parent

    if __name__ == "__main__":
        with Pool(2) as p:
            print(p.map(state.task, [0])[0][:2], p.map(task, [os.getpid()])[0][2])
    """
    assert run("pool", tmp_path, state=state, main=main) == "(['one'], [5, 2]) False\n"


@as_forks
def test_what_cannot_be_sent_is_inherited(library: str, tmp_path: Path) -> None:
    """A part of a module is not sent without the other: the parts belong together."""
    work = """
    import threading

    _ready = False
    _connection = None
    _table = {}
    _lines = []

    def connect():
        global _ready, _connection
        _ready = True
        _connection = threading.Thread(target=print)

    def fill():
        _table.update((number, str(number)) for number in range(100_000))
        _lines.append(1)

    def look(number):
        return _ready, _connection is None, len(_table), len(_lines)
    """
    main = """
    import work
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    work.connect()
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    work._ready, work._connection = False, None
    work.fill()
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    """
    assert run(library, tmp_path, work=work, main=main) == (
        "[(False, True, 0, 0)]\n[(True, False, 0, 0)]\n[(False, True, 100000, 1)]\n"
    )


@as_forks
def test_what_was_loaded_once(library: str, tmp_path: Path) -> None:
    """A model and a table that the program has loaded into a module, for all tasks."""
    state = """
    model = None
    rng = None
    table = None
    seen = {}

    def load(model_):
        global model
        model = model_

    def predict(x):
        return model.predict(x), rng.integers(1000), type(seen).__name__
    """
    other = """
    import state
    same = None

    def total(i):
        return int(state.table[i].sum()), same is state.table
    """
    own = """
    class Model:
        __slots__ = ("slope",)

        def __init__(self, slope):
            self.slope = slope

        def predict(self, x):
            return self.slope * x

    class Seen(dict):
        pass
    """
    main = """
    import numpy as np
    import other, own, state

    state.load(own.Model(3))
    state.rng = np.random.default_rng(7)
    state.seen = own.Seen(a=1)
    if __name__ == "__main__":
        with Pool(2) as p:
            print([tuple(map(str, p.apply(state.predict, (2,)))) for _ in range(2)][0])
        state.table = other.same = np.ones((2, 1_000_000))
        with Pool(2) as p:
            print(p.map(other.total, [0, 1]), p.apply(state.predict, (5,))[0])
    """
    printed = run(library, tmp_path, state=state, other=other, own=own, main=main)
    assert printed == "('6', '944', 'Seen')\n[(1000000, True), (1000000, True)] 15\n"


@as_forks
def test_objects_of_imports_that_were_changed(library: str, tmp_path: Path) -> None:
    """What a module has made as it was imported, and the program has filled, trained or set."""
    state = """
    import collections, threading
    import numpy as np

    class Scaler:
        __slots__ = ("mean", "__dict__")

        def fit(self, items):
            self.mean = sum(items) / len(items)

        def __getstate__(self):
            return {"mean": getattr(self, "mean", None)}

        def __setstate__(self, state):
            self.mean = state["mean"]

    class Options:
        depth = 1

        def __getstate__(self):
            return dict(vars(self))

    class Table(dict):
        pass

    class Names(list):
        def __init__(self):
            self.title = ""

    class Locked:
        def __init__(self):
            self.lock = threading.Lock()
            self.depth = 1

        def look(self):
            with self.lock:
                return self.depth

    scaler = Scaler()
    options = Options()
    table = Table()
    names = Names()
    array = np.zeros(3)
    locked = Locked()
    untouched = Locked()
    """
    user = """
    from state import array, locked, names, options, scaler, table, untouched

    def task(x):
        return (
            x - scaler.mean, options.depth, dict(table), list(names), names.title,
            array.tolist(), untouched.look(),
        )

    def locked_depth(x):
        return locked.look()
    """
    main = """
    import state, user
    from state import names

    def set_up():
        state.scaler.fit([1, 3])
        state.options.depth = 3
        state.table["a"] = 1
        names.append("n")
        names.title = "t"
        state.array[1] = 5
        state.untouched.look()

    set_up()
    with Pool(2) as p:
        print(p.map(user.task, range(2))[1])
    state.locked.depth = 4
    with Pool(2) as p:
        print(p.map(user.locked_depth, range(2))[1])
    """
    assert run(library, tmp_path, state=state, user=user, main=main) == (
        "(-1.0, 3, {'a': 1}, ['n'], 't', [0.0, 5.0, 0.0], 1)\n4\n"
    )


@as_forks
def test_such_objects_in_workers_that_import_their_module(library: str, tmp_path: Path) -> None:
    """Nothing here has the pool fork the program: all of it can be sent."""
    state = """
    class Scaler:
        __slots__ = ("mean", "__dict__")

        def fit(self, items):
            self.mean = sum(items) / len(items)

        def __getstate__(self):
            return {"mean": getattr(self, "mean", None)}

        def __setstate__(self, state):
            self.mean = state["mean"]

    class Options:
        depth = 1

        def __getstate__(self):
            return dict(vars(self))

    class Table(dict):
        pass

    class Names(list):
        def __init__(self):
            self.title = ""

        def __getstate__(self):
            return dict(vars(self))

    scaler = Scaler()
    options = Options()
    table = Table()
    names = Names()
    """
    user = """
    from state import names, options, scaler, table

    def is_fork():
        with open("/proc/self/cmdline") as file:
            return "-c" not in file.read().split("\\0")

    def task(x):
        return x - scaler.mean, options.depth, dict(table), list(names), names.title

    def find(x):
        return [scaler, options, names]
    """
    main = """
    import state, user
    from state import names

    def set_up():
        state.scaler.fit([1, 3])
        state.options.depth = 3
        state.table["a"] = 1
        names.append("n")
        names.title = "t"

    set_up()
    with Pool(2) as p:
        print(p.map(user.task, range(2))[1])
        print([type(one) is kind for one, kind in zip(
            p.apply(user.find, (1,)), [state.Scaler, state.Options, state.Names]
        )])
        print(p.apply(user.is_fork))
    """
    assert run(library, tmp_path, state=state, user=user, main=main) == (
        f"(-1.0, 3, {{'a': 1}}, ['n'], 't')\n[True, True, True]\n{library == 'multiprocessing'}\n"
    )


@as_forks
def test_objects_that_functions_of_their_own_module_change(library: str, tmp_path: Path) -> None:
    """There they have no other name than that of the variable; or they belong to a class."""
    state = """
    import collections, random

    class Scaler:
        mean = None

        def __getstate__(self):
            return dict(vars(self))

        def fit(self, items):
            self.mean = sum(items) / len(items)

    class Recent(collections.OrderedDict):
        pass

    class Model:
        rng = random.Random(5)
        scaler: Scaler = Scaler()
        kept = Scaler()

        @classmethod
        def draw(cls):
            return cls.rng.random()

    rng = random.Random(1)
    scaler: Scaler = Scaler()
    recent = Recent()

    def set_up(n):
        rng.seed(n)
        if n:
            scaler.fit([1, n])
        recent["a"] = n
        Model.rng.seed(n)

    def task(x):
        drawn = [round(number, 6) for number in (rng.random(), Model.draw())]
        return drawn, list(recent.items()), scaler.mean, Model.scaler.mean, Model.kept.mean
    """
    main = """
    import state
    from state import Model

    state.set_up(7)
    Model.scaler.fit([2, 4])
    Model.kept = state.Scaler()
    Model.kept.mean = 9
    with Pool(1) as p:
        print(p.apply(state.task, (1,)))
    """
    printed = run(library, tmp_path, state=state, main=main)
    assert printed == "([0.323833, 0.323833], [('a', 7)], 4.0, 3.0, 9)\n"


@as_forks
def test_objects_that_nobody_has_changed_keep_what_they_share(library: str, tmp_path: Path) -> None:
    """Though a function of the module calls their methods."""
    state = """
    class Table:
        pass

    class Tables:
        def __init__(self, *tables):
            self.tables = tables

        def __getstate__(self):
            return dict(vars(self))

        def check(self):
            return self.tables

    table = Table()
    tables = Tables(table)

    class Base:
        tables = Tables(table)

    def check():
        tables.check()
        Base.tables.check()

    def task(x):
        check()
        return tables.tables[0] is table, Base.tables.tables[0] is table
    """
    main = """
    import state

    state.check()
    with Pool(1) as p:
        print(p.apply(state.task, (1,)))
    """
    assert run(library, tmp_path, state=state, main=main) == "(True, True)\n"


@as_forks
def test_objects_that_nobody_has_changed_in_workers_that_import_them(
    library: str, tmp_path: Path
) -> None:
    """They keep what they share, and are of the program's classes when they come back."""
    state = """
    class Table:
        pass

    class Tables:
        def __init__(self, *tables):
            self.tables = tables

        def __getstate__(self):
            return dict(vars(self))

        def check(self):
            return self.tables

    table = Table()
    tables = Tables(table)

    def check():
        tables.check()

    def task(x):
        return tables.tables[0] is table, tables, Table()
    """
    main = """
    import state

    state.check()
    with Pool(1) as p:
        shared, tables, table = p.apply(state.task, (1,))
    print(shared, isinstance(tables, state.Tables), type(table) is state.Table)
    """
    assert run(library, tmp_path, state=state, main=main) == "True True True\n"


@as_forks
def test_settings_with_slots_and_a_state_of_their_own(library: str, tmp_path: Path) -> None:
    """As pydantic's are; other modules have imported the object by name."""
    state = """
    class Model:
        __slots__ = ("__dict__", "fields_set")

        def __init__(self):
            object.__setattr__(self, "fields_set", set())

        def __setattr__(self, name, value):
            self.__dict__[name] = value
            self.fields_set.add(name)

        def __getstate__(self):
            return {"values": self.__dict__, "fields_set": self.fields_set}

        def __setstate__(self, state):
            object.__setattr__(self, "__dict__", state["values"])
            object.__setattr__(self, "fields_set", state["fields_set"])

    class Settings(Model):
        debug = False

    settings = Settings()
    """
    user = """
    from state import settings

    def task(x):
        return settings.debug, settings.fields_set
    """
    main = """
    import state, user

    state.settings.debug = True
    with Pool(2) as p:
        print(p.map(user.task, range(2))[1])
    """
    assert run(library, tmp_path, state=state, user=user, main=main) == "(True, {'debug'})\n"


@as_forks
def test_objects_that_are_pickled_as_names(library: str, tmp_path: Path) -> None:
    state = """
    import functools

    class Mark:
        def __reduce__(self):
            return "MARK"

        def show(self):
            pass

    MARK = Mark()
    MARK.level = 2

    @functools.lru_cache
    def double(x):
        return 2 * x

    def look(x):
        return double(x), double.__name__, double.__wrapped__(x), MARK.level
    """
    main = """
    import state

    state.double.cache_clear()
    state.MARK.show()
    with Pool(1) as p:
        print(p.map(state.look, [1]))
    """
    assert run(library, tmp_path, state=state, main=main) == "[(2, 'double', 2, 2)]\n"


@as_forks
def test_modules_that_import_each_other(library: str, tmp_path: Path) -> None:
    first = """
    import second
    OWN = {"a": 1}

    class Thing:
        number = 1

    thing = Thing()
    """
    second = """
    import first
    known = []

    def look(number):
        return first.OWN, [one is first.thing for one in known], first.thing.number
    """
    main = """
    import first, second
    first.OWN["b"] = 2
    second.known.append(first.thing)
    first.thing.number = 5
    with Pool(1) as p:
        print(p.map(second.look, [1]))
    """
    expected = "[({'a': 1, 'b': 2}, [True], 5)]\n"
    assert run(library, tmp_path, first=first, second=second, main=main) == expected


@as_forks
def test_a_module_that_only_tasks_import(library: str, tmp_path: Path) -> None:
    """And one whose import failed at first."""
    late = """
    import early
    early.order.append("late")
    seen = early.LIMIT
    """
    early = """
    LIMIT = 1
    order = []

    def look(number):
        import late
        return LIMIT, order, late.seen
    """
    main = """
    import early
    early.LIMIT = 2
    early.order.append("main")
    with Pool(1) as p:
        print(p.map(early.look, [1]))
    """
    expected = "[(2, ['main', 'late'], 2)]\n"
    assert run(library, tmp_path, late=late, early=early, main=main) == expected


def test_only_pools_that_are_like_forks_have_them(tmp_path: Path) -> None:
    """Workers of the standard's other start methods have what the import leaves."""
    work = """
    LIMIT = 1

    def look(number):
        return LIMIT
    """
    main = """
    import work
    work.LIMIT = 2
    for method in (None, "fork", "forkserver", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as p:
            print(method, p.map(work.look, [1]))
    """
    expected = "None [2]\nfork [2]\nforkserver [1]\nspawn [1]\n"
    assert run("pool", tmp_path, work=work, main=main) == expected


@as_forks
def test_what_imports_do_is_not_done_twice(library: str, tmp_path: Path) -> None:
    """A plugin that a worker imports later has registered itself in the program already."""
    registry = """
    from collections import defaultdict

    NAMES = {}
    hooks = defaultdict(list)
    count = 0

    def register(name):
        global count
        if name in NAMES:
            raise ValueError(f"{name} is there already")
        NAMES[name] = "of " + name
        hooks["start"].append(name)
        count += 1
    """
    plugin = """
    import registry
    registry.register("plugin")

    def look(number):
        return registry.NAMES, dict(registry.hooks), registry.count
    """
    main = """
    import plugin, registry

    def count(number):
        return registry.count

    def look(number):
        return registry.NAMES, plugin.look(number)

    registry.count += 10
    with Pool(1) as p:
        print(p.map(count, [1]), p.map(look, [1]))
    registry.NAMES["other"] = "by hand"
    with Pool(1) as p:
        print(p.map(count, [1]), p.map(look, [1]))
    """
    names, hooks = {"plugin": "of plugin"}, {"start": ["plugin"]}
    expected = f"[11] {[(names, (names, hooks, 11))]}\n"
    names["other"] = "by hand"
    expected += f"[11] {[(names, (names, hooks, 11))]}\n"
    assert run(library, tmp_path, registry=registry, plugin=plugin, main=main) == expected


@as_forks
def test_imports_see_what_an_initializer_has_set(library: str, tmp_path: Path) -> None:
    config = """
    URL = "default"
    LIMIT = 1

    def set_up(url):
        global URL
        URL = url
    """
    late = """
    import config
    seen = config.URL, config.LIMIT
    """
    main = """
    import config

    def look(number):
        import late
        return late.seen, config.LIMIT

    config.LIMIT = 2
    with Pool(1, config.set_up, ("initializer",)) as p:
        print(p.map(look, [1]))
    """
    expected = "[(('initializer', 2), 2)]\n"
    assert run(library, tmp_path, config=config, late=late, main=main) == expected


@as_forks
def test_threads_of_a_task_do_not_see_what_imports_see(library: str, tmp_path: Path) -> None:
    state = "number = 0\n"
    slow = """
    import time
    import state
    time.sleep(0.1)
    """
    main = """
    import threading
    import slow, state

    def look(_):
        seen, done = set(), threading.Event()

        def watch():
            seen.add(state.number)
            while not done.wait(0.001):
                seen.add(state.number)

        thread = threading.Thread(target=watch)
        thread.start()
        import slow  # a worker has not imported it yet
        done.set()
        thread.join()
        return seen

    state.number = 7
    with Pool(1) as p:
        print(p.map(look, [1]))
    """
    assert run(library, tmp_path, state=state, slow=slow, main=main) == "[{7}]\n"


@as_forks
def test_what_was_not_changed_is_the_same_object(library: str, tmp_path: Path) -> None:
    """Constants are compared by `is`, and defaults have them."""
    work = """
    import typing

    class Pair(typing.NamedTuple):
        first: int

    MISSING, PAIR, ERROR, NAN = "<missing>", Pair(1), KeyError("none"), float("nan")
    MARK = ("mark", 1)
    kept = [MARK]
    LIMIT = 1

    def look(number, given=(MISSING, PAIR, ERROR, NAN, MARK)):
        now = MISSING, PAIR, ERROR, NAN, MARK
        return LIMIT, all(one is other for one, other in zip(given, now)), kept[0] is MARK
    """
    main = """
    import work
    work.LIMIT = 2
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    """
    assert run(library, tmp_path, work=work, main=main) == "[(2, True, True)]\n"


@as_forks
def test_objects_that_were_replaced_where_others_have_the_first(
    library: str, tmp_path: Path
) -> None:
    config = """
    from collections import defaultdict, deque
    table = {}
    names = []
    latest = deque(maxlen=2)
    lists = defaultdict(int)

    def look(number):
        import app
        same = app.table is table, app.names is names
        return table, names, app.table, app.names, same, latest, lists["new"]
    """
    app = """
    import config
    from config import names, table

    def look(number):
        return config.look(number)
    """
    main = """
    from collections import defaultdict, deque
    import app, config
    config.table, config.names = {"new": 1}, []
    config.latest, config.lists = deque(range(5), maxlen=9), defaultdict(list)
    app.table["old"] = 1
    with Pool(1) as p:
        print(p.map(config.look, [1]) == [config.look(1)])
    with Pool(1) as p:
        print(p.map(app.look, [1]) == [config.look(1)])
    """
    assert run(library, tmp_path, config=config, app=app, main=main) == "True\nTrue\n"


@as_forks
def test_instances_that_have_to_be_set_up(library: str, tmp_path: Path) -> None:
    """A class may have a `__getattr__` that needs an attribute, and metaclasses that raise."""
    work = """
    class Proxy:
        def __init__(self, target):
            self.target = target

        def __getattr__(self, name):
            return getattr(self.target, name)

    class Target:
        number = 1

    class Meta(type):
        def __getattribute__(cls, name):
            if name == "__module__":
                raise RuntimeError("not for you")
            return super().__getattribute__(name)

    class Odd(metaclass=Meta):
        pass

    odd = Odd()
    proxies = []
    LIMIT = 1

    def look(number):
        return [proxy.number for proxy in proxies], LIMIT
    """
    main = """
    import work
    work.proxies.append(work.Proxy(work.Target()))
    work.LIMIT = 2
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    """
    assert run(library, tmp_path, work=work, main=main) == "[([1], 2)]\n"


def test_modules_that_were_edited_are_not_stale(tmp_path: Path) -> None:
    """Nor a mixture of old variables and new functions, until the program has them anew too."""
    work = """
    LIMIT = 1
    TABLE = {"a": 1}

    def look(number):
        return LIMIT, TABLE
    """
    main = """
    import importlib, pathlib, time
    import work
    work.LIMIT = 2
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    file = pathlib.Path("work.py")
    text = file.read_text().replace("LIMIT = 1", "LIMIT = 10")
    file.write_text(text.replace("LIMIT,", "'new', LIMIT,"))
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    importlib.reload(work)
    work.TABLE["b"] = 2
    with Pool(1) as p:
        print(p.map(work.look, [1]))
    """
    expected = "[(2, {'a': 1})]\n[('new', 10, {'a': 1})]\n[('new', 10, {'a': 1, 'b': 2})]\n"
    assert run("pool", tmp_path, work=work, main=main) == expected


@as_forks
def test_functions_classes_and_modules_that_were_chosen(library: str, tmp_path: Path) -> None:
    """They belong to the data beside them: `_name = "second"` without `_chosen` is no state."""
    work = """
    import collections as others
    import helpers

    _name = _chosen = _kind = _module = None
    hook = fixed = None
    size = len

    def first(number):
        return "first", number

    def second(number):
        return "second", number

    class Kind:
        pass

    def choose(name):
        global _name, _chosen, _kind, _module, fixed
        import json
        _name, _chosen, _kind, _module = name, {"first": first, "second": second}[name], Kind, json
        fixed = lambda number: (name, number)

    def look(number):
        if _name is None:
            choose("first")
        names = _module.__name__, others.__name__
        return _chosen(number), _name, _kind is Kind, names, hook(1), fixed(2), size([3])
    """
    helpers = """
    def help_(number):
        return "help", number
    """
    main = """
    import helpers, work
    work.choose("second")
    work.hook, work.size = helpers.help_, sum
    with Pool(1) as p:
        print(p.map(work.look, [1]) == [work.look(1)], work.look(1)[0])
    class Hook:
        def __init__(self, number):
            self.number = number

        def __eq__(self, other):
            return (type(self), self.number) == (type(other), other.number)

    for work.hook in (lambda number: ("main", number), Hook):
        with Pool(1) as p:
            print(p.map(work.look, [1]) == [work.look(1)])
    """
    expected = "True ('second', 1)\nTrue\nTrue\n"
    assert run(library, tmp_path, helpers=helpers, work=work, main=main) == expected


@as_forks
def test_functions_of_other_modules_that_stand_in(library: str, tmp_path: Path) -> None:
    """As in tests, which are not the main module; those that imports bring are left alone."""
    source = """
    def decorated(function):
        def wrapper(number):
            return "wrapped", function(number)
        return wrapper

    def fetch(number):
        return "real", number

    @decorated
    def load(number):
        return number
    """
    work = """
    from source import decorated, fetch, fetch as get, load, load as read
    import source
    LIMIT = 1

    def own(number):
        return "own", number

    @decorated
    def mine(number):
        return number

    def look(number):
        same = get is source.fetch, load is source.load, read is source.load
        return fetch(number), own(number), mine(number), same, LIMIT
    """
    test_work = """
    import unittest.mock
    import source, work

    def fake(number):
        return "fake", number

    def test(Pool):
        work.LIMIT = 2
        with Pool(1) as p:
            print(p.map(work.look, [1]) == [work.look(1)])
        fakes = [fake, lambda number: ("lambda", number)]
        for name in ("fetch", "own"):
            for other in fakes:
                with unittest.mock.patch.object(work, name, other), Pool(1) as p:
                    print(p.map(work.look, [1]) == [work.look(1)])
    """
    main = """
    import test_work
    test_work.test(Pool)
    """
    modules = {"source": source, "work": work, "test_work": test_work, "main": main}
    assert run(library, tmp_path, **modules) == "True\n" * 5


@as_forks
def test_modules_that_import_each_other_and_share_objects(library: str, tmp_path: Path) -> None:
    first = """
    import second
    value, table = None, {}

    def look(number):
        same = second.value is value, second.table is table
        return value, table, second.value, second.table, same
    """
    second = """
    import first
    value = table = None
    """
    main = """
    import first, second
    first.value = second.value = [1]
    second.table = first.table
    first.table["k"] = second.value
    with Pool(1) as p:
        print(p.map(first.look, [1]) == [first.look(1)])
    """
    assert run(library, tmp_path, first=first, second=second, main=main) == "True\n"


@as_forks
@pytest.mark.parametrize(
    ("made", "used", "seen"),
    [
        ('Value("i", 0)', "with shared.get_lock(): shared.value += number", "shared.value"),
        ('Array("i", 2)', "with shared.get_lock(): shared[1] += number", "shared[1]"),
        ('RawArray("i", 4)', "shared[number] = number", "sum(shared)"),
        ("SimpleQueue()", "shared.put(number)", "sum(shared.get() for _ in range(4))"),
        ("Event()", "shared.set()", "6 * shared.is_set()"),
        ("Semaphore(10)", "shared.acquire()", "shared.get_value()"),
        ("Pipe()", "shared[1].send(number)", "sum(shared[0].recv() for _ in range(4))"),
        ("Manager().dict()", "shared[number] = number", "sum(shared.values())"),
    ],
)
def test_what_can_only_be_inherited(
    library: str, made: str, used: str, seen: str, tmp_path: Path
) -> None:
    """Locks, queues, values and arrays are the program's own, not others that an import makes."""
    counts = f"""
    import multiprocessing
    shared = multiprocessing.{made}

    def add(number):
        {used}
    """
    attribute = """
    import multiprocessing

    class Holder:
        lock = multiprocessing.Lock()

    def look(number):
        return Holder.lock.acquire(False)
    """
    main = f"""
    import counts
    with Pool(2) as p:
        p.map(counts.add, range(4))
    print(eval({seen!r}, vars(counts)))
    del sys.modules["counts"], counts
    import attribute
    attribute.Holder.lock.acquire()
    with Pool(1) as p:
        print(p.map(attribute.look, range(2)))
    """
    printed = run(library, tmp_path, counts=counts, attribute=attribute, main=main)
    assert printed == "6\n[False, False]\n"
