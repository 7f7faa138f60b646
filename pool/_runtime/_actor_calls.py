"""Calls of actors' methods: what each one promised, and what it holds until it is over."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from pool._clock import perf_counter
from pool._objects import _home
from pool._objects import _mailbox as mail
from pool._objects._options import CallOptions, retries_after
from pool._objects._parcels import Parcel, pack
from pool._objects._protocol import DYNAMIC, STREAM, number_of
from pool._objects._refs import FAILED, ActorRef, ObjectRef
from pool._pickling import loads
from pool._runtime._families import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import Any

    from pool._runtime._actors import Actor


class ActorCall(mail.Call, Member):
    """One call of a method, with the objects that it promised."""

    __slots__ = (
        "actor", "begun", "cancelled", "children", "method", "parcel", "parent", "refs",
        "retry_errors", "returns", "stream", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        actor: Actor,
        caller: Hashable,
        method: str,
        parcel: Parcel,
        given: CallOptions | None = None,
    ) -> None:
        options = actor.options
        of_call = given or options.facts.calls.get(method, _DEFAULT)
        retries = options.task_retries if of_call.retries is None else of_call.retries
        # An actor that was found by its name may be of another class than the handle takes it for.
        group = of_call.group if of_call.group in options.groups else ""
        super().__init__(caller, True, retries, group)
        self.retry_errors = of_call.retry_errors
        self.actor = actor
        self.begun = perf_counter()
        self.method = method
        self.parcel = parcel
        self.refs: list[ObjectRef] = []
        self.returns = 1
        self.stream: Any = None
        self.waiting = 0
        self.begin_alone()

    @property
    def title(self) -> str:
        """The name of the call in errors."""
        return f"{self.actor.title}.{self.method}"

    @property
    def name(self) -> bytes:
        """The task id of the call, for `get_runtime_context`."""
        if self.stream is not None:
            name: bytes = self.stream.name
            return name
        return self.refs[0].binary() if self.refs else b""

    def cancel_here(self, force: bool) -> None:
        """Take the call back if it has not been sent, else tell the actor; under the lock."""
        self.actor.cancel(self)

    def stored_in(self, answer: Any) -> Sequence[Any]:
        """Return the stored values of a result."""
        if self.returns == STREAM:
            return ()
        return [answer] if self.returns in (1, DYNAMIC) else answer or ()

    def yielded(self, index: int, blobs: list[Any]) -> Any:
        """Take a value of the stream, and return it as it is stored; under the lock.

        If there is no memory for it the stream ends there, with the error.
        """
        try:
            stored = loads(blobs[0], blobs[1:])
        except Exception as error:
            self.stream.end(error=error)
            return None
        self.stream.add(index, stored)
        return stored

    def retries_after(self, error: BaseException) -> bool:
        """Return whether the call is to be made again after it raised `error`."""
        return bool(self.retries) and retries_after(error, self.retry_errors, self.title)

    def fail(self, error: BaseException) -> None:
        """Put an error in place of every value; under the lock."""
        for ref in self.refs:
            ref._seal(FAILED, error)
        if self.stream is not None:
            self.stream.end(error=error)
        self.over()

    def over(self) -> None:
        """Note that the call has its outcome, and let go of everything that it held."""
        if self.parcel.refs:
            self.actor.runtime.lending.linger(self.parcel.refs)
        self.actor.runtime.catch_up()
        self.refs = []
        self.parcel = EMPTY
        self.leave()


EMPTY = Parcel([])
#: The options of calls that have none of their own.
_DEFAULT = CallOptions()


#: Who has made the calls of the program itself; those of a worker are its borrower's.
_PROGRAM = 0


def new_call(
    actor: Actor,
    method: str,
    args: Any,
    kwargs: Any,
    returns: int,
    options: CallOptions | None,
) -> ActorCall:
    """Return a call of the program's that is not in the mailbox yet."""
    return bind(ActorCall(actor, _PROGRAM, method, pack(args, kwargs), options), returns)


def bind(call: ActorCall, returns: int) -> ActorCall:
    """Give a call the objects that it promises."""
    call.returns = returns
    call.refs = [ObjectRef(call.actor.runtime) for _ in range(number_of(returns))]
    for ref in call.refs:
        ref._call = call
    return call


#: In a forked child, by the parent's references to detached actors: its own to the same actors.
_own: WeakKeyDictionary[ActorRef, ActorRef] = WeakKeyDictionary()


def call_as_child(actor: ActorRef, *call: Any) -> Any:
    """Call an actor of the process that this one was forked from.

    Parameters
    ----------
    actor : ActorRef
        The parent's reference.
    *call
        As for `call` of a runtime.

    Raises
    ------
    OwnerDiedError
        If the actor is not a detached one, which other programs can find.
    """
    own = _own.get(actor)
    if own is None or own._home.foreign:
        options = actor.record.options
        where = options.namespace or actor.record.runtime.namespace
        own = _home.current().find(options.name, where) if options.detached else None
        if own is None:
            from pool.exceptions import OwnerDiedError

            raise OwnerDiedError(
                f"actor {actor.facts.title} belongs to the process that was forked, and cannot be "
                "called here: make it after the fork (under a web server that loads the program "
                "first: at the first request), or make it one that all processes find, by "
                'options(name=..., lifetime="detached")'
            )
        _own[actor] = own
    return own._home.call(own, *call)
