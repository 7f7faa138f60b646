"""A setting that is carried: how to read it in the program, and how to set it in a worker."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any


def _nothing(value: Any) -> Iterable[str]:
    return ()


class Setting:
    """The settings of one module.

    Parameters
    ----------
    module : str
        Its name. Its settings are read only if it is loaded.
    read : callable
        ``read(module)`` returns a value that `marshal` takes, or None if the settings are as after
        the import of the module.
    write : callable
        ``write(module, value)`` makes these settings in a worker.
    needs : callable
        ``needs(value)`` returns the names of other modules that `write` will import.
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
    """Have this process append to a file, at whatever end it has when it writes.

    Workers open the file again, to append. A forked child would share this process's position in
    it; without that, this process would write over what they have written.
    """
    import fcntl
    import os

    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def packed(value: Any) -> bytes | None:
    """Return `value` pickled, or None if that is not possible: then it is not carried."""
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
    """A function of the program's, in a worker: unpickled when it is first called.

    Unpickling it may import a module, which few tasks need.

    Parameters
    ----------
    data : bytes
        The function, `packed`.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._function: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            self._function = unpacked(self._data)
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Later, (self._data,)
