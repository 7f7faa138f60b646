"""What the forkserver knows of a pool."""

from __future__ import annotations

import _signal
import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._transport._channel import Channel

#: Seconds that idle workers get to end in good order before SIGTERM, when their pool is gone.
EXIT_GRACE = 0.2

#: Seconds that workers get between SIGTERM and SIGKILL.
TERM_GRACE = 0.5


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
        self.waiting: list[tuple[int, int, int, int]] = []
        #: Ends that the pool was not told of: worker_id, wait status, pid.
        self.notices: list[tuple[int, int, int]] = []
        #: How many workers were forked for it; modules that later ones are likely to import.
        self.forks = 0
        self.foreseen: list[str] = []
        #: Whether it waits for the pids of its workers.
        self.asks = False
        #: Whether the pool has closed its socket.
        self.gone = False
        #: If so, when its workers get the next signal, on the monotonic clock.
        self.deadline: float | None = None
        self._signals = [_signal.SIGTERM, _signal.SIGKILL]

    def end_stubborn(self, now: float) -> None:
        """Send all workers that are left the next signal."""
        number = self._signals.pop(0)
        for pid in self.pids.values():
            os.kill(pid, number)
        self.deadline = now + TERM_GRACE if self._signals else None

    def part(self) -> None:
        """Let the pool know that all of its workers have ended."""
        # To close the socket does not suffice: the program may have forked while it had this end
        # open too, and the copy in that fork keeps the connection up.
        try:
            self.channel.socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the pool is gone
        self.channel.close()
