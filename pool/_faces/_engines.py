"""The engines of a pool on this machine, and which kind a pool gets.

Beside its main engine such a pool may have others: a call that cannot be pickled gets one of its
own, whose workers inherit what it needs; calls that use anonymous shared memory have one in common,
which is kept.
"""

from __future__ import annotations

from _thread import get_ident
from errno import ENOMEM

from pool._faces._makers import note_maker
from pool._faces._options import count_of
from pool._faces._own_modules import restore_own_modules
from pool._local._engines import Engines
from pool._workers._argv import is_frozen
from pool._workers._early import has_heavy, start_forkserver
from pool._workers._thread_limits import thread_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from pool._local._engine import LocalEngine
    from pool._pickling import CannotSend


class LocalEngines(Engines):
    """Engines whose workers are processes of this machine.

    Parameters
    ----------
    processes : int
    initializer : callable, optional
    initargs : tuple
    maxtasksperchild : int, optional
    context : object
        As for `Pool`; `method` is ``"default"``, ``"fork"``, ``"spawn"`` or ``"forkserver"``.
    blas_threads : int, optional
    pool : int
        Identifies the pool among those of this process.
    """

    __slots__ = ("_blas_threads", "_forks", "_pool", "_sharing", "_sides", "_waits")

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        maxtasksperchild: int | None,
        context: Any,
        blas_threads: int | None,
        pool: int,
    ) -> None:
        super().__init__(processes, initializer, initargs, maxtasksperchild, _start_method(context))
        self._blas_threads = blas_threads
        self._pool = pool
        #: Engines whose workers inherit what one call needs, until that call is over.
        self._sides: list[LocalEngine] = []
        #: The engine whose workers have inherited shared memory, see `sharing`.
        self._sharing: LocalEngine | None = None
        #: Whether workers are not to be forked while a module is imported.
        self._waits = False
        #: Whether the main engine's are forked from this process, since they are there sooner.
        self._forks = False

    def prepare(self) -> None:
        """Start the forkserver, so that it boots while this process imports the engine."""
        if self.method == "fork":
            return
        limits, preload = self._limits(), _preload()
        if self.method == "default" and has_heavy():
            from pool._workers._sooner import forks_sooner

            self._forks, is_first = forks_sooner(limits, preload)
            if self._forks and is_first:
                return
        start_forkserver(limits, preload, ahead=self._forks)

    def begin(self) -> None:
        """Start the workers of a new pool, unless it is better to wait for the first call.

        It is if a module that makes the pool is being imported, and workers have to be forked,
        though nobody chose that: they would have the first half of the module only.
        """
        from pool._local._starting import HalfImported

        self._waits = True
        try:
            self.start()
        except HalfImported:
            pass
        finally:
            self._waits = False

    def inheriting(self, error: CannotSend) -> LocalEngine:
        """Return a new engine for one call, whose workers inherit all of this process's memory."""
        self._dispose_of_idle()
        with self._lock():
            self._check_running()
            engine = self._made("fork")
            engine.claims.add(get_ident())
            self._sides.append(engine)
        return engine

    def _dispose_of_idle(self) -> None:
        """Dispose of the engines that have run the call they were made for."""
        me = get_ident()
        with self._lock():
            self._check_running()
            done = []
            for side in list(self._sides):
                # This thread makes its next call: if it has a claim left, that call never began.
                side.claims.discard(me)
                if not (side.claims or side.driver.outstanding):
                    self._sides.remove(side)
                    done.append(side)
        # Without the lock: the thread that drives one may be in a callback that makes calls.
        for side in done:
            side.dispose()

    def sharing(self, engine: LocalEngine, inherits: int) -> LocalEngine:
        """Return `engine`, or one whose workers have inherited the shared memory that is needed.

        Parameters
        ----------
        engine : LocalEngine
            The engine that would run the call otherwise.
        inherits : int
            The call needs memory numbered below this, see `pool._pickling._shared`.
        """
        if inherits <= engine.inherited:
            return engine
        with self._lock():
            before = known = self._sharing
            if known is None or not known.usable or known.inherited < inherits:
                self._check_running()
                known = self._made("fork")
                if before is not None and not before.foreign:
                    self._sides.append(before)  # to be disposed of when it has no work left
                self._sharing = known
            known.claims.add(get_ident())
        if known is not before:
            self._dispose_of_idle()
        return known

    def _known(self) -> tuple[LocalEngine | None, ...]:
        return (*self._sides, self._sharing, self.main)

    def _new(self, method: str) -> LocalEngine:
        start = method
        if method == "default":
            start, self._forks = "fork" if self._forks else "forkserver", False
        try:
            return self._start_engine(method, start, saves=True)
        except OSError as error:
            if method != "default" or error.errno != ENOMEM:
                raise
        # The kernel has no room for a second program of this size; it may have for small workers.
        return self._start_engine(method, "forkserver", saves=False)

    def _start_engine(self, method: str, start: str, saves: bool) -> LocalEngine:
        from pool._local._engine import LocalEngine

        return LocalEngine(
            self.processes,
            self.initializer,
            self.initargs,
            self.maxtasksperchild,
            start,
            self._limits(),
            _preload(),
            pool=self._pool,
            shares=method == "default",
            waits=self._waits,
            saves=saves,
        )

    def _limits(self) -> dict[str, str]:
        return thread_limits(self._blas_threads or _share(self.processes))


def engines_for(
    pool: int,
    processes: int | None,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any] | None,
    maxtasksperchild: int | None,
    context: Any,
    blas_threads: int | None,
    engine: str,
    address: Any,
    engine_options: Mapping[str, Any] | None,
) -> Engines:
    """Return what a pool has its engines from.

    Parameters are those of `Pool`, but for the first, which is that of `LocalEngines`.

    Raises
    ------
    ValueError, TypeError
        If one of them cannot be meant.
    """
    restore_own_modules()
    note_maker()
    local = engine == "local" and address is None and engine_options is None
    if processes is None and local:
        from pool._cpus import usable_cpus

        processes = usable_cpus()
    if processes is not None:
        processes = count_of(processes, "processes", "Number of processes must be at least 1")
    if maxtasksperchild is not None and (
        not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
    ):
        raise ValueError(
            f"maxtasksperchild must be a positive int or None, not {maxtasksperchild!r}"
        )
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer must be a callable, not {initializer!r}")
    # Both are None where a function hands on what it was not given.
    values: Any = () if initargs is None and initializer is None else initargs
    try:
        arguments = iter(values)
    except TypeError:
        raise TypeError(
            f"initargs must be an iterable of arguments, such as (x,), not {initargs!r}"
        ) from None
    if blas_threads is not None:
        blas_threads = count_of(blas_threads, "blas_threads", "blas_threads must be at least 1")
    given = (
        processes, initializer, tuple(arguments), maxtasksperchild, context, blas_threads,
    )  # fmt: skip
    if local:
        return LocalEngines(*given, pool)  # type: ignore[arg-type]  # there is a number by now
    from pool._cluster._engines import ClusterEngines

    return ClusterEngines(engine, address, engine_options or {}, *given)


def in_worker() -> bool:
    """Return whether this is a worker, in which pools start when they are first used.

    For workers also import the modules that make a pool when imported.
    """
    import sys

    return getattr(sys.modules.get("pool._workers._boot"), "serves", False)


def _preload() -> list[str]:
    from pool._context import preload_names

    return preload_names()


def _start_method(context: Any) -> str:
    method = _chosen_method(context)
    # A frozen program has no interpreter to start the forkserver with, only itself.
    return "fork" if method == "default" and is_frozen() else method


def _chosen_method(context: Any) -> str:
    if context is None:
        import sys

        # A start method can only have been chosen by importing one of these.
        if "multiprocessing.context" not in sys.modules and "pool._context" not in sys.modules:
            return "default"
    from pool._context import start_method_for

    return start_method_for(context)


def _share(processes: int) -> int:
    """Return how many BLAS threads each worker may have."""
    from pool._cpus import usable_cpus

    return max(1, usable_cpus() // processes)
