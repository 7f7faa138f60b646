"""A Pool on a cluster of Ray or Dask, beside what these offer themselves for the same work.

Each contender has a cluster of its own on this machine: what is measured is what a pool adds to it
or spares it, not a network. A task of ours has one process more on its way, so that nothing it does
touches the cluster's; tiny ones travel together.
"""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bench._peers import Peer, PoolSession
from bench._work import OURS, Bound, Row, Unsupported
from bench.suites.data import arrays
from bench.suites.tasks import round_trip, tiny

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench._peers import Session
    from bench._work import Scale, Work

DASK = "dask"
RAY = "ray"


@contextmanager
def _ray(workers: int) -> Iterator[None]:
    import ray

    ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _dask(workers: int) -> Iterator[None]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        yield


@contextmanager
def _pool_on(system: str, workers: int) -> Iterator[Session]:
    """Open ours on a cluster of that system."""
    if importlib.util.find_spec("distributed" if system == DASK else system) is None:
        raise Unsupported(f"{system} is not installed")
    with _ray(workers) if system == RAY else _dask(workers):
        from pool import Pool

        with Pool(workers, engine=system) as pool:
            yield PoolSession(pool)


def _on(
    system: str, work: Any, share: float, peer: Peer, scale: Scale
) -> AbstractContextManager[Work]:
    """Have a contender do a share of what another suite has it do; ours on such a cluster."""
    if peer.name == OURS:
        peer = Peer(OURS, "pool", partial(_pool_on, system))
    context: AbstractContextManager[Work] = work(peer, replace(scale, items=scale.items * share))
    return context


def _row(system: str, key: str, title: str, work: Any, share: float, limit: float) -> Row:
    return Row(
        f"{system}-pool-{key}",
        f"{title}, workers on {system.title()}",
        partial(_on, system, work, share),
        (Bound(limit, system),),
        peers=(OURS, system),
        long=True,
    )


ROWS = tuple(
    _row(system, *row)
    for system in (DASK, RAY)
    for row in (
        ("map", "`map`, 5000 tiny tasks, chunksize=1", tiny(5000, "map_single"), 1.0, 0.05),
        ("apply", "`apply` round trip, 100 times", round_trip, 0.1, 1.5),
        ("arrays", "16 arrays of 8 MB there and back", arrays, 1.0, 1.5),
    )
)
