"""Actor classes, whose instances live in processes of their own, and handles to the instances."""

from __future__ import annotations

from types import GenericAlias, SimpleNamespace

from pool._objects._codes import Code, title_of
from pool._objects._home import current
from pool._objects._ids import ActorID
from pool._objects._protocol import STREAM
from pool._objects._refs import ActorFacts, ActorRef
from pool._ray import _kinds
from pool._ray._generators import as_returned
from pool._ray._options import NO_EFFECT, actor_options, call_options, returns_of
from pool._ray._other_ways import NoGraphs, OtherWays
from pool._ray._signatures import (
    NOTHING,
    Signature,
    misfit,
    signature_of_class,
    signature_of_method,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._objects._options import CallOptions

#: The attribute by which `method` marks a method.
MARK = "__actorpool_method__"
#: That by which it marks one whose calls have options.
CALLS = "__actorpool_calls__"

#: Methods that every actor has, beside its own.
BUILT_IN = {
    "__ray_ready__": (1, False, NOTHING),
    "__ray_terminate__": (1, False, NOTHING),
    "__ray_call__": (1, False, Signature(("fn",), 1, 1, {}, True, True)),
}


#: Options of methods that are refused, with what to do instead.
_NOT_OF_METHODS = {
    "tensor_transport": "arrays travel in shared memory",
}
#: Those that are taken.
_OF_METHODS = ("concurrency_group", "max_task_retries", "num_returns", "retry_exceptions")


def method(*args: Any, **given: Any) -> Any:
    """Set options of a method of an actor's class.

    Parameters
    ----------
    num_returns : int, "streaming" or "dynamic"
    concurrency_group : str
        One of those that the class names by ``@remote(concurrency_groups={"io": 2})``: at most two
        calls of that group run at the same time, beside those of other groups.
    max_task_retries : int
        Times that a call is made again if its process dies and the actor is restarted, or as
        `retry_exceptions` has it; -1: always. By default that of the actor.
    retry_exceptions : bool or list of type
        Whether a call that raises counts as well: any exception, or one of these classes. It is
        made again behind the calls that wait.
    enable_task_events : bool
        No effect.

    Raises
    ------
    ValueError
        If another option is given; it says what to do instead.
    """
    if len(args) == 1 and not given:
        return args[0]  # used without parentheses, which Ray allows too
    if args:
        raise TypeError("use @method(num_returns=...) with options by name")
    returns = _returns_of_method("method", given, None)
    calls = call_options(given, None)

    def mark(function: Any) -> Any:
        if returns is not None:
            setattr(function, MARK, returns)
        if calls is not None:
            setattr(function, CALLS, calls)
        return function

    return mark


def _returns_of_method(title: str, given: dict[str, Any], default: Any) -> Any:
    """Return the number of values that options of a method ask for; raise for other options."""
    for name, value in given.items():
        if name in _NOT_OF_METHODS and value is not None:
            raise ValueError(
                f"{title}: option {name!r} is not supported here: {_NOT_OF_METHODS[name]}"
            )
        if name not in (*_OF_METHODS, *_NOT_OF_METHODS, "name", *NO_EFFECT):
            names = ", ".join(_OF_METHODS)
            raise ValueError(f"{title}: unknown option {name!r}; there are {names}")
    number = given.get("num_returns")
    return default if number is None else returns_of(number)


class ActorClass(OtherWays):
    """A class decorated with ``remote``: ``C.remote(...)`` starts an actor.

    Its attributes are those of the class: ``C.SIZE``, ``C.helper()`` for a static method. In the
    actor's own methods ``C.count += 1`` changes the attribute of their class.

    Parameters
    ----------
    kind : type
    given : dict
        Options, as ``remote(...)`` was given them.
    """

    #: In annotations: ``ActorClass[Counter]``.
    __class_getitem__: Any = classmethod(GenericAlias)

    # Private names, since all other names are looked up in the class that it stands for.
    __kind: type
    __given: dict[str, Any]
    __code: Code

    def __init__(self, kind: type, given: dict[str, Any]) -> None:
        code = Code(kind)
        actor_options(given, code.title)
        self.__dict__.update(
            {name: getattr(kind, name) for name in _LIKE_ITS_CLASS},
            # `inspect` follows it, and a worker finds the class by it, see
            # `pool._pickling._origins.is_wrapped`.
            __wrapped__=kind,
            _ActorClass__kind=kind,
            _ActorClass__given=given,
            _ActorClass__code=code,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        title = self.__code.title
        raise TypeError(
            f"actor class {title!r} cannot be instantiated directly; use {title}.remote(...)"
        )

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle:
        """Start an actor; return its handle at once.

        Parameters
        ----------
        *args, **kwargs
            For the constructor; treated as those of a remote function.

        Raises
        ------
        TypeError
            If the class does not take these arguments.
        ValueError
            If calls are to stay in order and also to run side by side, or if a method is in a
            concurrency group that the class does not have.
        """
        return self._start(self.__given, args, kwargs)

    def _start(self, given: dict[str, Any], args: Any, kwargs: Any) -> ActorHandle:
        title = self.__code.title
        problem = signature_of_class(self.__kind).problem(args, kwargs)
        if problem:
            raise misfit(title, problem)
        options = actor_options(given, title)
        # Anew for each actor: methods of the class may have been added or replaced.
        options.facts = facts_of(self.__kind, tuple(options.groups))
        if options.side_by_side > 1 and options.out_of_order is False:
            raise ValueError(
                f"actor {title}: allow_out_of_order_execution=False, and it runs calls side by "
                "side; give max_concurrency=1, or leave the option away"
            )
        return ActorHandle(current().create(self.__code, args, kwargs, options))

    def options(self, **given: Any) -> _Configured:
        """Return the same class with other options, for the next actor.

        Raises
        ------
        ValueError
            It names the option that is unknown or has no such value.
        """
        merged = {**self.__given, **given}
        actor_options(merged, self.__code.title)
        return _Configured(self, merged)

    # ------------------------------------------------------------------ the class itself

    @property
    def __ray_actor_class__(self) -> type:
        """The class as it was before it was decorated."""
        return self.__kind

    @property
    def __ray_metadata__(self) -> SimpleNamespace:
        """The same class as its `modified_class`, by which tests of Ray programs reach it."""
        return SimpleNamespace(modified_class=self.__kind)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            # Special names: those of this object must not come from the class.
            raise AttributeError(f"{self!r} has no attribute {name!r}", name=name, obj=self)
        return getattr(self.__kind, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__kind, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__kind, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self.__kind)})

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        """Refuse to be a base, as Ray does: whether the new class is one of actors is not said."""
        title = self.__code.title
        raise TypeError(
            f"actor class {title!r} cannot be a base of another class; derive both from one that "
            "is not decorated, and decorate them"
        )

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.__kind)

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self.__kind)

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorClass, (self.__kind, self.__given)

    def __repr__(self) -> str:
        return f"ActorClass({self.__code.title})"


#: Attributes that an actor class copies from the class that it stands for.
_LIKE_ITS_CLASS = ("__doc__", "__module__", "__name__", "__qualname__")


class _Configured(NoGraphs):
    """An actor class with options for one actor."""

    def __init__(self, kind: ActorClass, given: dict[str, Any]) -> None:
        self._class = kind
        self._given = given

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle:
        """Start an actor; as `ActorClass.remote`."""
        return self._class._start(self._given, args, kwargs)


def facts_of(kind: type, groups: tuple[str, ...]) -> ActorFacts:
    """Return the facts about a class, with concurrency groups, that its handles have to know."""
    methods: dict[str, tuple[Any, bool, Any]] = dict(BUILT_IN)
    calls: dict[str, CallOptions] = {}
    is_async = False
    for name, function, definition in _kinds.methods_of(kind):
        if name in _OF_HANDLES:
            continue  # the handle has an attribute of this name itself
        yields = _kinds.yields(function)
        is_async |= _kinds.is_async(function)
        returns = getattr(function, MARK, STREAM if yields else 1)
        methods[name] = (returns, yields, signature_of_method(definition))
        if hasattr(function, CALLS):
            calls[name] = getattr(function, CALLS)
            _check_group(calls[name], groups, f"{title_of(kind)}.{name}")
    return ActorFacts(title_of(kind), kind.__module__, methods, is_async, calls, groups)


def _check_group(calls: CallOptions | None, groups: tuple[str, ...], title: str) -> None:
    if calls is not None and calls.group and calls.group not in groups:
        raise ValueError(
            f"{title}: there is no concurrency group {calls.group!r} among {list(groups)}; name it "
            "where the class is made remote, by @remote(concurrency_groups={...})"
        )


class ActorHandle:
    """Refers to an actor and calls its methods: ``handle.method.remote(...)``.

    Can be passed to tasks and to other actors. The actor ends when its last handle is gone,
    unless it is detached.
    """

    __module__ = "pool"

    #: In annotations: ``ActorHandle[Counter]``.
    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self, ref: ActorRef) -> None:
        self._ref = ref

    def __getattr__(self, name: str) -> ActorMethod:
        if name == "_ref":
            raise AttributeError(name)  # being rebuilt
        facts = self._ref.facts
        known = facts.methods.get(name)
        if known is None:
            raise AttributeError(
                f"actor class {facts.title!r} has no method {name!r}", name=name, obj=self
            )
        found = ActorMethod(self._ref, name, known[0], known[2], None)
        if not name.startswith("__"):
            # Kept as an attribute, so that the next use does not call this method.
            self.__dict__[name] = found
        return found

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._ref.facts.methods})

    @property
    def _actor_id(self) -> ActorID:
        return ActorID(self._ref.binary())

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorHandle, (self._ref,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._ref is self._ref

    def __hash__(self) -> int:
        return hash(self._ref)

    def __repr__(self) -> str:
        return f"Actor({self._ref.facts.title}, {self._actor_id.hex()})"


#: What handles have themselves; not what `hasattr` finds in their type besides: `__call__`, `mro`.
_OF_HANDLES = frozenset().union(*map(vars, ActorHandle.__mro__))


class ActorMethod(OtherWays):
    """One method of an actor."""

    __slots__ = ("_calls", "_name", "_ref", "_returns", "_signature")

    def __init__(
        self,
        ref: ActorRef,
        name: str,
        returns: int,
        signature: Signature,
        calls: CallOptions | None,
    ) -> None:
        self._ref = ref
        self._name = name
        self._returns = returns
        self._signature = signature
        #: None: as the class has them.
        self._calls = calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"actor method {self._name!r} cannot be called directly; "
            f"use handle.{self._name}.remote(...)"
        )

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method in the actor; return the reference to its value at once.

        Parameters
        ----------
        *args, **kwargs
            For the method; treated as those of a remote function.

        Returns
        -------
        ObjectRef, list of ObjectRef, ObjectRefGenerator or None
            By ``num_returns``.

        Raises
        ------
        TypeError
            If the method does not take these arguments.
        PendingCallsLimitExceeded
            If `max_pending_calls` of the actor are waiting already.
        """
        ref = self._ref
        signature = self._signature
        if kwargs or not signature.least <= len(args) <= signature.most:
            problem = signature.problem(args, kwargs)
            if problem:
                raise misfit(f"{ref.facts.title}.{self._name}", problem)
        promised = ref._home.call(ref, self._name, args, kwargs, self._returns, self._calls)
        return as_returned(promised, self._returns)

    def options(self, **given: Any) -> ActorMethod:
        """Return the same method with other options, those of `method`.

        Raises
        ------
        ValueError
            If another option is given, or a concurrency group that the actor does not have.
        """
        title = f"method {self._name}"
        facts = self._ref.facts
        returns = _returns_of_method(title, given, self._returns)
        calls = call_options(given, self._calls or facts.calls.get(self._name))
        _check_group(calls, facts.groups, title)
        return ActorMethod(self._ref, self._name, returns, self._signature, calls)


method.__module__ = "pool"  # where users find it
