"""References in a worker: what they stand for is the runtime's, which has lent them."""

from __future__ import annotations

from pool._objects._refs import ActorRef, ObjectRef


class Mirror(ObjectRef):
    """A reference to an object of the runtime's."""

    __slots__ = ()

    def __del__(self) -> None:
        self._home.returned.append(self._name)  # type: ignore[attr-defined]  # a BorrowedRuntime


# For users there is one kind of references.
Mirror.__name__ = Mirror.__qualname__ = "ObjectRef"
Mirror.__module__ = "pool"


class ActorMirror(ActorRef):
    """A reference to an actor of the runtime's."""

    __slots__ = ()

    def __del__(self) -> None:
        self._home.returned.append(self._name)  # type: ignore[attr-defined]  # a BorrowedRuntime
