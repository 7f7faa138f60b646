"""What a driver expects of the objects that work with it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from pool._local import _events as ev
    from pool._local._peers import Peer
    from pool._transport._channel import Channel

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
            """Let go of everything; the workers end, unless this is a fork of their parent."""

        def end_all(self) -> None:
            """End all workers, and let go of nothing here."""

        def wait_gone(self) -> None:
            """Wait until no worker is left, after `close`."""

        def linger(self, seconds: float) -> None:
            """Do so for that long at most."""

    class Flushable(Protocol):
        """Something that collects news for the scheduler, to tell it many things at a time."""

        def flush(self) -> None:
            """Tell the scheduler; called under the driver's lock."""

        def abort(self, error: BaseException) -> Sequence[CallsBack]:
            """Give up what was collected; return the results whose callbacks are due."""

    class CallsBack(Protocol):
        """A result, or a sink of several, that has callbacks of the user's to run."""

        def call_back(self) -> None:
            """Run the callbacks that are due, none of them twice; called without any lock."""

    class CallHandle(CallsBack, Protocol):
        """The handle of one call of a stream; told by attributes, since there are very many.

        Attributes
        ----------
        _job_id, _index : int or None
            Which job the call is part of, and its place there.
        _success : bool
            Whether `_value` is what it has returned, and not what it has raised.
        """

        _job_id: int | None
        _index: int | None
        _success: bool
        _value: Any

        def finish(self) -> bool:
            """Note that the call has its outcome; return True if callbacks follow."""

        def abort(self, error: BaseException) -> bool:
            """Note that the call was given up; return True if callbacks follow."""

    class Aside(Protocol):
        """Work that a driver does along with its jobs, and of which the scheduler knows nothing.

        Of the engine of a runtime it is everything but tasks: actors, borrowers, their output.
        """

        @property
        def outstanding(self) -> bool:
            """Whether any of it has not finished."""

        def admit(self, worker: int, kind: str, fds: list[int], beside: Channel) -> None:
            """Take the end of a connection that a task has made to the runtime, as `kind` says.

            It came over `beside`, from the same process.
            """

        def bury(self, peer: Peer) -> None:
            """Note that a worker has ended, and what its page of the journal says."""

        def quit(self) -> None:
            """Show the output that has arrived, as the interpreter goes down."""

        def abort(self, error: BaseException) -> object:
            """Give everything up, after an error of this package."""
