"""What a program's objects hold, and which objects are one, when a pool is made.

Each program says the same with both libraries, under the start method that copies the program as it
is at that moment.
"""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

#: A module of the program's own, which tasks import.
SETTINGS = """
class Settings:
    debug = False

settings = Settings()
STATE = {"n": 0}
SENTINEL = object()
CACHE = []

def is_debug():
    return settings.debug

def count():
    return STATE["n"], len(CACHE)

def is_sentinel(value):
    return value is SENTINEL

def captured(cache=CACHE, state=STATE, settings=settings):
    return len(cache), state["n"], settings.debug
"""

PROGRAMS = {
    "contents that changed between two pools": """
        values = {"level": 1}
        settings = type("Settings", (), {"level": 1})()
        items = [1]
        def work(_):
            return values["level"], settings.level, items
        for level in (1, 2, 3):
            values["level"] = settings.level = items[0] = level
            with Pool(1) as p:
                print(p.map(work, [0]))
        """,
    "arguments of an initializer that changed": """
        values = {"level": 1}
        def init(given):
            global got
            got = given
        def work(_):
            return got["level"]
        for level in (1, 2):
            values["level"] = level
            with Pool(1, init, (values,)) as p:
                print(p.map(work, [0]))
        """,
    "contents that changed while another pool runs": """
        values = {"level": 1}
        def work(_):
            return values["level"]
        with Pool(1) as first:
            print(first.map(work, [0]))
            values["level"] = 2
            with Pool(1) as second:
                print(second.map(work, [0]), first.map(work, [0]))
        """,
    "objects imported by name": """
        from settings import settings, STATE, SENTINEL, CACHE
        from settings import captured, count, is_debug, is_sentinel
        STATE["n"] = 5
        CACHE.append(1)
        def init():
            settings.debug = True
        def work(_):
            STATE["n"] += 1
            CACHE.append(2)
            return is_debug(), count(), captured(), is_sentinel(SENTINEL)
        with Pool(1, init) as p:
            print(p.map(work, [0, 1]))
        """,
    "objects imported by another name": """
        from settings import settings as config, STATE as state, SENTINEL as none, CACHE as cache
        from settings import CACHE, count, is_debug, is_sentinel
        state["n"] = 5
        cache.append(1)
        def work(_):
            state["n"] += 1
            cache.append(2)
            config.debug = True
            return is_debug(), count(), is_sentinel(none), cache is CACHE
        with Pool(1) as p:
            print(p.map(work, [0, 1]))
        """,
    "an object imported by name that others have, too": """
        from settings import CACHE, STATE, count
        class Service:
            def __init__(self, cache, state):
                self.cache, self.state = cache, state
        service = Service(CACHE, STATE)
        CACHE.append(1)
        def work(_):
            service.cache.append(2)
            service.state["n"] += 1
            return count(), service.cache is CACHE, service.state is STATE
        with Pool(1) as p:
            print(p.map(work, [0, 1]))
        """,
    "objects of many kinds imported by name": """
        with open("kinds.py", "w") as file:
            file.write('''
        from collections import OrderedDict, defaultdict, deque
        from dataclasses import dataclass
        from types import SimpleNamespace
        class Config(dict):
            __getattr__ = dict.__getitem__
            __setattr__ = dict.__setitem__
        class Names(list):
            pass
        @dataclass(slots=True)
        class Point:
            x: int = 1
        ''')
        with open("objects.py", "w") as file:
            file.write('''
        from kinds import *
        config, names, point, space = Config(rate=1), Names("a"), Point(), SimpleNamespace(y=1)
        names.title = "first"
        groups, order, queue = defaultdict(list, a=[1]), OrderedDict(a=1), deque("a", 3)
        emptied = Names("a")
        def everything():
            return config, names, names.title, point, space, groups, order, queue, emptied
        ''')
        import objects
        from objects import config, emptied, groups, names, order, point, queue, space
        class Trainer:
            def __init__(self, config):
                self.config = config
        trainer = Trainer(config)
        config.rate = config.size = point.x = space.y = 2
        names.append("b")
        names.title = "second"
        groups["b"].append(2)
        order["b"] = 2
        queue.append("b")
        emptied.clear()
        def work(_):
            found = config, names, names.title, point, space, groups, order, queue, emptied
            config.rate += 1
            return found, objects.everything(), objects.config is config, trainer.config is config
        def late(_):
            import objects
            found = config, names, names.title, point, space, groups, order, queue, emptied
            config.rate += 1
            return found, objects.everything(), objects.config is config
        for each in (work, late):
            with Pool(1) as p:
                print(p.map(each, [0, 1]))
        """,
    "many values imported by name": """
        import settings
        from settings import CACHE, captured
        CACHE.extend(range(2000))
        def work(_):
            CACHE.append(1)
            return captured(), CACHE is settings.CACHE
        with Pool(1) as p:
            print(p.map(work, [0, 1]))
        """,
    "an object imported by name that an initializer of its module has changed": """
        import settings as module
        from settings import settings
        def work(_):
            return module.is_debug()
        def init():
            import settings
            settings.settings.debug = True
        with Pool(1, init) as p:
            print(p.map(work, [0]))
        """,
    "unpickling that uses other globals": """
        SCALE = {"by": 2}
        class Model:
            def __init__(self, weight):
                self.weight = weight
            def __setstate__(self, state):
                self.__dict__.update(state, scaled=state["weight"] * SCALE["by"])
        model = Model(3)
        def work(x):
            return model.weight * x
        print(Pool(1).map(work, [1]))
        """,
    "an object that hands attributes on": """
        class Proxy:
            def __init__(self, inner):
                self._inner = inner
            def __getattr__(self, name):
                return getattr(self._inner, name)
        proxy = Proxy([1, 1])
        def work(x):
            return proxy.count(x)
        print(Pool(1).map(work, [1]))
        """,
    "an object with slots that allows no changes": """
        class Point:
            __slots__ = ("x",)
            def __init__(self, x):
                object.__setattr__(self, "x", x)
            def __setattr__(self, name, value):
                raise AttributeError(name)
        point = Point(3)
        def work(x):
            return point.x
        print(Pool(1).map(work, [1]))
        """,
    "a task that binds a name anew": """
        STORE = {"who": "parent"}
        HOLDER = [STORE]
        def reset(_):
            global STORE
            STORE = None
            STORE = {"who": "task"}
        def read(_):
            return HOLDER[0]["who"]
        with Pool(1) as p:
            p.map(reset, [0])
            print(p.map(read, [0]))
        """,
    "numbers that are bound anew": """
        from decimal import Decimal
        from datetime import date, timedelta
        def work(_):
            return rate, day
        rate, day = Decimal(1), date(2020, 1, 1)
        for _ in range(4):
            with Pool(1) as p:
                print(p.map(work, [1]))
            rate += 1
            rate += 1
            day += timedelta(1)
            day += timedelta(1)
        """,
    "two names of one object": """
        class Engine:
            runs = 0
        # Many: which one an object is known by must not be a matter of luck.
        primary = a = b = c = d = e = f = g = h = Engine()
        counts = i = j = k = l = m = n = o = q = []
        def change(_):
            primary.runs += 1
            counts.append(1)
        def read(_):
            engines, lists = (primary, a, b, c, d, e, f, g, h), (counts, i, j, k, l, m, n, o, q)
            return [x.runs for x in engines], [len(x) for x in lists], a is primary, i is counts
        with Pool(1) as p:
            p.map(change, [0])
            print(p.map(read, [0]))
        """,
    "an object that is reached through another one first": """
        class Registry:
            size = 0
        NAMES = {}
        REGISTRY = Registry()
        class Base:
            names = NAMES
            registry = REGISTRY
        def peek(_):
            return len(Base.names), Base.registry.size
        def add(_):
            NAMES["x"] = 1
            REGISTRY.size += 1
            return peek(0)
        with Pool(1) as p:
            print(p.map(peek, [0]))
            print(p.map(add, [0]))
        """,
    "globals that fail when they are asked for their class": """
        import sys, types
        class Lazy:
            @property
            def __class__(self):
                raise RuntimeError("not configured")
            def __reduce_ex__(self, protocol):
                raise RuntimeError("not configured")
        settings = Lazy()
        helpers = types.ModuleType("helpers")
        helpers.settings, helpers.number = settings, 5
        class Row:
            owner: "settings"
        def work(_):
            return Row.__annotations__, helpers.number
        print(Pool(1).map(work, [0]))
        """,
    "objects that other modules change when they are imported": """
        def write(name, text):
            with open(name, "w") as file:
                file.write(text)
        write("registry.py", '''
        from collections import OrderedDict, deque
        class Slotted:
            __slots__ = ("n",)
        class Settings:
            mode = "test"
        class Names(list):
            pass
        HANDLERS, ORDER, SEEN, KINDS, LAST = {}, [], set(), OrderedDict(), deque(maxlen=2)
        MANY, BYTES, NAMES = [0] * 2000, bytearray(), Names()
        slotted, settings = Slotted(), Settings()
        slotted.n = 0
        def register(func):
            HANDLERS[func.__name__] = func
            for each in (ORDER, LAST, MANY, NAMES):
                each.append(func)
            SEEN.add(func)
            KINDS[func.__name__] = func
            BYTES.extend(b"x")
            NAMES.last = func
            slotted.n += 1
            settings.mode = "prod"
            return func
        def state():
            found = HANDLERS, ORDER, SEEN, KINDS, LAST, NAMES
            counts = slotted.n, len(MANY), len(BYTES), settings.mode, vars(NAMES)
            return [sorted(map(name_of, each)) for each in found[:3]], list(KINDS), counts
        def name_of(each):
            return getattr(each, "__name__", each)
        ''')
        write("handlers.py", '''
        from registry import register
        @register
        def first(x):
            return x
        ''')
        from registry import (
            BYTES, HANDLERS, KINDS, LAST, MANY, NAMES, ORDER, SEEN,
            register, settings, slotted, state
        )
        import handlers, registry
        @register
        def second(x):
            return x
        settings.mode = "debug"
        del NAMES.last
        KINDS.move_to_end("first")
        def work(_):
            objects = BYTES, HANDLERS, KINDS, LAST, MANY, NAMES, ORDER, SEEN, settings, slotted
            ORDER.append(len)
            settings.mode += "!"
            return state(), [found is vars(registry)[name] for name, found in zip('''
                BYTES HANDLERS KINDS LAST MANY NAMES ORDER SEEN settings slotted
            '''.split(), objects)]
        def count(_):
            return len(ORDER), len(SEEN), len(MANY), slotted.n, settings.mode, handlers.first(1)
        for task in (work, count):
            with Pool(1) as p:
                print(p.map(task, [0]), p.map(task, [0]), p.map(work, [0]))
        """,
    "a module with an object that cannot be looked at": """
        with open("odd.py", "w") as file:
            file.write('''
        class Base:
            __slots__ = ("n",)
        class Odd(Base):
            __slots__ = ()
            @property
            def n(self):
                raise RuntimeError("looked at")
        odd = Odd()
        ITEMS = []
        ''')
        from odd import ITEMS
        ITEMS.append(1)
        def work(_):
            import odd
            return odd.ITEMS, odd.ITEMS is ITEMS
        print(Pool(1).map(work, [0]))
        """,
    "a module that goes by another name": """
        with open("odd.py", "w") as file:
            file.write('__name__ = "even"\\nSTATE = {"n": 0}\\n')
        from odd import STATE
        STATE["n"] = 5
        def work(_):
            import odd
            return odd.STATE["n"], odd.STATE is STATE
        print(Pool(1).map(work, [0]))
        """,
    "attributes of the thread that makes the pool": """
        import threading
        class Numbered(threading.local):
            kind = "numbered"
            def __init__(self, n):
                self.n = n
        class Locked(threading.local):
            def __init__(self):
                self.lock = threading.Lock()
                self.made = iter([])
        numbered, locked, plain = Numbered(3), Locked(), threading.local()
        plain.items = locked.items = [5]
        def work(_):
            with locked.lock:
                list(locked.made)
            return numbered.n, numbered.kind, plain.items, locked.items, plain.__dict__
        print(Pool(1).map(work, [0]))
        """,
    "objects within others, and of functions, that make a lock anew": """
        import functools
        import threading
        class Cache:
            made = 0
            def __init__(self, n):
                self.n = n
                self.lock = threading.Lock()
            def __getstate__(self):
                return {"n": self.n}
            def __setstate__(self, state):
                vars(self).update(state)
                self.lock = threading.Lock()
                Cache.made += 1
            def get(self):
                with self.lock:
                    return self.n
        class Service:
            shared = None
            def __init__(self, cache):
                self.cache = cache
        Service.shared = Service(Cache(1))
        service = Service(Service(Cache(2)))
        listed = {"services": [Service([Cache(3)])]}
        given = functools.partial(print, Cache(4))
        def cached(cache):
            def decorate(func):
                @functools.wraps(func)
                def call(x):
                    return cache.get(), func(x)
                return call
            return decorate
        def of_object(_):
            return service.cache.cache.get(), listed["services"][0].cache[0].get()
        def of_class(_):
            return Service.shared.cache.get(), given.args[0].get()
        def by_default(x, cache=Cache(5), *, other=Cache(6), within=[Service(Cache(7))]):
            return cache.get(), other.get(), within[0].cache.get()
        @cached(Cache(8))
        def decorated(x):
            return x
        def with_attribute(_):
            return with_attribute.cache.get()
        with_attribute.cache = Cache(9)
        for func in (of_object, of_class, by_default, decorated, with_attribute):
            print(Pool(1).map(func, [0]))
        with Pool(1) as p:
            for func in (with_attribute, decorated, by_default, of_class, of_object, by_default):
                print(p.map(func, [0]))
        """,
    "attributes of errors": """
        class Refused(OSError):
            def __init__(self, *args):
                super().__init__(*args)
        def refuse(_):
            raise Refused(2, "no", "file.txt")
        p = Pool(1)
        try:
            p.map(refuse, [1])
        except OSError as error:
            print(error.filename, error.errno, error.strerror)
        """,
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_what_it_prints_is_what_it_prints_with_the_standard(tmp_path: Path, program: str) -> None:
    (tmp_path / "settings.py").write_text(SETTINGS)
    printed = [
        run_program(f"from {library} import Pool\n{dedent(program)}", tmp_path).succeeded()
        for library in ("multiprocessing", "pool")
    ]
    assert printed[0] == printed[1] != ""


def test_a_module_is_not_imported_for_the_sake_of_its_objects(tmp_path: Path) -> None:
    # That might take long, and nobody asks for it.
    (tmp_path / "settings.py").write_text(SETTINGS)
    source = """
from pool import Pool
from settings import STATE
STATE["n"] = 5
def work(_):
    import sys
    return STATE["n"], "settings" in sys.modules
def late(_):
    import settings
    return settings.STATE is STATE, settings.captured()
with Pool(1) as p:
    print(p.map(work, [0]), p.map(late, [0]))
"""
    printed = run_program(source, tmp_path).succeeded()
    assert printed == "[(5, False)] [(True, (0, 5, False))]\n"
