"""Tasks on their way: from a call of ``.remote()`` to the objects that it promised.

A task with plain arguments that needs nothing but a worker goes into a stream of its
function (`pool._local._streams`), where many are decided, sent and answered at a time.
Everything else is a job of its own. What a task was given as a reference it gets as a
value: it is not submitted before its arguments are there.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakValueDictionary

from pool._clock import perf_counter
from pool._in_worker._runner import Order, Runnable
from pool._local._jobs import OneCall
from pool._objects._options import retries_after
from pool._objects._parcels import Parcel, Sealed, is_atom, pack
from pool._objects._protocol import DYNAMIC, STREAM, number_of
from pool._objects._refs import FAILED, READY, ObjectRef
from pool._pickling import FunctionPayload
from pool._runtime._families import STOPPED, Member
from pool._runtime._unhandled import reported_if_unhandled
from pool._transport._messages import CALL
from store._codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._objects._codes import Code, SentCode
    from pool._objects._options import TaskOptions
    from pool._runtime._runtime import Runtime

#: Arguments up to this size may share a message with those of other calls.
STREAM_NBYTES = 16 * 1024


class _Alone:
    """A cost key that equals nothing, itself included, so that a task shares no message.

    A task that was given references or handles may wait for other tasks. None of these may be in
    the same message, behind it: the worker that has read the message would wait for itself.
    """

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


ALONE = _Alone()


class TaskCall(Member):
    """One task: the sink of its outcome, and what is needed to try it again.

    Attributes
    ----------
    refs : list of ObjectRef
        The objects that it promises; held until they are there.
    """

    __slots__ = (
        "_runtime", "_index", "_job_id", "_success", "_value", "args", "begun", "cancelled",
        "children", "code", "depth", "options", "parcel", "parent", "payload", "refs", "retries",
        "started", "stream", "waiting",
    )  # fmt: skip

    def __init__(
        self, runtime: Runtime, code: Code, options: TaskOptions, refs: list[ObjectRef]
    ) -> None:
        self._runtime = runtime
        self.code = code
        #: The function, pickled as it is now; this raises if it cannot be pickled.
        self.payload = runtime.tasks.payload(code)
        #: The time of submission, and plain arguments; None if they are in a parcel.
        self.args: Any = None
        self.options = options
        self.refs = refs
        self.retries = options.retries
        self.parcel: Parcel | None = None
        self.stream: Any = None
        self.depth = 0
        #: Whether it was handed to the engine.
        self.started = False
        self.begun = perf_counter()
        #: How many arguments are not there yet.
        self.waiting = 0
        self.begin_alone()
        self._reset()

    def _reset(self) -> None:
        self._job_id: int | None = None
        self._index: int | None = None
        self._success = True
        self._value: Any = None

    @property
    def title(self) -> str:
        """The name of the task in logs and errors."""
        return self.options.name or self.code.title

    def label(self, first: int = 0, last: int = 0) -> str:
        """Name it in the engine's errors."""
        return f"task {self.title}"

    @property
    def is_over(self) -> bool:
        """Whether it was cancelled, or has its outcome."""
        return self.args is None and self.parcel is None

    def retries_after(self, error: BaseException) -> bool:
        """Return whether it is to be run again after it raised `error`."""
        return retries_after(error, self.options.retry_errors, self.title)

    # ------------------------------------------------------------------ as a sink

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        """Take the outcome, if the task is a job by itself."""
        self._success = not failed
        self._value = values[0]
        return False

    def finish(self) -> bool:
        """Give the outcome to the objects; under the driver's lock."""
        if self.is_over:
            return False
        self._runtime.tasks.finished(self)
        return False

    def abort(self, error: BaseException) -> bool:
        """Note that it was cancelled, or that the engine was given up."""
        if self._runtime.foreign:
            return False  # in a forked child; references tell that when they are asked
        self._runtime.later(lambda: self.fail(error))
        return False

    def call_back(self) -> None:
        """Do nothing: watchers of the objects were told under the lock."""

    def cancel(self) -> None:
        """Cancel the task, whose submission was interrupted."""
        self._runtime.locked(lambda: self.cancel_family(False, True))

    def cancel_here(self, force: bool) -> None:
        """Cancel the task, wherever it is; under the lock."""
        self.retries = 0
        if self.is_over:
            return
        if self._job_id is not None:
            self._runtime.engine.recall(self._job_id, self._index or 0, force)
        elif self.options.resources is not None and self.started:
            return  # it has a process of its own, and a call there
        elif self.started:
            if self._runtime.driver.closed:
                return
            # It is in a stream, which is about to give it a job_id: then it is tried again.
            self._runtime.later(lambda: self.cancel_here(force))
        else:
            self.fail(self.cancellation())

    # ------------------------------------------------------------------ outcomes

    def fail(self, error: BaseException) -> None:
        """Put an error in place of every value; under the lock."""
        if self.is_over:
            return
        for ref in self.refs:
            ref._seal(FAILED, error)
        if self.stream is not None:
            # Later, since values that were yielded before come over another socket, and go first.
            self._runtime.later(lambda: self._fail_stream(error))
        self.over()

    def _fail_stream(self, error: BaseException) -> None:
        self._runtime.lending.read()
        self.stream.end(error=error)

    def over(self) -> None:
        """Note that the task has its outcome, and let go of everything that it held."""
        self._runtime.lending.linger(self.parcel.refs if self.parcel is not None else ())
        self._runtime.lending.linger(self.code.refs)
        self._runtime.catch_up()
        self.args = self.parcel = None
        self.refs = []
        self.leave()


class Tasks:
    """Submit tasks and see to their outcomes.

    Parameters
    ----------
    runtime : Runtime
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        #: By the payload that a code has now, which goes when its function is redefined, with all
        #: data that the function used.
        self._payloads: WeakKeyDictionary[Any, FunctionPayload] = WeakKeyDictionary()
        #: By the function_id of the engine.
        self.codes: WeakValueDictionary[int, Code | SentCode] = WeakValueDictionary()

    # ------------------------------------------------------------------ beginnings

    def call(
        self, code: Code, args: Sequence[Any], kwargs: Any, options: TaskOptions
    ) -> tuple[TaskCall, list[ObjectRef]]:
        """Return a call that is not submitted yet, and what it promises."""
        runtime = self._runtime
        if options.returns == 1 and not (kwargs or options.name) and all(map(is_atom, args)):
            ref = ObjectRef(runtime)
            ref._call = call = TaskCall(runtime, code, options, [ref])
            # As a `Runner` expects them.
            call.args = (call.begun, *args)
            return call, call.refs
        refs = [ObjectRef(runtime) for _ in range(number_of(options.returns))]
        call = TaskCall(runtime, code, options, refs)
        call.parcel = pack(args, kwargs)
        for ref in refs:
            ref._call = call
        return call, refs

    def begin(self, call: TaskCall) -> None:
        """Submit a call as soon as its arguments are there; any thread, without the lock."""
        parcel = call.parcel
        if parcel is not None and parcel.needs:
            if not all(need._state == READY for need in parcel.needs):
                self._runtime.locked(lambda: self.wait_for_needs(call))
                self._runtime.engine.attend()
                return
            parcel.fill()
        self.start(call)

    def wait_for_needs(self, call: TaskCall) -> None:
        """Submit a call when its arguments are there; under the lock."""
        parcel = call.parcel
        assert parcel is not None

        def arrived(need: ObjectRef) -> None:
            call.waiting -= 1
            if not call.waiting:
                self._needs_met(call)

        # Counts one more than there are: else the first arrival might be taken for the last, before
        # all are watched.
        call.waiting = 1
        for need in set(parcel.needs):
            if need._watch(arrived):
                call.waiting += 1
        call.waiting -= 1
        if not call.waiting:
            self._needs_met(call)

    def _needs_met(self, call: TaskCall) -> None:
        parcel = call.parcel
        if parcel is None:
            return  # cancelled meanwhile
        for need in parcel.needs:
            if need._state == FAILED:
                call.fail(need._value)
                return
        parcel.fill()
        self._start_here(call)

    def _start_here(self, call: TaskCall) -> None:
        """Do as `start`, under the lock, where an error must not be raised."""
        try:
            self.start(call)
        except (OSError, MemoryError) as error:
            call.fail(error)

    def start(self, call: TaskCall) -> None:
        """Hand a call to the engine; from any thread, with or without the lock."""
        if call.is_over:
            return  # cancelled meanwhile
        call.started = True
        if call.options.resources is not None:
            self._runtime.task_processes.start(call)
            return
        engine = self._runtime.engine
        payload = call.payload
        parcel = call.parcel
        if parcel is None and not call.depth:
            engine.call_soon(payload, _label, call.code.title, call.args, call)
            return
        if parcel is None:
            order: Any = call.args
        else:
            task = call.refs[0].binary() if call.refs else b""
            if call.stream is not None:
                task = call.stream.name
            order = (call.begun, Order(parcel, call.options.returns, call.options.name, task))
        alone = bool((parcel is not None and parcel.refs) or call.code.refs or call.code.waits)
        if parcel is not None and not (alone or call.depth) and parcel.nbytes <= STREAM_NBYTES:
            engine.call_soon(payload, _label, call.code.title, order, call)
            return
        encoded = encode((order, {}))
        call._job_id = engine.submit(
            engine.function(payload),
            CALL,
            OneCall(encoded.packet),
            call,
            call.label,
            depth=call.depth,
            cost_key=ALONE if alone else None,
        )

    def payload(self, code: Code | SentCode) -> FunctionPayload:
        """Return the payload of a function, which a worker unpickles as a `Runner`."""
        inner = code.payload()
        known = self._payloads.get(inner)
        if known is None:
            runnable = Runnable(code, self._runtime.log_to_driver, self._runtime.namespace)
            known = self._payloads[inner] = FunctionPayload(encode(runnable), True)
            self.codes[self._runtime.engine.function(known).function_id] = code
        return known

    # ------------------------------------------------------------------ ends

    def finished(self, call: TaskCall) -> None:
        """Take the outcome of a call; under the lock."""
        value = call._value
        if not call._success:
            self._failed(call, value)
            return
        if call.options.returns in (1, DYNAMIC):
            call.refs[0]._seal(READY, value)
            if value.__class__ is Sealed and value.refs:
                self._runtime.lending.taken_over(value.refs)
        elif call.options.returns == STREAM:
            call.stream.end(count=value)
        else:
            for ref, stored in zip(call.refs, value or (), strict=True):
                self._runtime.give(ref, stored)
                if stored.__class__ is Sealed:
                    self._runtime.lending.taken_over(stored.refs)
        if call.parcel is not None or call.code.refs:
            call.over()
        else:
            call.args = None
            call.refs = []
            call.leave()
            self._runtime.catch_up()

    def _failed(self, call: TaskCall, error: BaseException) -> None:
        from pool._errors import WorkerDied
        from pool.exceptions import RayTaskError, WorkerCrashedError

        died = isinstance(error, WorkerDied)
        if call.cancelled and (died or isinstance(error, STOPPED)):
            call.fail(call.cancellation())
            return
        if call.retries and (died or call.retries_after(error)):
            call.retries -= call.retries > 0
            call._reset()
            # Later, since the scheduler is just handling the death.
            self._runtime.later(lambda: self._start_here(call))
            return
        if died:
            crash = WorkerCrashedError(f"{error}")
            crash.__cause__ = error
            call.fail(reported_if_unhandled(self._runtime, crash))
        else:
            call.fail(reported_if_unhandled(self._runtime, RayTaskError(call.title, error)))


def _label(title: str) -> Callable[[int, int], str]:
    # The label lives as long as the stream, so it must not hold a call.
    return lambda first, last: f"task {title}"
