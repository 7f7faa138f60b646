"""What a driver knows of those who work along with it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from pool._local._peers import Peer

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
