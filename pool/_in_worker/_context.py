"""Which call runs in this worker at the moment, for logs and for `get_runtime_context`."""

from __future__ import annotations

from _contextvars import ContextVar
from copy import copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# Context variables, since thread-local ones would not tell coroutines apart.
#: The `ActorHost` that runs the call, and the call's number.
_call: ContextVar[tuple[Any, int]] = ContextVar("call", default=(None, 0))
_name: ContextVar[str] = ContextVar("name", default="")
_task: ContextVar[bytes | None] = ContextVar("task", default=None)


class Context:
    """The call that a thread, or a coroutine, of this process runs.

    Attributes
    ----------
    name : str
        "work", "Counter.add".
    task : bytes or None
        Name of the call's first result.
    call : int
        Number of the call, in an actor; 0: none.
    """

    def __init__(self) -> None:
        #: The actor of this process, None in a worker of tasks.
        self.actor: Any = None
        #: GPUs that were granted to this process.
        self.gpus: list[str] = []
        self.resources: dict[str, float] = {}
        #: Variables of the runtime environment of this process, which what it starts inherits.
        self.environ: dict[str, str] = {}
        self.namespace = ""
        self.reconstructed = False

    @property
    def name(self) -> str:
        """The name of the call that runs here, "" if none does."""
        return _name.get()

    @name.setter
    def name(self, name: str) -> None:
        _name.set(name)

    @property
    def task(self) -> bytes | None:
        """The name of the call's first result."""
        return _task.get()

    @task.setter
    def task(self, task: bytes | None) -> None:
        _task.set(task)

    @property
    def call(self) -> int:
        """The number of the actor's call that runs here; 0: none."""
        return _call.get()[1]

    @property
    def host(self) -> Any:
        """The `ActorHost` that runs the call, None if none runs."""
        return _call.get()[0]

    def inheriting(self, options: Any) -> Any:
        """Return options of a task or an actor, with the runtime environment of this process."""
        if not self.environ:
            return options
        options = copy(options)
        options.environ = {**self.environ, **options.environ}
        if options.resources is None:
            options.resources = {"CPU": 1.0}  # in a process of its own, which has that environment
        return options

    def begin(self, host: Any, number: int) -> None:
        """Note that `host` runs a call from now on."""
        _call.set((host, number))


context = Context()
