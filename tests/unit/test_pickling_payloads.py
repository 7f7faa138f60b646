"""Functions are pickled once for as long as they, and what they use, stay the same."""

from __future__ import annotations

import functools
import gc
import math
import operator
import os.path
from pathlib import Path
from typing import Any

import pytest
from picklingpeer import run_main

from pool._pickling import _payloads, dumps_function, loads


def test_functions_of_generated_code_are_sent_with_the_globals_that_they_have() -> None:
    names: dict[str, Any] = {}
    exec("x = 1\ndef helper(): return x\ndef work(i): return helper() + i", names)
    work = names["work"]
    before = dumps_function(work)
    assert dumps_function(work) is before
    assert loads(before.encoded.data)(0) == 1
    names["x"] = 10
    assert loads(dumps_function(work).encoded.data)(0) == 10
    del names["helper"]
    exec("def helper(): return 20", names)
    assert loads(dumps_function(work).encoded.data)(0) == 20
    # Its items change, and nothing would tell.
    names["x"] = [1]
    exec("def work(i): return x[0]", names)
    work = names["work"]
    assert loads(dumps_function(work).encoded.data)(0) == 1
    names["x"][0] = 2
    assert loads(dumps_function(work).encoded.data)(0) == 2


class Callable_:
    def __call__(self) -> None: ...

    def method(self) -> None: ...

    @classmethod
    def cm(cls) -> None: ...

    @staticmethod
    def sm() -> None: ...


def closure(value: Any) -> Any:
    return lambda: value


@pytest.mark.parametrize(
    ("func", "stateless"),
    [
        (os.path.join, True),
        (math.sin, True),
        (len, True),
        (int, True),
        (Callable_, True),
        (Callable_.cm, True),
        (Callable_.sm, True),
        (Callable_.method, True),
        (str.upper, True),
        ("-".join, True),
        (operator.add, True),
        (lambda: 1, True),
        (functools.partial(int, base=2), True),
        (functools.partial(math.pow, 2), True),
        (functools.partial(int, []), False),
        (functools.partial(Callable_()), False),
        (Callable_(), False),
        (Callable_().method, False),
        ([].append, False),
        (closure([]), False),
        (operator.itemgetter(1), False),
    ],
)
def test_stateless(func: Any, stateless: bool) -> None:
    assert dumps_function(func).stateless is stateless


@pytest.mark.parametrize("func", [os.path.join, len, int, Callable_, closure(1), lambda: 1])
def test_kept(func: Any) -> None:
    assert dumps_function(func) is dumps_function(func)


@pytest.mark.parametrize(
    "func",
    [closure([]), Callable_(), Callable_().method, [].append, functools.partial(int, [])],
)
def test_pickled_again_because_it_may_have_changed(func: Any) -> None:
    assert dumps_function(func) is not dumps_function(func)


def test_payload_unpickles_to_the_function() -> None:
    for func in os.path.join, int, "-".join, math.sin:
        assert loads(*dumps_function(func).encoded) == func
    assert loads(*dumps_function(closure(5)).encoded)() == 5


def test_cells_that_change() -> None:
    def make() -> tuple[Any, Any]:
        n = 1

        def get() -> int:
            return n

        def set_(value: int) -> None:
            nonlocal n
            n = value

        return get, set_

    get, set_ = make()
    assert loads(*dumps_function(get).encoded)() == 1
    kept = dumps_function(get)
    assert dumps_function(get) is kept
    set_(1000)
    assert loads(*dumps_function(get).encoded)() == 1000


def test_defaults_and_code_that_change() -> None:
    func: Any = lambda x=1, *, y=2: (x, y)  # noqa: E731 - a function without a name
    assert loads(*dumps_function(func).encoded)() == (1, 2)
    func.__defaults__ = (5,)
    assert loads(*dumps_function(func).encoded)() == (5, 2)
    func.__kwdefaults__ = {"y": 6}
    assert loads(*dumps_function(func).encoded)() == (5, 6)
    func.__code__ = (lambda x=1, *, y=2: "new").__code__
    assert loads(*dumps_function(func).encoded)() == "new"


def test_partial_that_changes() -> None:
    func = functools.partial(int, "11", base=2)
    kept = dumps_function(func)
    assert dumps_function(func) is kept
    func.keywords["base"] = 3
    assert loads(*dumps_function(func).encoded)() == 4


def test_records_do_not_keep_functions_alive() -> None:
    gc.collect()
    before = len(_payloads._records)
    for _ in range(20):
        dumps_function(closure(1))
        dumps_function(lambda: 2)
    gc.collect()
    assert len(_payloads._records) <= before


def test_functions_of_main(tmp_path: Path) -> None:
    run_main(
        """
        K = 1
        class Helper:
            scale = 2
            def apply(self, x): return x * self.scale + K
        def inner(x): return Helper().apply(x)
        def task(x): return inner(x)
        def same(): return dumps_function(task) is dumps_function(task)
        def changed(kept=[None]):
            before, kept[0] = kept[0], dumps_function(task)
            return kept[0] is not before
        assert changed() and same() and not changed()
        assert dumps_function(task).stateless
        K = 2
        assert changed() and w(task, 1) == 4
        Helper.scale = 3
        assert changed() and w(task, 1) == 5
        Helper.extra = 1
        assert changed()
        inner.__defaults__ = (4,)
        assert changed() and same()
        def inner(x): return -x
        assert changed() and w(task, 1) == -1
        task.attribute = 1
        assert changed() and same()
        unrelated = 3
        assert not changed()
        square = lambda x: inner(x) * K
        assert dumps_function(square) is dumps_function(square)
        assert dumps_function(square).stateless
        K = 10
        assert w(square, 1) == -10
        """,
        tmp_path,
    )


def test_not_pickled_again_for_each_call(tmp_path: Path) -> None:
    run_main(
        """
        class Counted:
            pickled = 0
            def __reduce__(self):
                Counted.pickled += 1
                return Counted, ()
        DATA = Counted()
        def task(): return DATA
        for _ in range(1000):
            dumps_function(task)
        assert Counted.pickled == 1, Counted.pickled
        """,
        tmp_path,
    )


def test_definitions_are_skipped_by_who_has_them(tmp_path: Path) -> None:
    run_main(
        """
        class Item:
            def __init__(self, n): self.n = n
            def get(self): return TABLE[self.n]
        TABLE = list(range(1000))
        def use(items): return [(type(i).__name__, i.get()) for i in items]
        assert w(use, [Item(1), Item(2)]) == [("Item", 1), ("Item", 2)]
        full = dumps_to_worker(([Item(5)],))
        other = Encoded(full.data.replace(b"Item", b"Meti"), full.buffers)
        assert loads(*w.raw(dumps_function(use).encoded, other)) == [("Item", 5)]
        with Worker() as fresh:
            assert loads(*fresh.raw(dumps_function(use).encoded, other)) == [("Meti", 5)]
        """,
        tmp_path,
    )


def test_messages_with_definitions_are_plain_pickles(tmp_path: Path) -> None:
    run_main(
        """
        import io, pickle, pickletools
        import numpy as np
        class Item:
            def __init__(self, n): self.n = n
        BIG = np.zeros(20_000)
        def f(): return BIG.sum() + BIG.size
        encoded = dumps_to_worker([Item(1), Item(2), np.ones(10_000), f])
        assert len(encoded.buffers) == 2
        assert [op.name for op, _, _ in pickletools.genops(encoded.data)].count("STOP") == 1
        def look(data, buffers):
            one, two, array, g = pickle.loads(data, buffers=[bytearray(b) for b in buffers])
            array += 1
            return one.n, two.n, array.sum(), g()
        portable = encoded.data, [bytes(b) for b in encoded.buffers]
        assert w(look, *portable) == (1, 2, 20_000, 20_000)
        assert w(look, *portable) == (1, 2, 20_000, 20_000)
        small = dumps_to_worker([Item(3)])
        def stream(data):
            load = pickle.Unpickler(io.BytesIO(data)).load
            return [load()[0].n for _ in range(2)]
        assert w(stream, small.data + small.data) == [3, 3]
        """,
        tmp_path,
    )


def test_threads(tmp_path: Path) -> None:
    run_main(
        """
        import sys, threading
        K = 0
        class Item:
            def __init__(self, n): self.n = n
            def get(self): return self.n, K
        def task(x): return x, K
        failures = []
        def run():
            global K
            try:
                for i in range(200):
                    dumps_to_worker([Item(i), lambda: task(i)])
                    dumps_function(task)
                    K += 1
                    loads(*dumps_to_worker(Item(1)))
                    class Local: pass
                    dumps_to_worker(Local())
            except BaseException as error:
                failures.append(error)
                raise
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert w(task, 3) == (3, K) and w(Item.get, Item(4)) == (4, K)
        """,
        tmp_path,
    )


def test_large_pickles_are_kept_while_they_are_of_use(tmp_path: Path) -> None:
    run_main(
        """
        import gc
        from pool._pickling import _payloads, _preludes
        def kept():
            return len(_preludes._known._large), len(_payloads._records._large)
        data = [bytes(1000)] * 1000 + list(range(100_000))
        def f(): return len(data)
        assert dumps_function(f) is dumps_function(f) and w(f) == 101_000
        assert kept() == (1, 1), kept()
        other = bytearray(200_000)
        def g(): return len(other) + len(data)
        w(g)
        assert kept() == (2, 2), kept()
        other = None
        gc.collect()
        assert kept() == (1, 1), kept()
        assert w(f) == 101_000
        def f(): return 0
        assert kept() == (0, 0), kept()
        assert w(f) == 0 and not gc.callbacks
        """,
        tmp_path,
    )


def test_large_pickles_are_kept_up_to_a_number_of_bytes(tmp_path: Path) -> None:
    run_main(
        """
        from pool._pickling import _kept, _preludes
        _kept.LARGE_KEPT = 1_000_000
        for n in range(5):
            exec(f"data{n} = b'x' * 400_000\\ndef f{n}(): return len(data{n})")
        functions = [f0, f1, f2, f3, f4]
        for func in functions:
            assert w(func) == 400_000
        assert len(_preludes._known._large) == 2
        huge = b"x" * 2_000_000
        def f(): return len(huge)
        assert dumps_function(f) is dumps_function(f)
        assert len(_preludes._known._large) == 1
        from pool._pickling import drop_large
        drop_large()
        assert len(_preludes._known._large) == 0 and w(f) == 2_000_000
        """,
        tmp_path,
    )


def test_what_came_with_definitions_is_remembered_up_to_a_number_of_bytes(tmp_path: Path) -> None:
    run_main(
        """
        class Data:
            def __init__(self, nbytes):
                self.content = nbytes * b"x"
            def __setstate__(self, state):
                import sys
                vars(self).update(state)
                sys.made = getattr(sys, "made", 0) + 1
        def count():
            import gc, sys
            return sum(type(each) is Data for each in gc.get_objects()), sys.made
        def bound(small, large):
            from pool._pickling import _entered
            _entered.SMALL_REMEMBERED, _entered.LARGE_KEPT = small, large
        w(bound, 1_000_000, 1_000_000)
        for _ in range(40):
            def f(data=Data(50_000)): return len(data.content)
            assert w(f) == 50_000
        assert w(count) == (19, 40), w(count)
        from pool._pickling import _preludes
        for _ in range(5):
            def g(data=Data(300_000)): return len(data.content)
            _preludes._gone.clear()  # other workers were told
            assert w(g) == 300_000
        assert w(count) == (19 + 3, 45), w(count)
        def g(data=Data(2_000_000)): return len(data.content)
        for _ in range(5):
            assert w(g) == 2_000_000 and w(f) == 50_000
        assert w(count) == (19 + 1, 46), w(count)
        """,
        tmp_path,
    )


def test_a_large_prelude_is_not_copied_into_its_messages(tmp_path: Path) -> None:
    run_main(
        """
        data = [bytes(1_000_000)]
        def f(): return len(data[0])
        encoded = dumps_function(f).encoded
        assert len(encoded.data) < 500 and encoded.buffers[0].nbytes > 1_000_000
        assert w(f) == 1_000_000
        """,
        tmp_path,
    )
