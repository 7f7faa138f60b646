"""Agents as actors of Ray."""

from __future__ import annotations

import os

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from pool._cluster._agent import Agent
from pool._cluster._peers import Lost
from pool._errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from typing import Any

    from pool._cluster._messages import Config
    from pool._cluster._peers import Done

#: Calls that an agent may have at a time: two messages, the one that waits for its end, and a few
#: that return at once.
CONCURRENCY = 8

#: Why an agent is lost whose Ray the program has ended.
SHUT_DOWN = "Ray has been shut down in this program"

#: The address of whatever the program is connected to.
CONNECTED = object()


class ConnectedAgent(Agent):
    """An agent whose worker, if a task uses Ray, joins this cluster instead of starting another."""

    def __init__(self, config: Config, initializer: Any = None) -> None:
        os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
        super().__init__(config, initializer)


class RayCluster:
    """The cluster that this process is connected to, or is to be connected to.

    Parameters
    ----------
    address : str, optional
        As for `ray.init`; not used if the program has connected itself. `CONNECTED`, if it has to.
    options : mapping
        Of actors: ``num_cpus``, ``num_gpus``, ``resources``, ``runtime_env``,
        ``scheduling_strategy`` and so on.
    """

    where: Any = CONNECTED

    def __init__(self, address: Any, options: Mapping[str, Any]) -> None:
        if not ray.is_initialized():
            if address is CONNECTED:
                raise StartError(f"{SHUT_DOWN}; connect it again (`ray.init`) to use this pool")
            # Not shut down with the pool: the program may use it, too, from now on.
            ray.init(address=address, log_to_driver=True)
        self._session = _session()
        self._share = float(options.get("num_cpus") or 1)
        given = {"num_cpus": 1, **options, "max_concurrency": CONCURRENCY, "max_restarts": 0}
        self._actor_class = ray.remote(ConnectedAgent).options(**given)

    def cpus(self) -> int:
        return int(ray.cluster_resources().get("CPU", 1) // self._share)

    def hire(self, config: Config, initializer: Any, lost: Callable[[str], object]) -> RayAgent:
        return RayAgent(self, self._actor_class.remote(config, initializer), lost)

    def gone(self) -> str:
        # To be asked before everything: Ray would start another one, and handles of the one that
        # was there are of no use in it.
        there = ray.is_initialized() and _session() == self._session
        return "" if there else SHUT_DOWN

    def share(self, blobs: list[Any]) -> Any:
        return ray.put(blobs)

    def close(self) -> None:
        """Do nothing, as said above."""


class RayAgent:
    """An actor.

    Parameters
    ----------
    cluster : RayCluster
    handle : ActorHandle
    lost : callable
        Told why it is gone.
    """

    def __init__(self, cluster: RayCluster, handle: Any, lost: Callable[[str], object]) -> None:
        self._cluster = cluster
        self._handle = handle
        self._lost = lost
        # One that is idle is not called by anybody else who would notice its end.
        self.call(self._parked, "park", ())

    def _parked(self, value: object, error: BaseException | None) -> None:
        if isinstance(error, Lost):
            self._lost(str(error))

    def call(
        self, done: Done, method: str, args: tuple[Any, ...], shared: Sequence[Any] = ()
    ) -> None:
        if why := self._cluster.gone():
            done(None, Lost(why))
            return
        ref = getattr(self._handle, method).remote(*args, *shared)
        ref.future().add_done_callback(lambda future: _ended(future, done))

    def urge(self, method: str, *args: Any) -> None:
        if not self._cluster.gone():
            getattr(self._handle, method).remote(*args)

    def end(self) -> None:
        if self._cluster.gone():
            return  # its end
        try:
            ray.kill(self._handle)
        except (RayError, RuntimeError, ValueError):
            return  # Ray is being shut down, and the actor with it


def _session() -> tuple[str, str]:
    """Return what no other connection of this program to a Ray has had."""
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()


def _ended(future: Future[Any], done: Done) -> None:
    error = future.exception()
    if isinstance(error, RayActorError):
        done(None, Lost(_first_line(error)))
    elif isinstance(error, RayTaskError):
        done(None, error.cause)
    elif error is not None:
        done(None, error)
    else:
        done(future.result(), None)


def _first_line(error: RayActorError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if len(lines) < 2 else f"{lines[0]} {lines[-1]}"
