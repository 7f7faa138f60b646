"""The values of a generator that runs elsewhere, as a worker sees them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._objects._refs import ObjectRef
    from pool._stage._guest import Guest


class GuestStream:
    """Give the references of a stream one by one."""

    def __init__(self, guest: Guest, name: bytes) -> None:
        self._guest = guest
        self.name = name

    def take(self, index: int, timeout: float | None = None) -> ObjectRef | None:
        """Wait for the reference number `index`; None if there are no more."""
        return self._guest.stream_next(self.name, index)

    def __del__(self) -> None:
        self._guest.finished.append(self.name)
