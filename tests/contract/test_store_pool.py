"""Large arguments and results of a pool mean what pickling them means, in every mode."""

from __future__ import annotations

import gc
import multiprocessing
import os
import select
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import storetasks as tasks

import store
import store._depot
from pool import Pool, WorkerDied, get_context
from pool._transport._channel import INLINE_MAX
from store._codec import OUT_OF_BAND_MIN

COUNT = 50_000  # 400 kB of float64


@pytest.fixture
def pool(mode: str) -> Iterator[Any]:
    with Pool(2) as p:
        yield p
    p.join()


def held() -> dict[str, int]:
    gc.collect()
    counts: dict[str, int] = store.stats()["held"]
    return counts


def held_in_the_end(pool: Any, folder: Path) -> dict[str, int]:
    """Return what is held when both workers have told what they let go: with the next answer."""
    fifo = folder / "meeting"
    os.mkfifo(fifo)
    for _ in range(2):
        pool.starmap(tasks.meet, [(str(fifo), "r"), (str(fifo), "w")], 1)
    return held()


def test_argument_arrives_equal_private_and_writable(pool: Any) -> None:
    array = np.full(COUNT, 7.0)
    assert pool.map(tasks.overwrite, [array] * 6, 1) == [7] * 6
    assert pool.map(tasks.overwrite, [array, array.copy()] * 3, 1) == [7] * 6
    assert (array == 7).all()


def test_result_is_an_ordinary_array(pool: Any) -> None:
    for make in (tasks.full, tasks.filled):
        result = pool.apply(make, (COUNT, 3.0))
        assert type(result) is np.ndarray and result.flags.writeable
        assert (result == 3).all()
        result += 1
        assert (result == 4).all()


def test_arguments_that_come_back(pool: Any) -> None:
    array = np.arange(float(COUNT))
    for task, wanted in (
        (tasks.identity, array),
        (tasks.slice_of, array[1000:-1000]),
        (tasks.add_in_place, array + 1),
    ):
        result = pool.apply(task, (array,))
        assert (result == wanted).all()
        again = pool.apply(task, (array,))
        result[:] = -1  # neither the argument nor the other result
        assert (again == wanted).all()
    assert (array == np.arange(float(COUNT))).all()


@pytest.mark.parametrize(
    "nbytes", [OUT_OF_BAND_MIN, INLINE_MAX - 4096, INLINE_MAX, INLINE_MAX + 4096]
)
def test_sizes_at_which_the_way_changes(pool: Any, nbytes: int) -> None:
    for count in range((nbytes - 512) // 8, (nbytes + 512) // 8, 31):
        array = np.arange(float(count))
        result = pool.apply(tasks.add_in_place, (array,))
        assert (result == np.arange(1.0, count + 1)).all()
        assert result.flags.writeable and array[0] == 0
    shared = store.share(np.arange(float(2 * nbytes)))
    part = shared[100 : 100 + nbytes // 8]
    assert pool.map(tasks.add_in_place, [part] * 4, 1)[3][-1] == part[-1] + 1
    assert shared[100] == 100


def test_results_fed_back(pool: Any) -> None:
    result = pool.apply(tasks.full, (COUNT, 2.0))
    for _ in range(4):
        result = pool.apply(tasks.add_in_place, (result,))
    assert (result == 6).all()
    parts = [result[start : start + 10_000] for start in range(0, COUNT, 10_000)]
    assert pool.map(tasks.total, parts, 1) == [60_000.0] * 5
    result[:10_000] = 0  # changed here: sent as it is now
    assert pool.map(tasks.total, parts, 1) == [0.0] + [60_000.0] * 4


def test_same_buffer_with_new_contents(pool: Any) -> None:
    buffer = np.zeros(COUNT)

    def items() -> Iterator[Any]:
        for number in range(8):
            buffer[:] = number
            yield buffer

    assert list(pool.imap(tasks.overwrite, items())) == list(range(8))
    handles = []
    for number in range(8):
        buffer[:] = number
        handles.append(pool.apply_async(tasks.overwrite, (buffer,)))
    buffer[:] = -5
    assert [handle.get() for handle in handles] == list(range(8))


def test_same_buffer_with_new_contents_after_sharing(pool: Any) -> None:
    buffer = store.share(np.zeros(COUNT))
    handles = []
    for number in range(4):
        buffer[:] = number
        handles.append(pool.apply_async(tasks.overwrite, (buffer,)))
    assert [handle.get() for handle in handles] == [0, 1, 2, 3]


def test_function_with_data_is_sent_once_and_keeps_its_state_to_itself(pool: Any) -> None:
    copied = store.stats()["copied"]
    scorer = tasks.Scorer(COUNT)
    results = pool.map(scorer.score, range(12), 1)
    # Each chunk starts from the object as it was sent.
    assert results == [(COUNT + 99.0, 1)] * 12
    assert (scorer.weights == 1).all()
    if store.stats()["mode"] != "frames":
        assert store.stats()["copied"] - copied == 8 * COUNT


def test_broadcast_argument_is_seen_as_it_was_when_submitted(pool: Any) -> None:
    array = np.ones(COUNT)
    handle = pool.map_async(partial(tasks.total, array), [array] * 4, 1)
    first = handle.get()
    array[:] = 2
    assert first == [2.0 * COUNT] * 4
    assert pool.map(partial(tasks.total, array), [array] * 4, 1) == [4.0 * COUNT] * 4


def test_pickles_without_buffers(pool: Any) -> None:
    wanted = tasks.numbers(60_000)
    assert pool.apply(tasks.identity, (wanted,)) == wanted
    assert pool.apply(tasks.numbers, (60_000,)) == wanted
    text = "ü" * 3_000_000
    assert pool.map(tasks.identity, [text, text.encode(), bytearray(text.encode())], 1) == [
        text,
        text.encode(),
        bytearray(text.encode()),
    ]


def test_references_as_arguments(pool: Any) -> None:
    ref = store.put(np.ones(COUNT))
    small = store.put([1, 2])
    assert pool.map(tasks.total, [ref, ref], 1) == [COUNT] * 2
    assert pool.starmap(tasks.total, [(ref, ref)]) == [2 * COUNT]
    assert pool.apply(tasks.total, (ref,)) == COUNT
    assert pool.apply_async(tasks.overwrite, kwds={"value": ref}).get() == 1
    assert pool.map(tasks.type_name, [ref, [ref], small]) == ["ndarray", "list", "list"]
    (back,) = pool.apply(tasks.identity, ([ref],))
    assert back == ref and (store.get(back) == 1).all()


def test_a_task_says_how_it_wants_the_object(pool: Any) -> None:
    count = 2_000_000
    ref = store.put(np.ones(count))
    shared = store.stats()["mode"] != "frames"
    for copy, writable, copies in (("cow", True, 0), ("readonly", False, 0), ("copy", True, 1)):
        found, total, own = pool.apply(tasks.get_as, ([ref], copy))
        assert (found, total) == (writable, float(count))
        assert not shared or (own > 4 * count) == bool(copies)
    with pytest.raises(ValueError, match="'deep' is not one of cow, readonly, copy"):
        pool.apply(tasks.get_as, ([ref], "deep"))


def test_results_that_stay_in_the_store(pool: Any) -> None:
    ref = pool.apply(tasks.put_full, (COUNT, 5.0))
    assert pool.map(tasks.total, [ref, ref]) == [5.0 * COUNT] * 2
    pool.terminate()
    pool.join()
    assert (store.get(ref) == 5).all()


def test_results_of_more_workers_than_descriptors_fit_into_a_message(pool: Any) -> None:
    with ExitStack() as stack:
        # Each has memory of its own, which the workers of the other pool do not know yet.
        others = [stack.enter_context(Pool(1)) for _ in range(16)]
        handles = [p.apply_async(tasks.full, (COUNT, 1.0)) for p in others]
        results = [handle.get() for handle in handles]
        for _ in range(3):
            assert pool.apply(tasks.total, results) == 16.0 * COUNT
            assert pool.map(tasks.total, [results[0], *results], 1) == [1.0 * COUNT] * 17
    for other in others:
        other.join()
    results.clear()
    pool.map(abs, range(64), 1)
    pool.terminate()
    pool.join()
    assert held() == {}


def test_results_outlive_their_worker_and_pool(pool: Any) -> None:
    results = pool.map(partial(tasks.full, COUNT), [1.0, 2.0, 3.0], 1)
    with pytest.raises(WorkerDied):
        pool.apply(tasks.die, (results[0],))
    more = pool.map(tasks.identity, results, 1)
    pool.terminate()
    pool.join()
    for number, (one, other) in enumerate(zip(results, more, strict=True), 1):
        assert (one == number).all() and (other == number).all()


def test_a_reference_that_was_freed_may_arrive_anew(mode: str) -> None:
    ref = store.put(np.ones(COUNT))
    with Pool(1) as p:
        p.apply(tasks.free, ([ref],))
        for _ in range(2):
            got, freed = p.apply(tasks.total_of, ([ref],))
            # Those of which the task has said that it does not need them stay so.
            assert got == COUNT and freed.endswith("freed>")
        # And the other way round.
        p.apply(tasks.keep, ([ref],))
        store.free(ref)
        ((again,),) = p.apply(tasks.what_was_kept)
        assert again == ref and store.get(again).sum() == COUNT
    with pytest.raises(store.ObjectFreed):
        store.get(ref)


def test_references_outlive_the_worker_that_owned_the_bytes(pool: Any) -> None:
    refs = pool.map(partial(tasks.put_full, COUNT), [1.0, 2.0, 3.0, 4.0], 1)
    # Both are gone, and nobody has looked at the bytes yet.
    for _ in range(2):
        with pytest.raises(WorkerDied):
            pool.apply(tasks.die, (0,))
    assert pool.map(tasks.total, refs, 1) == [n * COUNT for n in (1.0, 2.0, 3.0, 4.0)]
    assert [array[-1] for array in store.get(refs)] == [1, 2, 3, 4]


def test_nothing_is_held_after_the_work(pool: Any) -> None:
    for _ in range(3):
        pool.map(tasks.total, [np.ones(COUNT)] * 8, 1)
        pool.map(tasks.identity, [np.ones(COUNT)] * 8, 1)
        list(pool.imap_unordered(tasks.total, (np.ones(COUNT) for _ in range(8))))
    # A worker says what it has let go with its next answer.
    pool.map(abs, range(64), 1)
    pool.terminate()
    pool.join()
    assert held() == {}


def test_counts_of_a_killed_worker_come_back(pool: Any) -> None:
    pool.map(tasks.keep, [np.ones(COUNT)] * 8, 1)
    for _ in range(2):
        with pytest.raises(WorkerDied):
            pool.apply(tasks.die, (np.ones(COUNT),))
    pool.terminate()
    pool.join()
    assert held() == {}


def test_what_a_worker_keeps_stays_as_it_was(pool: Any) -> None:
    pool.map(tasks.keep, [np.full(COUNT, 9.0)] * 8, 1)
    for number in range(20):  # much else in the same memory meanwhile
        pool.map(tasks.overwrite, [np.full(COUNT, float(number))] * 4, 1)
    assert all(pool.map(tasks.check_kept, [9.0] * 8, 1))


def test_cancelled_jobs_give_their_arguments_back(pool: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    array = np.ones(COUNT)
    pool.map(abs, range(8))
    handles = [pool.apply_async(tasks.hold, (gate, array)) for _ in range(12)]
    for handle in handles:
        handle.cancel()
    assert pool.map(tasks.total, [array] * 4, 1) == [COUNT] * 4
    del handle, handles
    pool.terminate()
    pool.join()
    assert held() == {}


@pytest.mark.parametrize("closes", [False, True])
def test_child_of_a_worker_keeps_what_it_inherited(pool: Any, tmp_path: Path, closes: bool) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    arguments = np.full(COUNT, 4.0), str(gate), closes
    child = os.pidfd_open(pool.apply(tasks.fork_and_leave, arguments))
    # The worker lets go and dies; its child looks on.
    for number in range(10):
        pool.map(tasks.overwrite, [np.full(COUNT, float(number))] * 4, 1)
    for _ in range(2):
        with pytest.raises(WorkerDied):
            pool.apply(tasks.die, (0,))
    for number in range(10):
        pool.map(tasks.overwrite, [np.full(COUNT, float(number))] * 4, 1)
    look(gate, child)
    pool.terminate()
    pool.join()


def look(gate: Path, child: int) -> None:
    """Have a child that was left behind look, and wait for its end."""
    result = Path(f"{gate}.result")
    os.mkfifo(result)
    with open(gate, "w") as opened:
        opened.write("look")
    assert result.read_text() == "True"
    # Until it has ended, what it had from its parent is kept for it.
    select.select([child], [], [])
    os.close(child)


def test_kept_for_whom_a_worker_has_sent_it_on_to_when_the_worker_has_died(
    pool: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with pytest.raises(WorkerDied):
        pool.apply(tasks.leave_in_a_pool_and_die, (np.full(COUNT, 4.0), str(gate)))
    child = os.pidfd_open(int(Path(f"{gate}.pid").read_text()))
    for number in range(10):
        pool.map(tasks.overwrite, [np.full(COUNT, float(number))] * 4, 1)
    look(gate, child)
    pool.terminate()
    pool.join()
    assert held() == {}


def test_tasks_that_use_the_pool(pool: Any) -> None:
    array = np.ones(COUNT)
    assert pool.apply(nested, (pool, array)) == [COUNT, COUNT, COUNT]


def nested(inner: Any, array: Any) -> list[float]:
    results: list[float] = inner.map(tasks.total, [array] * 3, 1)
    return results


def test_initializer_with_data(mode: str) -> None:
    with Pool(2, tasks.keep, (np.full(COUNT, 8.0),)) as p:
        assert all(p.map(tasks.check_kept, [8.0] * 4, 1))
    p.join()


def test_argument_that_comes_back_outlives_the_worker_that_returned_it(pool: Any) -> None:
    array = np.full(COUNT, 6.0)
    results = pool.map(tasks.identity, [array] * 4, 1)
    other = pool.apply(tasks.full, (COUNT, 6.0))
    results += pool.map(tasks.identity, [other] * 4, 1)
    del other
    # The holds that the workers had end with them.
    for _ in range(4):
        with pytest.raises(WorkerDied):
            pool.apply(tasks.die, (0,))
    for number in range(10):
        pool.map(tasks.overwrite, [np.full(COUNT, float(number))] * 8, 1)
        pool.map(partial(tasks.full, COUNT), [float(number)] * 4, 1)
    for result in results:
        assert (result == 6).all()


def test_forked_child_hands_on_what_it_inherited(mode: str) -> None:
    view = store.get(store.put(np.full(COUNT, 3.0)))
    shared = store.share(np.full(COUNT, 4.0))
    ref = store.put(np.full(COUNT, 5.0))
    child = os.fork()
    if not child:
        status = 2
        try:
            with Pool(1) as p:
                sums = p.map(tasks.total, [view, shared, ref, np.full(COUNT, 6.0)], 1)
            status = 0 if sums == [n * COUNT for n in (3.0, 4.0, 5.0, 6.0)] else 1
        finally:
            os._exit(status)  # nothing of pytest may run in here
    assert os.waitpid(child, 0)[1] == 0


def test_workers_that_inherit_views(mode: str) -> None:
    context = get_context("fork")
    global inherited
    inherited = store.share(np.full(COUNT, 3.0))
    with context.Pool(2) as p:
        results = p.map(return_inherited, range(4), 1)
        inherited = None
        results += p.map(return_inherited, range(4), 1)
    p.join()
    for number in range(8):
        store.put(np.full(COUNT, float(number)))
    assert all((result == 3).all() for result in results)


inherited: Any = None


def return_inherited(item: int) -> Any:
    return inherited


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_references_in_processes_of_the_standard(mode: str, method: str) -> None:
    context = multiprocessing.get_context(method)
    ref = store.put(np.full(COUNT, 3.0))
    child = context.Process(target=tasks.exit_unless, args=(ref, 3.0))  # type: ignore[attr-defined]  # of every context
    child.start()
    child.join()
    assert child.exitcode == 0
    assert (store.get(ref) == 3).all()
    child.close()


def test_function_is_let_go_with_its_job(pool: Any, tmp_path: Path) -> None:
    array = np.ones(COUNT)
    assert pool.map(partial(tasks.total, array), [np.ones(3)] * 4, 1) == [COUNT + 3] * 4
    with pytest.raises(ZeroDivisionError):
        pool.map(partial(tasks.divide, array), [0] * 4, 1)
    assert list(pool.imap(partial(tasks.total, array), [np.ones(3)] * 4)) == [COUNT + 3] * 4
    assert held_in_the_end(pool, tmp_path) == {}


def test_function_of_a_cancelled_job_is_let_go(pool: Any, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    for _ in range(2):
        running = pool.map_async(partial(tasks.stay, np.ones(COUNT), str(begun)), range(8), 1)
        begun.read_text()
        assert running.cancel()
    assert held_in_the_end(pool, tmp_path) == {}
