"""Tasks that ask for more than one CPU: each has a process of its own.

Which devices a process sees is settled before it starts (CUDA reads its variable once), so
such a task is an actor that lives for one call. It waits for its resources as actors do.
"""

from __future__ import annotations

from pool._objects._options import ActorOptions
from pool._objects._parcels import pack
from pool._objects._refs import ActorFacts
from pool._runtime._actors import Actor, ActorCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._objects._parcels import Parcel
    from pool._runtime._runtime import Runtime
    from pool._runtime._tasks import TaskCall


class Special:
    """Start such tasks.

    Parameters
    ----------
    runtime : Runtime
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def start(self, call: TaskCall) -> None:
        """Run a task whose arguments are there in a process of its own."""
        self._runtime.locked(lambda: self._start(call))
        self._runtime.engine.attend()

    def _start(self, call: TaskCall) -> None:
        runtime = self._runtime
        options = ActorOptions()
        options.resources = dict(call.options.resources or {})
        options.facts = ActorFacts(call.title, call.code.module, {}, False)
        actor = _OneTask(runtime, call.code, pack((), {}), options)
        actor.title = call.title
        runtime.directory.alive.add(actor)
        actor.begin()
        parcel = call.parcel if call.parcel is not None else pack(call.args, {})
        inner = _OneCall(actor, call, parcel)
        inner.returns = call.options.returns
        inner.refs = call.refs
        inner.stream = call.stream
        for ref in call.refs:
            ref._call = inner
        actor.call(inner)
        actor.carry_out(actor.mailbox.released())


class _OneTask(Actor):
    """An actor that is a function."""

    is_task = True


class _OneCall(ActorCall):
    """The call of a task.

    Attributes
    ----------
    task : TaskCall
        As it was submitted; it counts how often it may be tried again.
    cancelled : bool
    """

    __slots__ = ("cancelled", "task")

    def __init__(self, actor: Actor, task: TaskCall, parcel: Parcel) -> None:
        super().__init__(actor, 0, "", parcel)
        self.task = task
        self.cancelled = False

    @property
    def title(self) -> str:
        return self.actor.title

    def fail(self, error: BaseException) -> None:
        """Try again if its process died, or put the error in place of every value."""
        from pool.exceptions import ActorDiedError, RayTaskError, WorkerCrashedError

        task = self.task
        runtime = self.actor.runtime
        died = isinstance(error, ActorDiedError) and not self.cancelled
        if died or (isinstance(error, RayTaskError) and task.retries_after(error.cause)):
            if task.retries:
                task.retries -= task.retries > 0
                runtime.later(lambda: runtime.special.start(task))
                return
            if died:
                error = WorkerCrashedError(f"task {self.title} did not end: {error.reason}")  # type: ignore[attr-defined]
        super().fail(error)

    def cancel(self) -> None:
        """End its process."""
        from pool.exceptions import TaskCancelledError

        runtime = self.actor.runtime
        self.task.retries = 0

        def end() -> None:
            self.cancelled = True
            super(_OneCall, self).fail(TaskCancelledError(f"{self.title}() was cancelled"))
            self.actor.kill(True)

        runtime.later(end)
