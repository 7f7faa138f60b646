"""References in a worker, whose objects and actors the runtime owns and has lent."""

from __future__ import annotations

from pool._objects._refs import ActorRef, ObjectRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Protocol

    class _Lender(Protocol):
        @property
        def returned(self) -> deque[bytes | int]:
            """Names that are returned to the runtime with the next message."""

    class _Lent(Protocol):
        @property
        def _home(self) -> _Lender: ...
        @property
        def _name(self) -> bytes: ...


class _Loan:
    """Mixin that returns a loan when the reference is collected."""

    __slots__ = ()

    def __del__(self: _Lent) -> None:
        self._home.returned.append(self._name)


class BorrowedRef(_Loan, ObjectRef):
    """A reference to an object of the runtime's."""

    __slots__ = ()


# Users are to see one class of references.
BorrowedRef.__name__ = BorrowedRef.__qualname__ = "ObjectRef"
BorrowedRef.__module__ = "pool"


class BorrowedActorRef(_Loan, ActorRef):
    """A reference to an actor of the runtime's."""

    __slots__ = ()
