"""Agents as results that a worker of Dask keeps."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import Counter
from concurrent.futures import CancelledError
from functools import partial
from itertools import count

from distributed import Client, KilledWorker, default_client
from distributed.comm import CommClosedError

from pool._cluster._agent import Agent
from pool._cluster._crew import Lost
from pool._cluster._messages import nbytes_of
from pool._errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from distributed import Future, Worker

    from pool._cluster._crew import Done
    from pool._cluster._messages import Config

#: Seconds for which a cluster may be without any worker.
PATIENCE = 30

#: Arguments that are larger do not go by way of the scheduler.
LARGE_NBYTES = 1 << 20

_numbers = count(1)


class DaskCluster:
    """A cluster of Dask, over a connection of the pool's own.

    Parameters
    ----------
    address : str or distributed.Client, optional
        Of the scheduler. By default what the program's own client is connected to, or else what
        `distributed.Client` finds: the scheduler of its configuration, or a cluster of its own
        on this machine.
    options : mapping
        Of tasks: ``workers`` (addresses or names of those that may be used), ``resources``,
        ``priority`` and so on.
    """

    def __init__(self, address: Any, options: Mapping[str, Any]) -> None:
        self._client = client = _connected(address)
        self._options = dict(options)
        self._allowed = self._options.pop("workers", None)
        self._agents: dict[str, set[DaskAgent]] = {}
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            client.close()
            raise StartError(
                f"the Dask cluster has had no worker for {PATIENCE} s; start some, or have it "
                "scaled up (`cluster.scale(n)`) before the pool is made"
            ) from None

    def _threads(self) -> dict[str, int]:
        """Return how many threads each worker has, by its address."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        allowed = self._allowed
        return {
            address: facts["nthreads"]
            for address, facts in workers.items()
            if allowed is None or address in allowed or facts["name"] in allowed
        }

    def cpus(self) -> int:
        return sum(self._threads().values())

    def hire(self, config: Config, initializer: Any, lost: Callable[[str], object]) -> DaskAgent:
        threads = self._threads()
        if not threads:
            raise StartError("the Dask cluster has no worker that may be used")
        taken = Counter({address: len(self._agents.get(address, ())) for address in threads})
        address = min(threads, key=lambda each: (taken[each] / threads[each], each))
        if address not in self._agents:
            self._agents[address] = set()
            self._client.subscribe_topic(address, partial(self._on_event, address))
        agent = DaskAgent(self._client, address, self._options, config, initializer, lost)
        agent.others = self._agents[address]
        agent.others.add(agent)
        return agent

    def share(self, blobs: list[Any]) -> Any:
        return self._client.scatter(Packed(blobs), hash=False)

    def _on_event(self, address: str, event: tuple[float, Any]) -> None:
        """Note that a worker of Dask is gone, and whoever it had; in the client's own thread."""
        _, message = event
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            for agent in list(self._agents.get(address, ())):
                agent.lost(f"the Dask worker {address} is gone")

    def close(self) -> None:
        self._client.close()


def _connected(address: Any) -> Client:
    """Return a client of the pool's own."""
    if address is None:
        try:
            address = default_client()
        except ValueError:
            return Client(set_as_default=False)
    if isinstance(address, Client):
        scheduler = address.scheduler_info()["address"]
        return Client(scheduler, security=address.security, set_as_default=False)
    return Client(address, set_as_default=False)


class Packed:
    """Arguments that Dask is not to look into."""

    def __init__(self, *values: Any) -> None:
        self.values = values


class DaskAgent:
    """An agent that a worker of Dask keeps as long as the client refers to it.

    Parameters
    ----------
    client : Client
    address : str
        Of that worker.
    options : mapping
    config, initializer, lost
        As for `Cluster.hire`.
    """

    def __init__(
        self,
        client: Client,
        address: str,
        options: Mapping[str, Any],
        config: Config,
        initializer: Any,
        lost: Callable[[str], object],
    ) -> None:
        self._client = client
        self._address = address
        # To that worker and no other, and never twice.
        self._where = {
            **options, "workers": [address], "allow_other_workers": False, "pure": False,
            "retries": 0,
        }  # fmt: skip
        self.lost = lost
        #: Those at the same worker.
        self.others: set[DaskAgent] = set()
        #: What waits for the outcomes of calls.
        self._calls: dict[int, concurrent.futures.Future[Any]] = {}
        self._key = f"actorpool-agent-{client.id}-{next(_numbers)}"
        if initializer is not None and isinstance(initializer, list):
            initializer = self._packed((initializer,))
        self._agent: Future | None = client.submit(
            _made, Packed(config), initializer, key=self._key, **self._where
        )

    def _packed(self, args: tuple[Any, ...]) -> Any:
        packed = Packed(*args)
        blobs = args[-1] if args and isinstance(args[-1], list) else []
        if nbytes_of(blobs) < LARGE_NBYTES:
            return packed
        return self._client.scatter(packed, workers=[self._address], hash=False)

    def call(
        self, done: Done, method: str, args: tuple[Any, ...], shared: Sequence[Any] = ()
    ) -> None:
        number = next(_numbers)
        key = f"actorpool-{method}-{self._client.id}-{number}"
        passed = [Packed(each) if isinstance(each, list) else each for each in shared]
        call = self._client.submit(
            _called, self._agent, method, self._packed(args), *passed, key=key, **self._where
        )
        # Not by a callback of the future, which would have to wait for the value: for all futures
        # there is one thread that calls back.
        fetching = asyncio.run_coroutine_threadsafe(
            _fetched(self._client, call), self._client.loop.asyncio_loop
        )
        self._calls[number] = fetching

        def ended(fetched: concurrent.futures.Future[Any]) -> None:
            self._calls.pop(number, None)
            try:
                done(fetched.result(), None)
            except (KilledWorker, asyncio.CancelledError, CancelledError, CommClosedError) as error:
                done(None, Lost(f"Dask says {type(error).__name__}: {error}"))
            except Exception as error:
                done(None, error)

        fetching.add_done_callback(ended)

    def urge(self, method: str, *args: Any) -> None:
        # By the worker's event loop: its threads may all be busy.
        self._client.run(
            _urged, self._key, method, args, workers=[self._address], wait=False, on_error="ignore"
        )

    def end(self) -> None:
        self.others.discard(self)
        for call in list(self._calls.values()):
            call.cancel()
        if self._agent is not None:
            try:
                self.urge("end")
            except Exception:
                pass  # the client or its worker is gone
            self._agent = None


async def _fetched(client: Client, call: Any) -> Any:
    """Return what a call has returned; in the client's event loop."""
    return await client.gather(call, asynchronous=True)


# ---------------------------------------------------------------- in workers of Dask


def _made(config: Packed, initializer: Packed | None) -> Agent:
    (given,) = config.values
    return Agent(given, None if initializer is None else initializer.values[0])


def _called(agent: Agent, method: str, args: Packed, *shared: Packed) -> Any:
    blobs = [each.values[0] for each in shared]
    return getattr(agent, method)(*args.values, *blobs)


async def _urged(key: str, method: str, args: tuple[Any, ...], dask_worker: Worker) -> None:
    agent = dask_worker.data.get(key)
    if agent is not None:
        getattr(agent, method)(*args)
