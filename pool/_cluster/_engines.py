"""The engines of a pool whose workers are on a cluster, and the connections that they need."""

from __future__ import annotations

import os

from pool._cluster._engine import ClusterEngine
from pool._local._engines import Engines
from pool._workers._thread_limits import thread_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pool._cluster._peers import Cluster
    from pool._local._engine import LocalEngine


class ClusterEngines(Engines):
    """Engines whose workers are on a cluster of Ray or Dask.

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

    __slots__ = ("_cluster", "_limits", "_owner", "_place")

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
        self._limits = thread_limits(blas_threads or 1)
        self._owner = os.getpid()
        self._place = (name, address, options)
        # Now: who has no cluster is to be told so at once.
        cluster = _connect(*self._place)
        self._place = (name, cluster.where, options)
        try:
            processes = processes or max(1, cluster.cpus())
        except BaseException:
            cluster.close()
            raise
        super().__init__(processes, initializer, initargs, maxtasksperchild, name)
        #: For the next engine.
        self._cluster: Cluster | None = cluster

    def close(self, pool: object = None) -> None:
        """Take no more calls; the workers end when the calls made so far are done."""
        super().close(pool)
        self._disconnect()

    def finish(self) -> list[LocalEngine]:
        """Start no engine from now on; return those that there are."""
        engines = super().finish()
        self._disconnect()
        return engines

    def _disconnect(self) -> None:
        """Close the connection that no engine has used."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None and self._owner == os.getpid():
            cluster.close()

    def _new(self, method: str) -> LocalEngine:
        if self._owner != os.getpid():
            raise RuntimeError(
                f"this pool on {method} belongs to the process that was forked, whose "
                "connection to the cluster cannot be shared; make one in this process"
            )
        cluster, self._cluster = self._cluster or _connect(*self._place), None
        try:
            return ClusterEngine(
                self.processes,
                self.initializer,
                self.initargs,
                self.maxtasksperchild,
                self._limits,
                cluster,
                method,
            )
        except BaseException:
            cluster.close()
            raise


def _connect(name: str, address: Any, options: Mapping[str, Any]) -> Cluster:
    try:
        if name == "ray":
            from pool._cluster._ray import RayCluster

            return RayCluster(address, options)
        if name == "dask":
            from pool._cluster._dask import DaskCluster

            return DaskCluster(address, options)
    except ModuleNotFoundError as error:
        if error.name not in ("ray", "distributed"):
            raise
        raise ModuleNotFoundError(
            f"engine={name!r} needs the package {error.name!r}, which cannot be imported here; it "
            f"comes with `pip install 'actorpool[{name}]'`",
            name=error.name,
        ) from error
    if name == "local":
        raise ValueError("address and engine_options are for engine='ray' and engine='dask'")
    raise ValueError(f"engine must be 'local', 'ray' or 'dask', not {name!r}")
