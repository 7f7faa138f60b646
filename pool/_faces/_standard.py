"""What programs find that look behind the public names of `multiprocessing.pool`.

They ask with `isinstance` for the classes of that module, and read attributes that are private
there but that recipes of twenty years use. Both are answered here, as far as there is something
true to say; what takes more than a line is imported when it is asked for.

Nothing here imports the standard module: nobody can ask for its classes who has not done so.
"""

from __future__ import annotations

import sys
from _operator import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, ClassVar

    from pool._faces._engines import Engines
    from pool._faces._inside import Count, Done, Handler
    from pool._faces._iterators import Flow
    from pool._local._engine import LocalEngine


class AsStandard:
    """An object that passes for one of a standard class with whoever asks by `isinstance`.

    A class says in its own body which one: `_as_standard`. Classes that users derive from it
    do not inherit that, since in their methods ``self.__class__`` has to be their own class.
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


class StandardPool(AsStandard):
    """The private names of the standard's Pool."""

    _wrap_exception = True

    _engines: Engines
    _processes: int
    _state: str
    _context: Any

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # the standard's spelling
        """Return a process of a context; the workers of a Pool are not made by this."""
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
    def _cache(self) -> dict[Any, Any]:
        """Calls that have no result yet, or whose callback has not returned, as of now."""
        from pool._faces._inside import unfinished

        return unfinished(self._engines.all())

    @property
    def _taskqueue(self) -> Count:
        """Tasks that have not been sent to a worker."""
        from pool._faces._inside import Count, queued

        return Count(lambda: queued(self._engines.all()))

    @property
    def _inqueue(self) -> Count:
        """Tasks that have been sent, and not begun."""
        from pool._faces._inside import Count, sent_ahead

        return Count(lambda: sent_ahead(self._engines.all()))

    @property
    def _outqueue(self) -> Count:
        """Nothing, ever: results are put into their handles as they are received."""
        from pool._faces._inside import Count

        return Count(lambda: 0)

    @property
    def _worker_handler(self) -> Handler:
        """What stands for a thread that there is none of here."""
        from pool._faces._inside import Handler

        return Handler(self)

    _task_handler = _result_handler = _worker_handler

    def _repopulate_pool(self) -> None:
        """Have as many workers as `_processes` says, to which programs assign."""
        self._processes = index(self._processes)
        self._engines.resize(self._processes)


def warn_unclosed(pool: StandardPool) -> None:
    """Warn, as the standard does, of a pool that is collected and was not closed.

    Raises
    ------
    ResourceWarning
        Where a filter makes an error of it: it is shown, as what finalizers raise.
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

    #: So that annotations may say of what: ``AsyncResult[int]``.
    __class_getitem__: ClassVar[Any] = classmethod(type(list[int]))

    @property
    def _job(self) -> Any:
        """The key in `_cache`."""
        if not self._job_id:
            self._engine.catch_up()  # it may be known to its stream only
        return self._job_id if self._index is None else (self._job_id, self._index)

    @property
    def _cache(self) -> dict[Any, Any]:
        from pool._faces._inside import unfinished

        return unfinished([self._engine])

    @property
    def _event(self) -> Done:
        """What is set when the result is there."""
        from pool._faces._inside import Done

        return Done(self)


class StandardIterator(AsStandard):
    """The private names of the standard's IMapIterator.

    Progress is shown by them without a result being taken, so the input has to be worked off
    without waiting for anybody who takes results.
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
        """How many results have come in, in order if that matters; of chunks, how many chunks."""
        self._flow.work_off()
        return self._flow.arrived

    @property
    def _length(self) -> int | None:
        """How many there will be; None while the input has not been read to its end."""
        self._flow.work_off()
        return self._flow.length
