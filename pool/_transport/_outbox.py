"""Messages to one receiver that may have no room: they wait here, not in their sender.

Guarantees
----------
* A message is sent before those that were handed in after it.
* `send` and `flush` never wait.
* A message that cannot be sent although its receiver lives (no memory or descriptor for a
  large one) is not dropped in silence: `refused` decides what is sent, or done, in its place.
* A message whose receiver is gone is dropped; the end of the connection tells of that.
"""

from __future__ import annotations

from _socket import MSG_DONTWAIT
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._transport._channel import Channel

    Message = tuple[Any, Any]


class Outbox:
    """Send over a channel what there is room for, and keep the rest.

    Parameters
    ----------
    channel : Channel
        Stays the caller's, who also closes it.
    wait_for_room : callable
        ``wait_for_room(True)`` is called when messages begin to wait: from then on `flush` must be
        called when the socket has room. ``wait_for_room(False)`` when none waits any more.
    refused : callable
        ``refused(head, error)`` is called for a message that cannot be sent; returns a small
        message ``(head, blobs)`` to send in its place, or None. Must neither raise nor send.
    """

    __slots__ = ("_channel", "_refused", "_wait_for_room", "_waiting")

    def __init__(
        self,
        channel: Channel,
        wait_for_room: Callable[[bool], object],
        refused: Callable[[Any, BaseException], Message | None],
    ) -> None:
        self._channel = channel
        self._wait_for_room = wait_for_room
        self._refused = refused
        self._waiting: deque[Message] = deque()

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._waiting)

    def send(self, head: Any, blobs: Any = ()) -> None:
        """Send a message, now or when there is room."""
        if self._waiting:
            self._waiting.append((head, blobs))
            return
        left = self._try(head, blobs)
        if left is not None:
            self._waiting.append(left)
            self._wait_for_room(True)

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        waiting = self._waiting
        if not waiting:
            return
        while waiting:
            # It stays in the deque meanwhile, so that no message overtakes it.
            left = self._try(*waiting[0])
            if left is not None:
                waiting[0] = left
                return
            waiting.popleft()
        self._wait_for_room(False)

    def clear(self) -> None:
        """Drop what waits: the connection has ended."""
        self._waiting.clear()

    def _try(self, head: Any, blobs: Any) -> Message | None:
        """Send a message, or what replaces it; return it if there was no room, else None."""
        try:
            return self._sent(head, blobs)
        except (OSError, MemoryError) as error:
            if self._channel.fileno() < 0:
                return None  # this side has closed the channel
            instead = self._refused(head, error)
        # It is small, so it needs neither memory nor a descriptor. Should it fail all the same, the
        # receiver cannot be told, and the error is raised here.
        return None if instead is None else self._sent(*instead)

    def _sent(self, head: Any, blobs: Any) -> Message | None:
        try:
            self._channel.send(head, blobs, flags=MSG_DONTWAIT)
        except BlockingIOError:
            return head, blobs
        except ConnectionError:
            return None  # the receiver is gone, which its owner will notice
        return None
