"""Names of things as Ray has them: bytes, of a class that says what they name."""

from __future__ import annotations


class _ID(bytes):
    __slots__ = ()

    def binary(self) -> bytes:
        """Return the bytes."""
        return bytes(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"


class ActorID(_ID):
    """The name of an actor."""

    __module__ = "pool"

    __slots__ = ()
    #: Its length in bytes, as in Ray. The names that processes use are longer.
    SIZE = 16

    def __new__(cls, name: bytes) -> ActorID:
        """Cut the name that processes use down to the length of Ray's."""
        return super().__new__(cls, name[-cls.SIZE :])


class JobID(_ID):
    """The name of a program: its pid."""

    __module__ = "pool"

    __slots__ = ()


class NodeID(_ID):
    """The name of a machine."""

    __module__ = "pool"

    __slots__ = ()


class TaskID(_ID):
    """The name of a task, or of a call of an actor."""

    __module__ = "pool"

    __slots__ = ()
