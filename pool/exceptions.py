"""What goes wrong with tasks, actors and objects, under the names that Ray gives it.

::

    RayError
    ├── RayTaskError              a task or method raised; also an instance of what it raised
    ├── WorkerCrashedError        the worker of a task died while running it
    │   └── OutOfMemoryError      because memory ran out
    ├── RayActorError             an actor cannot answer
    │   ├── ActorDiedError        it is dead for good
    │   └── ActorUnavailableError it died during the call and is being restarted
    ├── TaskUnschedulableError    (+ ValueError) this machine has not what it asks for
    ├── ActorUnschedulableError
    ├── ActorAlreadyExistsError   (+ ValueError) another actor has that name
    ├── TaskCancelledError        (+ concurrent.futures.CancelledError)
    ├── GetTimeoutError           (+ TimeoutError) `get` waited long enough
    ├── ObjectLostError
    │   ├── OwnerDiedError        the program that owned the object is gone
    │   ├── ObjectFreedError, ReferenceCountingAssertionError, ObjectReconstructionFailedError
    │   └── ObjectFetchTimedOutError
    ├── ObjectStoreFullError, OutOfDiskError, PlasmaObjectNotAvailable, UnserializableException
    ├── PendingCallsLimitExceeded an actor has more calls waiting than it takes
    ├── RaySystemError            the runtime itself failed
    ├── RuntimeEnvSetupError, CrossLanguageError, NodeDiedError, LocalRayletDiedError
    └── ActorPlacementGroupRemoved, TaskPlacementGroupRemoved, AsyncioActorExit

Errors carry fields and survive pickling.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from types import GetSetDescriptorType, MemberDescriptorType
from weakref import WeakValueDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "CrossLanguageError",
    "GetTimeoutError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectStoreFullError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "PlasmaObjectNotAvailable",
    "RayActorError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RuntimeEnvSetupError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskUnschedulableError",
    "UnserializableException",
    "WorkerCrashedError",
]


class RayError(Exception):
    """Stand above every error of this module."""

    #: In a stored error: reports it if it is freed before the program has seen it.
    _unhandled: Any = None


class RayTaskError(RayError):
    """Say that a task or an actor's method raised, and what.

    What `get` raises is also an instance of the class that was raised, where Python can
    make such a class, so ``except ValueError`` works.

    Attributes
    ----------
    function_name : str
        "work", or "Counter.add" for a method.
    cause : BaseException
        What was raised there; its `__cause__` has the text of the traceback.
    """

    def __init__(self, function_name: str, cause: BaseException) -> None:
        self.function_name = function_name
        self.cause = cause
        # Not by `__init__` of the user's exception class, which may change `args`.
        self.args = (function_name, cause)

    def __reduce__(self) -> tuple[Any, ...]:
        # As `get` raises it, of the plain class where Python can make no other; or as it is stored.
        raised = type(self) is not RayTaskError or self.__cause__ is self.cause
        make = raised_by if raised else _stored
        return make, (self.function_name, self.cause, _text_of(self.cause))

    def __str__(self) -> str:
        where = getattr(self.cause, "__cause__", None)
        text = f"\n{where}" if where is not None else ""
        return f"{self.function_name}() raised {type(self.cause).__name__}: {self.cause}{text}"

    @property
    def traceback_str(self) -> str:
        """The text of the traceback, as the task or the actor had it; empty if there is none."""
        return str(getattr(self.cause, "__cause__", None) or "").strip('\n"')

    def as_instanceof_cause(self) -> RayTaskError:
        """Return this error as an instance also of the class of its cause."""
        return raised_by(self.function_name, self.cause)


def raised_by(
    function_name: str, cause: BaseException, text: BaseException | None = None
) -> RayTaskError:
    """Return the error that `get` raises for `cause`, an instance of both classes.

    Parameters
    ----------
    function_name : str
    cause : BaseException
    text : RemoteTraceback, optional
        That of the cause, which a pickle of it does not have.
    """
    if isinstance(cause, RayTaskError):
        # A task that has raised the error of another one: name the task that failed first. The text
        # of this error tells what has happened in both.
        text = _text_of(cause) or text
        function_name, cause = cause.function_name, cause.cause
    if text is not None:
        object.__setattr__(cause, "__cause__", text)  # without a `__setattr__` of its class
    error = _instance(_class_for(cause), function_name, cause)
    attributes = getattr(cause, "__dict__", {})
    for name, value in attributes.items():
        if name not in ("function_name", "cause", "args"):
            if name == "__notes__" and type(value) is list:
                value = value.copy()  # it is added to in place
            error.__dict__.setdefault(name, value)
    for name, value in _fields_in_c(cause):
        try:
            setattr(error, name, value)
        except (AttributeError, TypeError):
            continue  # it is computed from others
    error.__cause__ = cause
    return error


def _stored(function_name: str, cause: BaseException, text: BaseException | None) -> RayTaskError:
    if text is not None:
        object.__setattr__(cause, "__cause__", text)
    return RayTaskError(function_name, cause)


def _text_of(error: BaseException) -> BaseException | None:
    """Return the text of a traceback that an exception from another process has as its cause."""
    text = getattr(error, "__cause__", None)
    return text if type(text).__name__ == "RemoteTraceback" else None


def _fields_in_c(cause: BaseException) -> Iterator[tuple[str, Any]]:
    """Yield the fields of an exception that are not in its `__dict__`: `errno`, `value`, slots.

    The constructor, which is not called, would set them. They would be None otherwise, and the
    interpreter itself crashes with a `StopIteration` that has no value.
    """
    for base in type(cause).__mro__:
        for name, field in vars(base).items():
            if type(field) in _FIELDS and name != "args" and not name.startswith("__"):
                try:
                    yield name, getattr(cause, name)
                except (AttributeError, TypeError):
                    continue  # it was never set


_FIELDS = (MemberDescriptorType, GetSetDescriptorType)

#: By the cause's class; each goes with its last error, for a task may define a new one each time.
_classes: WeakValueDictionary[type, type[RayTaskError]] = WeakValueDictionary()


def _class_for(cause: BaseException) -> type[RayTaskError]:
    kind = type(cause)
    known = _classes.get(kind)
    if known is None:
        known = RayTaskError
        # Not of what ends a program or a generator: `get` must not.
        if not isinstance(cause, SystemExit | KeyboardInterrupt | GeneratorExit):
            try:
                known = type(f"RayTaskError({kind.__name__})", (RayTaskError, kind), dict(_OURS))
                _instance(known, "", cause)
            except Exception:  # a final class, two layouts, a `__new__` of its own
                known = RayTaskError
        if known is not RayTaskError:
            _classes[kind] = known
    return known


#: What an error has of this module, whatever the cause's class makes of these names: properties,
#: perhaps, which cannot be set.
_OURS = {
    "__module__": __name__,
    "__str__": RayTaskError.__str__,
    "args": BaseException.args,
    "cause": None,
    "function_name": "",
}


def _instance(kind: type[RayTaskError], function_name: str, cause: BaseException) -> RayTaskError:
    given: tuple[Any, ...] = function_name, cause
    if isinstance(cause, ExceptionGroup):
        given = cause.message, cause.exceptions  # it looks at them when it is made
    make = kind.__new__
    if make is MemoryError.__new__:
        # It has a reserve of instances of its own, and refuses classes that have another base, too.
        make = RayTaskError.__new__
    error = make(kind, *given)
    RayTaskError.__init__(error, function_name, cause)
    if kind is not RayTaskError:
        error.args = (cause,)  # as Ray has it: programs print the first
    return error


class WorkerCrashedError(RayError):
    """Say that the worker of a task died while running it, more often than it is retried."""


class OutOfMemoryError(WorkerCrashedError):
    """Say that a task was ended because memory ran out."""


class RayActorError(RayError):
    """Say that an actor did not answer a call.

    Attributes
    ----------
    actor : str
        "Counter (pid 4121)".
    method : str
        The method called; "" for the actor as a whole.
    reason : str
    actor_id : str or None
        As the handle has it: ``handle._actor_id.hex()``.
    actor_init_failed : bool
        Whether its constructor, or one of its arguments, failed; `__cause__` says how.
    """

    actor_id: str | None = None
    actor_init_failed = False

    def __init__(self, actor: str = "an actor", method: str = "", reason: str = "it died") -> None:
        self.actor = actor
        self.method = method
        self.reason = reason
        call = f" did not answer {method}()" if method else " is dead"
        super().__init__(f"actor {actor}{call}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.actor, self.method, self.reason), self.__dict__


class ActorDiedError(RayActorError):
    """Say that an actor is dead for good."""


class ActorUnavailableError(RayActorError):
    """Say that an actor died during the call; it is restarted, and may be called again."""


class ActorUnschedulableError(RayError):
    """Say that no machine can ever have what an actor asks for."""


class TaskUnschedulableError(RayError, ValueError):
    """Say that this machine does not have what a task or an actor asks for."""


class ActorAlreadyExistsError(RayError, ValueError):
    """Say that another actor has the name that a new one is to have."""


class TaskCancelledError(RayError, CancelledError):
    """Say that a task was cancelled."""


class GetTimeoutError(RayError, TimeoutError):
    """Say that an object was not there in time."""


class ObjectLostError(RayError):
    """Say that an object is gone."""


class OwnerDiedError(ObjectLostError):
    """Say that the program which owned an object is gone, and the object with it."""


class ObjectFreedError(ObjectLostError):
    """Say that an object was freed by hand."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """Say that an object was freed although somebody held it."""


class ObjectReconstructionFailedError(ObjectLostError):
    """Say that an object could not be made anew."""


class ObjectFetchTimedOutError(ObjectLostError):
    """Say that an object did not come from another machine in time."""


class PlasmaObjectNotAvailable(RayError):  # Ray's name
    """Say that an object was not in the store in time."""


class UnserializableException(RayError):  # Ray's name
    """Say that an exception could not be unpickled."""


class ObjectStoreFullError(RayError):
    """Say that there is no room for an object."""


class OutOfDiskError(RayError):
    """Say that there is no disk space for an object."""


class PendingCallsLimitExceeded(RayError):  # Ray's name
    """Say that an actor has more calls waiting than it takes."""


class RaySystemError(RayError):
    """Say that the runtime itself failed."""


class RuntimeEnvSetupError(RayError):
    """Say that an environment for workers could not be made."""


class CrossLanguageError(RayError):
    """Say that something in another language failed."""


class NodeDiedError(RayError):
    """Say that a machine is gone."""


class LocalRayletDiedError(RayError):
    """Say that the process that runs the tasks of a machine is gone."""


class ActorPlacementGroupRemoved(RayError):  # Ray's name
    """Say that the resources that were set aside for an actor are gone."""


class TaskPlacementGroupRemoved(RayError):  # Ray's name
    """Say that the resources that were set aside for a task are gone."""


class AsyncioActorExit(RayError):  # Ray's name
    """End an actor from one of its async methods."""
