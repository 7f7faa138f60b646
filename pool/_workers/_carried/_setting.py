"""One thing that is carried: how to read it, and how to set it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any


def _nothing(value: Any) -> Iterable[str]:
    return ()


class Setting:
    """The state of one module.

    Parameters
    ----------
    module : str
        Looked at only where it is loaded.
    read : callable
        ``read(module)`` returns a value for `marshal`, or None if it is as after its import.
    write : callable
        ``write(module, value)``, in a worker.
    needs : callable
        ``needs(value)`` returns the names of modules that `write` will import besides.
    """

    __slots__ = ("module", "needs", "read", "write")

    def __init__(
        self,
        module: str,
        read: Callable[[ModuleType], Any],
        write: Callable[[Any, Any], None],
        needs: Callable[[Any], Iterable[str]] = _nothing,
    ) -> None:
        self.module = module
        self.read = read
        self.write = write
        self.needs = needs


def write_at_the_end(fd: int) -> None:
    """Make what this process writes go to the end of the file, wherever that is by then.

    A forked child would share the position in it. Workers open it again, to append; what is
    written here at a position of its own would overwrite what they write.
    """
    import fcntl
    import os

    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def packed(value: Any) -> bytes | None:
    """Return `value` pickled, or None if it cannot travel: then it is not carried."""
    from pool._pickling import dumps_to_worker

    try:
        encoded = dumps_to_worker(value)
    except Exception:
        return None
    return None if encoded.buffers else bytes(encoded.data)


def unpacked(data: bytes) -> Any:
    """Return what was `packed`."""
    from pool._pickling import loads

    return loads(data)


class Later:
    """A function of the program's in a worker.

    It is unpickled when it is needed: that may import a module.

    Parameters
    ----------
    data : bytes
        What was `packed`.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._function: Callable[[Any], Any] | None = None

    def __call__(self, value: Any) -> Any:
        if self._function is None:
            self._function = unpacked(self._data)
        return self._function(value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Later, (self._data,)
