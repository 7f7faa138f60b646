"""A cluster whose agents are objects of this process: to test what Ray and Dask have in common.

Everything that passes between a crew and its agents is pickled on the way, as it is by those two;
each call has a thread of its own.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pool._cluster import _engines
from pool._cluster._agent import Agent
from pool._cluster._peers import Lost


class Shared:
    """Blobs that stay where they are."""

    def __init__(self, blobs: list[Any]) -> None:
        self.blobs = blobs


class AgentCluster:
    """Place agents here.

    Parameters
    ----------
    cpus : int
    """

    #: Which agents do not start before they are told to, counted from 0.
    late: frozenset[int] = frozenset()

    #: Why it is not there any more.
    left = ""

    where = None

    def __init__(self, cpus: int = 2) -> None:
        self._cpus = cpus
        self.agents: list[HeldAgent] = []
        self.shared = 0
        self.closed = False

    def cpus(self) -> int:
        """Return how many there are."""
        return self._cpus

    def gone(self) -> str:
        """Return why it is not there any more."""
        return self.left

    def hire(self, config: Any, initializer: Any, lost: Callable[[str], object]) -> HeldAgent:
        """Make an agent."""
        agent = HeldAgent(config, initializer, lost)
        if len(self.agents) in self.late:
            agent.up.clear()
        self.agents.append(agent)
        return self.agents[-1]

    def share(self, blobs: list[Any]) -> Shared:
        """Count what is sent once for all."""
        self.shared += 1
        return Shared(blobs)

    def close(self) -> None:
        """Note that the pool has let go."""
        self.closed = True


class HeldAgent:
    """An agent, and the threads that are inside it."""

    def __init__(self, config: Any, initializer: Any, lost: Callable[[str], object]) -> None:
        self.agent = Agent(_sent(config), _arrived(initializer))
        self.lost = lost
        self.methods: list[str] = []
        self.gone = False
        #: Nothing is called before this is set.
        self.up = threading.Event()
        self.up.set()
        self.threads: list[threading.Thread] = []

    def call(
        self,
        done: Callable[[Any, BaseException | None], object],
        method: str,
        args: tuple[Any, ...],
        shared: Sequence[Any] = (),
    ) -> None:
        """Call a method in a thread of its own."""
        self.methods.append(method)
        arrived = [*_sent(args), *map(_arrived, shared)]
        thread = threading.Thread(target=self._called, args=(done, method, arrived))
        self.threads.append(thread)
        thread.start()

    def _called(self, done: Callable[..., object], method: str, args: list[Any]) -> None:
        self.up.wait()
        try:
            value = _sent(getattr(self.agent, method)(*args))
        except BaseException as error:
            done(None, Lost("it was shot") if self.gone else error)
        else:
            done(None, Lost("it was shot")) if self.gone else done(value, None)

    def urge(self, method: str, *args: Any) -> None:
        """Call a method now."""
        self.methods.append(method)
        getattr(self.agent, method)(*_sent(args))

    def end(self) -> None:
        """End it, in a thread: the lock of a pool is held."""
        self.up.set()
        thread = threading.Thread(target=self._ended)
        self.threads.append(thread)
        thread.start()

    def _ended(self) -> None:
        self.agent.end()
        engine = getattr(self.agent, "_engine", None)
        if engine is not None:
            engine.join()  # a worker that is about to end holds what it was sent

    def shoot(self) -> None:
        """Have it be gone without a word."""
        self.gone = True
        self.end()
        self.lost("it was shot")


def _sent(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, 5))


def _arrived(value: Any) -> Any:
    return _sent(value.blobs if isinstance(value, Shared) else value)


@contextmanager
def agents_here(cpus: int = 2) -> Iterator[list[AgentCluster]]:
    """Have ``engine="here"`` mean such a cluster; give those that were made."""
    made: list[AgentCluster] = []
    connect = _engines._connect

    def connect_here(name: str, address: Any, options: Any) -> Any:
        if name != "here":
            return connect(name, address, options)
        made.append(AgentCluster(cpus))
        return made[-1]

    _engines._connect = connect_here
    try:
        yield made
    finally:
        _engines._connect = connect
        let_go(made)


def let_go(made: list[AgentCluster]) -> None:
    """Wait until nothing is done any more by agents whose pools have ended; forget them."""
    while made:
        for agent in made.pop().agents:
            while agent.threads:
                agent.threads.pop().join(60.0)
