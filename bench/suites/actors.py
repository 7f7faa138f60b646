"""Ray's words on one machine, beside Ray itself where it is installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bench._system import tree_pss
from bench._work import OURS, Bound, Row, Work, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench._peers import Peer
    from bench._work import Scale

RAY = "ray"
TRIPS = 500
NBYTES = 100_000_000

PROGRAM = """\
import {module} as ray
{start}
@ray.remote
def work(x):
    return x * x
print(sum(ray.get([work.remote(x) for x in range(8)])))
ray.shutdown()
"""


@contextmanager
def runtime(peer: Peer) -> Iterator[Any]:
    """Start the runtime of ours or of Ray."""
    ray: Any = importlib.import_module("pool" if peer.name == OURS else "ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def program(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Start, run eight tasks, end: a whole program."""
    name = "pool" if peer.name == OURS else "ray"
    text = PROGRAM.format(module=name, start="ray.init(num_cpus=2)")

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=True
        )
        return done.stdout.split()[-1]

    yield Work(run, lambda printed: expect(printed, "140"))


def _increment(x: int) -> int:
    return x + 1


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


@contextmanager
def task_trips(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Submit, get, submit again."""
    trips = scale.count(TRIPS)
    with runtime(peer) as ray:
        task = ray.remote(_increment)
        ray.get([task.remote(0) for _ in range(20)])

        def run() -> int:
            result = 0
            for _ in range(trips):
                result = ray.get(task.remote(result))
            return result

        yield Work(run, lambda result: expect(result, trips))


@contextmanager
def actor_trips(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Call, get, call again."""
    trips = scale.count(TRIPS)
    with runtime(peer) as ray:
        counter = ray.remote(_Counter).remote()
        before = ray.get([counter.add.remote() for _ in range(20)])[-1]

        def run() -> int:
            result = 0
            for _ in range(trips):
                result = ray.get(counter.add.remote())
            return result

        yield Work(run, lambda result: expect(result, before + trips))


@contextmanager
def burst(of: str, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Submit very many, then get all."""
    number = scale.count(10_000)
    with runtime(peer) as ray:
        task = ray.remote(_increment)
        counter = ray.remote(_Counter).remote()
        ray.get([*(task.remote(0) for _ in range(20)), counter.add.remote()])
        submit: Callable[[int], Any] = task.remote if of == "tasks" else (
            lambda _: counter.add.remote()
        )  # fmt: skip

        def run() -> int:
            return len(ray.get([submit(x) for x in range(number)]))

        yield Work(run, lambda result: expect(result, number))


@contextmanager
def put_and_get(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Store a large array and read it back."""
    import numpy as np

    array = np.ones(scale.count(NBYTES) // 8)
    with runtime(peer) as ray:
        ray.get(ray.put(array))
        yield Work(lambda: ray.get(ray.put(array)).sum(), lambda total: expect(total, len(array)))


def _drain(ray: Any, task: Any, number: int) -> int:
    """Submit tasks and take their results one by one, as they come."""
    left = [task.remote(x) for x in range(number)]
    total = 0
    while left:
        (ready,), left = ray.wait(left)
        total += ray.get(ready)
    return total


@contextmanager
def waiting(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Take results one by one as they come."""
    number = scale.count(10_000)
    with runtime(peer) as ray:
        task = ray.remote(_increment)
        ray.get([task.remote(0) for _ in range(20)])
        yield Work(
            lambda: _drain(ray, task, number),
            lambda total: expect(total, number * (number + 1) // 2),
        )


@contextmanager
def linear(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give the time of one `wait` among very many, as a multiple of that among a tenth of them."""
    number = scale.count(10_000)
    with runtime(peer) as ray:
        task = ray.remote(_increment)
        _drain(ray, task, 100)

        def run() -> float:
            began = perf_counter()
            for _ in range(10):
                _drain(ray, task, number // 10)
            between = perf_counter()
            _drain(ray, task, number)
            return (perf_counter() - between) / (between - began)

        yield Work(run)


def _busy(x: int) -> int:
    until = perf_counter() + 1e-4
    while perf_counter() < until:
        continue
    return x


def _busy_all(batch: range) -> list[int]:
    return [_busy(x) for x in batch]


@contextmanager
def batches(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Run very many small tasks, as a multiple of the same work in batches made by hand."""
    number = scale.count(100_000)
    size = 1000
    with runtime(peer) as ray:
        single, batched = ray.remote(_busy), ray.remote(_busy_all)
        ray.get([*(single.remote(0) for _ in range(20)), batched.remote(range(2))])

        def run() -> float:
            starts = range(0, number, size)
            began = perf_counter()
            ray.get([batched.remote(range(at, min(at + size, number))) for at in starts])
            between = perf_counter()
            values = ray.get([single.remote(x) for x in range(number)])
            end = perf_counter()
            expect(values, list(range(number)))
            return (end - between) / (between - began)

        yield Work(run)


@contextmanager
def memory(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give the memory that an idle runtime adds to the machine, in MB (PSS)."""
    before = tree_pss()
    with runtime(peer) as ray:
        ray.get([ray.remote(_increment).remote(0) for _ in range(4)])
        yield Work(lambda: (tree_pss() - before) / 1e6)


BOTH = (OURS, RAY)

ROWS = (
    Row(
        "ray-start", "a program: start, 8 tasks, end", program, (Bound(0.03, RAY),),
        peers=BOTH, long=True,
    ),
    Row("ray-task", f"task and `get`, {TRIPS} times", task_trips, (Bound(0.1, RAY),), peers=BOTH),
    Row("ray-actor", f"call and `get`, {TRIPS} times", actor_trips, (Bound(0.1, RAY),), peers=BOTH),
    Row(
        "ray-burst", "10 000 `.remote()`, one `get`", partial(burst, "tasks"), (Bound(0.05, RAY),),
        peers=BOTH,
    ),
    Row("ray-calls", "10 000 calls of one actor, one `get`", partial(burst, "calls"), peers=BOTH),
    Row("ray-wait", "10 000 tasks, `wait` for one at a time", waiting, peers=BOTH),
    Row(
        "ray-linear", "one `wait` among 10 000, as a multiple of one among 1000", linear,
        (Bound(2, ""),), unit="x", peers=(OURS,),
    ),
    Row(
        "ray-batches", "100 000 tasks of 0.1 ms, as a multiple of the same in batches of 1000",
        batches, (Bound(1.2, ""),), unit="x", peers=(OURS,), long=True,
    ),
    Row("ray-put", "`put` and `get` of 100 MB", put_and_get, (Bound(0.5, RAY),), peers=BOTH),
    Row(
        "ray-memory", "memory of an idle runtime", memory, (Bound(0.1, RAY),), unit="MB",
        peers=BOTH, long=True,
    ),
)  # fmt: skip
