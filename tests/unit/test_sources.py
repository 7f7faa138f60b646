"""Where chunks come from: cut from sequences, or read from iterators no sooner than needed."""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pool._local import _lazy
from pool._local._engine import LocalEngine
from pool._local._events import ChunksAdded
from pool._local._jobs import Items, Job, OneCall, Source, encode_chunk
from pool._local._lazy import Fed, Windowed
from pool._pickling import loads
from pool._transport._messages import CALL, EACH, INLINE, MAP, PACKED, RANGE
from store._mappings import Block

JOB = 7


def describe(index: int) -> str:
    return f"item {index}"


def decoded(source: Source, start: int, stop: int) -> list[Any]:
    """Return the items of each chunk as a worker sees them."""
    blobs: list[Any] = []
    layout, extra = source.encode(start, stop, blobs)
    size = source.chunksize
    if layout != EACH:
        if layout == RANGE:
            assert not blobs
            items: Any = range(*extra)
        else:
            (data,) = blobs
            items = loads(data, [])
        return [list(items[at : at + size]) for at in range(0, (stop - start) * size, size)]
    chunks = []
    for index in range(stop - start):
        buffers = 0 if extra is None else extra[index]
        data, *rest = blobs[: 1 + buffers]
        del blobs[: 1 + buffers]
        # Blocks are mapped, anew for each who asks; other memory is the sender's.
        given = [blob if isinstance(blob, Block) else bytearray(blob) for blob in rest]
        chunks.append(loads(data, given))
    assert not blobs
    return chunks


# --- sequences --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size", "chunks"), [(0, 1, 0), (1, 5, 1), (10, 5, 2), (11, 5, 3), (3, 1, 3)]
)
def test_number_of_chunks(count: int, size: int, chunks: int) -> None:
    assert Items(range(count), size, describe).chunks == chunks


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("size", [1, 3])
def test_plain_values_are_pickled_together(kind: Callable[[Any], Any], size: int) -> None:
    source = Items(kind(range(10)), size, describe)
    assert source.encode(0, 3, [])[0] == PACKED
    expected = [list(range(at, min(at + size, 10))) for at in range(0, 10, size)]
    assert decoded(source, 0, source.chunks) == expected
    assert decoded(source, 1, 3) == expected[1:3]


def test_range_travels_as_a_range() -> None:
    source = Items(range(100, 0, -3), 4, describe)
    assert source.encode(1, 3, []) == (RANGE, (88, 64, -3))
    assert decoded(source, 1, 3) == [[88, 85, 82, 79], [76, 73, 70, 67]]
    assert decoded(source, source.chunks - 1, source.chunks) == [list(range(100, 0, -3))[-2:]]


def test_objects_of_two_chunks_are_not_shared() -> None:
    shared: list[int] = []
    source = Items([shared, shared], 1, describe)
    first, second = decoded(source, 0, 2)
    assert first == second == [[]]
    assert first[0] is not second[0]


def test_objects_within_a_chunk_stay_shared() -> None:
    shared: list[int] = []
    ((first, second),) = decoded(Items([shared, shared], 2, describe), 0, 1)
    assert first is second


def test_buffers_travel_beside_their_chunk() -> None:
    arrays = [np.arange(n * 10_000.0) for n in range(4)]
    chunks = decoded(Items(arrays, 2, describe), 0, 2)
    for chunk, expected in zip(chunks, (arrays[:2], arrays[2:]), strict=True):
        for array, original in zip(chunk, expected, strict=True):
            assert np.array_equal(array, original)


def test_one_call_is_what_was_pickled() -> None:
    source = OneCall([b"data", b"buffer"])
    blobs: list[Any] = []
    assert source.encode(0, 1, blobs) == (EACH, (1,))
    assert blobs == [b"data", b"buffer"]
    assert OneCall([b"data"]).encode(0, 1, []) == (EACH, None)


class Unsendable:
    def __reduce__(self) -> Any:
        raise TypeError("stays here")


def test_item_that_cannot_be_pickled_fails_its_chunk_alone_and_is_named() -> None:
    source = Items([[0], [1], Unsendable(), [3]], 2, describe)
    assert decoded(source, 0, 1) == [[[0], [1]]]
    with pytest.raises(Exception, match="stays here") as caught:
        decoded(source, 1, 2)
    assert any("item 2" in note for note in caught.value.__notes__)


def test_the_culprit_is_found_within_its_chunk() -> None:
    data, *_ = encode_chunk([[0], Unsendable()], 10, describe)
    with pytest.raises(Exception, match="stays here") as caught:
        loads(data, [])
    assert any("item 11" in note for note in caught.value.__notes__)


class Picky(Exception):
    def __init__(self, one: object, two: object) -> None:
        super().__init__("picky")


class Worse:
    def __reduce__(self) -> Any:
        raise Picky(1, 2)


def test_error_that_cannot_be_pickled_itself_is_told_in_words() -> None:
    data, *_ = encode_chunk([Worse()], 0, describe)
    with pytest.raises(Exception, match="picky") as caught:
        loads(data, [])
    assert "item 0" in str(caught.value) + " ".join(getattr(caught.value, "__notes__", ()))


def test_error_whose_class_cannot_travel_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held(Exception):
        """Found by its name, so plain pickle takes it; workers have to be sent the class."""

        held = (number for number in range(3))
        __module__, __qualname__ = "__main__", "Held"

        def __str__(self) -> str:
            raise ValueError("not even that")

    class Item:
        def __reduce__(self) -> Any:
            raise Held

    monkeypatch.setattr(sys.modules["__main__"], "Held", Held, raising=False)
    data, *buffers = encode_chunk([Item()], 0, describe)
    with pytest.raises(Exception, match="^Held") as caught:
        loads(data, buffers)
    assert caught.value.__notes__ == ["while sending item 0"]


def test_entry_of_a_run_and_names_of_items() -> None:
    job = Job(JOB, None, CALL, OneCall([b"x"]), None, lambda *span: f"{span}")  # type: ignore[arg-type]  # no sink
    assert job.encode(0, 1, []) == (INLINE, CALL, EACH, 1, 1, None)
    job = Job(JOB, None, MAP, Items(range(10), 4, describe), None, lambda *span: f"{span}")  # type: ignore[arg-type]  # no sink
    assert job.describe(1) == "(4, 7)"
    assert job.describe(1, 2) == "(6, 6)"


# --- an engine that only takes notes -----------------------------------------------------


class Engine:
    """Engine and driver in one."""

    def __init__(self) -> None:
        self.driver = self.inbox = self
        self.jobs = {JOB: object()}
        #: (chunks, final) of each announcement.
        self.added: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()
        self.total = 0
        self.final = False
        #: Whether a worker has nothing to do; and how often something was offered.
        self.starving = False
        self.offers = 0

    def offer(self, feed: Fed | Windowed, at_once: bool) -> None:
        self.offers += 1
        feed.offered = True
        if at_once or self.starving:
            feed.flush()

    def append(self, event: ChunksAdded) -> None:
        self.add_chunks(*event)

    def add_chunks(self, job_id: int, chunks: int, final: bool) -> None:
        assert job_id == JOB
        self.added.put((chunks, final))

    def attend(self) -> None:
        """Needed by none."""

    def wake(self) -> None:
        """Needed by none."""

    def wait_for(self, total: int) -> None:
        """Wait until so many chunks have been announced in all."""
        while self.total < total:
            assert not self.final, f"the input ended after {self.total} chunks"
            self._note()

    def wait_for_end(self) -> int:
        while not self.final:
            self._note()
        return self.total

    def _note(self) -> None:
        chunks, self.final = self.added.get()
        self.total += chunks


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_window_over_a_sequence_opens_step_by_step(engine: Engine) -> None:
    source = Windowed(range(10), 2, describe, window=2)
    source.engine, source.job_id = engine, JOB  # type: ignore[assignment]  # a stand-in
    assert (source.chunks, source.final) == (2, False)
    source.open(4)
    source.open(3)
    assert engine.added.get() == (2, False)
    assert engine.added.empty()
    source.open(None)
    assert engine.added.get() == (1, True)
    source.open(None)
    assert engine.added.empty()
    assert decoded(source, 4, 5) == [[8, 9]]


def test_window_is_opened_from_several_threads(engine: Engine) -> None:
    source = Windowed(range(10), 2, describe, window=2)
    source.engine, source.job_id = engine, JOB  # type: ignore[assignment]  # a stand-in
    offer = engine.offer

    def held_up(feed: Any, at_once: bool) -> None:
        """Let another thread be quicker."""
        engine.offer = offer  # type: ignore[method-assign]  # once
        source.open(None)
        offer(feed, at_once)

    engine.offer = held_up  # type: ignore[method-assign]  # that is the test
    source.open(3)
    assert engine.added.get() == (3, True)
    assert engine.added.empty()


def test_window_as_large_as_the_sequence() -> None:
    assert Windowed(range(10), 2, describe, window=5).final
    assert Windowed((), 2, describe, window=5).final


# --- iterators --------------------------------------------------------------------------


class Input:
    """An iterator that counts what was taken from it."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.taken = 0

    def __iter__(self) -> Input:
        return self

    def __next__(self) -> Any:
        self.taken += 1
        return next(self._items)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "actorpool-input"]


class Reading:
    """Start a reader; and end it, whatever becomes of the test."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.errors: list[BaseException] = []
        self.sources: list[Fed] = []

    def __call__(self, items: Any, window: int = 1000, chunksize: int = 1, least: int = 1) -> Fed:
        source = Fed(iter(items), chunksize, describe, window, least, self.errors.append)
        source.engine, source.job_id = self.engine, JOB  # type: ignore[assignment]  # a stand-in
        self.sources.append(source)
        source.start()
        return source

    def end(self) -> None:
        self.engine.jobs.clear()
        for source in self.sources:
            source.stop()
        for thread in readers():
            thread.join()


@pytest.fixture
def read(engine: Engine) -> Iterator[Reading]:
    reading = Reading(engine)
    yield reading
    reading.end()


def test_whole_iterator_is_read(read: Reading, engine: Engine) -> None:
    source = read((n * n for n in range(7)), chunksize=3)
    assert engine.wait_for_end() == 3
    assert decoded(source, 0, 3) == [[0, 1, 4], [9, 16, 25], [36]]


def test_empty_iterator_ends_at_once(read: Reading, engine: Engine) -> None:
    read(())
    assert engine.wait_for_end() == 0


def test_first_chunk_is_announced_before_the_second_is_read(read: Reading, engine: Engine) -> None:
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go_on.wait()
        yield 2

    read(items())
    engine.wait_for(1)
    go_on.set()
    assert engine.wait_for_end() == 2


def test_each_chunk_is_offered_before_the_next_is_read(read: Reading, engine: Engine) -> None:
    offers = []

    def items() -> Iterator[int]:
        for number in range(100):
            offers.append(engine.offers)
            yield number

    read(items(), chunksize=1)
    assert engine.wait_for_end() == 100
    assert offers == list(range(100))


def test_worker_without_work_gets_each_chunk_at_once(read: Reading, engine: Engine) -> None:
    engine.starving = True
    go_on = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(40):
            yield number
            go_on.acquire()

    source = read(items())
    for number in range(40):
        assert engine.added.get() == (1, False)
        assert decoded(source, number, number + 1) == [[number]]
        go_on.release()
    assert engine.added.get() == (0, True)


def test_what_was_read_while_all_had_work_is_told_on_demand(read: Reading, engine: Engine) -> None:
    stops, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(30):
            if number % 6 == 5:
                stops.release()
                go_on.acquire()
            yield number

    source = read(items())
    for told in range(5, 30, 6):
        stops.acquire()
        # As the driver does, once it has received an answer.
        source.flush()
        engine.wait_for(told)
        assert not source.offered
        source.flush()
        assert engine.added.empty()
        go_on.release()
    assert engine.wait_for_end() == 30


def test_end_is_told_once(read: Reading, engine: Engine) -> None:
    source = read(range(3))
    assert engine.wait_for_end() == 3
    source.flush()
    assert engine.added.empty()
    assert source.news() == (0, False)


class Driven:
    """What `LocalEngine.offer` looks at."""

    def __init__(self) -> None:
        self.driver = self.scheduler = self
        self.dirty: list[Any] = []
        self.starving = False
        self.pumped = 0

    def pump(self) -> None:
        self.pumped += 1

    def attend(self) -> None:
        """Needed by none."""

    def offer(self, feed: Any, at_once: bool = False) -> None:
        LocalEngine.offer(self, feed, at_once)  # type: ignore[arg-type]  # as far as it is looked at


def test_offers_lie_where_the_driver_looks_after_each_answer() -> None:
    engine, feed = Driven(), Fed(iter(()), 1, describe, 1, 1, print)
    engine.offer(feed)
    engine.offer(feed)
    assert (engine.dirty, engine.pumped) == ([feed], 0)
    engine.offer(feed, at_once=True)
    assert (engine.dirty, engine.pumped) == ([feed], 1)


def test_offers_are_taken_at_once_if_a_worker_has_nothing_to_do() -> None:
    engine, feed = Driven(), Fed(iter(()), 1, describe, 1, 1, print)
    engine.starving = True
    engine.offer(feed)
    assert (engine.dirty, engine.pumped) == ([feed], 1)


def test_worker_that_gets_free_while_a_chunk_is_offered() -> None:
    feed = Fed(iter(()), 1, describe, 1, 1, print)

    class Dirty(list[Any]):
        def append(self, feed: Any) -> None:
            # The driver has looked here for the last time, and then sleeps.
            engine.starving = True
            super().append(feed)

    engine = Driven()
    engine.dirty = Dirty()
    engine.offer(feed)
    assert engine.pumped == 1


def test_endless_input_is_read_as_far_as_the_window(read: Reading, engine: Engine) -> None:
    counted = Input(itertools.count())
    source = read(counted, window=5, chunksize=2)
    engine.wait_for(5)
    source.open(8)
    engine.wait_for(8)
    read.end()
    assert engine.wait_for_end() == 8
    assert counted.taken == 16


def test_window_may_be_lifted(read: Reading, engine: Engine) -> None:
    source = read(range(5000), window=2)
    engine.wait_for(2)
    source.open(None)
    assert engine.wait_for_end() == 5000


def test_window_that_was_lifted_stays_so(read: Reading, engine: Engine) -> None:
    # Whoever takes results has just computed how far to read when another thread joins the pool.
    source = read(range(5000), window=2)
    engine.wait_for(2)
    source.open(None)
    source.open(7)
    assert engine.wait_for_end() == 5000


def test_many_chunks_are_announced_together(read: Reading, engine: Engine) -> None:
    read(range(5000), window=6000)
    announcements = 0
    while not engine.final:
        engine._note()
        announcements += 1
    assert engine.total == 5000
    assert announcements < 100


def test_error_of_the_input_comes_after_what_was_read_before_it(
    read: Reading, engine: Engine
) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more")

    source = read(items(), chunksize=2)
    assert engine.wait_for_end() == 2
    # Item 4 had been read; the standard drops an unfinished chunk, too.
    assert decoded(source, 0, 2) == [[0, 1], [2, 3]]
    (error,) = read.errors
    assert isinstance(error, LookupError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_input_that_raises_no_ordinary_error_ends_the_job(
    read: Reading, engine: Engine, kind: type[BaseException]
) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise kind

    read(items())
    assert engine.wait_for_end() == 1
    assert [type(error) for error in read.errors] == [kind]


def test_buffer_that_is_yielded_again_and_again(read: Reading, engine: Engine) -> None:
    def items() -> Iterator[Any]:
        array = np.zeros(20_000)
        for number in range(6):
            array[:] = number
            yield array

    source = read(items())
    engine.wait_for_end()
    assert [float(chunk[0].max()) for chunk in decoded(source, 0, 6)] == [0, 1, 2, 3, 4, 5]
    source.done(0, 6)


def test_item_that_cannot_be_pickled_does_not_end_the_input(read: Reading, engine: Engine) -> None:
    source = read(iter([1, Unsendable(), 3]))
    assert engine.wait_for_end() == 3
    assert not read.errors
    assert decoded(source, 0, 1) == [[1]]
    assert decoded(source, 2, 3) == [[3]]
    with pytest.raises(Exception, match="stays here") as caught:
        decoded(source, 1, 2)
    assert any("item 1" in note for note in caught.value.__notes__)


def test_chunk_may_be_sent_a_second_time_until_it_is_done(read: Reading, engine: Engine) -> None:
    source = read(range(3))
    engine.wait_for_end()
    assert decoded(source, 1, 2) == decoded(source, 1, 2) == [[1]]
    source.done(1, 2)
    with pytest.raises(KeyError):
        decoded(source, 1, 2)


def test_large_items_are_read_no_further_than_memory_allows(
    read: Reading, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lazy, "FED_NBYTES", 25_000)
    counted = Input(bytes(10_000) for _ in itertools.count())
    source = read(counted, window=1000)
    engine.wait_for(3)
    source.done(0, 1)
    engine.wait_for(4)
    source.done(1, 3)
    engine.wait_for(6)
    read.end()
    assert engine.wait_for_end() == 6
    assert counted.taken == 6


def test_some_chunks_are_read_however_large_they_are(
    read: Reading, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lazy, "FED_NBYTES", 10)
    counted = Input(bytes(1000) for _ in itertools.count())
    read(counted, window=1000, least=4)
    engine.wait_for(4)
    read.end()
    assert engine.wait_for_end() == 4
    assert counted.taken == 4


def test_large_chunk_that_is_done_makes_room_for_another(
    read: Reading, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lazy, "FED_NBYTES", 10)
    source = read((bytes(1000) for _ in itertools.count()), window=1000, least=2)
    engine.wait_for(2)
    rung = threading.Event()

    class Bell:
        def release(self) -> None:
            rung.set()
            source_bell.release()

    source_bell, source._bell = source._bell, Bell()  # type: ignore[assignment]  # as it is rung
    source.done(0, 1)
    source._bell = source_bell
    # One may be read now, although the other is too large alone.
    assert rung.is_set()
    engine.wait_for(3)


def test_reader_ends_with_its_job_although_the_window_is_closed(
    read: Reading, engine: Engine
) -> None:
    source = read(itertools.count(), window=3)
    engine.wait_for(3)
    engine.jobs.clear()
    source.stop()
    assert engine.wait_for_end() == 3
    for thread in readers():
        thread.join()


def test_reader_of_a_job_that_is_over_reads_nothing(read: Reading, engine: Engine) -> None:
    engine.jobs.clear()
    counted = Input(itertools.count())
    read(counted)
    assert engine.wait_for_end() == 0
    assert counted.taken == 0
