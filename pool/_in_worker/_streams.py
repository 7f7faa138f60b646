"""The values of a generator that runs elsewhere, as a worker sees them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._in_worker._borrowed import BorrowedRuntime
    from pool._objects._refs import ObjectRef


class BorrowedStream:
    """Gives the references to the values of a stream one by one.

    Parameters
    ----------
    borrower : BorrowedRuntime
    name : bytes
    """

    def __init__(self, borrower: BorrowedRuntime, name: bytes) -> None:
        self._borrowed = borrower
        self.name = name

    def take(self, index: int) -> ObjectRef | None:
        """Wait for the reference number `index`; None if there are no more."""
        return self._borrowed.stream_next(self.name, index)

    def when_known(self, index: int | None) -> ObjectRef:
        """Return an object that gets its value once value number `index`, or the end, is known."""
        return self._borrowed.stream_when_known(self.name, index)

    def is_over(self, index: int) -> bool:
        """Return whether it is known that there is no value number `index`."""
        return self._borrowed.stream_is_over(self.name, index)

    def cancel(self, force: bool, recursive: bool) -> None:
        """Cancel the task or call that yields the values."""
        self._borrowed.cancel_stream(self.name, force, recursive)

    def __del__(self) -> None:
        self._borrowed.finished.append(self.name)
