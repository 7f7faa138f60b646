"""`Pool`: the class of `multiprocessing.pool`, on persistent actor workers."""

from __future__ import annotations

import _pickle

from pool._faces._engines import Engines
from pool._faces._options import Label, LabelLater, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Self

    from pool._faces import _calls
    from pool._faces._iterators import IMapIterator
    from pool._faces._results import AsyncResult, MapResult
    from pool._local._engine import LocalEngine
    from pool._local._express import Loan
    from pool._local._jobs import Function, Items, OneCall, detached
    from pool._pickling import ATOMS, CannotSend, dumps_function, dumps_to_worker
    from pool._transport._messages import CALL, CAUGHT, MAP, STAR


def _load_engine() -> None:
    """Import what running tasks takes.

    Not at the top: a forkserver that starts at the same time needs the 10 ms as well, and
    a short program is done so much sooner.
    """
    global ATOMS, CALL, CAUGHT, MAP, STAR, AsyncResult, CannotSend, Items, LocalEngine
    global MapResult, OneCall, _calls, detached, dumps_function, dumps_to_worker
    from pool._faces import _calls
    from pool._faces._results import AsyncResult, MapResult
    from pool._local._engine import LocalEngine
    from pool._local._jobs import Items, OneCall, detached
    from pool._pickling import ATOMS, CannotSend, dumps_function, dumps_to_worker
    from pool._transport._messages import CALL, CAUGHT, MAP, STAR


_NO_KWDS: dict[str, Any] = {}

RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


class Pool:
    """Worker processes to which calls are handed out.

    A drop-in for `multiprocessing.Pool`. Functions may be lambdas, closures, bound
    methods or defined in ``__main__``; no main guard is needed.

    Parameters
    ----------
    processes : int, optional
        How many; the CPUs that this process may use by default.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` in each worker when it starts. If it raises,
        every call on the pool raises that exception.
    initargs : iterable
    maxtasksperchild : int, optional
        Tasks (chunks of a map) after which a worker is replaced by a fresh one.
    context : optional
        From `get_context`. By default workers are forked from a clean server process and
        inherit nothing but the working directory, environment and ``sys.path``.
    blas_threads : int, optional
        Threads of BLAS and OpenMP libraries in each worker; CPUs divided by workers by
        default.

    Notes
    -----
    Beyond the standard, every method that runs tasks takes these keyword arguments:

    timeout : float
        Seconds for each item. The worker is replaced and the item raises
        `multiprocessing.TimeoutError`; the others are not touched.
    retries : int
        Times that an item is run again after an exception or the death of its worker.
    return_exceptions : bool
        Give exceptions in place of values.
    progress : bool or callable
        Show a bar, or call with a `ProgressEvent` from time to time.
    seed : int
        The same random numbers (`random` and numpy) for each item, whatever the number
        of workers and the chunk size.

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

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        blas_threads: int | None = None,
    ) -> None:
        self._state = "INIT"
        if processes is None:
            from pool._cpus import usable_cpus

            processes = usable_cpus()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if blas_threads is not None and blas_threads < 1:
            raise ValueError(f"blas_threads must be at least 1, not {blas_threads}")
        self._processes = processes
        self._engines = Engines(
            processes, initializer, tuple(initargs), maxtasksperchild, context, blas_threads
        )
        if _in_worker():
            _load_engine()
        else:
            self._engines.prepare()
            _load_engine()
            self._engines.start()
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
        **extra: Any,
    ) -> Any:
        """Call ``func(*args, **kwds)`` in a worker and return its result.

        What it raises is raised here, with the worker's traceback as ``__cause__``.

        Raises
        ------
        WorkerDied
            If the worker ended while it ran the call.
        CannotSend
            If function or arguments can neither be pickled nor inherited.
        ValueError
            If the pool was closed or terminated.
        """
        if not extra:
            self._check_running()
            loan = self._call_now(func, args, kwds)
            if loan is not None:
                if loan.failed:
                    raise loan.value
                return loan.value
        result = self._call("apply", func, args, kwds, None, None, extra, awaited=True)
        return result.get()

    def _call_now(
        self, func: Callable[..., Any], args: Iterable[Any], kwds: Mapping[str, Any]
    ) -> Loan | None:
        """Call on an idle worker, if there is one and the function allows it."""
        engine = self._engine
        if args.__class__ is not tuple or engine.driver.jobs:
            return None
        try:
            payload = dumps_function(func)
            if not payload.stateless:
                return None
            if not kwds and ATOMS.issuperset(map(type, args)):
                blobs = [_pickle.dumps((args, _NO_KWDS), 5)]
            elif _calls.has_refs((*args, *kwds.values())):
                return None
            else:
                encoded = dumps_to_worker((args, dict(kwds)))
                blobs = [encoded.data, *encoded.buffers]
        except Exception:
            return None  # reported by the ordinary way
        return engine.call_now(payload, blobs, Label("apply", func))

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},  # as above
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **extra: Any,
    ) -> AsyncResult:
        """Do as `apply`, but return an `AsyncResult` at once.

        Parameters
        ----------
        callback, error_callback : callable, optional
            Called in this process with the result, or with the exception, by whichever
            thread receives it. What they raise goes to `sys.unraisablehook`.

        Notes
        -----
        Arguments are read before this returns: later changes to them do not reach the task.
        """
        if not (kwds or extra) and args.__class__ is tuple and ATOMS.issuperset(map(type, args)):
            self._check_running()
            try:
                payload = dumps_function(func)
            except Exception:
                payload = None  # reported by the ordinary way
            if payload is not None and payload.stateless:
                engine = self._engine
                result = AsyncResult(self, engine, callback, error_callback)
                label = LabelLater("apply_async", func)
                engine.call_soon(payload, label, args, result)
                return result
        return self._call("apply_async", func, args, kwds, callback, error_callback, extra)

    def _call(
        self,
        method: str,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        extra: dict[str, Any],
        awaited: bool = False,
    ) -> AsyncResult:
        self._check_running()
        chosen = options(extra) if extra else None
        args = tuple(args)
        if chosen is not None and chosen.seed is not None:
            from pool._faces._seeding import seeded_call

            func = seeded_call(func, chosen.seed)
        label = Label(method, func)
        engine = self._engine
        more = (callback, error_callback, chosen)
        if _calls.has_refs((*args, *kwds.values())):
            return self._call_with_refs(label, func, args, kwds, *more)
        try:
            function, blobs = _calls.encode_call(engine, func, args, kwds)
        except CannotSend as error:
            if _calls.hold_refs((args, kwds)):
                return self._call_with_refs(label, func, args, kwds, *more)
            from pool._faces._inherit import hold_call

            func = hold_call(func, args, kwds)  # before the fork: the workers inherit it
            engine = self._engines.inheriting(error)
            function, blobs = _calls.encode_call(engine, func, (), {})
        except Exception as error:
            # Raised by the pickling of the user's own class: the call's outcome.
            return _calls.fail(AsyncResult(self, engine, callback, error_callback), error)
        result = AsyncResult(self, engine, callback, error_callback)
        mode = CALL
        timeout, retries = None, 0
        if chosen is not None:
            timeout, retries = chosen.timeout, chosen.retries
            if chosen.return_exceptions:
                mode |= CAUGHT
            if chosen.progress:
                result._progress = _calls.progress_of(chosen, 1, label)
        if len(blobs) > 1 and not awaited:
            blobs = detached(blobs)  # the caller goes on and may change its arrays
        result._job_id = engine.submit(
            function, mode, OneCall(blobs), result, label, timeout, retries, awaited
        )
        return result

    def _call_with_refs(
        self,
        label: Label,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwds: Mapping[str, Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        chosen: Any,
    ) -> AsyncResult:
        from pool._faces import _awaited

        engine = self._engine
        result = AsyncResult(self, engine, callback, error_callback)
        timeout, retries, mode = None, 0, CALL
        if chosen is not None:
            timeout, retries = chosen.timeout, chosen.retries
            mode |= CAUGHT if chosen.return_exceptions else 0
            if chosen.progress:
                result._progress = _calls.progress_of(chosen, 1, label)
        parcels = [_awaited.parcel_of(args, kwds)]
        result._job_id = _awaited.submit(
            engine, func, parcels, 1, mode, result, label, timeout, retries
        )
        return result

    # ------------------------------------------------------------------ maps

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        **extra: Any,
    ) -> list[Any]:
        """Apply `func` to each element of `iterable` and return the list of results.

        Parameters
        ----------
        chunksize : int, optional
            Items of one task: they go to one worker together and fail together. By default
            a quarter of each worker's share. 1 costs little here.

        Raises
        ------
        Exception
            Of several that items raised, the one of the first item, once all have run.
        WorkerDied
            If the worker of an item ended; the items in other workers are not touched.
        """
        result = self._map("map", func, iterable, chunksize, MAP, None, None, extra, True)
        values: list[Any] = result.get()
        return values

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **extra: Any,
    ) -> MapResult:
        """Do as `map`, but return a `MapResult` at once.

        `iterable` is read to its end before this returns. Callbacks are those of
        `apply_async`; they are called once, with the whole list or the first exception.
        """
        return self._map(
            "map_async", func, iterable, chunksize, MAP, callback, error_callback, extra
        )

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        **extra: Any,
    ) -> list[Any]:
        """Do as `map`, with each element unpacked as arguments: ``func(*element)``."""
        result = self._map("starmap", func, iterable, chunksize, STAR, None, None, extra, True)
        values: list[Any] = result.get()
        return values

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **extra: Any,
    ) -> MapResult:
        """Do as `starmap`, but return a `MapResult` at once."""
        return self._map(
            "starmap_async", func, iterable, chunksize, STAR, callback, error_callback, extra
        )

    def _map(
        self,
        method: str,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        mode: int,
        callback: Callable[[list[Any]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        extra: dict[str, Any],
        awaited: bool = False,
    ) -> MapResult:
        self._check_running()
        chosen = options(extra) if extra else None
        items = _calls.as_sequence(iterable, awaited)
        length = len(items)
        if chunksize is None:
            chunksize, left = divmod(length, self._processes * 4)
            if left:
                chunksize += 1
        elif chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        label = Label(method, func)
        if chosen is not None:
            if chosen.single:
                chunksize = 1
            if chosen.seed is not None:
                from pool._faces._seeding import seeded_map

                func, items = seeded_map(func, items, chosen.seed, mode == STAR)
                mode = MAP
        chunksize = max(1, chunksize)
        parcels = None
        try:
            if items.__class__ is not range and (
                _calls.has_refs(items) or (length and _calls.hold_refs(items[0]))
            ):
                from pool._faces import _awaited

                parcels = _awaited.parcels_of(items, mode == STAR)
                engine = self._engine
            else:
                engine, function, items, mode = self._sendable(func, items, mode)
        except CannotSend:
            raise
        except Exception as error:
            engine = self._engine
            failed = MapResult(self, engine, chunksize, length, callback, error_callback)
            return _calls.fail(failed, error)
        result = MapResult(self, engine, chunksize, length, callback, error_callback)
        timeout, retries = None, 0
        if chosen is not None:
            timeout, retries = chosen.timeout, chosen.retries
            if chosen.return_exceptions:
                mode |= CAUGHT
            if chosen.progress:
                result._progress = _calls.progress_of(chosen, length, label)
        if parcels is not None:
            mode = MAP | mode & CAUGHT
            result._job_id = _awaited.submit(
                engine, func, parcels, chunksize, mode, result, label, timeout, retries
            )
            return result
        source = Items(items, chunksize, label.item)
        result._job_id = engine.submit(
            function, mode, source, result, label, timeout, retries, awaited
        )
        return result

    def _sendable(
        self, func: Callable[..., Any], items: Sequence[Any], mode: int
    ) -> tuple[LocalEngine, Function, Sequence[Any], int]:
        """Return engine, function, items and mode such that workers can have them.

        Usually those given. If the function or the first item cannot be pickled, workers
        inherit function and items, and are sent indices.
        """
        engine = self._engine
        try:
            function = engine.function(dumps_function(func))
            _calls.check_sendable(items)
        except CannotSend as error:
            from pool._faces._inherit import hold_map

            func = hold_map(func, items, mode)  # before the fork: the workers inherit it
            engine = self._engines.inheriting(error)
            items, mode = range(len(items)), MAP
            function = engine.function(dumps_function(func))
        return engine, function, items, mode

    # ------------------------------------------------------------------ iterators

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        **extra: Any,
    ) -> IMapIterator:
        """Iterate over the results of `func` in the order of `iterable`, lazily.

        Parameters
        ----------
        iterable : iterable
            May be endless: it is read ahead by a bounded number of items only. If it
            raises, the iterator raises the same after the results of what came before.
        chunksize : int
            Items of one task; 1 costs little here.

        Returns
        -------
        IMapIterator
            Raises the exception of an item in its place, and goes on after it.
        """
        return self._imap("imap", func, iterable, chunksize, MAP, True, extra)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        **extra: Any,
    ) -> IMapIterator:
        """Iterate over the results of `func` as they come, lazily."""
        return self._imap("imap_unordered", func, iterable, chunksize, MAP, False, extra)

    def istarmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int = 1,
        **extra: Any,
    ) -> IMapIterator:
        """Do as `imap`, with each element unpacked as arguments."""
        return self._imap("istarmap", func, iterable, chunksize, STAR, True, extra)

    def istarmap_unordered(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int = 1,
        **extra: Any,
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
        extra: dict[str, Any],
    ) -> IMapIterator:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        from pool._faces._lazy_calls import start_imap

        chosen = options(extra) if extra else None
        return start_imap(
            self, Label(method, func), func, iterable, chunksize, mode, ordered, chosen
        )

    # ------------------------------------------------------------------ life

    def close(self) -> None:
        """Accept no more work; workers end when what was submitted is done."""
        if self._state == RUN:
            self._state = CLOSE
            for engine in self._engines.all():
                engine.close()

    def terminate(self) -> None:
        """End the workers at once, without completing outstanding work."""
        self._state = TERMINATE
        for engine in self._engines.all():
            engine.terminate()

    def join(self) -> None:
        """Wait for the workers to end, after `close` or `terminate`."""
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

    def __exit__(self, *exc_info: object) -> None:
        self.terminate()

    def __del__(self) -> None:
        try:
            if self._state == RUN:
                import warnings

                warnings.warn(
                    f"unclosed running multiprocessing pool {self!r}",
                    ResourceWarning,
                    source=self,
                    stacklevel=2,
                )
            self.terminate()
        except Exception:
            return  # never made, or the interpreter is going down

    def __reduce__(self) -> tuple[Any, ...]:
        from pool._faces._handles import reduce_pool

        return reduce_pool(self)

    # ------------------------------------------------------------------ seeing

    def stats(self) -> dict[str, Any]:
        """Return what the pool is doing, as plain values.

        Returns
        -------
        dict
            ``processes``, ``start_method``, ``state``, ``jobs`` (outstanding calls),
            ``queued`` (tasks not sent), ``tasks_done``, ``tasks_failed``, ``restarts``
            (workers replaced after they died) and ``workers``: for each one
            ``worker_id``, ``pid``, ``state`` and ``tasks_done``.
        """
        from pool._faces._stats import stats

        return stats(self)

    @property
    def _pool(self) -> list[Any]:
        """The workers, as far as programs look at the standard's private list."""
        from pool._faces._stats import worker_views

        return worker_views(self)

    def __repr__(self) -> str:
        cls = self.__class__
        return (
            f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={self._processes}>"
        )

    def _repr_html_(self) -> str:
        from pool._faces._html import pool_html

        return pool_html(self.stats())


def _in_worker() -> bool:
    """Whether this is a worker: its pools start when they are used first.

    A module that makes a pool when it is imported is imported by workers too.
    """
    import sys

    return "pool._workers._boot" in sys.modules
