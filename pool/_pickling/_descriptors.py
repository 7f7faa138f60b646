"""Objects that need a descriptor where they arrive: connections, sockets, PyTorch's tensors.

What `multiprocessing` and PyTorch register for these offers a descriptor, which one process can
take, once. That does for the arguments of a task, and for results. What several processes
unpickle must not have such an offer, since all but the first would fail: functions with all that
they hold, initializers, stored objects. In these

* connections and sockets are inherited;
* the memory of a tensor is copied. If a program has shared it (``model.share_memory()``), and tasks
  of a Pool are to see that as forks would, they open it by the program's own descriptor.
"""

from __future__ import annotations

import _pickle
import os
import sys

from ._reducers import Unpicklable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._picklers import BasePickler
    from ._shared import Identity

    #: An address, and the number of what is offered there.
    Offer = tuple[Any, int]

_STORAGE = ("torch.storage", "UntypedStorage")

#: Modules and names of the types.
KINDS = frozenset(
    {("multiprocessing.connection", "Connection"), ("socket", "socket"), _STORAGE},
)


def reduce_described(pickler: BasePickler, obj: Any, registered: Callable[[Any], Any]) -> Any:
    """Reduce an object of one of `KINDS`.

    Parameters
    ----------
    pickler : BasePickler
    obj : object
    registered : callable
        The reducer that is registered for it.

    Raises
    ------
    Unpicklable
        If it can only be inherited, and the receiver has not done so.
    """
    kind = type(obj)
    if pickler.offers is not None and pickler.sharing is not None:
        reduced = registered(obj)
        pickler.offers += [part._id for part in reduced[1] if type(part).__name__ == "DupFd"]
        return reduced
    if (kind.__module__, kind.__qualname__) == _STORAGE:
        return _reduce_storage(pickler, obj, registered)
    if pickler.up:
        return registered(obj)
    inherited = NotImplemented if pickler.sharing is None else pickler.sharing.inherit(obj)
    if inherited is NotImplemented:
        raise Unpicklable(kind)
    return inherited


def withdraw(offers: Iterable[Offer]) -> None:
    """Close descriptors that were offered in a pickle which nobody will read."""
    sharer = sys.modules.get("multiprocessing.resource_sharer")
    for _, number in offers:
        offered = None if sharer is None else sharer._resource_sharer._cache.pop(number, None)
        if offered is not None:
            _, close = offered
            close()


# ---------------------------------------------------------------- tensors


def _reduce_storage(pickler: BasePickler, storage: Any, registered: Callable[[Any], Any]) -> Any:
    if storage.device.type != "cpu" or not storage.nbytes():
        return registered(storage)
    sharing = pickler.sharing
    if sharing is not None and storage.is_shared():
        if sharing.inherited is None:
            sharing.copied = True
        else:
            return _reduce_shared(pickler, storage)
    torch = sys.modules["torch"]
    array = torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage).numpy()
    return copied_storage, (_pickle.PickleBuffer(array),)


def _reduce_shared(pickler: BasePickler, storage: Any) -> Any:
    sharing: Any = pickler.sharing
    if sys.modules["torch.multiprocessing"].get_sharing_strategy() != "file_descriptor":
        inherited = sharing.inherit(storage)
        if inherited is NotImplemented:
            raise Unpicklable(type(storage))
        return inherited
    fd, size = storage._share_fd_cpu_()
    found = os.fstat(fd)
    path, identity = f"/proc/{os.getpid()}/fd/{fd}", (found.st_dev, found.st_ino)
    sharing.names.append((path, identity))
    sharing.held.append(storage)  # which has the descriptor
    return opened_storage, (path, identity, size)


def copied_storage(buffer: Any) -> Any:
    """Return the memory of a tensor that has arrived as a copy."""
    import torch

    return torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()


def opened_storage(path: str, identity: Identity, size: int) -> Any:
    """Return the memory of a tensor that the program shares.

    Raises
    ------
    FileNotFoundError
        If the program has let go of it.
    """
    from torch import UntypedStorage
    from torch.multiprocessing.reductions import rebuild_storage_fd

    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) != identity:
        os.close(fd)
        raise FileNotFoundError("a tensor in shared memory was freed by the program")
    return rebuild_storage_fd(UntypedStorage, _Opened(fd), size)


class _Opened:
    """Gives PyTorch a descriptor, which it closes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def detach(self) -> int:
        """Return the descriptor."""
        return self._fd
