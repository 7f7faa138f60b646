"""A pool that is pickled, and what it becomes where it arrives.

In a worker of that very pool: a handle, by which tasks use the pool they run in. Back in
the process that made it: the pool itself. In any other process: a pool of its own of the
same size, started when it is first used.
"""

from __future__ import annotations

import os
import weakref

from pool._faces._pool import Pool, load_engine
from pool._workers._worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_pools: weakref.WeakValueDictionary[tuple[int, int], Pool] = weakref.WeakValueDictionary()


def reduce_pool(pool: Pool) -> tuple[Any, ...]:
    """Return how to rebuild `pool` elsewhere."""
    if isinstance(pool, PoolHandle):
        return _arrive, (pool._key, pool._processes)
    key = (os.getpid(), id(pool))
    _pools[key] = pool
    return _arrive, (key, pool._processes)


def _arrive(key: tuple[int, int], processes: int) -> Pool:
    pool = _pools.get(key)
    if pool is None:
        worker = Worker.current
        if worker is not None and (worker.parent_pid, worker.pool) == key:
            pool = PoolHandle(key, processes)
        else:
            pool = _Arrived(processes)
        _pools[key] = pool
        _kept.append(pool)
    return pool


#: Handles live as long as the worker: their connection to the parent is reused.
_kept: list[Pool] = []


class _Arrived(Pool):
    """A pool of its own, in a process that was sent one and may have no use for it."""

    _as_standard = "Pool"
    _starts_later = True


class _ParentEngine:
    """Stands for `Engines` in a handle: its engine connects to that of the pool's own process."""

    method = "nested"

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._main: Any = None
        self._pid = 0

    @property
    def main(self) -> Any:
        """The connection, or None; a forked child must not use that of its parent."""
        return self._main if self._pid == os.getpid() else None

    def all(self) -> list[Any]:
        """Return the connection, if there is one."""
        main = self.main
        return [] if main is None else [main]

    def current(self) -> Any:
        """Return the connection to the pool's own process, made at first use or when lost."""
        if self.main is None or not self.main.usable:
            from pool._local._nested import NestedEngine

            self._main, self._pid = NestedEngine(self._processes), os.getpid()
        return self._main

    def inheriting(self, error: Exception) -> Any:
        """Refuse: workers forked from this task would not be those of the pool."""
        raise error

    def sharing(self, engine: Any, inherits: int) -> Any:
        """Return the engine: there is no other."""
        return engine


class PoolHandle(Pool):
    """The pool that a task runs in. All methods that run tasks work, to any depth."""

    _as_standard = "Pool"
    _context = None

    def __init__(self, key: tuple[int, int], processes: int) -> None:
        load_engine()
        self._key = key
        self._state = "RUN"
        self._processes = processes
        self._engines: Any = _ParentEngine(processes)

    def _refuse(self) -> None:
        raise RuntimeError(
            "a task cannot close, terminate or join the pool that it runs in; "
            "leave that to the process that made it"
        )

    close = terminate = join = _refuse

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        """Leave the pool to the process that made it."""

    def __del__(self) -> None:
        """Do nothing: there is nothing to end here."""
