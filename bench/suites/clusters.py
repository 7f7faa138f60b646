"""A Pool on a cluster of Ray or Dask, beside what these offer themselves for the same work.

Each contender has a cluster of its own on this machine: what is measured is what a pool adds to it
or spares it, not a network. A task of ours has one process more on its way, so that nothing it does
touches the cluster's; tiny ones travel together.
"""

from __future__ import annotations

import importlib.util
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import tasks
from bench._peers import PoolSession
from bench._work import OURS, Bound, Row, Unsupported, Work, WrongResult, expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench._peers import Peer, Session
    from bench._work import Scale

DASK = "dask"
RAY = "ray"
WORKERS = 2


@contextmanager
def _on(system: str, peer: Peer) -> Iterator[Session]:
    """Open ours on a cluster of that system; or that system's own."""
    if peer.name != OURS:
        with peer.open(WORKERS) as session:
            yield session
        return
    if importlib.util.find_spec("distributed" if system == DASK else system) is None:
        raise Unsupported(f"{system} is not installed")
    with _ray() if system == RAY else _dask():
        from pool import Pool

        with Pool(WORKERS, engine=system) as pool:
            yield PoolSession(pool)


@contextmanager
def _ray() -> Iterator[None]:
    import ray

    ray.init(num_cpus=WORKERS, log_to_driver=False, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _dask() -> Iterator[None]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        yield


@contextmanager
def _tiny(system: str, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Map over tiny tasks, one item a task."""
    count = scale.count(5000)
    with _on(system, peer) as session:
        session.map_single(tasks.increment, range(20))
        yield Work(
            lambda: session.map_single(tasks.increment, range(count)),
            lambda result: expect(result, list(range(1, count + 1))),
        )


@contextmanager
def _trips(system: str, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Call, wait, call again."""
    trips = scale.count(100)
    with _on(system, peer) as session:
        session.map_single(tasks.increment, range(20))

        def run() -> int:
            result = 0
            for _ in range(trips):
                result = session.apply(tasks.increment, result)
            return result

        yield Work(run, lambda result: expect(result, trips))


@contextmanager
def _arrays(system: str, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Send sixteen arrays of 8 MB and get as many back."""
    import numpy as np

    items = [np.full(scale.count(1_000_000), number, dtype="f8") for number in range(16)]
    with _on(system, peer) as session:
        session.map_single(tasks.double, items[:2])

        def check(result: list[Any]) -> None:
            if not all(np.array_equal(a * 2, b) for a, b in zip(items, result, strict=True)):
                raise WrongResult("an array came back wrong")

        yield Work(lambda: session.map_single(tasks.double, items), check)


def _row(system: str, key: str, title: str, work: Any, limit: float) -> Row:
    return Row(
        f"{system}-pool-{key}",
        f"{title}, workers on {system.title()}",
        partial(work, system),
        (Bound(limit, system),),
        peers=(OURS, system),
        long=True,
    )


ROWS = tuple(
    _row(system, *row)
    for system in (DASK, RAY)
    for row in (
        ("map", "`map`, 5000 tiny tasks, chunksize=1", _tiny, 0.05),
        ("apply", "`apply` round trip, 100 times", _trips, 1.5),
        ("arrays", "16 arrays of 8 MB there and back", _arrays, 1.5),
    )
)
