"""What a forked child sets anew: locks, names, and connections that belong to its parent.

Python takes these steps itself after `os.fork`. A program in which Python is embedded may fork
without telling it, as uWSGI does unless it is asked to. After such a *raw* fork they are taken when
the child first uses the pool or the store.
"""

from __future__ import annotations

import _frozen_importlib
import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: The steps of the child of a raw fork, in the order of registration.
_late: list[Callable[[], object]] = []
#: The process that has taken its steps.
_pid = os.getpid()
#: By process id: a fork may copy a lock that a thread of the parent holds.
_locks: dict[int, _thread.LockType] = {}


def in_child(step: Callable[[], object]) -> None:
    """Have a step taken in each child that is forked from now on."""
    os.register_at_fork(after_in_child=step)
    _late.append(step)


def in_child_of_raw_fork(step: Callable[[], object]) -> None:
    """Have a step taken after raw forks only, maybe by another thread than has forked."""
    _late.append(step)


def notice_fork() -> None:
    """Take the steps now if this process is the child of a raw fork, and has not taken them."""
    if _pid != os.getpid():
        _take_late()


def _take_late() -> None:
    with _locks.setdefault(os.getpid(), _thread.allocate_lock()):
        if _pid != os.getpid():  # no other thread was quicker
            for step in list(_late):
                step()
            _steps_taken()


def _steps_taken() -> None:
    global _pid
    _pid = os.getpid()


def _forget_half_imported() -> None:
    """Let this child import what another thread of its parent was just importing.

    Many modules of the pool and the store are imported when they are first needed. The thread does
    not exist here, so their locks would stay taken for ever.
    """
    me = _thread.get_ident()
    for name, found in list(getattr(_frozen_importlib, "_module_locks", {}).items()):
        lock = found()
        if name.partition(".")[0] in _OURS and getattr(lock, "owner", None) not in (None, me):
            _frozen_importlib._module_locks.pop(name, None)  # type: ignore[attr-defined]  # as above
            sys.modules.pop(name, None)


#: The packages that are imported bit by bit.
_OURS = ("pool", "store")

# First: the steps of other modules may import.
os.register_at_fork(after_in_child=_forget_half_imported)
os.register_at_fork(after_in_child=_steps_taken)
