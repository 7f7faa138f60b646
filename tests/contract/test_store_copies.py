"""No copy where none is promised: counted, not timed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import storetasks as tasks
from poolkit import PATIENCE

import store
from pool import Pool

ROOT = Path(__file__).parents[2]

NBYTES = 64 << 20
COUNT = NBYTES // 8


@pytest.fixture
def pool(shared: str, tmp_path: Path) -> Iterator[Any]:
    with Pool(2) as p:
        # Until both have started, a message may be taken back from one that has not and be
        # made anew for the other.
        both_work(p, tmp_path)
        yield p
    p.join()


def both_work(pool: Any, folder: Path) -> None:
    """Wait until each of two workers has had a task at the same time."""
    fifo = str(folder / "meeting")
    os.mkfifo(fifo)
    one, other = pool.starmap(tasks.meet, [(fifo, "r"), (fifo, "w")], 1)
    assert one != other


def copied(action: Callable[[], Any]) -> int:
    """Return how many bytes an action copies into the store of this process."""
    before = store.stats()["copied"]
    action()
    after: int = store.stats()["copied"]
    return after - before


def test_readers_have_no_copy_of_their_own(pool: Any) -> None:
    array = np.ones(COUNT)
    own = max(pool.map(tasks.anonymous_nbytes, [np.ones(1)] * 8, 1))
    for sent in (array, store.share(array), store.put(array)):
        assert max(pool.map(tasks.anonymous_nbytes, [sent] * 4, 1)) < own + NBYTES // 4
    assert (
        max(pool.map(partial(tasks.anonymous_nbytes, array), [np.ones(1)] * 8, 1))
        < own + NBYTES // 4
    )


def test_an_argument_is_copied_once(pool: Any) -> None:
    array = np.ones(COUNT)
    assert copied(lambda: pool.apply(tasks.total, (array,))) == NBYTES
    assert copied(lambda: pool.apply_async(tasks.total, (array,)).get()) == NBYTES
    assert copied(lambda: pool.map(tasks.total, [array])) == NBYTES
    assert copied(lambda: list(pool.imap(tasks.total, iter([array])))) == NBYTES


def test_a_function_is_copied_once_for_all_tasks(pool: Any) -> None:
    array = np.ones(COUNT)
    small = [np.ones(1)] * 12
    assert copied(lambda: pool.map(partial(tasks.total, array), small, 1)) == NBYTES
    assert copied(lambda: pool.map(tasks.Scorer(COUNT).score, range(12), 1)) == NBYTES
    assert copied(lambda: list(pool.imap(partial(tasks.total, array), small))) == NBYTES


def test_a_closure_is_copied_once_for_all_tasks(pool: Any) -> None:
    array = np.ones(COUNT)

    def add(number: int) -> float:
        return float(array[0]) + number

    wanted = [1.0 + number for number in range(12)]
    assert copied(lambda: pool.map(add, range(12), 1)) == NBYTES
    assert pool.map(add, range(12), 1) == wanted


def test_a_method_is_copied_once_for_a_thousand_items(pool: Any) -> None:
    scorer = tasks.Scorer(COUNT)
    assert copied(lambda: pool.map(scorer.weight, range(1000))) == NBYTES
    assert copied(lambda: pool.map(scorer.weight, range(1000), 1)) == NBYTES


def test_a_method_is_copied_once_for_parts_of_its_frame(pool: Any) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": np.ones(COUNT), "kind": pd.Categorical(["x"] * COUNT)})
    parts = [frame.iloc[number : number + 3] for number in range(12)]
    once = frame["a"].nbytes + frame["kind"].cat.codes.nbytes
    assert copied(lambda: pool.map(tasks.Framed(frame).rows, parts, 1)) == once


def test_get_copies_nothing(shared: str) -> None:
    ref = store.put(np.ones(COUNT))
    own = tasks.anonymous_nbytes()
    arrays = [store.get(ref) for _ in range(3)]
    assert copied(lambda: arrays.append(store.get(ref))) == 0
    assert tasks.anonymous_nbytes(*arrays) < own + NBYTES // 4


def tree_pss() -> int:
    """Return the memory of this process and its descendants, shared pages counted once.

    Nothing may run there meanwhile: one process is read after the other. What programs and
    libraries are mapped from is left out: other processes of the machine share it, so each one
    that starts or ends meanwhile would be seen here.
    """
    here = psutil.Process()
    return sum(own_pss(process.pid) for process in [here, *here.children(recursive=True)])


def own_pss(pid: int) -> int:
    """Return the proportional memory of a process in all that is no program or library."""
    total, counts = 0, True
    with open(f"/proc/{pid}/smaps") as lines:
        for line in lines:
            words = line.split(maxsplit=5)
            if not words[0].endswith(":"):  # the head of a mapping: addresses, ..., its file
                file = words[5].strip() if len(words) > 5 else ""
                counts = ".so" not in file and file != os.path.realpath(sys.executable)
            elif counts and words[0] == "Pss:":
                total += int(words[1]) << 10
    return total


def test_memory_of_the_tree_while_all_read_one_array(pool: Any, tmp_path: Path) -> None:
    small = [np.ones(1)] * 4
    pool.map(tasks.anonymous_nbytes, small, 1)
    array = np.ones(COUNT)
    before = tree_pss()
    fifo = str(tmp_path / "both have it")
    os.mkfifo(fifo)
    one, other = pool.map(partial(tasks.keep_and_meet, array, fifo), ["r", "w"], 1)
    assert one != other
    assert tree_pss() - before < NBYTES * 1.1 + (4 << 20)


def test_what_is_in_the_store_is_not_copied(pool: Any) -> None:
    shared = store.share(np.ones(COUNT))
    result = pool.apply(tasks.full, (COUNT, 1.0))
    built = pool.apply(tasks.filled, (COUNT, 1.0))
    ref = store.put(shared)
    for sent in (shared, shared[10:], result, result[:-10], built, ref, [shared, ref, built]):
        assert copied(lambda sent=sent: pool.map(tasks.type_name, [sent] * 3, 1)) == 0
    assert copied(lambda: store.put(result)) == 0
    assert copied(lambda: store.share(shared)) == 0


def test_read_only_views_are_copied_and_arrive_writable(pool: Any) -> None:
    view = store.get(store.put(np.ones(200_000)), copy="readonly")
    arrived: list[Any] = []
    nbytes = copied(lambda: arrived.append(pool.apply(tasks.identity, (view,))))
    assert nbytes == view.nbytes
    assert arrived[0].flags.writeable and (arrived[0] == view).all()


def test_what_arrives_is_copied_to_be_resized(pool: Any) -> None:
    arrived = pool.apply(np.ones, (200_000,))
    with pytest.raises(ValueError, match="does not own its data"):
        arrived.resize(400_000)
    arrived = arrived.copy()
    arrived.resize(400_000)
    assert arrived.sum() == 200_000


def arrow_things() -> dict[str, Any]:
    pa = pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    numbers = pa.array(np.arange(1_000_000))
    text = pd.Series(["one", "two", "three", "four"] * 250_000, dtype="str")
    return {
        "array": numbers,
        "chunked": pa.chunked_array([numbers, numbers]),
        "table": pa.table({"n": numbers, "t": pa.array(text)}),
        "dictionary": pa.array(text).dictionary_encode(),
        "text": text,
        "frame": pd.DataFrame({"t": text, "n": pd.array(numbers, "int64[pyarrow]")}),
    }


@pytest.mark.parametrize("name", ["array", "chunked", "table", "dictionary", "text", "frame"])
def test_what_arrow_has_in_the_store_is_not_copied(pool: Any, name: str) -> None:
    thing = arrow_things()[name]
    part = slice(100, 200_000)
    shared = store.share(thing)
    result = pool.apply(tasks.identity, (thing,))
    made = pool.apply(tasks.deep_copy, (thing,))
    for sent in (shared, shared[part], result, made, made[part], [shared, made[part]]):
        assert copied(lambda sent=sent: pool.map(tasks.type_name, [sent] * 3, 1)) == 0
        assert copied(lambda sent=sent: store.put(sent)) == 0
    assert pool.apply(tasks.identity, (made[part],)).equals(thing[part])
    assert pool.apply(tasks.identity, (shared,)).equals(thing)


def test_results_are_not_copied_here(pool: Any) -> None:
    array = store.share(np.ones(COUNT))
    own = tasks.anonymous_nbytes()
    results = pool.map(partial(tasks.full, COUNT), [1.0, 2.0, 3.0, 4.0], 1)
    results += pool.map(tasks.identity, [array] * 4, 1)
    assert tasks.anonymous_nbytes(*results) < own + NBYTES // 2


def test_a_result_is_copied_once_there(shared: str) -> None:
    with Pool(1) as p:
        before = p.apply(copied_there)
        p.apply(tasks.full, (COUNT, 1.0))
        assert p.apply(copied_there) == before + NBYTES
        # What has come by reference goes back by reference.
        p.apply(tasks.identity, (np.ones(COUNT),))
        assert p.apply(copied_there) == before + NBYTES
    p.join()


def test_a_result_built_in_the_store_is_not_copied_there(shared: str) -> None:
    with Pool(1) as p:
        before = p.apply(copied_there)
        p.apply(tasks.filled, (COUNT, 1.0))
        assert p.apply(copied_there) == before
        p.apply(tasks.full, (COUNT, 1.0))
        assert p.apply(copied_there) == before + NBYTES
    p.join()


def copied_there() -> int:
    found: int = store.stats()["copied"]
    return found


WITHOUT_NUMPY = """
import sys
import store
from pool import Pool

def anonymous():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Anonymous:"))

def keep(refs):
    kept.extend(refs)
    return refs

def report(item):
    assert "numpy" not in sys.modules
    return anonymous(), store.stats()["copied"]

def size(data):
    assert "numpy" not in sys.modules
    return len(data[0])

kept = []
with Pool(1) as p:
    p.map(len, [b""])
    before, _ = p.apply(report, (0,))
    ref = store.put([bytearray(20_000_000)])
    assert p.apply(keep, ([ref],)) == [ref]
    after, copied = p.apply(report, (0,))
    assert p.map(size, [ref] * 3) == [20_000_000] * 3
p.join()
print(after - before < 5_000_000, copied, store.stats()["copied"] < 21_000_000)
"""


def test_references_in_processes_without_numpy_are_not_copied(shared: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "POOL_STORE": shared},
    )
    assert (done.stdout, done.stderr) == ("True 0 True\n", "")
