"""Agents as results that a worker of Dask keeps."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import Counter, namedtuple
from concurrent.futures import CancelledError
from functools import partial
from itertools import count

from distributed import Client, KilledWorker, default_client
from distributed.comm import CommClosedError

from pool._cluster._agent import Agent
from pool._cluster._messages import nbytes_of
from pool._cluster._peers import Lost
from pool._errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from distributed import Future, Worker

    from pool._cluster._messages import Config
    from pool._cluster._peers import Done

#: Seconds for which a cluster may be without any worker.
PATIENCE = 30

#: Seconds that the last messages to agents may take.
GOODBYE = 5.0

#: Arguments that are larger are no part of tasks: the scheduler keeps these until they are done.
LARGE_NBYTES = 1 << 20

#: The address of a scheduler, and what it takes to speak to it.
Where = namedtuple("Where", "scheduler security")

#: Why no worker can be had, and none be spoken to, of a cluster that has ended.
DISCONNECTED = "the connection to the scheduler of Dask is lost"

_numbers = count(1)


class DaskCluster:
    """A cluster of Dask, over a connection of the pool's own.

    What has to wait for the scheduler or for a worker does so in the client's event loop: the pool
    is locked when its crew asks for something.

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
        self.client = client = _connected(address)
        # What the client has started itself ends with it.
        self.where = None if client.cluster is not None else _where(client)
        self.loop = client.loop.asyncio_loop
        self.options = dict(options)
        self._allowed = self.options.pop("workers", None)
        self._agents: dict[str, set[DaskAgent]] = {}
        #: What is under way in the event loop and is to be done before the end.
        self._urgent: set[concurrent.futures.Future[Any]] = set()
        wanted = self._want()
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
            del wanted
        except TimeoutError:
            client.close()
            raise _no_workers() from None

    def _want(self) -> Future:
        """Return a task, without which a cluster that adapts itself need not have any worker."""
        key = f"actorpool-wanted-{self.client.id}-{next(_numbers)}"
        return self.client.submit(int, key=key, workers=self._allowed, **self.options)

    def _threads(self) -> dict[str, int]:
        """Return how many threads each worker has, by its address."""
        workers = self.client.scheduler_info(n_workers=-1).get("workers", {})  # none once closed
        allowed = self._allowed
        return {
            address: facts["nthreads"]
            for address, facts in workers.items()
            if allowed is None or address in allowed or facts["name"] in allowed
        }

    def cpus(self) -> int:
        return sum(self._threads().values())

    def gone(self) -> str:
        return DISCONNECTED if self.client.status == "closed" else ""

    def hire(self, config: Config, initializer: Any, lost: Callable[[str], object]) -> DaskAgent:
        return DaskAgent(self, config, initializer, lost)

    async def place(self, agent: DaskAgent) -> str:
        """Return the address of the worker that has most room for another agent."""
        deadline = self.loop.time() + PATIENCE
        wanted = None
        while not (threads := await self.loop.run_in_executor(None, self._threads)):
            if why := self.gone():
                raise StartError(why)
            if self.loop.time() > deadline:
                raise _no_workers() if self.client.status == "running" else StartError(DISCONNECTED)
            wanted = wanted or self._want()
            await asyncio.sleep(0.2)  # one that has died may be started again
        taken = Counter({address: len(self._agents.get(address, ())) for address in threads})
        address: str = min(threads, key=lambda each: (taken[each] / threads[each], each))
        if address not in self._agents:
            self._agents[address] = set()
            self.client.subscribe_topic(address, partial(self._on_event, address))
        self._agents[address].add(agent)
        return address

    def leave(self, agent: DaskAgent) -> None:
        """Note that an agent has ended, wherever it was."""
        for agents in self._agents.values():
            agents.discard(agent)

    def share(self, blobs: list[Any]) -> Any:
        return self.soon(self._scattered(Packed(blobs), None))

    async def _scattered(self, packed: Packed, address: str | None) -> Any:
        workers = None if address is None else [address]
        return await self.client.scatter(packed, workers=workers, hash=False, asynchronous=True)

    async def passed(self, args: tuple[Any, ...], address: str | None) -> Any:
        """Return arguments for a task: as they are, or where they are if they are large."""
        packed = Packed(*args)
        blobs = args[-1] if args and isinstance(args[-1], list) else []
        return packed if nbytes_of(blobs) < LARGE_NBYTES else await self._scattered(packed, address)

    def soon(self, coroutine: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Run something in the client's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def urge(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run something there that is to be done before the connection is closed."""
        future = self.soon(coroutine)
        self._urgent.add(future)
        future.add_done_callback(self._urgent.discard)

    def _on_event(self, address: str, event: tuple[float, Any]) -> None:
        """Note that a worker of Dask is gone, and whoever it had; in the event loop."""
        _, message = event
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            for agent in list(self._agents.get(address, ())):
                agent.is_lost(f"the Dask worker {address} is gone")

    def close(self) -> None:
        concurrent.futures.wait(set(self._urgent), timeout=GOODBYE)
        self.client.close()


async def _finished(future: concurrent.futures.Future[Any]) -> Any:
    """Wait for what others wait for, too: it goes on when one of them is cancelled."""
    return await asyncio.shield(asyncio.wrap_future(future))


def _no_workers() -> StartError:
    return StartError(
        f"the Dask cluster has had no worker that may be used for {PATIENCE} s; start some, or "
        "have it scaled up (`cluster.scale(n)`)"
    )


def _connected(address: Any) -> Client:
    """Return a client of the pool's own."""
    if address is None:
        try:
            address = default_client()
        except ValueError:
            return Client(set_as_default=False)
    if isinstance(address, Client):
        if address.scheduler is None:
            raise StartError("the Client that was given as address is closed")
        address = _where(address)
    if isinstance(address, Where):
        return Client(address.scheduler, security=address.security, set_as_default=False)
    return Client(address, set_as_default=False)


def _where(client: Client) -> Where:
    return Where(client.scheduler.address, client.security)


class Packed:
    """Arguments that Dask is not to look into."""

    def __init__(self, *values: Any) -> None:
        self.values = values


class DaskAgent:
    """An agent that a worker of Dask keeps as long as the client refers to it.

    Parameters
    ----------
    cluster : DaskCluster
    config, initializer, lost
        As for `Cluster.hire`.
    """

    def __init__(
        self,
        cluster: DaskCluster,
        config: Config,
        initializer: Any,
        lost: Callable[[str], object],
    ) -> None:
        self._cluster = cluster
        self._lost = lost
        self._gone = False
        self._agent: Future | None = None
        self._address = ""
        self._key = f"actorpool-agent-{cluster.client.id}-{next(_numbers)}"
        #: What waits for the outcomes of calls.
        self._calls: set[concurrent.futures.Future[Any]] = set()
        self._made = cluster.soon(self._make(config, initializer))

    async def _make(self, config: Config, initializer: Any) -> None:
        self._address = await self._cluster.place(self)
        if isinstance(initializer, list):
            initializer = await self._cluster.passed((initializer,), self._address)
        elif initializer is not None:
            initializer = await _finished(initializer)
        self._agent = self._submit(_made, Packed(config), initializer, key=self._key)

    def _submit(self, function: Callable[..., Any], *args: Any, key: str) -> Any:
        # To that worker and no other, and never twice.
        where = {
            **self._cluster.options, "workers": [self._address], "allow_other_workers": False,
            "pure": False, "retries": 0,
        }  # fmt: skip
        return self._cluster.client.submit(function, *args, key=key, **where)

    def call(
        self, done: Done, method: str, args: tuple[Any, ...], shared: Sequence[Any] = ()
    ) -> None:
        call = self._cluster.soon(self._call(method, args, shared))
        self._calls.add(call)

        def ended(call: concurrent.futures.Future[Any]) -> None:
            self._calls.discard(call)
            try:
                done(call.result(), None)
            except (KilledWorker, asyncio.CancelledError, CancelledError, CommClosedError) as error:
                done(None, Lost(f"Dask says {type(error).__name__}: {error}"))
            except Exception as error:
                done(None, error)

        call.add_done_callback(ended)

    async def _call(self, method: str, args: tuple[Any, ...], shared: Sequence[Any]) -> Any:
        await _finished(self._made)
        others = [
            Packed(each) if isinstance(each, list) else await _finished(each) for each in shared
        ]
        given = await self._cluster.passed(args, self._address)
        key = f"actorpool-{method}-{self._cluster.client.id}-{next(_numbers)}"
        call = self._submit(_called, self._agent, method, given, *others, key=key)
        # Not by a callback of that future, which would have to wait for the value: Dask has one
        # thread for the callbacks of all. Nor by `gather`: something of it goes on, and complains
        # in the end, when this is cancelled.
        return await call

    def urge(self, method: str, *args: Any) -> None:
        self._cluster.urge(self._urge(method, args))

    async def _urge(self, method: str, args: tuple[Any, ...]) -> None:
        await _finished(self._made)
        # By the event loop of that worker: its threads may all be busy.
        run = partial(
            self._cluster.client.run, _urged, self._key, method, args,
            workers=[self._address], wait=False, on_error="ignore",
        )  # fmt: skip
        await self._cluster.loop.run_in_executor(None, run)

    def is_lost(self, why: str) -> None:
        """Note that its worker is gone."""
        self._gone = True
        self._lost(why)

    def end(self) -> None:
        self._cluster.leave(self)
        for call in list(self._calls):
            call.cancel()
        if not self._gone:
            self._cluster.urge(self._end())

    async def _end(self) -> None:
        try:
            await self._urge("end", ())
        finally:
            self._agent = None


# ---------------------------------------------------------------- in workers of Dask


class Held:
    """An agent that a worker of Dask keeps.

    Dask may copy it to another worker, when its own one is about to be retired. Such a copy is
    without the agent: the retired worker would else never end, and take no calls any more.
    """

    def __init__(self, agent: Agent | None) -> None:
        self.agent = agent

    def __reduce__(self) -> tuple[Any, ...]:
        return Held, (None,)


def _made(config: Packed, initializer: Packed | None) -> Held:
    (given,) = config.values
    return Held(Agent(given, None if initializer is None else initializer.values[0]))


def _called(held: Held, method: str, args: Packed, *shared: Packed) -> Any:
    if held.agent is None:
        raise RuntimeError("its worker of Dask has been retired")
    blobs = [each.values[0] for each in shared]
    return getattr(held.agent, method)(*args.values, *blobs)


async def _urged(key: str, method: str, args: tuple[Any, ...], dask_worker: Worker) -> None:
    held = dask_worker.data.get(key)
    if held is not None and held.agent is not None:
        getattr(held.agent, method)(*args)
