"""The options of tasks and actors, already checked: plain values that can be sent."""

from __future__ import annotations

from pool._pickling import dumps_to_worker, loads
from pool._unraisable import report
from store._codec import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: Concurrent calls of an actor with async methods, unless it says otherwise; as Ray has it.
ASYNC_CONCURRENCY = 1000


class _Options:
    __slots__: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), [getattr(self, name) for name in self.__slots__])


def _rebuild(kind: type[_Options], values: list[Any]) -> Any:
    options = kind()
    for name, value in zip(kind.__slots__, values, strict=True):
        setattr(options, name, value)
    return options


class TaskOptions(_Options):
    """Options of a task.

    Attributes
    ----------
    returns : int
        Number of values; STREAM or DYNAMIC: the task yields them.
    retries : int
        Times that it is run again if its worker dies; -1: always.
    retry_errors : bool or Kinds
        Whether it is also run again if it raises: anything, or one of these classes.
    name : str
        Its name in logs and errors; "": that of the function.
    resources : dict or None
        Amounts by name; None: one CPU and nothing else.
    environ : dict
        Environment variables; only for a task with a process of its own.
    """

    __slots__ = ("environ", "name", "resources", "retries", "retry_errors", "returns")

    def __init__(self) -> None:
        self.returns = 1
        self.retries = 3
        self.retry_errors: Any = False
        self.name = ""
        self.resources: dict[str, float] | None = None
        self.environ: dict[str, str] = {}


class Kinds:
    """Classes of exceptions, which another process receives as a pickle.

    They may be defined by the user, so that unpickling runs code of the user's and may fail. It
    is therefore put off until `include` is called.

    Parameters
    ----------
    kinds : tuple of type
    """

    def __init__(self, kinds: tuple[type[BaseException], ...]) -> None:
        self._kinds: tuple[type[BaseException], ...] | None = kinds
        self._packet: tuple[Any, list[Any]] | None = None

    def include(self, error: BaseException) -> bool:
        """Return whether `error` is an instance of one of the classes.

        Raises
        ------
        Exception
            If the classes cannot be unpickled here, or if a metaclass of theirs raises it.
        """
        if self._kinds is None:
            assert self._packet is not None
            self._kinds = loads(*self._packet)
        return isinstance(error, self._kinds)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._packet is None:
            encoded = dumps_to_worker(self._kinds)
            self._packet = encoded.data, [bytes(opened(buffer)) for buffer in encoded.buffers]
        return _arrived, self._packet


def retries_after(error: BaseException, kinds: bool | Kinds, title: str) -> bool:
    """Return whether a call that raised `error` is made again; `kinds` as in `TaskOptions`."""
    if isinstance(kinds, bool):
        return kinds and isinstance(error, Exception)
    try:
        return kinds.include(error)
    except Exception as failure:
        report(failure, f"raised by retry_exceptions of {title}, which is not retried")
        return False


def _arrived(data: Any, buffers: list[Any]) -> Kinds:
    kinds = Kinds(())
    kinds._kinds, kinds._packet = None, (data, buffers)
    return kinds


class CallOptions(_Options):
    """Options of calls of a method.

    Attributes
    ----------
    group : str
        The concurrency group in which they run; "": that of the calls which are in no other.
    retries : int or None
        Times that one is made again; None: as the actor has it.
    retry_errors : bool or Kinds
        Whether it is also made again if it raises: anything, or one of these classes.
    """

    __slots__ = ("group", "retries", "retry_errors")

    def __init__(self) -> None:
        self.group = ""
        self.retries: int | None = None
        self.retry_errors: bool | Kinds = False


class ActorOptions(_Options):
    """Options of an actor.

    Attributes
    ----------
    name : str
        "": it has none.
    namespace : str
        "": that of the program.
    detached : bool
        Whether it outlives its handles and the program.
    get_if_exists : bool
        Whether the actor that has the name already is taken instead, if there is one.
    restarts : int
        Times that it is started again if its process dies; -1: always.
    task_retries : int
        Times that one of its calls is made again if its process dies; -1: always.
    concurrency : int
        Calls that may run at the same time; 0: one, or `ASYNC_CONCURRENCY` if it has async
        methods. Those of a concurrency group do not count.
    groups : dict
        By concurrency group: calls of it that may run at the same time.
    resources : dict
        Amounts by name, held as long as it lives.
    out_of_order : bool or None
        Whether calls overtake those that wait for arguments; None: if several may run side by side.
    pending : int
        Calls that may wait for an answer; -1: any number.
    environ : dict
        Environment variables.
    facts : ActorFacts
    """

    __slots__ = (
        "concurrency", "detached", "environ", "facts", "get_if_exists", "groups", "name",
        "namespace", "out_of_order", "pending", "resources", "restarts", "task_retries",
    )  # fmt: skip

    @property
    def side_by_side(self) -> int:
        """How many calls may run at the same time that are in no concurrency group."""
        return self.concurrency or (ASYNC_CONCURRENCY if self.facts.is_async else 1)

    @property
    def lanes(self) -> dict[str, tuple[int, bool]]:
        """The lanes of its mailbox, see `pool._objects._mailbox`."""
        out = self.out_of_order
        return {
            group: (number, not (number > 1 if out is None else out))
            for group, number in {"": self.side_by_side, **self.groups}.items()
        }

    def __init__(self) -> None:
        self.name = ""
        self.namespace = ""
        self.detached = False
        self.get_if_exists = False
        self.restarts = 0
        self.task_retries = 0
        self.concurrency = 0
        self.groups: dict[str, int] = {}
        self.out_of_order: bool | None = None
        self.resources: dict[str, float] = {}
        self.pending = -1
        self.environ: dict[str, str] = {}
        self.facts: Any = None
