"""The engines behind one pool, wherever its workers are.

Usually there is one. After it has crashed, and in a forked child, the next call makes another.
"""

from __future__ import annotations

import os
from _thread import RLock

from pool._local._members import members
from store._children import notice_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._local._engine import LocalEngine
    from pool._pickling import CannotSend


class Engines:
    """What a pool needs to know to start workers, and the engines it has started.

    Parameters
    ----------
    processes : int
    initializer : callable, optional
    initargs : tuple
    maxtasksperchild : int, optional
        As for `Pool`.
    method : str
        How, or on what, the workers are started.

    Attributes
    ----------
    main : LocalEngine or None
        The engine that runs calls, if there is one yet.
    """

    __slots__ = (
        "_closing",
        "_locks",
        "_over",
        "initargs",
        "initializer",
        "main",
        "maxtasksperchild",
        "method",
        "processes",
    )

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        maxtasksperchild: int | None,
        method: str,
    ) -> None:
        notice_fork()  # else this would get its workers from a forkserver of the parent
        self.processes = processes
        self.initializer = initializer
        self.initargs = initargs
        self.maxtasksperchild = maxtasksperchild
        self.method = method
        #: By process id.
        self._locks: dict[int, RLock] = {}
        #: The pool was closed, or terminated.
        self._closing = self._over = False
        self.main: LocalEngine | None = None

    def prepare(self) -> None:
        """Begin what takes time, while this process imports the engine."""

    def begin(self) -> None:
        """Start the workers of a new pool, unless it is better to wait for the first call."""
        self.start()

    def start(self) -> LocalEngine:
        """Start the workers of the pool."""
        self.main = self._made(self.method)
        return self.main

    def current(self) -> LocalEngine:
        """Return the main engine; make one at first use, and after a fork or a crash."""
        notice_fork()
        engine = self.main
        while engine is None or not engine.usable:
            if engine is not None:
                if engine.driver.ended:
                    engine.driver.check_open()  # raises: the program is ending
                self._check_running()
                # The old engine is disposed of before the new one starts, which may need the
                # descriptors. The lock is not held: the thread that drives the old engine may be
                # in a callback that makes calls, and so would wait for this lock.
                engine.dispose()
            with self._lock():
                if self.main is engine:  # no other thread was quicker
                    self._check_running()
                    self.start()
                engine = self.main
        return engine

    def _lock(self) -> RLock:
        # One lock for each process: a fork may copy one that a thread of the parent holds. It is
        # reentrant: a signal handler may terminate the pool while its own thread holds it.
        return self._locks.setdefault(os.getpid(), RLock())

    def close(self, pool: object = None) -> None:
        """Take no more calls; the workers end when the calls made so far are done.

        Until then `pool` is kept, though nothing else may refer to it.
        """
        with self._lock():
            self._closing = True
        for engine in self.all():
            for lazy in members(engine.lazies):
                lazy.keep(pool)
            engine.close()

    def finish(self) -> list[LocalEngine]:
        """Start no engine from now on; return those that there are."""
        with self._lock():
            self._over = True
        return self.all()

    def linger(self) -> None:
        """Wait, when all engines were terminated, until their workers have ended.

        They may have files locked, ports, or memory of a GPU, which the program's next line takes.
        """
        from pool._local._last_calls import PATIENCE

        for engine in self.all():
            if not engine.driver.held_here:
                engine.driver.crew.linger(PATIENCE)

    def _check_running(self) -> None:
        if self._closing or self._over:
            raise ValueError("Pool not running")  # closed or terminated a moment ago

    def _made(self, method: str) -> LocalEngine:
        engine = self._new(method)
        if self._closing or self._over:
            # A signal handler has ended the pool just now, and did not know of this new engine.
            engine.dispose()
            self._check_running()
        return engine

    def _new(self, method: str) -> LocalEngine:
        """Make an engine."""
        raise NotImplementedError

    def inheriting(self, error: CannotSend) -> LocalEngine:
        """Return an engine for one call, whose workers inherit all of this process's memory.

        Raises
        ------
        CannotSend
            `error`, where that is not possible.
        """
        raise error

    def sharing(self, engine: LocalEngine, inherits: int) -> LocalEngine:
        """Return `engine`, or one whose workers have the shared memory that a call needs."""
        return engine

    def resize(self, processes: int) -> None:
        """Have `processes` workers in each engine from now on."""
        self.processes = processes
        for engine in self.all():
            engine.resize(processes)

    def all(self) -> list[LocalEngine]:
        """Return the engines that this process, not a parent of it, has started."""
        return [engine for engine in self._known() if engine is not None and not engine.foreign]

    def _known(self) -> tuple[LocalEngine | None, ...]:
        return (self.main,)
