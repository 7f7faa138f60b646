"""What the forkserver knows of a pool."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._transport._channel import Channel


class Client:
    """One pool: its socket, what its workers take over, and its workers."""

    def __init__(self, channel: Channel, settings: dict[str, Any], prefix: str) -> None:
        self.channel = channel
        self.settings = settings
        self.prefix = prefix
        #: The initializer: pickled, AWAITED, or a callable that the workers inherit.
        self.payload: Any = None
        #: Journal, stdout and stderr for its workers; -1: as they are here.
        self.fds: list[int] = []
        #: By worker_id, the workers that run.
        self.pids: dict[int, int] = {}
        #: Workers that are to be forked: worker_id, slot, descriptor of its socket.
        self.waiting: list[tuple[int, int, int]] = []
        #: Ends that the pool was not told of: worker_id, wait status, pid.
        self.notices: list[tuple[int, int, int]] = []
        #: How many workers were forked for it; modules that later ones are likely to import.
        self.forks = 0
        self.foreseen: list[str] = []
        #: Whether it waits for the pids of its workers.
        self.asks = False
        #: Whether the pool has closed its socket.
        self.gone = False
        #: If so, when its workers are killed, on the monotonic clock.
        self.deadline: float | None = None

    def part(self) -> None:
        """Let the pool know that all of its workers have ended."""
        # To close the socket does not suffice: the program may have forked while it had this end
        # open too, and the copy in that fork keeps the connection up.
        try:
            self.channel.socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the pool is gone
        self.channel.close()
