"""References of the runtime in calls of a Pool, and references of the store in Ray's words."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rayprograms import run_program
from raytasks import Counter, double, fail, hold, kind_of

import pool
import store
from pool import Pool, exceptions


@pytest.fixture
def workers(ray: Any) -> Iterator[Any]:
    with Pool(2) as workers:
        yield workers
    workers.join()


def add(x: Any, y: Any = 0) -> Any:
    return x + y


def opened(refs: Any) -> Any:
    return pool.get(refs)


def open_held(holder: Any) -> Any:
    return pool.get(holder.ref)


def touch(path: str, value: Any) -> Any:
    Path(path).write_text("x")
    return value


def ask(counter: Any) -> Any:
    return pool.get(counter.add.remote(5))


class Holder:
    def __init__(self, ref: Any) -> None:
        self.ref = ref


def knots(values: Any) -> Any:
    return values[0] is values, values[1]["within"] is values, isinstance(values[2], pool.ObjectRef)


# ---------------------------------------------------------------------- in a Pool


def test_arguments_that_contain_themselves(workers: Any) -> None:
    """Whether there are references in them is looked for without end."""
    values: list[Any] = []
    values += [values, {"within": values}, double.remote(3)]
    assert workers.apply(knots, (values,)) == (True, True, True)
    values[2] = None
    assert workers.map(knots, [values]) == [(True, True, False)]


def test_references_arrive_as_their_values(ray: Any, workers: Any) -> None:
    one, four = ray.put(1), double.remote(2)
    assert workers.map(add, [one, 2, four, double.remote(four)]) == [1, 2, 4, 8]
    assert workers.map(add, [one, 2, four], chunksize=2) == [1, 2, 4]
    assert workers.starmap(add, [(one, four), (2, 3)]) == [5, 5]
    assert workers.apply(add, (four,), {"y": one}) == 5
    assert workers.apply_async(add, [four, double.remote(3)]).get() == 10
    assert workers.map_async(add, (one, one)).get() == [1, 1]


def test_arrays_are_not_shared_with_the_task(ray: Any, workers: Any) -> None:
    def spoil(array: Any) -> float:
        array += 1
        return float(array.sum())

    ref = ray.put(np.ones(300_000))
    assert workers.map(spoil, [ref] * 3) == [600_000.0] * 3
    assert ray.get(ref).sum() == 300_000


IN_PLACE = """
import numpy as np
import pool

pool.init(num_cpus=2)

@pool.remote
def fill(array):
    array[:] = 1
    return array

def counter():
    own = np.zeros(100_000)

    @pool.remote
    def count():
        own[:] += 1
        return own.sum()

    return count

@pool.remote
def nested(refs):
    return pool.get(fill.remote(pool.get(refs[0]))).sum()

zeros = np.zeros(100_000)
ref = pool.put(zeros)
for result in (fill.remote(zeros), fill.remote(ref), fill.remote(fill.remote(ref))):
    assert pool.get(result).sum() == 100_000
assert pool.get(counter().remote()) == 100_000
assert pool.get(nested.remote([ref])) == 100_000
assert not zeros.any() and not pool.get(ref).any()
print("written to")
"""


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_tasks_may_write_to_their_arguments(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL_STORE", mode)
    done = run_program(IN_PLACE, tmp_path)
    assert (done.stdout, done.stderr) == ("written to\n", "")


def test_lazy_calls_resolve_them_too(ray: Any, workers: Any) -> None:
    refs = [double.remote(n) for n in range(5)]
    assert list(workers.imap(add, refs)) == [0, 2, 4, 6, 8]
    assert list(workers.imap(add, refs, chunksize=2)) == [0, 2, 4, 6, 8]
    assert sorted(workers.imap_unordered(add, iter(refs))) == [0, 2, 4, 6, 8]
    assert list(workers.istarmap(add, [(ref, 1) for ref in refs])) == [1, 3, 5, 7, 9]


def test_item_that_waits_holds_back_no_other(ray: Any, workers: Any, tmp_path: Path) -> None:
    gate, told = str(tmp_path / "gate"), str(tmp_path / "told")
    os.mkfifo(gate)
    os.mkfifo(told)
    waiting = hold.remote(gate)
    result = workers.starmap_async(add, [(waiting, "!"), ("a", "b")])
    other = workers.starmap_async(touch, [(waiting, 0), (told, "done")], chunksize=1)
    # Written by the task behind the one whose argument is not there.
    assert Path(told).read_text() == "x"
    assert not result.ready() and not other.ready()
    target = tmp_path / "target"
    Path(gate).write_text(str(target))
    assert result.get() == [f"{target}!", "ab"]
    assert other.get() == [0, "done"]
    assert target.read_text() == "x"


def test_reference_inside_stays_one_that_the_task_can_use(ray: Any, workers: Any) -> None:
    counter = Counter.remote(1)
    refs = [ray.put(1), double.remote(2)]
    assert workers.apply(opened, (refs,)) == [1, 4]
    assert workers.map(opened, [refs, refs[::-1]]) == [[1, 4], [4, 1]]
    assert workers.apply(ask, (counter,)) == 6
    assert workers.apply(open_held, (Holder(refs[1]),)) == 4
    assert workers.map(open_held, [Holder(ref) for ref in refs]) == [1, 4]


def test_what_only_the_task_holds_lives_as_long(ray: Any, workers: Any) -> None:
    results = [workers.apply_async(opened, ([ray.put(np.full(50_000, n))],)) for n in range(10)]
    assert [int(result.get()[0][0]) for result in results] == list(range(10))


def test_errors_take_the_place_of_values(ray: Any, workers: Any) -> None:
    bad = fail.remote("no value")
    with pytest.raises(ValueError, match="no value") as caught:
        workers.apply(add, (bad,))
    assert isinstance(caught.value, exceptions.RayTaskError)
    with pytest.raises(ValueError, match="no value"):
        workers.map(add, [1, bad])
    found = workers.map(add, [1, bad, 2], return_exceptions=True)
    assert found[::2] == [1, 2] and isinstance(found[1], ValueError)


def test_cancelled_before_its_argument_is_there(ray: Any, workers: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    waiting = hold.remote(gate)
    result = workers.apply_async(add, (waiting, "!"))
    assert result.cancel()
    with pytest.raises(pool.TaskCancelled):
        result.get()
    Path(gate).write_text("x")
    assert ray.get(waiting) == "x"
    assert workers.apply(add, (1, 2)) == 3


def test_pool_outlives_the_runtime_whose_guest_it_was(start: Any) -> None:
    start(num_cpus=1)
    with Pool(1) as workers:
        for number in range(3):
            assert workers.apply(opened, ([pool.put(number)],)) == [number]
            pool.shutdown()
            start(num_cpus=1)
    workers.join()


def double_here(value: Any) -> Any:
    """Start a runtime of this worker's own, unless it has met another one."""
    if not _seen:
        _seen.append(Counter.remote())
    return pool.get(double.remote(value)), pool.get(_seen[0].add.remote())


def test_worker_that_had_a_runtime_of_its_own_becomes_a_guest(ray: Any) -> None:
    counter = Counter.remote(10)
    with Pool(1) as workers:
        assert workers.apply(double_here, (2,)) == (4, 1)
        assert workers.apply(opened, ([pool.put(5)],)) == [5]
        assert workers.apply(add_five, (counter,)) == 15
        assert workers.apply(double_here, (3,)) == (6, 2)
    workers.join()


def add_five(counter: Any) -> Any:
    return pool.get(counter.add.remote(5))


class Lookup:
    """Says in its own way that it has no such attribute."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)

    def __reduce__(self) -> Any:
        return Lookup, ()


def test_objects_with_odd_attributes_are_arguments_beside_the_runtime(ray: Any) -> None:
    with Pool(1) as workers:
        assert workers.apply(type, (Lookup(),)) is Lookup
        assert workers.map(type, [Lookup()]) == [Lookup]
        assert list(workers.imap(type, [Lookup()])) == [Lookup]


_seen: list[Any] = []


def keep(refs: Any) -> None:
    _seen[:] = [pool.get(refs[0])]


def is_kept(refs: Any = None) -> bool:
    return bool((_seen[0] == 1).all())


def let_go(refs: Any) -> None:
    _seen.clear()


def test_what_a_pool_of_an_ended_runtime_looks_at_is_not_used_again(start: Any) -> None:
    start(num_cpus=1)
    with Pool(1) as workers:
        workers.apply(keep, ([pool.put(np.ones(10**6))],))
        pool.shutdown()
        start(num_cpus=1)
        assert workers.apply(is_kept, ([pool.put(0)],))
        more = [store.put(np.full(10**6, 7.0)) for _ in range(4)]
        assert workers.apply(is_kept)
        del more
        assert store.stats()["live"]
        workers.apply(let_go, (None,))
        assert not store.stats()["live"]
    workers.join()


class Box:
    def fill(self, value: Any) -> None:
        self.value = value

    def look(self) -> Any:
        return self.value


def fill(box: Any) -> None:
    pool.get(box.fill.remote(np.ones(10**6)))


def fill_store(refs: Any = None) -> int:
    _seen[:] = [store.put(np.full(10**6, 7.0)) for _ in range(4)]
    live: int = store.stats()["live"]
    return live


def test_what_came_from_a_pool_of_an_ended_runtime_is_not_used_again(start: Any) -> None:
    start(num_cpus=1)
    with Pool(1) as workers:
        box = pool.remote(Box).remote()
        workers.apply(fill, (box,))
        seen = pool.get(box.look.remote())
        assert store.stats()["copied"] < 10**6
        del box
        pool.shutdown()
        start(num_cpus=1)
        live = workers.apply(fill_store, ([pool.put(0)],))
        assert (seen == 1).all()
        del seen
        gc.collect()  # the first runtime is one cycle, which may have been shut down in a hurry
        assert workers.apply(fill_store) < live
    workers.join()


def count_descriptors(refs: Any) -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_guest_of_many_runtimes_keeps_nothing_of_them(start: Any) -> None:
    with Pool(1) as workers:
        counts = set()
        for _ in range(3):
            start(num_cpus=1)
            workers.apply(keep, ([pool.put(np.ones(10**6))],))
            workers.apply(let_go, (None,))
            counts.add(workers.apply(count_descriptors, ([pool.put(0)],)))
            pool.shutdown()
        assert len(counts) == 1
    workers.join()


def stay(refs: Any, gate: str) -> Any:
    box, path = refs
    pool.get(box.fill.remote(np.ones(10**6)))
    Path(gate).write_text("x")
    return pool.get(path)


def look_until(gate: str, over: str, refs: Any, puts: bool) -> Any:
    pool.get(refs[0])
    Path(gate).write_text("x")
    Path(over).read_text()
    errors = []
    calls = [(pool.get, refs[1]), *[(pool.put, 3)] * puts, (pool.get, refs[1])]
    for verb, thing in calls:
        try:
            verb(thing)
        except pool.PoolTerminated as error:
            errors.append(str(error))
    return errors


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[tuple[str, str]]:
    paths = str(tmp_path / "gate"), str(tmp_path / "other")
    for path in paths:
        os.mkfifo(path)
    yield paths


@pytest.mark.parametrize("small", [False, True])
def test_guest_that_waits_for_a_runtime_is_told_of_its_end(
    start: Any, gates: tuple[str, str], small: bool
) -> None:
    gate, never = gates
    start(num_cpus=2)
    with Pool(1) as workers:
        pid = workers.apply(os.getpid)
        box = pool.remote(Box).remote()
        endless = hold.remote(never)
        if small:
            refs = [pool.put(1), endless]
            waiting = workers.apply_async(look_until, (gate, os.devnull, refs, False))
        else:
            waiting = workers.apply_async(stay, ([box, endless], gate))
        Path(gate).read_text()
        while not endless._watchers:
            pool.wait([endless], timeout=0.01)
        seen = None if small else pool.get(box.look.remote())
        pool.shutdown()
        if small:
            assert len(waiting.get()) == 2
        else:
            with pytest.raises(pool.PoolTerminated):
                waiting.get()
        assert workers.apply(os.getpid) == pid
        assert small or (seen == 1).all()
    workers.join()


def ask_on(gate: str, refs: Any) -> int:
    pool.get(refs)
    Path(gate).write_text("x")
    count = 0
    while True:
        count += 1
        pool.get(pool.put(count))


def test_guest_that_is_busy_with_a_runtime_is_told_of_its_end(
    start: Any, gates: tuple[str, str]
) -> None:
    with Pool(1) as workers:
        pid = workers.apply(os.getpid)
        for _ in range(5):
            start(num_cpus=1)
            asking = workers.apply_async(ask_on, (gates[0], [pool.put(1)]))
            Path(gates[0]).read_text()
            pool.shutdown()
            with pytest.raises(pool.PoolTerminated):
                asking.get()
        assert workers.apply(os.getpid) == pid
    workers.join()


def test_guest_that_returns_after_the_end_of_a_runtime(start: Any, gates: tuple[str, str]) -> None:
    def wait(refs: Any) -> int:
        Path(gates[0]).write_text("x")
        Path(gates[1]).read_text()
        return 5

    start(num_cpus=1)
    with Pool(1) as workers:
        waiting = workers.apply_async(wait, ([pool.put(np.ones(10**5))],))
        Path(gates[0]).read_text()
        pool.shutdown()
        Path(gates[1]).write_text("x")
        assert waiting.get() == 5
    workers.join()


def test_guest_that_asks_a_runtime_that_has_ended_goes_on(
    start: Any, gates: tuple[str, str]
) -> None:
    gate, over = gates
    start(num_cpus=2)
    with Pool(1) as workers:
        refs = [pool.put(1), double.remote(2)]
        asking = workers.apply_async(look_until, (gate, over, refs, True))
        Path(gate).read_text()
        pool.shutdown()
        Path(over).write_text("x")
        assert ["shut down" in text for text in asking.get()] == [True] * 3
    workers.join()


def test_worker_that_is_killed_loses_no_argument(ray: Any, workers: Any, tmp_path: Path) -> None:
    def die_once(value: Any, refs: Any) -> Any:
        try:
            os.close(os.open(tmp_path / "died", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return value, pool.get(refs)
        os.kill(os.getpid(), signal.SIGKILL)

    refs = [ray.put(2)]
    assert workers.apply(die_once, (double.remote(4), refs), retries=1) == (8, [2])


def test_pool_made_by_a_task(ray: Any) -> None:
    @ray.remote
    def inside(refs: list[Any]) -> Any:
        with Pool(1) as workers:
            found = workers.map(add, refs)
        workers.join()
        return found

    assert ray.get(inside.remote([ray.put(1), double.remote(2)])) == [1, 4]


def test_pool_made_by_a_task_refuses_references_inside_of_arguments(ray: Any) -> None:
    def first(refs: list[Any]) -> Any:
        return pool.get(refs[0])

    @ray.remote
    def inside(refs: list[Any]) -> Any:
        with Pool(1) as workers:
            with pytest.raises(TypeError, match="item 1 .*contains ObjectRef"):
                workers.map(first, [[1], refs])
            with pytest.raises(TypeError, match="contains ObjectRef"):
                workers.apply(first, (refs,))
            with pytest.raises(TypeError, match="contains ObjectRef"):
                list(workers.imap(first, [refs]))
            found = workers.map(abs, [-1])
        workers.join()
        return found

    assert ray.get(inside.remote([ray.put(1)])) == [1]


# ---------------------------------------------------------------------- of the store


def test_two_types_that_are_taken_in_each_others_place(ray: Any) -> None:
    stored, put = store.put(np.arange(50_000)), ray.put(3)
    assert isinstance(put, pool.ObjectRef) and not isinstance(put, store.ObjectRef)
    assert isinstance(stored, store.ObjectRef) and not isinstance(stored, pool.ObjectRef)
    assert pool.get(stored)[-1] == 49_999
    assert store.get(put) == 3
    assert store.get([put, double.remote(4)], timeout=60) == [3, 8]
    three, array = pool.get([put, stored])
    assert three == 3 and array.sum() == sum(range(50_000))
    with pytest.raises(TypeError, match="ObjectRef"):
        store.get(5)
    with pytest.raises(TypeError, match="ObjectRef"):
        pool.get([put, 5])


def test_the_store_says_which_result_is_late(ray: Any, tmp_path: Path) -> None:
    @ray.remote
    def late() -> None:
        raise TimeoutError("of the task's own")

    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    waiting = hold.remote(gate)
    with pytest.raises(TimeoutError, match="ObjectRef.*not there within 0 s.*goes on"):
        store.get(waiting, timeout=0)
    Path(gate).write_text("x")
    assert store.get(waiting, timeout=60) == "x"
    with pytest.raises(TimeoutError, match="of the task's own"):
        store.get(late.remote(), timeout=60)


def test_reference_of_the_store_as_an_argument(ray: Any) -> None:
    stored = store.put([1, 2])
    assert ray.get(double.remote(stored)) == [1, 2, 1, 2]
    assert ray.get(kind_of.remote([stored])) == "list"
    counter = Counter.remote(store.put(10))
    assert ray.get(counter.add.remote(store.put(5))) == 15

    @ray.remote
    def inside(ref: list[Any]) -> Any:
        return pool.get(double.remote(ref[0]))

    assert ray.get(inside.remote([stored])) == [1, 2, 1, 2]


def test_wait_for_both(ray: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    stored, held = store.put(1), hold.remote(gate)
    assert ray.wait([held, stored]) == ([stored], [held])
    assert ray.wait([stored, held]) == ([stored], [held])
    Path(gate).write_text("x")
    assert ray.wait([held, stored], num_returns=2) == ([held, stored], [])
    with pytest.raises(TypeError, match="5"):
        ray.wait([5, stored])


def test_nothing_is_kept_of_a_pool_that_was_a_guest(ray: Any) -> None:
    with Pool(1) as workers:
        pid = workers.apply(os.getpid)
        counter = Counter.remote()
        process = psutil.Process(ray.get(counter.pid.remote()))
        assert workers.apply(ask, (counter,)) == 5
        del counter
        # Neither the call nor the worker holds it any more.
        psutil.wait_procs([process], timeout=20)
        assert not process.is_running()
        assert workers.apply(os.getpid) == pid
    workers.join()


def test_each_remote_function_of_a_function_holds_what_that_refers_to(tmp_path: Path) -> None:
    # The pickle of the function is kept, and made once.
    done = run_program(
        """
        import pool as ray
        ref = ray.put([1, 2])
        def use():
            return ray.get(ref)
        first, second = ray.remote(use), ray.remote(use)
        print(ray.get([first.remote(), second.remote()]))
        print(list(first._code.refs) == list(second._code.refs) == [ref])
        """,
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("[[1, 2], [1, 2]]\nTrue\n", "")
