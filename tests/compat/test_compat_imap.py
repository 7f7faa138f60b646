"""Check `imap` and `imap_unordered`: laziness of the result, order, where an error appears."""

from __future__ import annotations

import itertools
import multiprocessing
import queue
import threading
import traceback
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE, Gate
from pooltasks import add, fail_at_three, hold, hold_negative, identity, odd_fails, pair_of, square

from pool import TaskCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

STANDARD_FAILS = {
    "test_endless_input_is_read_ahead_by_a_bounded_window": "reads all of its input at once",
    "test_endless_input_in_chunks": "reads all of its input at once",
    "test_reading_goes_on_only_as_results_are_taken": "reads all of its input at once",
    "test_an_abandoned_iterator_does_no_harm": "reads all of its input at once",
    "test_the_loop_may_change_what_it_was_given": "reads on meanwhile, mostly too soon to notice",
    "test_the_loop_may_change_what_it_was_given_whatever_it_asks_for": "knows no seed",
}

BOTH = ["imap", "imap_unordered"]


def breaks_off(good: int) -> Iterator[int]:
    """Yield some items, then fail."""
    yield from range(good)
    raise LookupError("input broke off")


def drain(iterator: Any) -> tuple[list[Any], BaseException | None]:
    """Take results until the end or the first error."""
    values = []
    try:
        for value in iterator:
            values.append(value)
    except Exception as error:
        return values, error
    return values, None


@pytest.mark.every_method
def test_imap_keeps_the_order(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    expected = [n * n for n in range(60)]
    assert list(pool.imap(square, range(60))) == expected
    assert list(pool.imap(square, range(60), 7)) == expected
    assert list(pool.imap(func=square, iterable=range(60), chunksize=60)) == expected
    assert sorted(pool.imap_unordered(square, range(60))) == expected
    assert sorted(pool.imap_unordered(square, range(60), chunksize=7)) == expected


@pytest.mark.parametrize("chunksize", [1, 2, 7, 1000])
@pytest.mark.parametrize("length", [0, 1, 2, 50])
@pytest.mark.parametrize("method", BOTH)
def test_any_chunksize(
    make_pool: Callable[..., Any], method: str, length: int, chunksize: int
) -> None:
    iterator = getattr(make_pool(2), method)(square, iter(range(length)), chunksize)
    assert sorted(iterator) == [n * n for n in range(length)]


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("chunksize", [0, -1, -100])
def test_bad_chunksizes_are_refused(
    make_pool: Callable[..., Any], method: str, chunksize: int
) -> None:
    pool = make_pool(1)
    with pytest.raises(ValueError, match=r"Chunksize must be 1\+"):
        getattr(pool, method)(square, [1], chunksize)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("chunksize", [1, 3])
def test_iterators_are_iterators(
    make_pool: Callable[..., Any], method: str, chunksize: int
) -> None:
    iterator = getattr(make_pool(1), method)(square, [2, 3], chunksize)
    assert iter(iterator) is iterator
    assert sorted([next(iterator), next(iterator)]) == [4, 9]
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(iterator)
    assert list(iterator) == []


@pytest.mark.parametrize("method", BOTH)
def test_next_with_timeout(make_pool: Callable[..., Any], gate: Gate, method: str) -> None:
    iterator = getattr(make_pool(1), method)(_hold_or_pass, [(gate.path, 7), (None, 8)])
    gate.entered()
    with pytest.raises(multiprocessing.TimeoutError):
        iterator.next(timeout=0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        iterator.next(0)
    gate.release()
    # A timeout loses nothing.
    assert iterator.next(timeout=PATIENCE) == 7
    assert iterator.next(PATIENCE) == 8
    with pytest.raises(StopIteration):
        iterator.next(timeout=PATIENCE)


def test_errors_of_waiting_are_about_that_alone(make_pool: Callable[..., Any], gate: Gate) -> None:
    iterator = make_pool(1).imap(hold, [gate.path])
    gate.entered()
    with pytest.raises(multiprocessing.TimeoutError) as caught:
        iterator.__next__(0.01)
    assert "IndexError" not in "".join(traceback.format_exception(caught.value))
    gate.release()


def _hold_or_pass(item: tuple[str | None, int]) -> int:
    path, value = item
    return value if path is None else int(hold(path, value))


def test_results_come_before_the_rest_is_done(make_pool: Callable[..., Any], gate: Gate) -> None:
    iterator = make_pool(1).imap(_hold_or_pass, [(None, 1), (None, 2), (gate.path, 3)])
    assert [next(iterator), next(iterator)] == [1, 2]
    gate.release()
    assert next(iterator) == 3


def test_unordered_results_overtake(make_pool: Callable[..., Any], gate: Gate) -> None:
    items = [(gate.path, 0), *((None, n) for n in range(1, 20))]
    iterator = make_pool(2).imap_unordered(_hold_or_pass, items)
    assert sorted(itertools.islice(iterator, 19)) == list(range(1, 20))
    gate.release()
    assert list(iterator) == [0]


def test_ordered_results_wait(make_pool: Callable[..., Any], gate: Gate) -> None:
    items = [(gate.path, 0), *((None, n) for n in range(1, 20))]
    iterator = make_pool(2).imap(_hold_or_pass, items)
    gate.entered()
    with pytest.raises(multiprocessing.TimeoutError):
        iterator.next(timeout=0.01)
    gate.release()
    assert list(iterator) == list(range(20))


def test_each_failing_item_raises_in_its_place(make_pool: Callable[..., Any]) -> None:
    iterator = make_pool(2).imap(odd_fails, range(6))
    for n in range(6):
        if n % 2:
            with pytest.raises(ValueError, match=f"odd: {n}"):
                next(iterator)
        else:
            assert next(iterator) == n
    with pytest.raises(StopIteration):
        next(iterator)


def test_unordered_failures_do_not_end_the_iteration(make_pool: Callable[..., Any]) -> None:
    iterator = make_pool(2).imap_unordered(odd_fails, range(10))
    values, errors = [], []
    while True:
        try:
            values.append(next(iterator))
        except ValueError as error:
            errors.append(str(error))
        except StopIteration:
            break
    assert sorted(values) == [0, 2, 4, 6, 8]
    assert sorted(errors) == [f"odd: {n}" for n in range(1, 10, 2)]


@pytest.mark.parametrize(("chunksize", "before"), [(1, 3), (2, 2), (3, 3), (4, 0), (10, 0)])
def test_an_error_takes_the_place_of_its_chunk(
    make_pool: Callable[..., Any], chunksize: int, before: int
) -> None:
    iterator = make_pool(2).imap(fail_at_three, range(10), chunksize)
    values, error = drain(iterator)
    assert values == list(range(before))
    assert isinstance(error, KeyError)
    # With chunks the iteration is over after an error; item by item it goes on.
    assert list(iterator) == (list(range(4, 10)) if chunksize == 1 else [])


@pytest.mark.parametrize("chunksize", [2, 5])
def test_an_error_in_an_unordered_chunk(make_pool: Callable[..., Any], chunksize: int) -> None:
    values, error = drain(make_pool(2).imap_unordered(fail_at_three, range(10), chunksize))
    assert isinstance(error, KeyError)
    assert set(values) <= set(range(10)) - {2, 3}


@pytest.mark.parametrize(
    ("chunksize", "good", "before"),
    [(1, 0, 0), (1, 3, 3), (2, 7, 6), (4, 7, 4), (4, 8, 8), (10, 7, 0)],
)
def test_input_that_breaks_off(
    make_pool: Callable[..., Any], chunksize: int, good: int, before: int
) -> None:
    pool = make_pool(2)
    iterator = pool.imap(square, breaks_off(good), chunksize)
    values, error = drain(iterator)
    # The items of the unfinished chunk are dropped.
    assert values == [n * n for n in range(before)]
    assert isinstance(error, LookupError)
    assert list(iterator) == []
    assert pool.apply(square, (3,)) == 9


@pytest.mark.parametrize(("chunksize", "possible"), [(1, 7), (2, 6), (4, 4)])
def test_unordered_input_that_breaks_off(
    make_pool: Callable[..., Any], chunksize: int, possible: int
) -> None:
    pool = make_pool(2)
    values, error = drain(pool.imap_unordered(square, breaks_off(7), chunksize))
    assert isinstance(error, LookupError)
    assert set(values) <= {n * n for n in range(possible)}
    assert len(set(values)) == len(values)
    assert pool.apply(square, (3,)) == 9


class NoIterator:
    """What fails when it is asked for an iterator, such as a file that is opened then."""

    def __iter__(self) -> Any:
        raise TypeError("not iterable")


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize(
    "source", [5, None, NoIterator()], ids=lambda source: type(source).__name__
)
def test_what_is_not_iterable_raises_at_the_first_result(
    make_pool: Callable[..., Any], method: str, source: Any
) -> None:
    pool = make_pool(1)
    results = getattr(pool, method)(square, source)
    with pytest.raises(TypeError, match="not iterable"):
        next(results)
    assert list(results) == []
    assert pool.apply(square, (3,)) == 9


def test_two_iterators_take_turns(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    first, second = pool.imap(square, range(30)), pool.imap(identity, range(30))
    assert list(zip(first, second, strict=True)) == [(n * n, n) for n in range(30)]


def test_one_map_feeds_another(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    assert list(pool.imap(square, pool.imap(square, range(30)))) == [n**4 for n in range(30)]
    assert pool.map(square, pool.imap(square, range(30))) == [n**4 for n in range(30)]


def test_results_left_behind_do_no_harm(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    assert next(pool.imap(square, range(100))) == 0
    pool.imap_unordered(square, range(100), 7)
    assert pool.map(square, range(10)) == [n * n for n in range(10)]


@pytest.mark.parametrize("kind", [set, dict.fromkeys, deque, list, Counter])
@pytest.mark.parametrize("method", BOTH)
def test_the_loop_may_change_what_it_was_given(
    make_pool: Callable[..., Any], method: str, kind: Callable[..., Any]
) -> None:
    # The standard reads on in a thread, and is through with so few before their results are there.
    left = kind(range(100))
    results = getattr(make_pool(2), method)(identity, left)
    values = [next(results)]
    left.clear()
    assert sorted(values + list(results)) == list(range(100))


@pytest.mark.parametrize("options", [{"seed": 1}, {"seed": 1, "return_exceptions": True}], ids=str)
def test_the_loop_may_change_what_it_was_given_whatever_it_asks_for(
    make_pool: Callable[..., Any], options: dict[str, Any]
) -> None:
    left = list(range(100))
    results = make_pool(2).imap(identity, left, **options)
    left.clear()
    assert list(results) == list(range(100))


def test_iterating_after_close(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    iterator = pool.imap(square, iter(range(50)))
    pool.close()
    assert list(iterator) == [n * n for n in range(50)]
    pool.join()


@pytest.mark.parametrize("method", BOTH)
def test_endless_input_is_read_ahead_by_a_bounded_window(
    make_pool: Callable[..., Any], gate: Gate, method: str
) -> None:
    # More than the largest window.
    overrun = threading.Event()

    def items() -> Iterator[tuple[str | None, int]]:
        yield gate.path, 0
        for number in itertools.count(1):
            if number == 5000:
                overrun.set()
            yield None, number

    results = getattr(make_pool(2), method)(_hold_or_pass, items())
    gate.entered()
    assert not overrun.wait(0.5)
    gate.release()
    values = set(itertools.islice(results, 6000))
    assert overrun.is_set() and len(values) == 6000
    if method == "imap":
        assert values == set(range(6000))


def test_endless_input_in_chunks(make_pool: Callable[..., Any]) -> None:
    iterator = make_pool(2).imap(square, itertools.count(), 5)
    assert list(itertools.islice(iterator, 123)) == [n * n for n in range(123)]


def test_reading_goes_on_only_as_results_are_taken(make_pool: Callable[..., Any]) -> None:
    # By the largest window, however quick the tasks are.
    overrun = threading.Event()

    def blocks() -> Iterator[bytes]:
        for number in itertools.count():
            if number == 5000:
                overrun.set()
            yield bytes(10_000)

    lengths = make_pool(2).imap(len, blocks())
    assert list(itertools.islice(lengths, 50)) == [10_000] * 50
    assert not overrun.wait(0.5)
    assert list(itertools.islice(lengths, 5000)) == [10_000] * 5000
    assert overrun.is_set()


def test_an_abandoned_iterator_does_no_harm(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    for _ in range(5):
        iterator = pool.imap(square, itertools.count())
        assert next(iterator) == 0
        del iterator
    assert pool.map(square, range(10)) == [n * n for n in range(10)]
    pool.terminate()
    pool.join()


# --- input that waits for what becomes of it ---------------------------------------------


class Lockstep:
    """Give each item (or as many as `every`) only after the results of those before were taken."""

    def __init__(self, items: Iterable[Any], every: int = 1) -> None:
        self._items = items
        self._every = every
        self._taken = threading.Semaphore(0)

    def __iter__(self) -> Iterator[Any]:
        for number, item in enumerate(self._items, 1):
            yield item
            if number % self._every == 0:
                assert self._taken.acquire(timeout=PATIENCE), f"no result of item {number}"

    def taken(self) -> None:
        """Let the next items come."""
        self._taken.release()


@pytest.mark.every_method
@pytest.mark.parametrize("method", BOTH)
def test_each_item_is_worked_on_before_the_next_one_comes(
    make_pool: Callable[..., Any], method: str
) -> None:
    numbers = Lockstep(range(20))
    results = getattr(make_pool(2), method)(square, numbers)
    for number in range(20):
        assert results.next(PATIENCE) == number * number
        numbers.taken()
    assert list(results) == []


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("method", BOTH)
def test_a_semaphore_bounds_what_is_read(
    make_pool: Callable[..., Any], method: str, processes: int
) -> None:
    free = threading.Semaphore(4)

    def numbers() -> Iterator[int]:
        for number in range(100):
            assert free.acquire(timeout=PATIENCE)
            yield number

    values = []
    for value in getattr(make_pool(processes), method)(square, numbers()):
        values.append(value)
        free.release()
    assert sorted(values) == [n * n for n in range(100)]


@pytest.mark.parametrize("method", BOTH)
def test_input_from_a_queue(make_pool: Callable[..., Any], method: str) -> None:
    numbers: queue.Queue[int | None] = queue.Queue()
    results = getattr(make_pool(2), method)(square, iter(numbers.get, None))
    for number in range(10):
        numbers.put(number)
        assert results.next(PATIENCE) == number * number
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(0)
    numbers.put(None)
    assert list(results) == []


def test_chunks_are_worked_on_when_they_are_full(make_pool: Callable[..., Any]) -> None:
    numbers = Lockstep(range(12), every=3)
    results = make_pool(2).imap(square, numbers, 3)
    for first in range(0, 12, 3):
        expected = [n * n for n in range(first, first + 3)]
        assert list(itertools.islice(results, 3)) == expected
        numbers.taken()
    assert list(results) == []


@pytest.mark.ours_only  # the standard's iterator over chunks has no `next` with a timeout
def test_a_chunk_that_is_not_full_waits_for_its_items(make_pool: Callable[..., Any]) -> None:
    numbers: queue.Queue[int | None] = queue.Queue()
    results = make_pool(2).imap(square, iter(numbers.get, None), 2)
    numbers.put(3)
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(0)
    numbers.put(4)
    assert [results.next(PATIENCE), results.next(PATIENCE)] == [9, 16]
    numbers.put(5)
    numbers.put(None)
    assert list(results) == [25]


def test_what_was_read_while_all_workers_were_busy(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    last = threading.Semaphore(0)

    def items() -> Iterator[tuple[str | None, int]]:
        yield gate.path, 0
        gate.entered()
        for number in range(1, 3):
            yield None, number
        # The one worker is busy still; nobody asks for these once it is not.
        gate.release()
        assert last.acquire(timeout=PATIENCE)
        yield None, 3

    results = make_pool(1).imap(_hold_or_pass, items())
    assert [results.next(PATIENCE) for _ in range(3)] == list(range(3))
    last.release()
    assert list(results) == [3]


def test_idle_workers_get_items_while_another_is_busy(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    items = Lockstep((gate.path if number == 3 else None, number) for number in range(20))
    results = make_pool(2).imap_unordered(_hold_or_pass, items)
    items.taken()  # for the one that is held
    values = []
    for _ in range(19):
        values.append(results.next(PATIENCE))
        items.taken()
    gate.entered()
    gate.release()
    assert sorted(values) == [n for n in range(20) if n != 3]
    assert list(results) == [3]


def test_input_from_callbacks(make_pool: Callable[..., Any]) -> None:
    # Of another pool: the standard's submits nothing while it waits for an input.
    first = make_pool(2)
    numbers: queue.Queue[int | None] = queue.Queue()
    results = make_pool(2).imap(square, iter(numbers.get, None))
    for number in range(10):
        first.apply_async(add, (number,), callback=numbers.put)
        assert results.next(PATIENCE) == (number + 10) ** 2
    numbers.put(None)
    assert list(results) == []


@pytest.mark.parametrize("method", BOTH)
def test_one_pool_feeds_another_item_by_item(make_pool: Callable[..., Any], method: str) -> None:
    numbers = Lockstep(range(10))
    first = getattr(make_pool(2), method)(square, numbers)
    results = getattr(make_pool(2), method)(square, first)
    for number in range(10):
        assert results.next(PATIENCE) == number**4
        numbers.taken()
    assert list(results) == []


def test_input_that_is_read_beside_its_results(make_pool: Callable[..., Any]) -> None:
    numbers = Lockstep(range(10))
    items, read = itertools.tee(numbers)
    results = make_pool(2).imap(square, items)
    for number in range(10):
        assert (results.next(PATIENCE), next(read)) == (number * number, number)
        numbers.taken()
    assert list(results) == []


def test_input_that_waits_is_worked_off_without_anybody_looking(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    read = threading.Event()

    def paths() -> Iterator[tuple[str, int]]:
        for number in range(5):
            yield gate.path, number
            gate.entered()
        read.set()

    pool = make_pool(2)
    gate.release(5)
    pool.imap(_hold_or_pass, paths())
    assert read.wait(PATIENCE)
    pool.close()
    pool.join()


def test_errors_of_an_input_that_waits(make_pool: Callable[..., Any]) -> None:
    numbers = Lockstep([0, 1, None, 3])
    results = make_pool(2).imap(square, numbers)
    for number in (0, 1):
        assert results.next(PATIENCE) == number * number
        numbers.taken()
    with pytest.raises(TypeError, match="unsupported operand"):
        results.next(PATIENCE)
    numbers.taken()
    assert results.next(PATIENCE) == 9
    numbers.taken()
    assert list(results) == []


def test_input_that_breaks_off_after_waiting(make_pool: Callable[..., Any]) -> None:
    numbers = Lockstep(range(3))
    results = make_pool(2).imap(square, itertools.chain(numbers, breaks_off(2)))
    for number in range(3):
        assert results.next(PATIENCE) == number * number
        numbers.taken()
    values, error = drain(results)
    assert values == [0, 1]
    assert isinstance(error, LookupError)


@pytest.mark.ours_only
def test_cancelled_while_its_input_waits(make_pool: Callable[..., Any]) -> None:
    numbers: queue.Queue[int | None] = queue.Queue()
    pool = make_pool(2)
    results = pool.imap(square, iter(numbers.get, None))
    numbers.put(2)
    assert results.next(PATIENCE) == 4
    assert results.cancel()
    numbers.put(3)
    with pytest.raises(TaskCancelled, match=r"^imap\(\w+.square\) was cancelled"):
        results.next(PATIENCE)
    numbers.put(None)
    assert pool.map(square, range(5)) == [n * n for n in range(5)]


@pytest.mark.ours_only
@pytest.mark.every_method
def test_input_that_waits_within_a_task(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    assert pool.apply(_in_lockstep, (pool, 10)) == [n * n for n in range(10)]


def _in_lockstep(pool: Any, count: int) -> list[int]:
    numbers = Lockstep(range(count))
    results = pool.imap(square, numbers)
    values = []
    for _ in range(count):
        values.append(results.next(PATIENCE))
        numbers.taken()
    return values


# --- cheap tasks with slow ones among them ----------------------------------------------


@pytest.fixture(params=[int, float, str, pair_of], ids=["int", "float", "str", "tuple"])
def mostly_quick(request: pytest.FixtureRequest, gate: Gate) -> Any:
    """A task that is quick unless its number is negative, and the kind of its results."""
    return partial(hold_negative, gate.path, request.param), request.param


def test_quick_tasks_do_not_wait_for_a_slow_one(
    make_pool: Callable[..., Any], gate: Gate, mostly_quick: Any
) -> None:
    task, kind = mostly_quick
    pool = make_pool(2)
    list(pool.imap_unordered(task, range(3000)))  # by now it is known to be quick
    results = pool.imap_unordered(task, [*range(500), -1, *range(500, 1000)])
    assert sorted(itertools.islice(results, 1000)) == sorted(map(kind, range(1000)))
    gate.entered()
    gate.release()
    assert list(results) == [kind(-1)]


def test_results_before_a_slow_task_are_there(
    make_pool: Callable[..., Any], gate: Gate, mostly_quick: Any
) -> None:
    task, kind = mostly_quick
    pool = make_pool(1)
    list(pool.imap(task, range(3000)))
    results = pool.imap(task, [*range(300), -1, *range(300, 600)])
    assert list(itertools.islice(results, 300)) == list(map(kind, range(300)))
    gate.entered()
    gate.release()
    assert list(results) == list(map(kind, [-1, *range(300, 600)]))


def test_slow_tasks_that_follow_each_other_run_side_by_side(
    make_pool: Callable[..., Any], gate: Gate, mostly_quick: Any
) -> None:
    task, kind = mostly_quick
    pool = make_pool(2)
    pool.map(task, range(3000), 1)
    numbers = [*range(200), -1, -2, *range(200, 400)]
    result = pool.map_async(task, numbers, 1)
    assert gate.entered() != gate.entered()
    gate.release(2)
    assert result.get(PATIENCE) == list(map(kind, numbers))
