"""Agents as actors of Ray."""

from __future__ import annotations

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from pool._cluster._agent import Agent
from pool._cluster._peers import Lost

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


class RayCluster:
    """The cluster that this process is connected to, or is to be connected to.

    Parameters
    ----------
    address : str, optional
        As for `ray.init`; not used if the program has connected itself.
    options : mapping
        Of actors: ``num_cpus``, ``num_gpus``, ``resources``, ``runtime_env``,
        ``scheduling_strategy`` and so on.
    """

    def __init__(self, address: str | None, options: Mapping[str, Any]) -> None:
        if not ray.is_initialized():
            # Not shut down with the pool: the program may use it, too, from now on.
            ray.init(address=address, log_to_driver=True)
        self._share = float(options.get("num_cpus") or 1)
        given = {"num_cpus": 1, **options, "max_concurrency": CONCURRENCY, "max_restarts": 0}
        self._actor_class = ray.remote(Agent).options(**given)

    def cpus(self) -> int:
        return int(ray.cluster_resources().get("CPU", 1) // self._share)

    def hire(self, config: Config, initializer: Any, lost: Callable[[str], object]) -> RayAgent:
        if not ray.is_initialized():
            raise RuntimeError(SHUT_DOWN)  # Ray would start another one
        return RayAgent(self._actor_class.remote(config, initializer), lost)

    def share(self, blobs: list[Any]) -> Any:
        return ray.put(blobs)

    def close(self) -> None:
        """Nothing, as said above."""


class RayAgent:
    """An actor.

    Parameters
    ----------
    handle : ActorHandle
    lost : callable
        Told why it is gone.
    """

    def __init__(self, handle: Any, lost: Callable[[str], object]) -> None:
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
        if not ray.is_initialized():
            done(None, Lost(SHUT_DOWN))
            return
        ref = getattr(self._handle, method).remote(*args, *shared)
        ref.future().add_done_callback(lambda future: _ended(future, done))

    def urge(self, method: str, *args: Any) -> None:
        if ray.is_initialized():
            getattr(self._handle, method).remote(*args)

    def end(self) -> None:
        if not ray.is_initialized():
            return  # its end; `ray.kill` would start another Ray
        try:
            ray.kill(self._handle)
        except (RayError, RuntimeError, ValueError):
            return  # Ray is being shut down, and the actor with it


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
