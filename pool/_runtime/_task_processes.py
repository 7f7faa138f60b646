"""Tasks that ask for anything but one CPU: each has a process of its own.

That is several CPUs or none, GPUs, other resources, environment variables, or a limit of calls.
Which devices a process sees must be settled before it starts (CUDA reads its variable once), so
such a task is an actor that lives for one call. It waits for its resources as actors do.
"""

from __future__ import annotations

import _signal

from pool._local._interrupts import AGAIN
from pool._objects._options import ActorOptions
from pool._objects._outcomes import mark_handled
from pool._objects._parcels import pack
from pool._objects._refs import ActorFacts
from pool._runtime._actor_calls import ActorCall
from pool._runtime._actors import Actor
from pool._runtime._families import STOPPED
from pool._runtime._unhandled import reported_if_unhandled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._objects._parcels import Parcel
    from pool._runtime._runtime import Runtime
    from pool._runtime._tasks import TaskCall


#: Seconds until it is tried again to start a process.
PAUSE = 0.1


class TaskProcesses:
    """Start tasks in processes of their own.

    Parameters
    ----------
    runtime : Runtime
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        #: Tasks for which no process could be started, and that are about to be tried again.
        self.pausing: set[TaskCall] = set()

    def start(self, call: TaskCall) -> None:
        """Run a task whose arguments are there in a process of its own."""
        self._runtime.locked(lambda: self._start(call))
        self._runtime.engine.attend()

    def start_later(self, call: TaskCall) -> None:
        """Start a task after a pause, since no process can be started now; under the lock.

        Tasks that are tried again for ever would leave no time for anything else otherwise.
        """
        self.pausing.add(call)
        self._runtime.driver.after(PAUSE, lambda: self._go_on(call))

    def _go_on(self, call: TaskCall) -> None:
        self.pausing.discard(call)
        self.start(call)

    def end(self, error: BaseException) -> None:
        """Fail the tasks that are about to be tried again: the runtime ends."""
        for call in self.pausing:
            call.fail(error)

    def _start(self, call: TaskCall) -> None:
        if call.cancelled:
            call.fail(call.cancellation())
            return
        runtime = self._runtime
        if runtime.directory.ended is not None:
            call.fail(runtime.directory.ended)
            return
        options = ActorOptions()
        options.resources = dict(call.options.resources or {})
        options.environ = call.options.environ
        options.facts = ActorFacts(call.title, call.code.module, {}, False, {}, ())
        actor = _OneTask(runtime, call.code, pack((), {}), options)
        actor.title = call.title
        runtime.directory.alive.add(actor)
        actor.begin()
        parcel = call.parcel if call.parcel is not None else pack(call.args[1:], {})
        inner = _OneCall(actor, call, parcel)
        inner.begun = call.begun
        inner.returns = call.options.returns
        inner.refs = call.refs
        inner.stream = call.stream
        for ref in call.refs:
            ref._call = inner
        if call.stream is not None:
            call.stream._call = inner
        if call.parent is not None:
            call.parent.adopt(inner)  # as well as the task, which is cancelled through this one
        actor.call(inner)
        actor.carry_out(actor.mailbox.released())


class _OneTask(Actor):
    """An actor that is a function."""

    is_task = True
    #: How many of its threads wait for other tasks.
    _waits = 0

    def waits(self, number: int) -> None:
        """Note that one more of its threads waits, or with -1 that one goes on."""
        before, self._waits = self._waits, self._waits + number
        if self.grant is not None and not (before and self._waits):
            if self._waits:
                self.runtime.grants.lend(self.grant)
            else:
                self.runtime.grants.take_again(self.grant)

    def _gone(self) -> None:
        if self._waits:
            self.waits(-self._waits)
        super()._gone()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the task."""
        self.runtime.processes.signal(self._worker_id, _signal.SIGINT)


class _OneCall(ActorCall):
    """The call of a task.

    Attributes
    ----------
    task : TaskCall
        The task as it was submitted; it counts how often it may still be tried again.
    """

    __slots__ = ("task",)

    actor: _OneTask

    def __init__(self, actor: _OneTask, task: TaskCall, parcel: Parcel) -> None:
        super().__init__(actor, 0, "", parcel)
        self.task = task

    @property
    def title(self) -> str:
        return self.actor.title

    def fail(self, error: BaseException) -> None:
        """Try again if its process died, or put the error in place of every value."""
        from pool.exceptions import ActorDiedError, RayTaskError, WorkerCrashedError

        task = self.task
        runtime = self.actor.runtime
        died = error if isinstance(error, ActorDiedError) else None
        if self.cancelled and (died or isinstance(getattr(error, "cause", error), STOPPED)):
            mark_handled(error)  # whoever has cancelled it knows
            error = self.cancellation()
        elif died or (isinstance(error, RayTaskError) and task.retries_after(error.cause)):
            if task.retries and not (runtime.directory.ended or runtime.driver.crashed):
                task.retries -= task.retries > 0
                mark_handled(error)  # not the outcome
                self.leave()
                if self.actor.pid:
                    runtime.later(lambda: runtime.task_processes.start(task))
                else:
                    runtime.task_processes.start_later(task)
                return
            if died:
                crash = WorkerCrashedError(f"task {self.title} did not end: {died.reason}")
                error = reported_if_unhandled(runtime, crash)
        super().fail(error)

    def over(self) -> None:
        """Note that the task has its outcome, and let go of all that was held for another try."""
        super().over()
        task = self.task
        task.args = task.parcel = None
        task.refs = []
        task.leave()

    def cancel_here(self, force: bool) -> None:
        """Interrupt the task, or end its process; under the lock."""
        actor = self.actor
        runtime = actor.runtime
        self.task.retries = 0
        self.task.cancelled = self.cancelled  # the task may be about to be tried again
        posted = actor.mailbox.posted.get(self.number) is self
        if actor.mailbox.withdraw(self) or (force and posted):
            if posted:
                actor.mailbox.answered(self.number)
            self.fail(self.cancellation())
            # Later, since this may be called while commands of its mailbox are carried out.
            runtime.later(lambda: actor.kill(True))
        elif posted:
            # The process has a signal handler for this from before it said that it has started.
            self._interrupt()

    def _interrupt(self) -> None:
        """Raise KeyboardInterrupt in the task, unless it is over; under the lock.

        The signal is repeated until the task is over, though the task sees it once: it may come
        just before a system call, which it then does not end, and Python runs the handler only
        after that call.
        """
        actor = self.actor
        if actor.mailbox.posted.get(self.number) is self:
            actor.interrupt()
            actor.runtime.engine.driver.after(AGAIN, self._interrupt)
