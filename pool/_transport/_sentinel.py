"""Until when the other end of a connection, or what came from there, may still show an object."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pool._transport._channel import Channel


class Sentinel:
    """Tells whether what was sent over a connection may still be seen, or come back.

    That is as long as any process has the other end open. And as long as there are other
    connections to that process: what it was sent over one, it may have sent back over another,
    where that was not read yet.

    Parameters
    ----------
    fd : int
        Descriptor of this end; it stays the caller's.
    family : sequence of Channel
        Connections to the same process. This one counts as well, unless it is closed.
    """

    def __init__(self, fd: int, family: Sequence[Channel] = ()) -> None:
        self._family = family
        try:
            self._fd = os.dup(fd)
            self._gone = False
        except OSError:
            self._fd = -1
            # No descriptor is left to ask with later: what holds now must do.
            self._gone = fd >= 0 and _is_gone(fd)

    def alive(self) -> bool:
        """Return whether it may be seen or come; must not be called again once it may not."""
        if any(channel.fileno() >= 0 for channel in self._family):
            return True
        if self._fd < 0:
            return not self._gone
        if not _is_gone(self._fd):
            return True
        os.close(self._fd)
        self._fd = -1
        return False

    def __del__(self, _close: Any = os.close) -> None:
        if self._fd >= 0:
            _close(self._fd)


def _is_gone(fd: int) -> bool:
    from pool._transport._descriptors import unpatched

    poll = unpatched("poll")()
    poll.register(fd, 0)
    return bool(poll.poll(0))
