"""What a driver knows of those who work along with it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from pool._local import _events as ev
    from pool._local._peers import Peer

    class Crew(Protocol):
        """The workers; everything here runs under the driver's lock.

        Attributes
        ----------
        peers, by_fd : dict
            Those that there are, by worker_id and by the descriptor of our socket, if any.
        unlaunched : list of int
            Those that are wanted and were not asked for yet.
        controls : dict
            By descriptor, where something else is to be read that concerns them.
        buffer : bytearray
            To receive into.
        """

        peers: dict[int, Any]
        by_fd: dict[int, Any]
        unlaunched: list[int]
        controls: dict[int, Any]
        buffer: bytearray

        def start(self, command: ev.StartWorker) -> None:
            """Note that a worker is wanted."""

        def launch(self) -> None:
            """Ask for the workers that are wanted."""

        def keep_mail(self, command: ev.Send) -> None:
            """Keep what is for a worker that could not be asked for yet."""

        def stop(self, command: ev.StopWorker) -> None:
            """Tell a worker to end in good order."""

        def kill(self, command: ev.KillWorker) -> None:
            """End a worker at once."""

        def reclaim(self, command: ev.Reclaim) -> None:
            """Take back what a worker has not read."""

        def halt(self, command: ev.Halt) -> None:
            """Have a worker begin nothing behind the chunk that it runs."""

        def take_rest(self, command: ev.TakeRest) -> None:
            """Take what a worker has not begun since then."""

        def interrupt(self, command: ev.Interrupt) -> None:
            """Ask the running task to stop, or end its worker, if it is the one that is meant."""

        def signal(self, worker_id: int, number: int) -> None:
            """Send a signal to a worker, unless it has ended."""

        def ask_pids(self) -> None:
            """Ask which processes the workers are that have not told."""

        def on_control(self, control: int) -> None:
            """Read from one of the controls."""

        def close(self, forked: bool) -> None:
            """Let go of everything, see `Driver.release`; the workers end."""

        def end_all(self) -> None:
            """End all workers, and let go of nothing here."""

        def wait_gone(self) -> None:
            """Wait until no worker is left, after `close`."""

    class Flushable(Protocol):
        """What collects events, to hand them in many at a time."""

        def flush(self) -> None:
            """Hand in what was collected."""

        def abort(self, error: BaseException) -> Sequence[CallsBack]:
            """Give everything up; return whose callbacks are due."""

    class CallsBack(Protocol):
        """What runs code of the user's, without any lock."""

        def call_back(self) -> None:
            """Run what is due, and not what it has begun to run before."""

    class Aside(Protocol):
        """Work that is driven along with the jobs and that the scheduler knows nothing of."""

        @property
        def outstanding(self) -> bool:
            """Whether any of it has not finished."""

        def admit(self, worker: int, kind: str, fds: list[int]) -> None:
            """Take descriptors of a worker whose tasks use more than the pool they run in."""

        def bury(self, peer: Peer) -> None:
            """Note what the page of a worker says, which has ended."""

        def quit(self) -> None:
            """Show what there still is, as the interpreter goes down."""

        def abort(self, error: BaseException) -> object:
            """Give everything up, after an error that is ours."""
