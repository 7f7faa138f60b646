"""`Pool`: the class of `multiprocessing.pool`, on workers of this package."""

from __future__ import annotations

from pool._faces._engines import engines_for, in_worker
from pool._faces._standard import StandardPool, warn_unclosed
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Self, Unpack

    from pool._faces import _calls, _maps
    from pool._faces._iterators import IMapIterator
    from pool._faces._options import Extra
    from pool._faces._results import AsyncResult, MapResult
    from pool._local._engine import LocalEngine
    from pool._transport._messages import MAP, STAR


def load_engine() -> None:
    """Import the modules that run tasks, once the forkserver is starting.

    Not at the top of this module: the import takes 10 ms, in which the forkserver boots.
    """
    global MAP, STAR, _calls, _maps
    from pool._faces import _calls, _maps
    from pool._transport._messages import MAP, STAR


RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


class Pool(StandardPool):
    """Worker processes to which calls are handed out.

    A drop-in for `multiprocessing.Pool`. Functions may be lambdas, closures, bound
    methods or defined in ``__main__``; no main guard is needed.

    Parameters
    ----------
    processes : int, optional
        Number of workers; by default that of the CPUs that this process may use.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` in each worker when it starts. If it raises,
        every call on the pool raises that exception.
    initargs : iterable
        Its arguments, those too that can only be inherited, such as a `multiprocessing.Lock`.
    maxtasksperchild : int, optional
        Tasks (chunks of a map) after which a worker is replaced by a fresh one.
    context : optional
        From `get_context`. By default workers are forked from a clean server process; from the
        program, where that is safe and quicker, or they can only inherit what they need. Either
        way they have what it has set: environment, ``sys.path``, loggers, limits and so on.
    blas_threads : int, optional
        Threads of BLAS and OpenMP libraries in each worker; CPUs divided by workers by
        default.
    engine : {"local", "ray", "dask"}
        Where the workers are: on this machine, or on a cluster of Ray or Dask, which then has
        to have this package, too.
    address : str or distributed.Client, optional
        Of the cluster. By default what the program is connected to, or else what ``ray.init()``
        and ``distributed.Client()`` find or start.
    engine_options : mapping, optional
        What Ray is to be told of the actors that hold the workers (``num_gpus=1``), or Dask of
        tasks (``workers=[...]``).

    Raises
    ------
    ValueError
        If `processes` or `maxtasksperchild` is less than 1, or `engine` is unknown.
    StartError
        If workers cannot be started, for want of processes, descriptors or memory.

    Notes
    -----
    Beyond the standard, every method that runs tasks takes these keyword arguments:

    timeout : float
        Seconds for each item, from when it begins to run. The worker is replaced and the item
        raises `TaskTimeout`, which is a `multiprocessing.TimeoutError`; the others are not touched.
    retries : int
        Times that an item is run again after an exception, a timeout or the death of its worker.
    return_exceptions : bool
        Give exceptions in place of values.
    progress : bool or callable
        Show a bar, or call with a `ProgressEvent` from time to time.
    seed : int
        The same random numbers (`random` and numpy's legacy functions) for each item,
        whatever the number of workers and the chunk size. Or a `numpy.random.SeedSequence`.

    With `timeout`, `retries` or `return_exceptions` each item is a task of its own, whatever
    `chunksize` says.

    Examples
    --------
    >>> from pool import Pool
    >>> with Pool(2) as p:
    ...     p.map(lambda x: x * x, range(4))
    ...     p.map(int, ["1", "one"], return_exceptions=True)
    [0, 1, 4, 9]
    [1, ValueError("invalid literal for int() with base 10: 'one'")]
    """

    __module__ = "pool"
    _as_standard = "Pool"
    #: Whether the first call, and not `__init__`, starts the workers.
    _starts_later = False
    _state = "INIT"

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        blas_threads: int | None = None,
        engine: str = "local",
        address: Any = None,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._context = context
        self._engines = engines_for(
            id(self), processes, initializer, initargs, maxtasksperchild, context,
            blas_threads, engine, address, engine_options,
        )  # fmt: skip
        self._processes: int = self._engines.processes
        if self._starts_later or in_worker():
            load_engine()
        else:
            self._engines.prepare()
            load_engine()
            self._engines.begin()
        self._state = RUN

    @property
    def _engine(self) -> LocalEngine:
        return self._engines.current()

    # ------------------------------------------------------------------ one call

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},  # the standard's signature; never changed
        **extra: Unpack[Extra],
    ) -> Any:
        """Call ``func(*args, **kwds)`` in a worker and return its result.

        What it raises is raised here, with the worker's traceback as ``__cause__``.

        Parameters
        ----------
        func : callable
            Also a lambda, a closure, a bound method or a function of ``__main__``.
        args : iterable
        kwds : mapping
        **extra
            ``timeout``, ``retries``, ``return_exceptions``, ``progress``, ``seed``: see `Pool`.

        Raises
        ------
        WorkerDied
            If the worker ended while it ran the call.
        TaskTimeout
            If the call ran for more than `timeout` seconds.
        CannotSend
            If function or arguments can neither be pickled nor inherited.
        ValueError
            If the pool was closed or terminated.
        """
        self._check_running()
        if self._replaced("apply_async"):
            return self.apply_async(func, args, kwds, **extra).get()
        if not extra:
            value = _calls.call_now(self, func, args, kwds)
            if value is not _calls.NOT_NOW:
                return value
        return _calls.call(self, "apply", func, args, kwds, extra=extra, awaited=True).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},  # as above
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **extra: Unpack[Extra],
    ) -> AsyncResult:
        """Do as `apply`, but return an `AsyncResult` at once.

        Arguments are read before this returns: later changes to them do not reach the task.

        Parameters
        ----------
        func, args, kwds, **extra
            As for `apply`.
        callback, error_callback : callable, optional
            Called in this process with the result, or with the exception, by whichever
            thread receives it. What they raise goes to `sys.unraisablehook`.
        """
        self._check_running()
        if not (kwds or extra):
            result = _calls.call_soon(self, func, args, callback, error_callback)
            if result is not None:
                return result
        return _calls.call(self, "apply_async", func, args, kwds, callback, error_callback, extra)

    # ------------------------------------------------------------------ maps

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        **extra: Unpack[Extra],
    ) -> list[Any]:
        """Apply `func` to each element of `iterable` and return the list of results, in order.

        Parameters
        ----------
        func : callable
            Also a lambda, a closure, a bound method or a function of ``__main__``.
        iterable : iterable
            Read to its end before the first item is sent; see `imap` for endless ones.
        chunksize : int, optional
            Items of one task: they go to one worker together and fail together. By default
            a quarter of each worker's share. 1 costs little here.
        **extra
            ``timeout``, ``retries``, ``return_exceptions``, ``progress``, ``seed``: see `Pool`.

        Raises
        ------
        Exception
            What an item raised; if several did, the first by position. Raised after all have run.
        WorkerDied
            If the worker of an item ended; the items in other workers are not touched.
        TaskTimeout
            If an item ran for more than `timeout` seconds.
        CannotSend
            If `func` or an item can neither be pickled nor inherited.
        ValueError
            If the pool was closed or terminated, or if `chunksize` is less than 1.
        KeyboardInterrupt
            Upon Ctrl-C; the call is cancelled, and the pool stays usable.
        """
        self._check_running()
        if self._replaced("_map_async"):
            mapped: list[Any] = self._map_async(func, iterable, MAP, chunksize, **extra).get()
            return mapped
        # Without a name for the handle, which holds what is raised, see `AsyncResult.get`.
        values: list[Any] = _maps.start_map(
            self, "map", func, iterable, chunksize, MAP, extra, awaited=True
        ).get()
        return values

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **extra: Unpack[Extra],
    ) -> MapResult:
        """Do as `map`, but return a `MapResult` at once.

        `iterable` is read to its end before this returns. Callbacks are those of
        `apply_async`; they are called once, with the whole list or the first exception.
        """
        self._check_running()
        if self._replaced("_map_async"):
            return self._map_async(
                func, iterable, MAP, chunksize, callback, error_callback, **extra
            )
        return _maps.start_map(
            self, "map_async", func, iterable, chunksize, MAP, extra, callback, error_callback
        )

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        **extra: Unpack[Extra],
    ) -> list[Any]:
        """Do as `map`, with each element unpacked as arguments: ``func(*element)``."""
        self._check_running()
        if self._replaced("_map_async"):
            mapped: list[Any] = self._map_async(func, iterable, STAR, chunksize, **extra).get()
            return mapped
        values: list[Any] = _maps.start_map(
            self, "starmap", func, iterable, chunksize, STAR, extra, awaited=True
        ).get()
        return values

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **extra: Unpack[Extra],
    ) -> MapResult:
        """Do as `starmap`, but return a `MapResult` at once."""
        self._check_running()
        if self._replaced("_map_async"):
            return self._map_async(
                func, iterable, STAR, chunksize, callback, error_callback, **extra
            )
        return _maps.start_map(
            self, "starmap_async", func, iterable, chunksize, STAR, extra, callback, error_callback
        )

    def _replaced(self, name: str) -> bool:
        """Return whether a derived class or a patch has replaced the method `name`.

        Then the methods that call it in the standard call it here as well. Otherwise they take a
        shorter way.
        """
        return getattr(getattr(self, name), "__func__", None) is not _OWN[name]

    # ------------------------------------------------------------------ iterators

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        **extra: Unpack[Extra],
    ) -> IMapIterator:
        """Iterate over the results of `func` in the order of `iterable`, lazily.

        Parameters
        ----------
        func, **extra
            As for `map`.
        iterable : iterable
            May be endless: it is read ahead by a bounded number of items only. An exception that
            it raises comes after the results of the items before.
        chunksize : int
            Items of one task; 1 costs little here.

        Returns
        -------
        IMapIterator
            Raises in an item's place what it raised; with a `chunksize` of 1 it goes on after that.
        """
        return self._imap("imap", func, iterable, chunksize, MAP, True, extra)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        **extra: Unpack[Extra],
    ) -> IMapIterator:
        """Iterate over the results of `func` as they come, lazily.

        Parameters are those of `imap`. To know which item a result is of, let `func` return it too.
        """
        return self._imap("imap_unordered", func, iterable, chunksize, MAP, False, extra)

    def istarmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int = 1,
        **extra: Unpack[Extra],
    ) -> IMapIterator:
        """Do as `imap`, with each element unpacked as arguments."""
        return self._imap("istarmap", func, iterable, chunksize, STAR, True, extra)

    def istarmap_unordered(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int = 1,
        **extra: Unpack[Extra],
    ) -> IMapIterator:
        """Do as `imap_unordered`, with each element unpacked as arguments."""
        return self._imap("istarmap_unordered", func, iterable, chunksize, STAR, False, extra)

    def _imap(
        self,
        method: str,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        mode: int,
        ordered: bool,
        extra: Extra,
    ) -> IMapIterator:
        self._check_running()
        from pool._faces._lazy_calls import start_imap

        return start_imap(self, method, func, iterable, chunksize, mode, ordered, extra)

    # ------------------------------------------------------------------ life

    def close(self) -> None:
        """Accept no more work; workers end when what was submitted is done."""
        if self._state == RUN:
            shield.whole(self._close)  # workers of a pool that is half closed would never end

    def _close(self) -> None:
        self._state = CLOSE
        self._engines.close(self)

    def terminate(self) -> None:
        """End the workers at once, without completing outstanding work.

        Calls that are not done fail with `PoolTerminated`, with which their `error_callback` is
        called, in a thread of its own. This waits for it and for the workers, a second at most.
        """
        shield.whole(self._end)  # as above
        self._engines.linger()

    def _end(self) -> None:
        self._state = TERMINATE
        for engine in self._engines.finish():
            engine.terminate()

    def join(self) -> None:
        """Wait for the workers to end, after `close` or `terminate`.

        Raises
        ------
        ValueError
            If neither was called before.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        for engine in self._engines.all():
            engine.join()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()

    def __del__(self) -> None:
        try:
            if self._state == RUN:
                warn_unclosed(self)
        finally:
            try:
                shield.finalize(self._end)  # not `terminate`, which a derived class may override
            except Exception:
                pass  # `__init__` had raised, or the interpreter is going down

    def __reduce__(self) -> tuple[Any, ...]:
        from pool._faces._handles import reduce_pool

        return reduce_pool(self)

    # ------------------------------------------------------------------ seeing

    def stats(self) -> dict[str, Any]:
        """Return what the pool is doing, as plain values.

        Returns
        -------
        dict
            ``processes``, ``start_method``, ``state``, ``jobs`` (outstanding calls), ``queued``
            (tasks not sent), ``tasks_done``, ``tasks_failed``, ``restarts`` (workers replaced after
            they died) and ``workers``: for each one ``worker_id``, ``pid``, ``host`` (None: this
            machine), ``state``, ``tasks_done`` and ``nbytes`` (memory in RAM).
        """
        from pool._faces._stats import stats

        return stats(self)

    def __repr__(self) -> str:
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"<{name} state={self._state} pool_size={self._processes}>"

    def _repr_html_(self) -> str:
        from pool._faces._html import pool_html

        return pool_html(self.stats())


#: The methods that `_replaced` compares with.
_OWN = {name: getattr(Pool, name) for name in ("apply_async", "_map_async")}
