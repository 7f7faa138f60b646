"""Classes, functions and Enum members are themselves at both ends, and keep their state."""

from __future__ import annotations

from pathlib import Path

from picklingpeer import run_main


def test_classes_of_main_both_ways(tmp_path: Path) -> None:
    run_main(
        """
        import collections, dataclasses, enum, typing
        class Spot(Exception): pass
        class Color(enum.Enum):
            RED = 1
            BLUE = 2
        @dataclasses.dataclass(frozen=True, slots=True)
        class Point:
            x: int
            y: int = 0
        class Pair(typing.NamedTuple):
            a: int
            b: int = 2
        Old = collections.namedtuple("Old", "p q")
        class Outer:
            class Inner:
                pass
        def same(thing): return thing
        for thing in Spot(1), Point(1), Pair(1), Old(1, 2), Outer.Inner():
            got = w(same, thing)
            assert type(got) is type(thing), thing
            if not isinstance(thing, (Spot, Outer.Inner)):
                assert got == thing
        for thing in Color.RED, Color, Spot, Point, Pair, Old, Outer.Inner, same:
            assert w(same, thing) is thing, thing
        assert w(lambda c: c is Color.RED, Color.RED)
        assert w(lambda s: isinstance(s, Spot), Spot())
        assert type(w(lambda: Point(3))) is Point
        assert w(lambda: Outer.Inner.__qualname__) == "Outer.Inner"
        try:
            raise w.raises(lambda: [][1]) or None
        except IndexError:
            pass
        def fail(): raise Spot("there")
        try:
            raise w.raises(fail)
        except Spot as error:
            assert error.args == ("there",)
        """,
        tmp_path,
    )


def test_parents_object_is_found_though_its_name_is_rebound(tmp_path: Path) -> None:
    run_main(
        """
        class Spot(Exception): pass
        first = Spot
        def make(kind): return kind()
        assert type(w(make, first)) is first
        class Spot(Exception): pass
        assert type(w(make, first)) is first
        assert type(w(make, Spot)) is Spot
        """,
        tmp_path,
    )


def test_class_that_the_parent_has_let_go_of(tmp_path: Path) -> None:
    run_main(
        """
        import gc
        class Kept: pass
        class Spot: pass
        def keep(kind):
            Kept.kind = kind
        def give(): return Kept.kind()
        w(keep, Spot)
        class Spot: pass
        gc.collect()
        assert type(w(give)) is Spot      # the one of that name
        del Spot
        gc.collect()
        try:
            w(give)
        except Exception as error:
            assert "'Spot' of module '__main__' no longer exists" in str(error), error
        else:
            raise AssertionError
        """,
        tmp_path,
    )


def test_state_of_functions_and_classes_lives_on(tmp_path: Path) -> None:
    run_main(
        """
        import functools
        def f():
            f.calls = getattr(f, "calls", 0) + 1
            return f.calls
        assert [w(f), w(f), w(f)] == [1, 2, 3] and not hasattr(f, "calls")
        class Counter:
            n = 0
            @classmethod
            def bump(cls):
                cls.n += 1
                return cls.n
        assert [w(Counter.bump), w(Counter.bump), w(lambda: Counter.bump())] == [1, 2, 3]
        @functools.lru_cache(maxsize=50)
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        assert w(fib, 30) == fib(30)
        assert w(lambda: fib.cache_info()[2:]) == (50, 31)
        assert w(lambda: (fib.__wrapped__.__name__, fib.__name__)) == ("fib", "fib")
        def default(x, seen=[]):
            seen.append(x)
            return seen
        assert w(default, 1) == [1] and w(default, 2) == [1, 2]
        """,
        tmp_path,
    )


def test_changes_in_the_parent_are_applied_and_only_these(tmp_path: Path) -> None:
    run_main(
        """
        def f(x=1, *, y=2): return x, y, f.a, getattr(f, "b", None), body()
        def body(): return "old"
        def alternative(): return "new"
        f.a = 1
        def mark():
            f.b = "task's"
        assert w(f) == (1, 2, 1, None, "old")
        w(mark)
        assert w(f) == (1, 2, 1, "task's", "old")
        f.a = 5
        assert w(f) == (1, 2, 5, "task's", "old")
        f.__defaults__ = (7,)
        f.__kwdefaults__ = {"y": 8}
        assert w(f) == (7, 8, 5, "task's", "old")
        body.__code__ = alternative.__code__
        assert w(f) == (7, 8, 5, "task's", "new")
        class C:
            kept = 0
            sent = 0
            def m(self): return "m1"
        def touch(): C.kept = "task's"
        def read(): return C.kept, C.sent, C().m()
        w(touch)
        assert w(read) == ("task's", 0, "m1")
        C.sent = 3
        C.m = lambda self: "m2"
        assert w(read) == ("task's", 3, "m2")
        """,
        tmp_path,
    )


def test_what_the_parent_deletes_is_deleted_and_only_that(tmp_path: Path) -> None:
    """As `unittest.mock` does, when it has patched what a class inherits."""
    run_main(
        """
        class Base:
            def go(self): return "base"
        class Child(Base):
            __slots__ = ("slot",)
            x = 1
        def tagged(): return sorted(tagged.__dict__)
        def look(): return Child().go(), getattr(Child, "x", "gone"), Child.slot.__name__, tagged()
        def change():
            Child.own = tagged.own = 1
            return look()
        assert w(change) == ("base", 1, "slot", ["own"])
        patched = lambda self: "patched"
        for _ in range(3):
            Child.go, Child.x, tagged.tag = patched, 2, 3
            assert w(look) == ("patched", 2, "slot", ["own", "tag"])
            del Child.go, Child.x, tagged.tag
            assert w(look) == ("base", "gone", "slot", ["own"])
        assert w(lambda: Child.own) == 1
        import sys
        values = [1] * 200_000
        held = sys.getrefcount(values)
        Child.values = values
        assert w(lambda: Child.values) == values
        del Child.values
        assert not w(lambda: hasattr(Child, "values"))
        assert sys.getrefcount(values) == held
        # Never sent, and in the worker another's by now.
        Child.own = 2
        del Child.own
        assert w(lambda: Child.own) == 1
        """,
        tmp_path,
    )


def test_local_classes(tmp_path: Path) -> None:
    run_main(
        """
        def main():
            class Spot(Exception): pass
            assert type(w(lambda: Spot(1))) is Spot
            assert isinstance(w.raises(lambda: (_ for _ in ()).throw(Spot(2))), Spot)
            things = [Spot(n) for n in range(3)]
            assert {type(t) for t in w(lambda ts: ts, things)} == {Spot}
        main()
        main()
        def born():
            class Born:
                z = 3
            return Born()
        one, two = w(born), w(born)
        assert one.z == two.z == 3 and type(one) is not type(two)
        assert type(one).__qualname__ == "born.<locals>.Born"
        """,
        tmp_path,
    )


def test_garbage_may_be_collected_between_a_definition_and_its_use(tmp_path: Path) -> None:
    """By an import that unpickling the message takes, for one."""
    run_main(
        """
        class Collected:
            def __reduce__(self):
                import gc
                return gc.collect, ()
        def local():
            class Local(Exception): pass
            return Collected(), Local(3)
        for _ in range(2):
            _, got = w(local)
            assert type(got).__name__ == "Local" and got.args == (3,)
        """,
        tmp_path,
    )


def test_registry_holds_nothing_alive(tmp_path: Path) -> None:
    run_main(
        """
        import gc, weakref
        def make():
            class Local:
                table = {}
                items = [1]
                @property
                def p(self): return __class__
                @staticmethod
                def s(): return Local
            w(lambda: Local.s())
            return weakref.ref(Local)
        refs = [make() for _ in range(3)]
        from pool._pickling import _preludes
        _preludes._known.clear()       # kept for further use
        gc.collect()
        assert [r() for r in refs] == [None] * 3
        from pool._pickling import _identity
        live = [e for e in _identity._by_token.values() if e.obj is None]
        assert live == []
        """,
        tmp_path,
    )


def test_methods_and_descriptors(tmp_path: Path) -> None:
    run_main(
        """
        class C:
            def __init__(self, n): self.n = n
            def plain(self, x=1): return self.n + x
            @classmethod
            def cm(cls): return cls
            @staticmethod
            def sm(x): return x * 2
            def __private(self): return "p"
            def give(self): return self.__private
            @property
            def prop(self): return self.n * 10
        c = C(4)
        assert w(c.plain) == 5 and w(C.plain, c) == 5
        assert w(C.cm) is C and w(C.sm, 4) == 8
        assert w(c.give()) == "p"
        assert w(lambda: c.prop) == 40
        assert w(str.upper, "x") == "X" and w("a-b".split, "-") == ["a", "b"]
        assert w(C, 3).n == 3
        """,
        tmp_path,
    )


def test_singletons_that_pickle_as_a_name(tmp_path: Path) -> None:
    run_main(
        """
        import typing
        class Sentinel:
            def __init__(self, name): self.name = name
            def __reduce__(self): return self.name
        EMPTY = Sentinel("EMPTY")
        T = typing.TypeVar("T", bound=int)
        P = typing.ParamSpec("P")
        Ts = typing.TypeVarTuple("Ts")
        UserId = typing.NewType("UserId", int)
        def f(x, default=EMPTY): return x is EMPTY and default is EMPTY, x
        ok, back = w(f, EMPTY)
        assert ok and back is EMPTY
        for one in T, P, Ts, UserId:
            assert w(lambda x: x, one) is one
        assert w(lambda: T.__bound__) is int
        assert w(lambda: UserId(3)) == 3
        class Box(typing.Generic[T]):
            def __init__(self, v: T) -> None: self.v = v
        assert w(lambda b: b, Box[int](3)).v == 3
        """,
        tmp_path,
    )


def test_singletons_that_pickle_as_a_call_of_their_class(tmp_path: Path) -> None:
    run_main(
        """
        class Registry:
            only = None
            def __new__(cls):
                if cls.only is None:
                    cls.only = super().__new__(cls)
                return cls.only
            def __reduce__(self): return Registry, ()
        registry = Registry()
        registry.size = 5
        class Settings:
            _only = None
            __slots__ = ("size",)
            @classmethod
            def get(cls):
                if cls._only is None:
                    cls._only = cls()
                return cls._only
            def __reduce__(self): return Settings.get, ()
        Settings.get().size = 6
        assert w(lambda: (registry is Registry(), Registry().size)) == (True, 5)
        assert w(lambda: Settings.get().size) == 6
        assert w(lambda: [registry, Settings.get()]) == [registry, Settings.get()]
        registry = Registry.only = object.__new__(Registry)
        registry.size = 7
        assert w(lambda: (registry is Registry(), registry.size)) == (True, 7)
        """,
        tmp_path,
    )


FORKED = """
import os, pickle, sys
from picklingpeer import send, receive, portable

def in_fork(messages):
    # A worker that inherits everything: forked from the program, fed by it.
    reading, writing = os.pipe()
    back, answer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            with open(reading, "rb") as source, open(answer, "wb") as target:
                while True:
                    got = receive(source)
                    if got is None:
                        break
                    func, args = [loads(*message) for message in got]
                    send(target, portable(dumps_to_parent(func(*args))))
            status = 0
        finally:
            os._exit(status)
    os.close(reading), os.close(answer)
    results = []
    with open(writing, "wb") as target, open(back, "rb") as source:
        for make in messages:
            func, args = make()
            encoded = dumps_function(func).encoded, dumps_to_worker(args)
            send(target, [portable(one) for one in encoded])
            results.append(loads(*receive(source)))
        send(target, None)
    assert os.waitpid(pid, 0)[1] == 0
    return results
"""


def test_worker_forked_from_the_program(tmp_path: Path) -> None:
    run_main(
        FORKED
        + """
class Spot: pass
class Sub(Spot): n = 0
inherited = [Spot(), Sub()]
K = 1
def look(thing): return type(thing) is Spot, type(inherited[0]) is Spot, K, inherited[1]
def count(thing): Sub.n += 1; return Sub.n, thing
def rebind():
    global K
    K = 9
def set_k(value):
    global K
    K = value
    return lambda: K
def changed():
    Spot.tag = "after"
    return (lambda: Spot.tag), ()
first, two, three, _, nine, tag = in_fork([
    lambda: (look, (Spot(),)),
    lambda: (count, (Spot(),)),
    lambda: (count, (Spot(),)),
    lambda: (rebind, ()),
    lambda: (look, (Spot(),)),
    changed,
])
assert first[:3] == (True, True, 1) and type(first[3]) is Sub
assert two[0] == 1 and three[0] == 2 and type(two[1]) is Spot and Sub.n == 0
assert nine[2] == 9
assert tag == "after"
""",
        tmp_path,
        preamble="from pool._pickling import *\n",
    )


def test_what_the_program_deletes_after_the_fork(tmp_path: Path) -> None:
    run_main(
        FORKED
        + """
class Spot:
    __slots__ = ("slot", "__dict__")
    tag = 1
    def go(self): return "gone"
def tagged(): return vars(tagged)
tagged.a = tagged.b = 1
Spot.before = 1
first = lambda: Spot
dumps_function(first)
del Spot.before
dumps_function(first)
def look(thing): return hasattr(Spot, "go"), hasattr(Spot, "tag"), tagged(), vars(thing)
def made():
    thing = Spot()
    thing.slot = thing.more = 1
    return thing
def delete():
    del Spot.go, tagged.a
    return look, (made(),)
def again():
    tagged.c = Spot.before = 1
    return (lambda: (tagged(), Spot.before)), ()
tagged.c = 1
dumps_function(look)
del tagged.c
dumps_function(look)
first, second, third = in_fork([lambda: (look, (made(),)), delete, again])
assert first == (True, True, {"a": 1, "b": 1}, {"more": 1}), first
assert second == (False, True, {"b": 1}, {"more": 1}), second
assert third == ({"b": 1, "c": 1}, 1), third
""",
        tmp_path,
        preamble="from pool._pickling import *\n",
    )


def test_tokens_of_a_forked_process_are_its_own(tmp_path: Path) -> None:
    run_main(
        FORKED
        + """
def born():
    class Born: pass
    return Born()
def f(): return 1
dumps_function(f)
one, = in_fork([lambda: (born, ())])
other, = in_fork([lambda: (born, ())])
assert type(one) is not type(other)
""",
        tmp_path,
        preamble="from pool._pickling import *\n",
    )


def test_odd_classes(tmp_path: Path) -> None:
    # Whose metaclass says that they are equal to everything.
    run_main(
        """
        class Meta(type):
            def __eq__(cls, other): return True
            __hash__ = type.__hash__
        class Odd(metaclass=Meta): pass
        assert type(w(lambda x: x, Odd())) is Odd
        """,
        tmp_path,
    )
