"""What cannot be sent is named, with the path to it."""

from __future__ import annotations

import _pickle
import ctypes
import functools
import pickle
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from multiprocessing import sharedctypes
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from picklingpeer import run_main

from pool._pickling import CannotSend, dumps_function, dumps_to_parent, dumps_to_worker, loads


class Model:
    handle: Any


class Analyzer:
    def __init__(self, handle: Any) -> None:
        self.name = "x"
        self.model = Model()
        self.model.handle = handle

    def work(self, x: int) -> int:
        return x


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class WithState:
    def __getstate__(self) -> Any:
        return {"made": sqlite3_connection()}


def sqlite3_connection() -> Any:
    return CONNECTION


@pytest.fixture(autouse=True)
def connection() -> Iterator[sqlite3.Connection]:
    global CONNECTION
    CONNECTION = sqlite3.connect(":memory:")
    yield CONNECTION
    CONNECTION.close()
    CONNECTION = None  # pools of other tests would have to inherit it


CONNECTION: Any = None


def refusal(obj: Any) -> CannotSend:
    with pytest.raises(CannotSend) as caught:
        dumps_to_worker(obj)
    return caught.value


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda c: Analyzer(c), "Analyzer.model.handle"),
        (lambda c: (1, [Analyzer(c)]), "Analyzer.model.handle"),
        (lambda c: Analyzer(c).work, "Analyzer.model.handle"),
        (lambda c: Slotted(Slotted(c)), "Slotted.inner.inner"),
        (lambda c: WithState(), "WithState.made"),
        (lambda c: {"a": [0, c]}, "['a'][1]: Connection"),
        (lambda c: c, "Connection"),
        (lambda c: functools.partial(int, base=c), "partial.keywords['base']"),
        (lambda c: functools.partial(int, c), "partial.args[0]"),
        (lambda c: {"k": Model, "f": lambda: c}, "refusal_closure.<closure c>"),
        (lambda c: (i for i in ()), "generator"),
    ],
)
def test_path_to_the_culprit(make: Any, path: str, connection: sqlite3.Connection) -> None:
    error = refusal(make(connection))
    if "closure" in path:
        assert error.path.endswith("<lambda>.<closure c>")
    else:
        assert error.path == path
    assert error.culprit_type in ("Connection", "generator")
    assert str(error).startswith(f"{error.path}: cannot pickle ")
    assert isinstance(error.__cause__, TypeError)


def test_is_what_users_of_multiprocessing_catch(connection: sqlite3.Connection) -> None:
    error = refusal(connection)
    assert isinstance(error, pickle.PicklingError) and isinstance(error, TypeError)
    assert issubclass(CannotSend, _pickle.PicklingError)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_survives_pickling(connection: sqlite3.Connection, protocol: int) -> None:
    error = refusal(Analyzer(connection)).about("argument 1 of f")
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is CannotSend and str(again) == str(error)
    assert (again.path, again.culprit_type, again.what) == (
        "Analyzer.model.handle",
        "Connection",
        "argument 1 of f",
    )
    assert again.__notes__ == ["a note"]


def test_about_says_what_was_to_be_sent(connection: sqlite3.Connection) -> None:
    error = refusal(Analyzer(connection))
    named = error.about("argument 1 of f")
    assert str(named).startswith("cannot send argument 1 of f: Analyzer.model.handle: cannot ")
    assert named.__cause__ is error.__cause__ is not None
    with pytest.raises(CannotSend, match="^cannot send function 'Analyzer.work': Analyzer"):
        dumps_function(Analyzer(connection).work)


def test_primitives_of_multiprocessing(tmp_path: Any) -> None:
    run_main(
        """
        import multiprocessing
        for method in "fork", "spawn":
            context = multiprocessing.get_context(method)
            for make in (context.Lock, context.RLock, context.Event, context.Queue,
                         context.Semaphore, context.Condition, lambda: context.Barrier(2),
                         lambda: context.Value("i", 1), lambda: context.Array("i", 2)):
                try:
                    dumps_to_worker({"x": make()})
                except CannotSend as error:
                    assert isinstance(error.__cause__, RuntimeError), error.__cause__
                    assert "inheritance (give it to the pool in initargs" in str(error), error
                else:
                    raise AssertionError(make)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            try:
                dumps_to_worker([pool])
            except CannotSend as error:
                assert isinstance(error.__cause__, NotImplementedError)
        """,
        tmp_path,
        preamble="from pool._pickling import *\n",
    )


async def written_with_async() -> int:
    return 1


async def written_with_both() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("dumps", [dumps_to_worker, dumps_to_parent])
def test_what_async_functions_and_generators_give_is_remedied_by_how_they_are_called(
    dumps: Any,
) -> None:
    coroutine = written_with_async()
    try:
        with pytest.raises(CannotSend, match=r"plain one that calls asyncio\.run"):
            dumps([coroutine])
    finally:
        coroutine.close()
    with pytest.raises(CannotSend, match="plain one that calls"):
        dumps(written_with_both())
    with pytest.raises(CannotSend, match="make a list of what it yields") as caught:
        dumps({"rows": (i for i in ())})
    assert "__getstate__" not in str(caught.value)


def test_results_too(connection: sqlite3.Connection) -> None:
    with pytest.raises(CannotSend, match=r"Analyzer\.model\.handle"):
        dumps_to_parent(Analyzer(connection))


@pytest.mark.parametrize(
    ("module", "base", "name"),
    [("botocore.client", "BaseClient", "S3"), ("boto3.resources.factory", "ServiceResource", "s3")],
)
def test_clients_of_boto3_are_refused_at_once(module: str, base: str, name: str) -> None:
    """Stand-ins. Not one of their parts is tried: they hold a million objects."""

    class Watched:
        tries = 0

        def __reduce__(self) -> Any:
            Watched.tries += 1
            return Watched, ()

    parent = type(base, (), {"__module__": module})
    client: Any = type(name, (parent,), {"__module__": module})()
    client.models, client.lock = Watched(), CONNECTION
    assert refusal(Analyzer(client)).path == "Analyzer.model.handle"
    with pytest.raises(CannotSend, match=f"cannot pickle '{name}' object"):
        dumps_function(lambda: client)
    assert Watched.tries == 0


def test_deep_nesting_is_refused_not_fatal() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    error = refusal(deep)
    assert isinstance(error.__cause__, (RecursionError, pickle.PicklingError))
    while deep:  # take it apart, which its destructor could not do at once
        deep = deep[0]


class Raises:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("mine")


class RaisesValueError:
    def __reduce__(self) -> Any:
        raise ValueError("mine")


class Proxy:
    def __reduce__(self) -> Any:
        raise NotImplementedError("object proxy must define __reduce__()")


def test_what_says_that_it_does_not_implement_pickling_is_refused() -> None:
    assert refusal(Analyzer(Proxy())).path == "Analyzer.model.handle"


def test_errors_of_the_objects_own_are_not_disguised() -> None:
    with pytest.raises(ZeroDivisionError, match="mine"):
        dumps_to_worker([Raises()])
    with pytest.raises(ValueError, match="mine") as caught:
        dumps_to_worker([RaisesValueError()])
    assert type(caught.value) is ValueError


def test_pointers_of_ctypes() -> None:
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(abs)
    for culprit in (callback, ctypes.pointer(ctypes.c_int(1)), ctypes.c_char_p(b"x")):
        error = refusal(Analyzer(culprit))
        assert error.path == "Analyzer.model.handle"
        assert type(error.__cause__) is ValueError
    assert dumps_to_worker(ctypes.c_int(1)).data


def test_plain_ctypes_travel_though_shared_ones_of_the_type_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As with the first shared value of a type, whose memory would outlive this test.
    reducers: Any = ForkingPickler
    monkeypatch.setitem(reducers._extra_reducers, ctypes.c_short, sharedctypes.reduce_ctype)
    assert loads(dumps_to_worker(ctypes.c_short(2)).data, []).value == 2


def test_refusal_leaves_no_trace(connection: sqlite3.Connection) -> None:
    thing = Analyzer(connection)
    refusal(thing)
    thing.model.handle = threading.Lock()
    assert dumps_to_worker(thing).data


def test_culprits_in_what_functions_and_classes_use(tmp_path: Any) -> None:
    run_main(
        """
        import sqlite3
        connection = sqlite3.connect(":memory:")
        def outer(): return inner()
        def inner(): return connection
        class Holder:
            shared = connection
        class Base: pass
        class Derived(Base):
            def use(self): return connection
        def default(c=connection): return c
        def hung(): pass
        hung.tag = connection
        for func, path in [
            (outer, "outer.<global inner>.<global connection>"),
            (Holder, "Holder.shared"),
            (lambda: Holder(), "<lambda>.<global Holder>.shared"),
            (Derived, "Derived.use.<global connection>"),
            (default, "default.<default>"),
            (hung, "hung.tag"),
        ]:
            try:
                dumps_function(func)
            except CannotSend as error:
                assert error.path == path, (error.path, path)
                assert str(error).startswith(f"cannot send function {func.__qualname__!r}: {path}")
            else:
                raise AssertionError(path)
        connection.close()
        connection = None
        assert w(outer) is None
        """,
        tmp_path,
    )
