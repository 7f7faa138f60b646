"""What runs in this worker at the moment, for logs and for `get_runtime_context`."""

from __future__ import annotations

import _thread
from _contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: Who runs the call, and its number; unlike what is kept by thread, it tells coroutines apart.
_call: ContextVar[tuple[Any, int]] = ContextVar("call", default=(None, 0))


class Context:
    """The call that a thread of this process runs.

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
        self._local = _thread._local()
        #: The actor of this process, None in a worker of tasks.
        self.actor: Any = None
        #: GPUs that were granted to this process.
        self.gpus: list[str] = []
        self.resources: dict[str, float] = {}
        self.namespace = ""
        self.reconstructed = False

    @property
    def name(self) -> str:
        """What this thread runs, "" if nothing."""
        return getattr(self._local, "name", "")

    @name.setter
    def name(self, name: str) -> None:
        self._local.name = name

    @property
    def task(self) -> bytes | None:
        """The name of what this thread runs."""
        return getattr(self._local, "task", None)

    @task.setter
    def task(self, task: bytes | None) -> None:
        self._local.task = task

    @property
    def call(self) -> int:
        """The number of the actor's call that runs."""
        return _call.get()[1]

    @property
    def host(self) -> Any:
        """The `ActorHost` that runs it, None if there is no such call."""
        return _call.get()[0]

    def begin(self, host: Any, number: int) -> None:
        """Note that `host` runs a call from now on."""
        _call.set((host, number))


context = Context()
