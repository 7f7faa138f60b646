"""What a crew asks of Ray or Dask, and how it keeps the books of one worker there."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from pool._cluster._messages import Config
    from pool._local._peers import Sent

    #: Told what a call returned, or what it raised; by any thread.
    Done = Callable[[Any, BaseException | None], object]

    class RemoteAgent(Protocol):
        """An agent on the cluster, as a leaf knows it. No method waits."""

        def call(
            self, done: Done, method: str, args: tuple[Any, ...], shared: Sequence[Any] = ()
        ) -> None:
            """Call one of its methods, and `done` when that has ended.

            Parameters
            ----------
            done : callable
                Its error is a `Lost` if the agent, or its machine, is gone.
            method : str
            args : tuple
            shared : sequence
                Further arguments: blobs, or what stands for them.
            """

        def urge(self, method: str, *args: Any) -> None:
            """Call a method that returns at once, ahead of calls that wait."""

        def end(self) -> None:
            """End it at once, if it is there."""

    class Cluster(Protocol):
        """What places agents: Ray or Dask."""

        #: Where it is, for the next connection, whatever the program is connected to by then.
        where: Any

        def gone(self) -> str:
            """Return why nothing will come of it any more; empty as long as that is not so."""

        def cpus(self) -> int:
            """Return how many tasks all its machines together can run at a time."""

        def hire(
            self, config: Config, initializer: Any, lost: Callable[[str], object]
        ) -> RemoteAgent:
            """Ask for another agent.

            Parameters
            ----------
            config : Config
            initializer : object
                None, blobs, or what stands for them.
            lost : callable
                Told, by any thread, why the agent is gone.
            """

        def share(self, blobs: list[Any]) -> Any:
            """Return what stands for blobs in the arguments of calls, and is sent once."""

        def close(self) -> None:
            """Let go of the connection, unless it is the program's."""


class Lost(Exception):
    """Say that an agent is gone, and why."""


class RemotePeer:
    """A worker, as its crew sees it.

    Attributes
    ----------
    ready : bool
        Whether it has started; what is for it is kept here until then.
    status : int or None
        With which it has ended, as from `os.waitpid`.
    pid : None
        A number of another machine is nothing that a program could do anything with.
    """

    pid = None

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self.status: int | None = None
        self.agent: Any = None
        self.host = ""
        self.ready = False
        self.mail: deque[tuple[Any, list[Any]]] = deque()
        #: As for `pool._local._peers.Peer`.
        self.known: set[int] = set()
        self.forgets: list[int] = []
        self.sent: dict[int, Sent] = {}
        #: Sends a message that is not kept here.
        self.send: Callable[[Any, list[Any]], None] | None = None
        #: Lets go of what was sent once for all workers, and is to be forgotten.
        self.let_go: Callable[[], None] | None = None

    def post(self, head: Any, blobs: list[Any]) -> None:
        """Send a message, now or when the agent has started."""
        if self.ready and self.send is not None:
            self.send(head, blobs)
        else:
            self.mail.append((head, blobs))

    def tell(self) -> None:
        """Tell now what it shall forget."""
        if self.let_go is not None:
            self.let_go()
        if self.ready:
            self.agent.urge("forget", self.forgets)
            self.forgets = []
