"""The engine that runs jobs on workers of a cluster."""

from __future__ import annotations

import os

from pool._cluster._crew import ClusterCrew
from pool._cluster._messages import Config, portable, version
from pool._cluster._outcomes import ClusterOutcomes
from pool._local._costs import Distance
from pool._local._engine import LocalEngine
from pool._local._scheduler import Scheduler
from pool._pickling import dumps_to_worker, main_facts
from pool._pickling._initializers import dumps_initializer
from pool._workers._argv import search_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._cluster._peers import Cluster

#: A call of Ray or Dask takes some milliseconds, most of them in this process; agents see to tasks
#: that take long, by their own clocks.
DISTANCE = Distance(
    message_cost=2e-3, message_work=50e-3, prefetch_below=0.2, window_work=0.5, watched=False
)


class ClusterEngine(LocalEngine):
    """Run jobs on workers of a cluster.

    Parameters
    ----------
    processes : int
    initializer : callable, optional
    initargs : tuple
    maxtasksperchild : int, optional
    limits : dict
        Environment variables that limit BLAS and OpenMP threads in the workers.
    cluster : Cluster
    name : str
        Of the system.
    """

    near = False
    distance = DISTANCE
    outcomes = ClusterOutcomes

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        maxtasksperchild: int | None,
        limits: dict[str, str],
        cluster: Cluster,
        name: str,
    ) -> None:
        self.method = name
        self._cluster = cluster
        self._begin()
        #: Memory cannot be shared with other machines: what lies on it is copied.
        self.asks: Any = None
        payload = None
        if initializer is not None:
            encoded = _encode(initializer, initargs)
            payload = portable(encoded.packet)
        path = [os.path.abspath(entry) for entry in search_path()]
        config = Config(version(), maxtasksperchild, limits, main_facts(), path)
        self._start(
            Scheduler(processes, distance=self.distance),
            lambda driver: ClusterCrew(driver, cluster, config, payload),
            # The start may fail, and is to be told of although nobody has asked for anything yet.
            initializes=True,
        )
        self.driver.limit_memory(None)  # of this machine, which has no worker

    def dispose(self) -> None:
        """Let go of the workers, and of the connection to the cluster."""
        super().dispose()
        if not self.foreign:
            self._cluster.close()

    def call_now(self, payload: Any, blobs: list[Any], label: Any) -> None:
        """Leave it to `submit`: there is no quicker way to another machine."""


def _encode(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> Any:
    try:
        return dumps_initializer(initializer, initargs)
    except Exception:
        dumps_to_worker((initializer, initargs))  # says what cannot be sent
        raise
