"""What a pool costs that does nothing: import time, memory, CPU time."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from bench import tasks
from bench._system import children_cpu_seconds, interpreter, tree_pss, uss
from bench._work import OURS, STANDARD, Bound, Row, Unsupported, Work, WrongResult
from bench.suites.starting import _import_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench._peers import Peer, Session
    from bench._work import Scale

#: What a program writes to get at a pool, and what is left when the import is taken away.
IMPORTS = {
    OURS: "from pool import Pool",
    STANDARD: "from multiprocessing import Pool",
    "concurrent.futures": "from concurrent.futures import ProcessPoolExecutor",
    "loky": "from loky import ProcessPoolExecutor",
    "joblib": "from joblib import Parallel",
    "mpire": "from mpire import WorkerPool",
    "pebble": "from pebble import ProcessPool",
    "multiprocess": "from multiprocess import Pool",
    "dask": "from distributed import Client",
    "ray": "from ray.util.multiprocessing import Pool",
}

#: How long idle pools are watched; the clock of `cpu_times` has ticks of 10 ms.
IDLE_SECONDS = 3.0


@contextmanager
def import_time(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give the milliseconds that the import adds to the start of an interpreter."""
    statement = IMPORTS.get(peer.name)
    if statement is None:
        raise Unsupported
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())}

    def start(code: str) -> float:
        begun = perf_counter()
        subprocess.run([interpreter(), "-c", code], env=environment, check=True)
        return perf_counter() - begun

    start(statement)  # compiles it, if nobody has

    def run() -> float:
        bare = min(start("pass") for _ in range(3))
        return (min(start(statement) for _ in range(3)) - bare) * 1e3

    yield Work(run)


def _pids(session: Session, workers: int) -> set[int]:
    """Return the pids of all workers."""
    for _ in range(200):
        pids = set(session.map_single(tasks.hold, [2e-3] * 4 * workers))
        if len(pids) == workers:
            return pids
    raise WrongResult(f"never saw {workers} workers at once")


@contextmanager
def idle_memory(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give the memory that one idle worker adds to the machine, in MB (USS)."""
    with peer.open(2) as session:
        pids = _pids(session, 2)
        yield Work(lambda: max(uss(pid) for pid in pids) / 1e6)


@contextmanager
def idle_cpu(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give the CPU milliseconds that an idle pool of two uses in a second, parent included."""
    with peer.open(2) as session:
        session.map(tasks.increment, range(1000))
        nothing = threading.Event()
        nothing.wait(0.3)  # what follows a job (threads that linger) is not idleness

        def run() -> float:
            before = children_cpu_seconds()
            # An event that never comes: this thread sleeps in the kernel and costs nothing.
            nothing.wait(IDLE_SECONDS)
            return (children_cpu_seconds() - before) / IDLE_SECONDS * 1e3

        yield Work(run)


@contextmanager
def _pool_memory(workers: int, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give the memory that a pool adds to the machine, helpers included, in MB (PSS)."""
    before = tree_pss()
    with peer.open(workers) as session:
        session.map_single(tasks.increment, range(100 * workers))
        yield Work(lambda: (tree_pss() - before) / 1e6)


ROWS = (
    Row("import", "import, milliseconds beyond a bare start", import_time, unit="ms", long=True),
    Row(
        "idle-memory",
        "USS of an idle worker, MB",
        idle_memory,
        (Bound(6.0, ""),),
        unit="MB",
        long=True,
    ),
    Row(
        "idle-cpu",
        "CPU milliseconds a second of an idle pool",
        idle_cpu,
        # One tick of the kernel's clock, in three seconds.
        (Bound(10 / IDLE_SECONDS + 0.01, ""),),
        unit="ms/s",
        long=True,
    ),
    Row(
        "memory-2",
        "memory that a pool of 2 adds, MB (PSS)",
        partial(_pool_memory, 2),
        unit="MB",
        long=True,
    ),
    Row(
        "memory-16",
        "memory that a pool of 16 adds, MB (PSS)",
        partial(_pool_memory, 16),
        unit="MB",
        peers=(OURS, STANDARD, "multiprocessing forkserver", "multiprocessing spawn"),
        long=True,
    ),
)
