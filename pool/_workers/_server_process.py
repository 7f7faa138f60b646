"""A running forkserver, as the program sees it: would its workers be like this process?"""

from __future__ import annotations

import _socket
import os
import sys

from pool._workers._standing import place, rlimits, standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool._transport._channel import Channel


class ForkServerProcess:
    """One running forkserver.

    Parameters
    ----------
    pid : int
    socket : _socket.socket
        The connection to it; owned by this object from now on.
    life : int
        Write end of a pipe: if it closes while the forkserver still loads modules, that is killed.
    wanted : frozenset of str
        Modules that it loads.
    learned : sequence of str
        Modules that it loads as well if it is a successor.
    limits : dict
        Environment variables that limit threads.
    ahead : bool
        Whether it tells when it has loaded its modules: nobody waits for it until then.
    """

    def __init__(
        self,
        pid: int,
        socket: _socket.socket,
        life: int,
        wanted: frozenset[str],
        learned: Sequence[str],
        limits: dict[str, str],
        ahead: bool,
    ) -> None:
        self.pid = pid
        self._socket = socket
        self._channel: Channel | None = None
        self.life = life
        self.wanted = wanted
        self.learned = learned
        self.limits = limits
        #: Whether any pool has connected to it.
        self.used = False
        #: What it has inherited from this process.
        self._standing = standing()
        self._rlimits = rlimits()
        #: What packages may have looked at when they were loaded.
        self._place = place()
        self._up = not ahead

    @property
    def channel(self) -> Channel:
        """The channel over which pools connect."""
        channel = self._channel
        if channel is None:
            # Not at the top: what channels need is imported while the first forkserver boots.
            from pool._transport._channel import Channel

            channel = self._channel = Channel(self._socket)
        return channel

    def fits(self, wanted: frozenset[str], limits: dict[str, str]) -> bool:
        """Return whether its workers would be like this process is now."""
        return (
            self.wanted >= wanted
            and self.limits == limits
            and self._standing == standing()
            # A program that has not imported `resource` has not changed its limits.
            and ("resource" not in sys.modules or self._rlimits == rlimits())
        )

    def is_current(self) -> bool:
        """Return whether its packages, loaded now, would be the same."""
        return self._place == place()

    def is_up(self) -> bool:
        """Return whether it has loaded its modules, or nobody has it tell.

        Raises
        ------
        OSError
            If it has ended.
        """
        if not self._up:
            try:
                self.channel.receive(_socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except EOFError as error:
                raise ConnectionError from error
            self._up = True
        return True

    def close(self) -> None:
        """Have it end when its last pool is gone; at once if it never had one."""
        self.forget()
        if not self.used:
            self.end()

    def forget(self) -> None:
        """Close this process's end of the connection."""
        self._socket.close()

    def end(self) -> None:
        """Close the pipe that keeps it alive while it loads modules."""
        if self.life >= 0:
            os.close(self.life)
            self.life = -1
