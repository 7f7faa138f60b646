"""What runs in this worker at the moment, for logs and for `get_runtime_context`."""

from __future__ import annotations

import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Context:
    """The call that a thread of this process runs.

    Attributes
    ----------
    name : str
        "work", "Counter.add".
    task : bytes or None
        Name of the call's first result.
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


context = Context()
