"""What errors bring along on their way: references, handles, classes of their own."""

from __future__ import annotations

import asyncio
import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rayprograms import ended
from raytasks import Counter, double

import pool
import store
from pool import exceptions


class Carrying(Exception):
    """Bring references along."""

    def __init__(self, *brought: Any) -> None:
        super().__init__("see brought", *brought)
        self.brought = brought


def carry() -> None:
    counter = Counter.remote(5)
    raise Carrying(pool.put([1, 2]), {"task": double.remote(3)}, [counter, counter])


@pool.remote
class Carrier:
    def __init__(self, refuse: bool = False) -> None:
        if refuse:
            carry()

    def fail(self) -> None:
        carry()

    def some(self) -> Any:
        yield 1
        carry()

    def gets(self, refs: list[Any]) -> Any:
        try:
            pool.get(refs)
        except Carrying as error:
            return what(error)


@pool.remote
class AsyncCarrier:
    async def fail(self) -> None:
        carry()


def what(error: Any) -> Any:
    put, task, (counter, same) = error.brought
    assert counter == same
    return [pool.get(put), pool.get(task["task"]), pool.get(counter.add.remote())]


def test_references_inside_of_errors(ray: Any) -> None:
    task = ray.remote(carry)
    carrier, threaded = Carrier.remote(), Carrier.options(max_concurrency=2).remote()
    for ref in (
        task.remote(),
        task.options(num_cpus=2).remote(),
        carrier.fail.remote(),
        threaded.fail.remote(),
        AsyncCarrier.remote().fail.remote(),
        list(carrier.some.remote())[1],
    ):
        with pytest.raises(Carrying) as caught:
            ray.get(ref)
        assert what(caught.value) == [[1, 2], 6, 6]
    failed = task.remote()
    assert ray.get(carrier.gets.remote([failed])) == [[1, 2], 6, 6]
    assert ray.get(carrier.gets.remote([failed])) == [[1, 2], 6, 7]
    with pytest.raises(exceptions.ActorDiedError) as died:
        ray.get(Carrier.remote(True).fail.remote())
    assert what(died.value.__cause__.cause) == [[1, 2], 6, 6]


def test_what_errors_brought_along_is_free_when_they_are(ray: Any) -> None:
    task, carrier = ray.remote(carry), Carrier.remote()
    for failing in (task.remote, carrier.fail.remote):
        with pytest.raises(Carrying) as caught:
            ray.get(failing())
        pid = ray.get(caught.value.brought[2][0].pid.remote())
        del caught
        # Its last handle was in the error.
        gc.collect()
        assert ended(pid)


def test_errors_of_a_class_that_only_one_task_knows(ray: Any, tmp_path: Path) -> None:
    def outer(folder: str) -> Any:
        class Local(Exception):
            pass

        @pool.remote
        def shaky(folder: str) -> int:
            tries = len(list(Path(folder).iterdir()))
            (Path(folder) / str(tries)).touch()
            if tries < 2:
                raise Local
            return tries

        with pytest.raises(Local):
            pool.get(shaky.remote(folder))
        return pool.get(shaky.options(retry_exceptions=[Local]).remote(folder))

    assert ray.get(ray.remote(outer).remote(str(tmp_path))) == 2


class Bearing(Exception):
    """Has what it is given as an attribute: references of the store, for one."""

    def __init__(self, *brought: Any) -> None:
        super().__init__("brings something along")
        self.brought = brought

    def __reduce__(self) -> Any:
        return Bearing, self.brought


def content(error: BaseException) -> float:
    (ref, *_) = error.brought  # type: ignore[attr-defined]  # a Bearing, perhaps as a RayTaskError
    return float(store.get(ref).sum())


class NotHere:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("not here",)


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_function_that_cannot_be_unpickled_fails_its_task(ray: Any, cpus: int) -> None:
    thing = NotHere()

    def use() -> Any:
        return thing

    with pytest.raises(ValueError, match="not here") as caught:
        ray.get(ray.remote(use).options(num_cpus=cpus).remote())
    assert isinstance(caught.value, exceptions.RayTaskError)


def test_references_of_the_store_inside_of_errors(ray: Any) -> None:
    ref = store.put(np.ones(100_000))

    @ray.remote
    def fail(*refs: Any) -> None:
        raise Bearing(*refs[0])

    @ray.remote(num_returns=2)
    def yield_and_fail(refs: Any) -> Any:
        yield 1
        raise Bearing(*refs)

    @ray.remote
    class Failing:
        def fail(self, refs: Any) -> None:
            raise Bearing(*refs)

    # Alone, and beside one of the runtime's, which has it pickled in another way.
    for refs in ([ref], [ref, ray.put(2)]):
        for failing in (fail.remote(refs), Failing.remote().fail.remote(refs)):
            with pytest.raises(Bearing) as caught:
                ray.get(failing)
            assert content(caught.value) == 100_000
    first, second = yield_and_fail.remote([ref])
    assert ray.get(first) == 1
    with pytest.raises(Bearing) as caught:
        ray.get(second)
    assert content(caught.value) == 100_000


class Slotted(Exception):
    """Keep a field outside of its `__dict__`."""

    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "none", "/there"),
        UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "odd"),
        ImportError("none", name="module", path="/there"),
        SyntaxError("odd", ("file", 3, 4, "text")),
        StopIteration(5),
        Slotted(7),
    ],
    ids=lambda error: type(error).__name__,
)
def test_fields_that_errors_have_beside_their_dict(ray: Any, error: Exception) -> None:
    @ray.remote
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        ray.get(fail.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)
    names = ("errno", "filename", "start", "reason", "name", "path", "lineno", "value", "code")
    fields = {name: getattr(error, name) for name in names if hasattr(error, name)}
    assert fields
    assert fields == {name: getattr(caught.value, name) for name in fields}


def test_the_end_of_an_iterator_is_an_error_where_it_is_awaited(ray: Any) -> None:
    @ray.remote
    class Items:
        def __init__(self) -> None:
            self.items = iter([1])

        def next(self) -> int:
            return next(self.items)

    items = Items.remote()
    assert ray.get(items.next.remote()) == 1

    async def wait() -> Any:
        return await items.next.remote()

    with pytest.raises(exceptions.RayTaskError, match="StopIteration") as caught:
        asyncio.run(wait())
    assert isinstance(caught.value.cause, StopIteration)
    with pytest.raises(StopIteration):  # as one of such an iterator expects it
        ray.get(items.next.remote())


class Explained(Exception):
    """Have properties of names that a `RayTaskError` sets."""

    @property
    def cause(self) -> str:
        return "its own"

    @property
    def args(self) -> tuple[str]:  # type: ignore[override]  # it cannot be set
        return ("its own",)


def test_errors_with_properties_of_the_same_names(ray: Any) -> None:
    @ray.remote
    def fail() -> None:
        raise Explained

    with pytest.raises(Explained) as caught:
        ray.get(fail.remote())
    cause: Any = caught.value.cause
    assert isinstance(cause, Explained)
    assert cause.cause == "its own"


def test_groups_of_errors_are_groups(ray: Any) -> None:
    @ray.remote
    class Group:
        async def fail(self) -> None:
            async with asyncio.TaskGroup() as tasks:
                for fail in (self.one, self.other):
                    tasks.create_task(fail())

        async def one(self) -> None:
            raise ValueError("one")

        async def other(self) -> None:
            raise KeyError("other")

    met = []
    try:
        ray.get(Group.remote().fail.remote())
    except* ValueError as group:
        met += group.exceptions
    except* KeyError as group:
        met += group.exceptions
    assert [type(error) for error in met] == [ValueError, KeyError]
    with pytest.raises(ExceptionGroup, match="unhandled errors") as caught:
        ray.get(Group.remote().fail.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)


def test_classes_that_each_task_defines_are_forgotten(ray: Any) -> None:
    @ray.remote
    def fail() -> None:
        class Local(Exception):
            pass

        raise Local

    before = len(exceptions._classes)
    for _ in range(5):
        with pytest.raises(exceptions.RayTaskError, match="Local"):
            ray.get(fail.remote())
    gc.collect()
    assert len(exceptions._classes) <= before


def test_notes_are_added_to_what_was_raised(ray: Any) -> None:
    @ray.remote
    def fail() -> None:
        error = ValueError("noted")
        error.add_note("of the task")
        raise error

    ref = fail.remote()
    for _ in range(2):
        with pytest.raises(ValueError, match="noted") as caught:
            ray.get(ref)
        assert caught.value.__notes__[0] == "of the task"
        assert "of the program" not in caught.value.__notes__
        caught.value.add_note("of the program")


class Big(MemoryError):
    """A kind of `MemoryError`, as numpy has one."""


class Skipped(BaseException):
    """Stands beside `Exception`, like what ends a test of pytest."""

    def __init__(self, reason: str, *, code: int) -> None:
        super().__init__(reason)
        self.code = code


@pytest.mark.parametrize("error", [MemoryError("no room"), Big("no room")], ids=repr)
def test_want_of_memory_is_raised_as_such(ray: Any, error: MemoryError) -> None:
    @ray.remote
    def fail() -> None:
        raise error

    with pytest.raises(type(error), match="no room") as caught:
        ray.get(fail.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)


@pytest.mark.parametrize(
    "error", [Skipped("not today", code=3), asyncio.CancelledError("not today")], ids=repr
)
def test_errors_that_are_no_exceptions_are_raised_as_such(ray: Any, error: BaseException) -> None:
    @ray.remote
    def fail() -> None:
        raise error

    with pytest.raises(type(error), match="not today") as caught:
        ray.get(fail.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert vars(error).items() <= vars(caught.value).items()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_what_ends_a_task_does_not_end_the_program(ray: Any, error: BaseException) -> None:
    @ray.remote
    def fail() -> None:
        raise error

    with pytest.raises(exceptions.RayTaskError) as caught:
        ray.get(fail.remote())
    assert not isinstance(caught.value, type(error))
    assert isinstance(caught.value.cause, type(error))


def test_the_first_argument_of_an_error_is_what_was_raised(ray: Any) -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError("shown")

    with pytest.raises(ValueError, match="shown") as caught:
        ray.get(fail.remote())
    assert list(map(str, caught.value.args)) == ["shown"]
    assert repr(caught.value) == "RayTaskError(ValueError)(ValueError('shown'))"


def test_an_error_that_is_passed_on_tells_where_it_was_raised(ray: Any) -> None:
    @ray.remote
    class Failing:
        def fail(self) -> None:
            raise KeyError("missing")

    @ray.remote
    def passes_on(failing: Any) -> None:
        pool.get(failing.fail.remote())

    @ray.remote
    def passes_on_again(failing: Any) -> None:
        pool.get(passes_on.remote(failing))

    failing = Failing.remote()
    first, *others = [
        failing.fail.remote(), passes_on.remote(failing), passes_on_again.remote(failing)
    ]  # fmt: skip
    with pytest.raises(KeyError) as caught:
        ray.get(first)
    error: Any = caught.value
    assert error.traceback_str.startswith("Traceback (most recent call last):\n")
    assert error.traceback_str.endswith("KeyError: 'missing'")
    for ref, names in zip(others, (["passes_on"], ["passes_on", "passes_on_again"]), strict=True):
        with pytest.raises(KeyError) as caught:
            ray.get(ref)
        for one in (caught.value, pickle.loads(pickle.dumps(caught.value))):
            assert isinstance(one, exceptions.RayTaskError) and type(one.cause) is KeyError
            for name in ("fail", *names):
                assert f", in {name}\n" in one.traceback_str
                assert f", in {name}\n" in str(one)
    assert exceptions.RayTaskError("f", KeyError()).traceback_str == ""
