"""The store: arrays and frames that are put, mapped, sent and sent again.

Rows in "x memcpy" give the time of ours divided by that of one warm copy of the same bytes,
measured in the same round; what the task itself does with the array is taken off.
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bench import tasks
from bench._system import interpreter, peak_pss, tree_pss
from bench._work import OURS, Bound, Row, Unsupported, Work, WrongResult, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench._peers import Peer, Session
    from bench._work import Scale

MB = 125_000  # float64 values

#: Calls before one that is called warm. The first ones of a worker copy the pages that they write
#: to, and interpreters specialise code that has run some times.
WARM = 16
ROOT = Path(__file__).parents[2]


def seconds(action: Callable[[], Any], check: Callable[[Any], None] | None = None) -> float:
    """Time one call; what it returns is looked at and let go outside of the timing."""
    begun = perf_counter()
    result = action()
    taken = perf_counter() - begun
    if check is not None:
        check(result)
    return taken


def all_ones(array: Any) -> None:
    """Raise `WrongResult` unless an array is of ones."""
    if not (len(array) and (array == 1).all()):
        raise WrongResult("not an array of ones")


class Copy:
    """One warm copy of an array, to compare with."""

    def __init__(self, array: Any) -> None:
        import numpy as np

        self._source = array
        self._target = np.empty_like(array)
        self()

    def __call__(self) -> float:
        """Return the seconds that it takes."""
        import numpy as np

        return min(seconds(lambda: np.copyto(self._target, self._source)) for _ in range(3))


def _ones(megabytes: float, scale: Scale) -> Any:
    import numpy as np

    return np.ones(scale.count(int(megabytes * MB)))


# ---------------------------------------------------------------- the store alone


@contextmanager
def put_warm(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Put 100 MB where 100 MB were before."""
    import store

    array = _ones(100, scale)
    copy = Copy(array)
    store.put(array)

    def check(ref: Any) -> None:
        all_ones(store.get(ref))

    yield Work(lambda: seconds(lambda: store.put(array), check) / copy())


@contextmanager
def put_first(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Put 100 MB into memory that the process does not have yet."""
    import store

    array = _ones(100, scale)
    copy = Copy(array)
    kept: list[Any] = []

    def run() -> float:
        if len(kept) > 4:
            kept.clear()
        figure = seconds(lambda: kept.append(store.put(array))) / copy()
        all_ones(store.get(kept[-1]))
        return figure

    yield Work(run)
    kept.clear()


@contextmanager
def get(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Get arrays of 70 KB to 100 MB; give the microseconds of the slowest size."""
    import store

    refs = [store.put(_ones(megabytes, scale)) for megabytes in (0.07, 0.2, 1, 10, 100)]

    def of(ref: Any) -> float:
        all_ones(store.get(ref))
        begun = perf_counter()
        for _ in range(100):
            store.get(ref)
        return (perf_counter() - begun) * 1e4

    yield Work(lambda: max(of(ref) for ref in refs))


# ---------------------------------------------------------------- through a pool


@contextmanager
def argument(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Send 100 MB of which the task reads one value."""
    array = _ones(100, scale)
    copy = Copy(array)
    with peer.open(2) as session:
        session.apply(tasks.first, array)

        def check(value: Any) -> None:
            expect(float(value), 1.0)

        yield Work(lambda: seconds(lambda: session.apply(tasks.first, array), check) / copy())


@contextmanager
def result(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Get back 100 MB that the task had already."""
    array = _ones(100, scale)
    copy = Copy(array)
    with peer.open(1) as session:
        session.apply(tasks.remember, array)
        session.apply(tasks.remembered, 0)
        yield Work(lambda: seconds(lambda: session.apply(tasks.remembered, 0), all_ones) / copy())


@contextmanager
def built(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Get back 100 MB that the task filled in the store; the filling is not counted."""
    count = scale.count(100 * MB)
    copy = Copy(_ones(100, scale))
    with peer.open(1) as session:

        def run() -> float:
            begun = perf_counter()
            array, filling = session.apply(tasks.build, count)
            taken = perf_counter() - begun - filling
            if array[-1] != 1:
                raise WrongResult("not what was built")
            return taken / copy()

        for _ in range(WARM):  # as `put` is
            run()
        yield Work(run)


@contextmanager
def broadcast(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give one array of 200 MB to ten tasks."""
    array = _ones(200, scale)
    wanted = [float(array[0]) + number for number in range(10)]
    with peer.open(2) as session:
        # Once before: what memory costs that nobody had yet is what `put-first` is about.
        session.map_single(partial(tasks.add_first, array), range(2))
        yield Work(
            lambda: session.map_single(partial(tasks.add_first, array), range(10)),
            lambda got: expect(got, wanted),
        )


@contextmanager
def broadcast_memory(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give the peak memory of the tree while ten tasks read one array, as multiple of it.

    In a process of its own: what others leave behind for the next array would count for nothing.
    """
    command = [interpreter(), "-m", "bench._peak", peer.name, str(scale.count(200 * MB))]

    def run() -> float:
        done = subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=100
        )
        return float(done.stdout.split()[-1])

    yield Work(run)


def broadcast_peak(session: Session, count: int) -> float:
    """Return what a row is about; in that process."""
    import numpy as np

    array = np.ones(count)
    wanted = [float(len(array)) + number for number in range(10)]
    session.map_single(tasks.increment, range(4))
    before = tree_pss()
    with peak_pss() as peak:
        expect(session.map_single(partial(tasks.add_sum, array), range(10)), wanted)
    return (peak.nbytes - before) / array.nbytes


def _frame(scale: Scale) -> Any:
    try:
        import numpy as np
        import pandas as pd
        import pyarrow
    except ImportError as error:
        raise Unsupported(f"{error.name} is not installed") from None
    assert pyarrow  # without it text is Python objects, which is the row about those
    rows = scale.count(1_000_000)
    columns: dict[str, Any] = {f"n{number}": np.arange(rows) * 1.0 for number in range(8)}
    for name in ("s", "t"):
        columns[name] = pd.array(np.array(["one", "two", "three"])[np.arange(rows) % 3], "str")
    return pd.DataFrame(columns)


@contextmanager
def frame(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give a frame of a million rows to ten tasks."""
    table = _frame(scale)
    wanted = [len(table) + number for number in range(10)]
    with peer.open(2) as session:
        session.map_single(tasks.import_pandas, range(4))
        yield Work(
            lambda: session.map_single(partial(tasks.add_rows, table), range(10)),
            lambda got: expect(got, wanted),
        )


@contextmanager
def frame_again(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give a reference to such a frame to ten tasks, for the second time."""
    import store

    table = _frame(scale)
    ref = store.put(table)
    with peer.open(2) as session:

        def call() -> Any:
            return session.map_single(tasks.rows_of, [ref] * 10)

        session.map_single(tasks.import_pandas, range(4))
        for _ in range(WARM):
            call()

        def check(got: Any) -> None:
            expect(got, [len(table)] * 10)

        yield Work(lambda: seconds(call, check) * 1e3)


@contextmanager
def results(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Make eight results of 100 MB."""
    count = scale.count(100 * MB)
    with peer.open(2) as session:
        session.map_single(tasks.ones, [count] * 8)  # as above

        def check(got: list[Any]) -> None:
            for array in got:
                expect(len(array), count)
                all_ones(array)
            expect(len(got), 8)

        yield Work(lambda: session.map_single(tasks.ones, [count] * 8), check)


@contextmanager
def many(again: bool, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Send 200 arrays of 1 MB and get as many back; `again`: ours are in the store by now."""
    import numpy as np

    import store

    items = [np.full(scale.count(MB), float(number)) for number in range(200)]
    if again and peer.name == OURS:
        items = [store.share(item) for item in items]
    with peer.open(2) as session:
        session.map_single(tasks.increment, range(4))
        for _ in range(3 if again else 0):
            session.map_single(tasks.double, items)

        def check(got: list[Any]) -> None:
            if not all(np.array_equal(a * 2, b) for a, b in zip(items, got, strict=True)):
                raise WrongResult("an array came back wrong")

        yield Work(lambda: session.map_single(tasks.double, items), check)


@contextmanager
def method(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Map a method of an object that holds 100 MB over a thousand items."""
    model = tasks.Model(_ones(100, scale).reshape(-1, 5))
    items = [number % 5 for number in range(scale.count(1000))]
    with peer.open(2) as session:
        session.map(tasks.increment, range(8))
        yield Work(
            lambda: session.map(model.peek, items), lambda got: expect(got, [1.0] * len(items))
        )


@contextmanager
def method_lock(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Map a method of an object that holds 100 MB and a lock; in fresh copies of the 100 MB."""
    model = tasks.Guarded(_ones(100, scale).reshape(-1, 5))
    with peer.open(2) as session:
        session.map_single(tasks.increment, range(4))

        def check(got: Any) -> None:
            expect(got, [1.0] * 4)

        def run() -> float:
            taken = seconds(lambda: session.map_single(model.peek, range(4)), check)
            return taken / min(seconds(model.weights.copy) for _ in range(3))

        yield Work(run)


@contextmanager
def small(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Call a hundred times with 64 KiB."""
    import numpy as np

    array = np.ones(8192)
    with peer.open(2) as session:
        session.apply(tasks.first, array)

        def run() -> list[Any]:
            return [session.apply(tasks.first, array) for _ in range(scale.count(100))]

        yield Work(run, lambda got: expect(got, [1.0] * scale.count(100)))


@contextmanager
def objects(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Send a column of half a million text objects, which has to be pickled."""
    import numpy as np

    texts = [f"text {number}" for number in range(scale.count(500_000))]
    array = np.array(texts, dtype=object)
    with peer.open(2) as session:
        session.apply(tasks.first, array[:1])
        yield Work(lambda: session.apply(tasks.first, array), lambda got: expect(got, "text 0"))


OWN = (OURS,)
ROWS = (
    Row("put", "`store.put` of 100 MB, warm", put_warm, (Bound(1.2, ""),), "x memcpy", peers=OWN),
    Row("put-first", "the same, into new memory", put_first, (Bound(2, ""),), "x memcpy",
        peers=OWN),
    Row("get", "`store.get` of an array of any size (the slowest)", get, (Bound(10, ""),), "us",
        peers=OWN),
    Row("argument", "100 MB argument, overhead", argument, (Bound(1.3, ""),), "x memcpy"),
    Row("result", "100 MB result, overhead", result, (Bound(1.3, ""),), "x memcpy"),
    Row("built", "100 MB result built in the store", built, (Bound(0.1, ""),), "x memcpy",
        peers=OWN),
    Row("broadcast", "200 MB array to 10 tasks", broadcast, (Bound(0.006),), headline=True,
        long=True),
    Row("broadcast-memory", "the same: peak memory of the tree beyond the array, as multiple of it",
        broadcast_memory, (Bound(1.1, ""),), "x array", long=True),
    Row("frame", "1M x 10 frame with 2 `str` columns to 10 tasks, plain argument", frame,
        (Bound(0.03),), long=True),
    Row("frame-again", "the same frame to 10 tasks, by reference again", frame_again,
        (Bound(2, ""),), "ms", peers=OWN),
    Row("results", "8 results of 100 MB", results, (Bound(0.15),), long=True),
    Row("many", "200 arrays of 1 MB there and back, first", partial(many, False), (Bound(0.2),),
        long=True),
    Row("many-again", "the same, again; ours from the store (`store.share`)",
        partial(many, True), (Bound(0.12),), long=True),
    Row("method-lock", "method of an object with 100 MB and a lock", method_lock,
        (Bound(1.2, ""),), "x fresh copy"),
    Row("method-1000", "method of an object with 100 MB over 1000 items", method, (Bound(0.05),),
        long=True),
    Row("small", "100 calls with 64 KiB", small, (Bound(0.6),)),
    Row("objects", "500 000 text objects", objects, (Bound(1.0),), long=True),
)  # fmt: skip
