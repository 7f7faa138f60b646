"""Give this folder clusters: agents in this process, Dask, and Ray where it is installed."""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "compat"))

from agentcluster import agents_here, let_go
from poolkit import gate, shared_heap

__all__ = ["gate", "shared_heap"]

#: How Dask has exceptions pickled in all of a program that imports it: without what they have in C
#: (`StopIteration.value`). It is not to be so in the tests of other folders.
_of_dask: dict[Any, Any] = {}

#: Of each system, as small as it may be: two workers of one thread.
WORKERS = 2


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """Give a client of a Dask cluster on this machine."""
    before = dict(copyreg.dispatch_table)
    distributed = pytest.importorskip("distributed")
    _of_dask.update({k: v for k, v in copyreg.dispatch_table.items() if k not in before})
    copyreg.dispatch_table.update(_of_dask)
    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
    for kind in _of_dask:
        copyreg.dispatch_table.pop(kind, None)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Give Ray, connected to a cluster on this machine."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def here() -> Iterator[Any]:
    """Have agents in this process."""
    with agents_here() as made:
        yield made


_OTHERS = [pytest.param(name, marks=pytest.mark.elsewhere) for name in ("dask", "ray")]


@pytest.fixture(scope="module", params=["here", *_OTHERS])
def engine(request: pytest.FixtureRequest) -> str:
    """Give the name of an engine whose cluster is up."""
    request.getfixturevalue(request.param)
    name: str = request.param
    return name


@pytest.fixture
def make_pool(engine: str, here: list[Any]) -> Iterator[Callable[..., Any]]:
    """Give a function that makes pools on that cluster; they are terminated after the test."""
    from pool import Pool

    made: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        made.append(Pool(*args, engine=engine, **options))
        return made[-1]

    yield make
    while made:
        pool = made.pop()
        pool.terminate()
        pool.join()
    let_go(here)
