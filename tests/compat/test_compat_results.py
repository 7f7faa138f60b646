"""Check the handles: `get`, `wait`, `ready`, `successful`, callbacks, and what errors carry."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import pickle
import threading
import traceback
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE, Flavour, Gate
from pooltasks import (
    Large,
    Proxy,
    Rebuilt,
    Settings,
    Unsendable,
    Unshown,
    add,
    divide,
    divide_by,
    fail_at_three,
    fail_rebuilt,
    fail_unsendable,
    fail_with,
    have_and_fail,
    hold,
    identity,
    keyboard_interrupt,
    number_left,
    pid,
    square,
    system_exit,
    unpicklable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Public, but not in the type stubs.
standard_pool: Any = importlib.import_module("multiprocessing.pool")

STANDARD_FAILS = {
    "test_exceptions_that_cannot_be_rebuilt_keep_their_type": "the result thread dies; get() hangs",
    "test_exceptions_that_end_a_process_are_outcomes": "the worker ends and get() hangs",
    "test_an_error_that_was_caught_keeps_nothing_of_its_callers": "it is in a cycle",
    "test_a_call_that_workers_inherit_keeps_nothing_of_its_callers": "cannot pickle the function",
    "test_results_of_a_terminated_pool_are_errors": "get() hangs after terminate()",
}


def test_get_wait_ready_successful(make_pool: Callable[..., Any], gate: Gate) -> None:
    result = make_pool(1).apply_async(hold, (gate.path, "value"))
    gate.entered()
    assert result.ready() is False
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    assert result.wait(0.01) is None
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0)
    assert result.ready() is False
    gate.release()
    assert result.wait() is None
    assert result.ready() is True
    assert result.successful() is True
    assert [result.get(), result.get(timeout=0), result.get(1)] == ["value"] * 3


@pytest.mark.parametrize("method", ["map_async", "starmap_async"])
def test_results_of_maps(make_pool: Callable[..., Any], gate: Gate, method: str) -> None:
    items = [gate.path] * 2 if method == "map_async" else [(gate.path, 1)] * 2
    result = getattr(make_pool(2), method)(hold, items, 1)
    gate.entered()
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    gate.release(2)
    result.wait(PATIENCE)
    assert result.ready()
    assert result.successful()
    assert result.get(0) == ([None] * 2 if method == "map_async" else [1, 1])


def test_a_failed_result(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    for result in (pool.apply_async(divide, (1, 0)), pool.starmap_async(divide, [(1, 0)])):
        result.wait(PATIENCE)
        assert result.ready() is True
        assert result.successful() is False
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                result.get(0)


def test_get_waits_for_the_others_to_finish(make_pool: Callable[..., Any], gate: Gate) -> None:
    result = make_pool(1).map_async(_fail_or_hold, [None, gate.path], 1)
    gate.entered()  # by the one worker, so the other one has failed
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.05)
    gate.release()
    with pytest.raises(ValueError, match="failed first"):
        result.get(PATIENCE)


def _fail_or_hold(path: str | None) -> None:
    if path is None:
        raise ValueError("failed first")
    hold(path)


def test_timeouts_are_the_standard_s_type(make_pool: Callable[..., Any], gate: Gate) -> None:
    result = make_pool(1).apply_async(hold, (gate.path,))
    with pytest.raises(multiprocessing.TimeoutError) as caught:
        result.get(0.01)
    assert isinstance(caught.value, multiprocessing.ProcessError)
    gate.release()


@pytest.mark.parametrize("chunksize", [1, 4])
def test_what_cannot_be_sent_is_named_once(
    flavour: Flavour, make_pool: Callable[..., Any], chunksize: int
) -> None:
    if flavour.standard:
        pytest.skip("multiprocessing: the error names no item")
    items = [[n] for n in range(7)] + [["kept", (n for n in ())]]
    with pytest.raises(pickle.PicklingError) as caught:
        make_pool(1).map(len, items, chunksize)
    # Where it is in the item, not in the chunk; and no other item of the chunk is blamed.
    assert str(caught.value).startswith("[1]: generator: cannot pickle")
    assert caught.value.__notes__ == ["while sending item 7 of map(len)"]


def test_handles_are_async_results(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    names = {"get", "wait", "ready", "successful"}
    assert names <= set(dir(pool.apply_async(square, (2,))))
    assert names <= set(dir(pool.map_async(square, [2])))
    assert {"next", "__next__", "__iter__"} <= set(dir(pool.imap(square, [2])))
    pool.close()
    pool.join()


def test_handles_are_told_apart(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    handles = [pool.apply_async(square, (n,)) for n in range(3)]
    assert [handle.get() for handle in handles] == [0, 1, 4]
    assert len({repr(handle) for handle in handles}) == 3


@pytest.mark.parametrize("method", ["map_async", "imap"])
def test_handles_are_shown_as_they_are(make_pool: Callable[..., Any], method: str) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    handle = getattr(make_pool(1), method)(square, [2])
    shown = formatters.DisplayFormatter().format(handle)[0]["text/plain"]
    name = type(handle).__qualname__
    assert shown.startswith((f"<{name} ", f"<{type(handle).__module__}.{name} at"))


@pytest.mark.parametrize("method", ["apply_async", "map_async", "imap"])
def test_a_result_that_was_taken_does_not_keep_its_pool(flavour: Flavour, method: str) -> None:
    pool = flavour.make(1)
    given: Any = (2,) if method == "apply_async" else [2]
    result = getattr(pool, method)(square, given)
    assert (list(result) == [4]) if method == "imap" else result.get(PATIENCE)
    pool.terminate()
    pool.join()
    left = weakref.ref(pool)
    del pool
    gc.collect()
    assert left() is None
    assert result is not None


def read_and_fail() -> Any:
    yield 1
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda pool: pool.apply(divide, (1, 0)), id="apply"),
        pytest.param(lambda pool: pool.apply(divide, (1,), {"b": 0}), id="apply with a name"),
        pytest.param(lambda pool: pool.apply_async(divide, (1, 0)).get(), id="apply_async"),
        pytest.param(lambda pool: pool.map(divide_by, [1, 0]), id="map"),
        pytest.param(lambda pool: pool.starmap(divide, [(1, 0)]), id="starmap"),
        pytest.param(lambda pool: pool.map_async(divide_by, [1, 0]).get(), id="map_async"),
        pytest.param(lambda pool: list(pool.imap(divide_by, [0])), id="imap"),
        pytest.param(lambda pool: list(pool.imap(divide_by, [1, 0], 2)), id="imap in chunks"),
        pytest.param(lambda pool: pool.imap(divide_by, [0]).next(), id="next"),
        pytest.param(lambda pool: list(pool.imap_unordered(divide_by, [0])), id="imap_unordered"),
        pytest.param(lambda pool: list(pool.imap(identity, read_and_fail())), id="input of imap"),
        pytest.param(lambda pool: pool.map(identity, read_and_fail()), id="input of map"),
    ],
)
def test_an_error_that_was_caught_keeps_nothing_of_its_callers(
    make_pool: Callable[..., Any], call: Callable[[Any], object]
) -> None:
    keeps_nothing(call, make_pool(1), ZeroDivisionError)


@pytest.mark.parametrize("method", ["apply", "map", "imap"])
def test_a_call_that_workers_inherit_keeps_nothing_of_its_callers(
    make_pool: Callable[..., Any], method: str
) -> None:
    numbers = (number for number in [1])
    given: Any = (numbers,) if method == "apply" else [numbers]
    keeps_nothing(lambda pool: getattr(pool, method)(bool, given), make_pool(1), None)


@pytest.mark.parametrize("how", ["error", "error with a part", "result"])
def test_a_task_that_failed_leaves_nothing_in_its_worker(
    make_pool: Callable[..., Any], how: str
) -> None:
    pool = make_pool(1)
    with pytest.raises(Exception):  # noqa: B017  # whatever each library makes of it
        pool.apply(have_and_fail, (how,))
    assert pool.apply(number_left) == 0


@pytest.mark.every_method
@pytest.mark.parametrize("end", ["close", "terminate"])
def test_what_the_initializer_was_given_goes_with_the_pool(flavour: Flavour, end: str) -> None:
    def use(large: object) -> None:
        pool = flavour.make(1, identity, (large,))
        assert pool.apply(square, (2,)) == 4
        getattr(pool, end)()
        pool.join()

    goes(use)


def keeps_nothing(
    call: Callable[[Any], object], pool: Any, expected: type[BaseException] | None
) -> None:
    """Check that what the caller of `call` has goes with it."""

    def make_call(_: object) -> None:
        raised: type[BaseException] | None = None
        try:
            call(pool)
        except Exception as error:
            raised = type(error)
        assert raised is expected

    goes(make_call)


def goes(use: Callable[[Large], object]) -> None:
    """Check that what was used goes without the collector."""
    gone = threading.Event()

    def make_and_use() -> None:
        large = Large()
        weakref.finalize(large, gone.set)
        use(large)

    gc.disable()
    try:
        make_and_use()
        assert gone.wait(PATIENCE)
    finally:
        gc.enable()


def test_a_result_outlives_its_pool(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    result = pool.map_async(square, [1, 2])
    pool.close()
    pool.join()
    assert result.get(0) == [1, 4]


def test_callback_gets_the_value_once_and_before_get(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    for _ in range(20):
        seen: list[Any] = []
        result = pool.apply_async(add, (1, 2), callback=seen.append, error_callback=seen.append)
        assert result.get(PATIENCE) == 3
        assert seen == [3]
    many: list[Any] = []
    jobs = [pool.apply_async(square, (n,), {}, many.append) for n in range(100)]
    values = [job.get(PATIENCE) for job in jobs]
    assert sorted(many) == values


def test_error_callback_gets_the_exception(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    seen: list[Any] = []
    result = pool.apply_async(divide, (1, 0), callback=seen.append, error_callback=seen.append)
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(PATIENCE)
    assert seen == [caught.value]
    assert seen[0] is caught.value
    pool.apply_async(divide, (1, 0), {}, None, seen.append).wait(PATIENCE)
    assert len(seen) == 2


@pytest.mark.parametrize("method", ["map_async", "starmap_async"])
def test_callbacks_of_maps_get_the_whole_list_once(
    make_pool: Callable[..., Any], method: str
) -> None:
    pool = make_pool(2)
    seen: list[Any] = []
    items: list[Any] = list(range(10)) if method == "map_async" else [(n,) for n in range(10)]
    call = getattr(pool, method)
    assert call(identity, items, 2, seen.append, None).get(PATIENCE) == list(range(10))
    assert seen == [list(range(10))]
    failed: list[Any] = []
    result = call(
        fail_at_three, items, chunksize=2, callback=seen.append, error_callback=failed.append
    )
    with pytest.raises(KeyError):
        result.get(PATIENCE)
    assert len(seen) == 1
    assert [type(error) for error in failed] == [KeyError]


@pytest.mark.parametrize("method", ["map_async", "starmap_async"])
def test_no_callback_of_a_map_of_nothing_is_called(
    make_pool: Callable[..., Any], method: str
) -> None:
    pool = make_pool(1)
    seen: list[Any] = []
    assert getattr(pool, method)(identity, [], None, seen.append, seen.append).get(PATIENCE) == []
    pool.close()
    pool.join()  # by then it would have been called
    assert seen == []


class Refusing:
    """Raises when it is pickled."""

    def __reduce__(self) -> Any:
        raise LookupError("not to be sent")


@pytest.mark.parametrize("method", ["apply_async", "map_async", "starmap_async"])
def test_what_cannot_be_sent_is_told_by_another_thread(
    make_pool: Callable[..., Any], method: str
) -> None:
    # Who submits may hold a lock that the callback takes.
    lock, told = threading.Lock(), threading.Event()
    seen: list[Any] = []

    def failed(error: BaseException) -> None:
        seen.append(threading.current_thread())
        told.set()
        if seen[0] is not threading.main_thread():
            with lock:
                seen.append(error)

    arguments: Any = {"apply_async": (Refusing(),), "map_async": [Refusing()]}
    pool = make_pool(1)
    with lock:
        given = arguments.get(method, [(Refusing(),)])
        result = getattr(pool, method)(identity, given, error_callback=failed)
        assert told.wait(PATIENCE)
        assert seen[0] is not threading.main_thread() and len(seen) == 1
    with pytest.raises(LookupError, match="not to be sent"):
        result.get(PATIENCE)
    assert type(seen[1]) is LookupError
    assert pool.map(square, range(3)) == [0, 1, 4]


def test_callbacks_do_not_overlap(make_pool: Callable[..., Any]) -> None:
    # Programs append to lists and write to files in callbacks, with no lock.
    pool = make_pool(2)
    busy = threading.Lock()
    overlaps: list[bool] = []

    def callback(value: int) -> None:
        free = busy.acquire(blocking=False)
        overlaps.append(not free)
        sum(range(2000))
        if free:
            busy.release()

    jobs = [pool.apply_async(square, (n,), callback=callback) for n in range(200)]
    waiters = [threading.Thread(target=jobs[n].get) for n in (50, 100, 150)]
    for waiter in waiters:
        waiter.start()
    for waiter in waiters:
        waiter.join()
    pool.close()
    pool.join()
    assert overlaps == [False] * 200


def test_a_callback_may_submit(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    done = threading.Event()
    seen: list[int] = []

    def again(value: int) -> None:
        seen.append(value)
        if value < 5:
            pool.apply_async(add, (value, 1), callback=again)
        else:
            done.set()

    pool.apply_async(add, (0, 1), callback=again)
    # Nobody waits for a result here: work must go on all the same.
    assert done.wait(PATIENCE)
    assert seen == [1, 2, 3, 4, 5]


def test_callbacks_run_though_nobody_waits(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    done = threading.Event()
    pool.map_async(square, range(10), callback=lambda values: done.set())
    assert done.wait(PATIENCE)


def test_callbacks_may_take_a_lock_that_their_submitter_holds(
    make_pool: Callable[..., Any],
) -> None:
    # They come by another thread, and wait until it is free.
    pool = make_pool(2)
    lock = threading.Lock()
    seen: list[int] = []

    def note(value: int) -> None:
        with lock:
            seen.append(value)

    for start in range(0, 4000, 400):
        results = []
        for n in range(start, start + 400):
            with lock:
                results.append(pool.apply_async(square, (n,), callback=note))
                results[len(results) // 2].ready()
        assert [result.get() for result in results] == [n * n for n in range(start, start + 400)]
    pool.close()
    pool.join()
    assert sorted(seen) == [n * n for n in range(4000)]


def test_join_waits_for_callbacks(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    seen: list[int] = []
    for n in range(50):
        pool.apply_async(square, (n,), callback=seen.append)
    pool.close()
    pool.join()
    assert sorted(seen) == [n * n for n in range(50)]


@pytest.mark.every_method
def test_errors_carry_the_worker_s_traceback(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    calls: list[Callable[[], Any]] = [
        lambda: pool.apply(divide, (1, 0)),
        lambda: pool.starmap(divide, [(1, 0)]),
        lambda: pool.map(fail_at_three, range(5)),
        lambda: list(pool.imap(fail_at_three, range(5))),
        lambda: list(pool.imap_unordered(fail_at_three, range(5), 2)),
    ]
    for call in calls:
        with pytest.raises((ZeroDivisionError, KeyError)) as caught:
            call()
        cause: Any = caught.value.__cause__
        assert type(cause) is standard_pool.RemoteTraceback
        assert "Traceback (most recent call last)" in cause.tb
        assert "pooltasks.py" in str(cause)
        assert "return a / b" in str(cause) or 'raise KeyError("three")' in str(cause)
        shown = "".join(traceback.format_exception(caught.value))
        assert "direct cause" in shown
        assert "pooltasks.py" in shown


def test_errors_of_an_object_with_odd_attributes(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    calls: list[Callable[[], Any]] = [
        lambda: pool.apply(Settings(), (0,)),
        lambda: pool.apply_async(Settings(), (0,)).get(PATIENCE),
        lambda: pool.map(Settings(), [1, 0]),
        lambda: list(pool.imap(Settings(), [1, 0])),
    ]
    for call in calls:
        with pytest.raises(ZeroDivisionError):
            call()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text", 5),
        KeyError("key"),
        OSError(2, "No such file", "/a/b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ExceptionGroup("several", [ValueError(1), TypeError(2)]),
        multiprocessing.TimeoutError("slow"),
        MemoryError(),
        AssertionError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_arrive_as_they_were(make_pool: Callable[..., Any], error: Exception) -> None:
    pool = make_pool(1)
    calls: list[Callable[[], Any]] = [
        lambda: pool.apply(fail_with, (error,)),
        lambda: pool.map(fail_with, [error]),
    ]
    for call in calls:
        with pytest.raises(type(error)) as caught:
            call()
        assert type(caught.value) is type(error)
        assert str(caught.value) == str(error)
        assert repr(caught.value.args) == repr(error.args)


def test_attributes_and_notes_survive(make_pool: Callable[..., Any]) -> None:
    error = ValueError("text")
    error.add_note("a note")
    error.extra = [1, 2]  # type: ignore[attr-defined]  # an attribute of its own
    with pytest.raises(ValueError, match="text") as caught:
        make_pool(1).apply(fail_with, (error,))
    assert "a note" in caught.value.__notes__
    assert caught.value.extra == [1, 2]  # type: ignore[attr-defined]  # an attribute of its own


@pytest.mark.parametrize(
    "notes", [{"a": 1}, 7, [Unshown()], ()], ids=["dict", "int", "odd", "none"]
)
def test_exceptions_may_have_notes_that_are_none(make_pool: Callable[..., Any], notes: Any) -> None:
    error = ValueError("text")
    error.__notes__ = notes
    pool = make_pool(1)
    before = pool.apply(pid)
    for call in (pool.apply, lambda *args: pool.map_async(*args).get()):
        with pytest.raises(ValueError) as caught:
            call(fail_with, (error,))
        assert caught.value.args == ("text",)
    assert pool.apply(pid) == before


def test_functions_may_have_names_that_are_none(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    before = pool.apply(pid)
    for call in (pool.apply, lambda *args: pool.map_async(*args).get()):
        with pytest.raises(ValueError, match="5"):
            call(Proxy(), (5,))
    assert pool.apply(pid) == before


def test_exceptions_that_cannot_be_rebuilt_keep_their_type(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    calls: list[Callable[[], Any]] = [
        lambda: pool.apply(fail_rebuilt, (5,)),
        lambda: pool.map(fail_rebuilt, [5]),
        lambda: next(pool.imap(fail_rebuilt, [5])),
        lambda: pool.starmap(fail_rebuilt, [(5,)]),
    ]
    for call in calls:
        with pytest.raises(Rebuilt, match="5: lost") as caught:
            call()
        assert (caught.value.code, caught.value.text) == (5, "lost")
    assert pool.apply(square, (2,)) == 4


@pytest.mark.parametrize("task", [system_exit, keyboard_interrupt], ids=lambda f: f.__name__)
def test_exceptions_that_end_a_process_are_outcomes(
    make_pool: Callable[..., Any], task: Callable[[str], None]
) -> None:
    pool = make_pool(1)
    kind = SystemExit if task is system_exit else KeyboardInterrupt
    calls: list[Callable[[], Any]] = [
        lambda: pool.apply(task, ("leaving",)),
        lambda: pool.map(task, ["leaving"]),
        lambda: next(pool.imap(task, ["leaving"])),
        lambda: pool.apply_async(task, ("leaving",)).get(PATIENCE),
    ]
    for call in calls:
        with pytest.raises(kind, match="leaving"):
            call()
    assert pool.apply(square, (2,)) == 4


@pytest.mark.every_method
def test_results_that_cannot_be_sent(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    calls: list[Callable[[], Any]] = [
        lambda: pool.apply(unpicklable),
        lambda: pool.map(unpicklable, [1, 2], 1),
        lambda: next(pool.imap(unpicklable, [1])),
        lambda: pool.starmap(unpicklable, [()]),
    ]
    for call in calls:
        with pytest.raises(standard_pool.MaybeEncodingError) as caught:
            call()
        error = caught.value
        assert isinstance(error.exc, str)
        assert isinstance(error.value, str)
        assert str(error).startswith("Error sending result: ")
        assert "Reason: " in str(error)
        assert "', '" not in str(error)  # the reason is one sentence, and no list of fields
    assert pool.apply(square, (2,)) == 4


def test_exceptions_that_cannot_be_sent(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    calls: list[Callable[[], Any]] = [
        lambda: pool.apply(fail_unsendable),
        lambda: pool.map(fail_unsendable, [1]),
    ]
    for call in calls:
        # Ours may find a way round and keep the type; the standard cannot.
        with pytest.raises((standard_pool.MaybeEncodingError, Unsendable), match="kept|stays here"):
            call()
    assert pool.apply(square, (2,)) == 4


def test_one_result_that_cannot_be_sent_is_alone(make_pool: Callable[..., Any]) -> None:
    iterator = make_pool(2).imap(_unpicklable_at_two, range(5))
    assert [next(iterator), next(iterator)] == [0, 1]
    with pytest.raises(standard_pool.MaybeEncodingError):
        next(iterator)
    assert list(iterator) == [3, 4]


def _unpicklable_at_two(n: int) -> object:
    return unpicklable() if n == 2 else n


def test_results_of_a_terminated_pool_are_errors(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(1)
    running = pool.apply_async(hold, (gate.path,))
    queued = pool.map_async(square, range(10))
    stream = pool.imap(square, range(10))
    gate.entered()
    pool.terminate()
    pool.join()
    for wait in (running.get, queued.get, stream.next):
        with pytest.raises(Exception) as caught:  # which error is ours to choose
            wait(PATIENCE)
        assert not isinstance(caught.value, multiprocessing.TimeoutError | StopIteration)
    assert running.ready()
    assert not running.successful()
