"""Answers to programs that look behind the public names of `multiprocessing.pool`.

They ask with `isinstance` for the classes of that module, and read attributes that are private
there but that recipes of twenty years use. Both are answered here where there is a true answer;
what takes more than a line is imported when it is asked for.

Nothing here imports the standard module: only a program that has can ask for its classes.
"""

from __future__ import annotations

import sys
from _operator import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, ClassVar, Unpack

    from pool._faces._inside import Count, Done, Handler, TaskQueue
    from pool._faces._iterators import Flow
    from pool._faces._options import Extra
    from pool._faces._results import MapResult
    from pool._local._engine import LocalEngine
    from pool._local._engines import Engines


class AsStandard:
    """Base of classes whose objects `isinstance` takes for objects of a standard class.

    `_as_standard` in the body of a class names the standard class. It does not hold for classes
    that users derive from it: in their methods ``self.__class__`` has to be their own class.
    """

    @property
    def __class__(self) -> type[Any]:
        kind = type(self)
        name = vars(kind).get("_as_standard")
        if name is None:
            return kind
        standard: type[Any] = getattr(sys.modules.get("multiprocessing.pool"), name, kind)
        return standard

    @__class__.setter
    def __class__(self, value: type[Any]) -> None:
        object.__dict__["__class__"].__set__(self, value)

    def _repr_mimebundle_(self, **formats: Any) -> dict[str, str]:
        """Show it as it is; IPython would go by its ``__class__``, and name the standard's."""
        return {"text/plain": repr(self)}


class StandardPool(AsStandard):
    """The private names of the standard's Pool."""

    _wrap_exception = True

    _engines: Engines
    _processes: int
    _state: str
    _context: Any

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # the standard's spelling
        """Return a process of a context, as the standard does; not how workers are made here."""
        return ctx.Process(*args, **kwds)

    @staticmethod
    def _get_tasks(
        func: Any, it: Iterable[Any], size: int
    ) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """Yield `func` with `size` items at a time."""
        from itertools import islice

        items = iter(it)
        while chunk := tuple(islice(items, size)):
            yield func, chunk

    def _map_async(
        self: Any,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Any,
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **extra: Unpack[Extra],
    ) -> MapResult:
        """Do what `map`, `starmap` and their async forms have in common; it may be overridden.

        Parameters
        ----------
        mapper : object
            How items become arguments: MAP or STAR, which an overriding method was given and
            passes on, or the standard's `mapstar` or `starmapstar`.
        """
        from pool._faces._maps import mode_of, start_map
        from pool._transport._messages import STAR

        self._check_running()
        mode = mode_of(mapper)
        method = "starmap" if mode == STAR else "map"
        return start_map(
            self, method, func, iterable, chunksize, mode, extra, callback, error_callback
        )

    @property
    def _ctx(self) -> Any:
        from pool._context import get_context

        if self._context is not None:
            return self._context
        method = self._engines.method
        return get_context(None if method == "default" else method)

    @property
    def _initializer(self) -> Any:
        return self._engines.initializer

    @property
    def _initargs(self) -> tuple[Any, ...]:
        return self._engines.initargs

    @property
    def _maxtasksperchild(self) -> int | None:
        return self._engines.maxtasksperchild

    @property
    def _pool(self: Any) -> list[Any]:
        """The workers."""
        from pool._faces._stats import worker_views

        return worker_views(self)

    @property
    def _cache(self) -> dict[Any, Any]:
        """The calls that have no result yet or whose callback has not returned."""
        from pool._faces._inside import unfinished

        return unfinished(self._engines.all())

    def _guarded_task_generation(
        self, result_job: int, func: Any, iterable: Iterable[Any]
    ) -> tuple[Any, Iterable[Any]]:
        """Return the tasks of an iterator, for `_taskqueue.put`."""
        return func, iterable

    @property
    def _taskqueue(self) -> TaskQueue:
        """Stands for the queue of tasks that have not been sent to a worker."""
        from pool._faces._inside import TaskQueue

        return TaskQueue(self)

    @property
    def _inqueue(self) -> Count:
        """Stands for the queue of tasks that have been sent and have not begun."""
        from pool._faces._inside import Count, sent_ahead

        return Count(lambda: sent_ahead(self._engines.all()))

    @property
    def _outqueue(self) -> Count:
        """Stands for the queue of results; empty, as results go to their handles at once."""
        from pool._faces._inside import Count

        return Count(lambda: 0)

    @property
    def _worker_handler(self) -> Handler:
        """Stands for a thread of the standard's Pool; this one has none."""
        from pool._faces._inside import Handler

        return Handler(self)

    _task_handler = _result_handler = _worker_handler

    def _repopulate_pool(self) -> None:
        """Have as many workers as `_processes` says, which programs may have changed."""
        self._processes = index(self._processes)
        self._engines.resize(self._processes)


def warn_unclosed(pool: StandardPool) -> None:
    """Warn, as the standard does, that a pool is collected which was not closed.

    Raises
    ------
    ResourceWarning
        If a filter makes errors of warnings; the interpreter then reports it, as it does for
        any exception from a finalizer.
    """
    try:
        import warnings

        text = f"unclosed running multiprocessing pool {pool!r}"
        warnings.warn(text, ResourceWarning, source=pool, stacklevel=3)
    except ResourceWarning:
        raise
    except Exception:
        return  # the interpreter is going down


class StandardResult(AsStandard):
    """The private names of the standard's ApplyResult and MapResult."""

    _engine: LocalEngine
    _done: bool
    _job_id: int
    _index: int | None

    #: Lets annotations name the type of the value: ``AsyncResult[int]``.
    __class_getitem__: ClassVar[Any] = classmethod(type(list[int]))

    @property
    def _job(self) -> Any:
        """The key in `_cache`."""
        if not self._job_id:
            self._engine.catch_up()  # a call of a stream gets its number only now
        return self._job_id if self._index is None else (self._job_id, self._index)

    @property
    def _cache(self) -> dict[Any, Any]:
        from pool._faces._inside import unfinished

        return unfinished([self._engine])

    @property
    def _event(self) -> Done:
        """Stands for the event that is set when the result is there."""
        from pool._faces._inside import Done

        return Done(self)


class StandardIterator(AsStandard):
    """The private names of the standard's IMapIterator.

    Programs poll them for progress without taking results. So the input has to be read without
    waiting for a consumer.
    """

    _flow: Flow

    @property
    def _job(self) -> int:
        return self._flow.job_id

    @property
    def _cache(self) -> dict[Any, Any]:
        from pool._faces._inside import unfinished

        return unfinished([self._flow.engine])

    @property
    def _index(self) -> int:
        """The number of chunks whose results can be handed out or were."""
        self._flow.work_off()
        return self._flow.arrived

    @property
    def _length(self) -> int | None:
        """The number of chunks; None while the input has not been read to its end."""
        self._flow.work_off()
        return self._flow.length

    def _set_length(self, length: int) -> None:
        """Do nothing: this tells `_taskqueue.put` whose tasks it gets, whose number is known."""
