"""The engine of a pool whose workers are on a cluster, and what a Pool asks for it."""

from __future__ import annotations

import os
import sys
from _thread import RLock

from pool._cluster._crew import ClusterCrew
from pool._cluster._messages import Config, portable, version
from pool._cluster._outcomes import ClusterOutcomes
from pool._local._costs import Distance
from pool._local._engine import LocalEngine
from pool._local._members import members
from pool._local._scheduler import Scheduler
from pool._pickling import CannotSend, dumps_to_worker, main_facts
from pool._pickling._initializers import dumps_initializer
from pool._workers._settings import thread_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
            payload = portable([encoded.data, *encoded.buffers])
        path = [os.path.abspath(entry) for entry in sys.path]
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


class ClusterEngines:
    """What a Pool on a cluster has in place of `pool._faces._engines.Engines`.

    Parameters
    ----------
    name : {"ray", "dask"}
    address : object
        Where the cluster is, in the words of that system.
    options : mapping
        What else that system is to be told of workers.
    processes : int, optional
        As many as the cluster has CPUs by default.
    initializer, initargs, maxtasksperchild, context
        As for `Pool`.
    blas_threads : int, optional
        1 by default, as these systems have it.
    """

    def __init__(
        self,
        name: str,
        address: Any,
        options: Mapping[str, Any],
        processes: int | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        maxtasksperchild: int | None,
        context: Any,
        blas_threads: int | None,
    ) -> None:
        if context is not None:
            raise ValueError(
                f"context says how processes of this machine are started; engine={name!r} starts "
                "them on others"
            )
        self.method = name
        self.initializer = initializer
        self.initargs = initargs
        self.maxtasksperchild = maxtasksperchild
        self.main: ClusterEngine | None = None
        self._limits = thread_limits(blas_threads or 1)
        self._lock = RLock()  # a signal handler may end the pool in the midst of this
        self._closing = False
        self._owner = os.getpid()
        self._place = (name, address, options)
        #: For the next engine.
        self._cluster: Cluster | None = _connect(*self._place)
        self.processes = processes or max(1, self._cluster.cpus())

    def prepare(self) -> None:
        """Nothing: the cluster is there."""

    def start(self) -> ClusterEngine:
        """Ask for the workers of the pool."""
        cluster, self._cluster = self._cluster or _connect(*self._place), None
        self.main = ClusterEngine(
            self.processes,
            self.initializer,
            self.initargs,
            self.maxtasksperchild,
            self._limits,
            cluster,
            self.method,
        )
        return self.main

    def current(self) -> ClusterEngine:
        """Return the engine; a new one after a crash, and at first use."""
        engine = self.main
        if engine is not None and engine.usable:
            return engine
        if self._owner != os.getpid():
            raise RuntimeError(
                f"this pool on {self.method} belongs to the process that was forked, whose "
                "connection to the cluster cannot be shared; make one in this process"
            )
        if engine is not None:
            if engine.driver.ended:
                engine.driver.check_open()
            engine.dispose()
        with self._lock:
            if self._closing:
                raise ValueError("Pool not running")  # closed or terminated a moment ago
            if self.main is engine:
                self.start()
            assert self.main is not None
            return self.main

    def close(self, pool: object = None) -> None:
        """Take no more calls: have the workers end when those that were made are done.

        Until then the pool stays, though nobody else may hold it.
        """
        self._closing = True
        for engine in self.all():
            for lazy in members(engine.lazies):
                lazy.keep(pool)
            engine.close()

    def finish(self) -> list[ClusterEngine]:
        """Start no engine any more; return those that there are."""
        self._closing = True
        return self.all()

    def resize(self, processes: int) -> None:
        """Have so many workers from now on."""
        self.processes = processes
        for engine in self.all():
            engine.resize(processes)

    def all(self) -> list[ClusterEngine]:
        """Return the engine, if this process has started one."""
        return [] if self.main is None or self.main.foreign else [self.main]

    def inheriting(self, error: CannotSend) -> ClusterEngine:
        """Refuse: other machines inherit nothing.

        Raises
        ------
        CannotSend
        """
        raise error

    def sharing(self, engine: ClusterEngine, inherits: int) -> ClusterEngine:
        """Return the engine: what lies on shared memory is copied."""
        return engine


def _connect(name: str, address: Any, options: Mapping[str, Any]) -> Cluster:
    if name == "ray":
        from pool._cluster._ray import RayCluster

        return RayCluster(address, options)
    if name == "dask":
        from pool._cluster._dask import DaskCluster

        return DaskCluster(address, options)
    if name == "local":
        raise ValueError("address and engine_options are for engine='ray' and engine='dask'")
    raise ValueError(f"engine must be 'local', 'ray' or 'dask', not {name!r}")
