"""Ray's functions: make tasks and actors, put, get and wait, cancel and kill."""

from __future__ import annotations

from pool._objects import _home
from pool._objects._home import current
from pool._objects._outcomes import disown, mark_handled, value_of
from pool._objects._parcels import is_of_store, of_runtime
from pool._objects._refs import FAILED, ActorRef, ObjectRef
from pool._ray import _kinds
from pool._ray._classes import ActorClass, ActorHandle
from pool._ray._functions import RemoteFunction
from pool._ray._generators import ObjectRefGenerator
from pool._ray._lifetime import is_program
from pool._ray._options import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def remote(*args: Any, **given: Any) -> Any:
    """Make calls of a function tasks, or instances of a class actors.

    Used as ``@remote`` or ``@remote(num_cpus=2, ...)``.

    Returns
    -------
    RemoteFunction or ActorClass
        Has ``.remote(...)``, which submits, and ``.options(...)``. To call it directly is an error.

    Raises
    ------
    TypeError
        If the decorated object is neither a function nor a class, is an async function, or is
        remote already.
    ValueError
        If an option is unknown or has a wrong value; names it.
    """
    if len(args) == 1 and not given:
        return _make(args[0], {})
    if args or not given:
        raise TypeError("use @remote, or @remote(num_cpus=..., ...) with options by name")
    return lambda definition: _make(definition, given)


def _make(definition: Any, given: dict[str, Any]) -> Any:
    if isinstance(definition, RemoteFunction | ActorClass):
        raise TypeError(f"remote: {definition.__qualname__} is remote already; use .options()")
    if isinstance(definition, type):
        return ActorClass(definition, given)
    if _kinds.is_async(definition):
        raise TypeError(
            f"{definition.__qualname__} is async: only methods of actors may be; wrap it in a "
            "function that calls asyncio.run"
        )
    if callable(definition) and hasattr(definition, "__qualname__"):
        return RemoteFunction(definition, given)
    raise TypeError(f"remote: a function or a class is expected, not {definition!r}")


# ---------------------------------------------------------------------- objects


def put(value: object) -> ObjectRef:
    """Store a copy of a value and return the reference to it.

    Returns
    -------
    ObjectRef

    Raises
    ------
    TypeError
        If the value is a reference already.
    """
    if isinstance(value, ObjectRef):
        raise TypeError("put: this is a reference already; put the value, or a list with it")
    return current().put(value)


def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """Wait for values and return them; each call returns new copies, which may be changed.

    Parameters
    ----------
    object_refs : ObjectRef, or list of ObjectRef
        References of `store.put` are accepted too.
    timeout : float, optional
        Seconds for all of them together.

    Returns
    -------
    object or list
        The value of a reference; for a list, the list of values. An `ObjectRefGenerator` is
        returned as it is.

    Raises
    ------
    GetTimeoutError
        If a value does not exist in time.
    ValueError
        If `object_refs` is neither a reference nor a list.
    TypeError
        If there is something else in the list.
    Exception
        What a task raised, as an instance of its class and of `RayTaskError`. Raised as soon as it
        is known, without waiting for the others.
    """
    if isinstance(object_refs, ObjectRef):
        return _values([object_refs], timeout)[0]
    if isinstance(object_refs, ObjectRefGenerator):
        return object_refs
    if is_of_store(object_refs):
        return _get_stored(object_refs)
    if not isinstance(object_refs, list | tuple):
        raise ValueError(
            f"get: an ObjectRef or a list of them is expected, not {type(object_refs).__name__}"
        )
    mixed = False
    for ref in object_refs:
        if not isinstance(ref, ObjectRef):
            mixed = is_of_store(ref)
            if not mixed:
                raise TypeError(f"get: a list of ObjectRef is expected; there is {ref!r} in it")
    if not mixed:
        return _values(object_refs, timeout) if object_refs else []
    promised = [ref for ref in object_refs if isinstance(ref, ObjectRef)]
    values = iter(_values(promised, timeout) if promised else [])
    return [next(values) if isinstance(ref, ObjectRef) else _get_stored(ref) for ref in object_refs]


def _get_stored(ref: Any) -> Any:
    from store import get

    return get(ref)


def _values(refs: Sequence[ObjectRef], timeout: float | None) -> list[Any]:
    found = _home_of(refs).fetch(refs, timeout)
    if None in found:
        from pool.exceptions import GetTimeoutError

        missing = sum(entry is None for entry in found)
        failed = [entry for entry in found if entry is not None and entry[0] == FAILED]
        if not failed:
            raise GetTimeoutError(
                f"{missing} of {len(refs)} objects were not there within {timeout} s; they go on"
            )
        found = failed  # an error is raised without waiting for values that are missing
    try:
        return [value_of(*entry) for entry in found]
    except BaseException:
        for state, stored in found:
            if state == FAILED:
                mark_handled(stored)  # only the first is raised, but the program has asked for all
        raise


def _home_of(refs: Sequence[ObjectRef]) -> Any:
    """Return whom to ask about references."""
    if _home.forked:
        for ref in refs:
            disown(ref)
    home = refs[0]._home
    if len(refs) > 1 and not home.usable:
        # It has ended, and has left nothing open. The others may be of the one that runs now.
        return next((ref._home for ref in refs if not ref._state), home)
    return home


def wait(
    ray_waitables: list[ObjectRef],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """Wait until some of the values exist.

    Parameters
    ----------
    ray_waitables : list of ObjectRef or ObjectRefGenerator
        Without duplicates, which are looked for among all only if it has to wait. A generator is
        ready when its next reference, or its end, is known.
    num_returns : int
        The number of values to wait for.
    timeout : float, optional
        Seconds; 0: do not wait.
    fetch_local : bool
        No effect: everything is local.

    Returns
    -------
    ready, not_ready : list of ObjectRef
        In the given order; at most `num_returns` are ready. An error counts as a value.

    Raises
    ------
    TypeError
        If `ray_waitables` is no list, or has something else in it.
    ValueError
        If `num_returns` is not between 1 and the number of references, `timeout` is negative, or a
        duplicate is found.
    """
    object_refs = ray_waitables
    if not isinstance(object_refs, list):
        raise TypeError(f"wait: a list of ObjectRef is expected, not {object_refs!r}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"wait: timeout={timeout}: it must not be negative")
    if not object_refs:
        return [], []
    total = len(object_refs)
    if not 0 < num_returns <= total:
        raise ValueError(f"num_returns={num_returns} of {total} references")
    try:
        taken = _there(object_refs, num_returns, timeout)
    except _NoRef:
        # Replaced only if one is met: programs wait in a loop over all that are left, and to look
        # through the list each time would take quadratic time.
        promised = [_promised(ref) for ref in object_refs]
        taken = _there(promised, num_returns, timeout)
    ready = [object_refs[index] for index in taken]
    if len(ready) > 1 and len(set(ready)) != len(ready):
        raise ValueError(_TWICE)
    if len(taken) == 1:
        # Copied as a whole: this is most of the work of a loop over very many references.
        rest = object_refs.copy()
        del rest[taken[0]]
        return ready, rest
    rest = []
    start = 0
    for index in taken:
        rest += object_refs[start:index]
        start = index + 1
    rest += object_refs[start:]
    return ready, rest


def _promised(waitable: Any) -> Any:
    """Return the reference of the runtime to wait for in place of `waitable`."""
    if isinstance(waitable, ObjectRef):
        return waitable
    if isinstance(waitable, ObjectRefGenerator):
        return waitable._next_known()
    if is_of_store(waitable):
        return of_runtime(waitable)
    raise TypeError(f"wait: a list of ObjectRef is expected; there is {waitable!r} in it") from None


_TWICE = "wait: the same reference is in the list twice"


class _NoRef(Exception):
    """A list of references contains something else."""


def _there(object_refs: list[ObjectRef], num_returns: int, timeout: float | None) -> list[int]:
    """Wait; return the positions of references with values, `num_returns` at most."""
    if not isinstance(object_refs[0], ObjectRef):
        raise _NoRef
    home = object_refs[0]._home
    taken = _ready(home, object_refs, num_returns)
    if len(taken) < num_returns:
        # The whole list is checked only if it has to wait: programs wait in a loop over all that
        # are left, which would take quadratic time otherwise.
        for ref in object_refs:
            if not isinstance(ref, ObjectRef):
                raise _NoRef
        if len(set(object_refs)) != len(object_refs):
            raise ValueError(_TWICE)
        home = _home_of(object_refs)
        home.wait(object_refs, num_returns, timeout)
        taken = _ready(home, object_refs, num_returns)
    return taken


def _ready(home: Any, refs: list[ObjectRef], number: int) -> list[int]:
    """Return the positions of the first `number` references that have values."""
    if not is_program(home):
        for ref in refs:
            if not isinstance(ref, ObjectRef):
                raise _NoRef
        return [index for index, there in enumerate(home.are_ready(refs)) if there][:number]
    found: list[int] = []
    for index, ref in enumerate(refs):
        if not isinstance(ref, ObjectRef):
            raise _NoRef
        if ref._state:
            if ref._state == FAILED:
                mark_handled(ref._value)
            found.append(index)
            if len(found) == number:
                break
    return found


# ---------------------------------------------------------------------- actors and the end


def cancel(ray_waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel a task, or a call of an actor; `get` raises `TaskCancelledError`.

    A task or call that has not begun never runs. A running task gets a `KeyboardInterrupt`; if it
    returns a value nevertheless, `get` returns that. A running async method is cancelled as
    asyncio does it; another method runs on, and may ask
    ``get_runtime_context().is_canceled()``. A generator ends; so does iterating over its
    references, after one that raises. One that is over is not changed. Nothing is retried.

    Parameters
    ----------
    ray_waitable : ObjectRef or ObjectRefGenerator
        A result of the task or call.
    force : bool
        End the process of a running task instead of interrupting it.
    recursive : bool
        Also cancel the tasks and calls that it has submitted.

    Raises
    ------
    ValueError
        With `force`, if it is a call of an actor; use `kill`.
    TypeError
        If it is neither a reference nor a generator of references.
    """
    ref = ray_waitable
    if isinstance(ref, ObjectRefGenerator):
        ref._stream.cancel(force, recursive)
    elif isinstance(ref, ObjectRef):
        ref._home.cancel(ref, force, recursive)
    else:
        raise TypeError(f"cancel: an ObjectRef is expected, not {type(ref).__name__}")


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor at once; calls without answer raise `ActorDiedError`.

    Parameters
    ----------
    actor : ActorHandle
    no_restart : bool
        False: treat it as crashed, so that it may be started again.

    Raises
    ------
    ValueError
        If `actor` is not the handle of one.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(f"kill: the handle of an actor is expected, not {actor!r}")
    actor._ref._home.kill(actor._ref, no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """Return the handle of a named actor.

    Parameters
    ----------
    name : str
    namespace : str, optional
        By default that of the program.

    Returns
    -------
    ActorHandle

    Raises
    ------
    ValueError
        If there is no actor of that name.
    """
    name = text_of("get_actor: name", name)
    if not name:
        raise ValueError("get_actor: a name is expected")
    ref: ActorRef | None = current().find(name, text_of("get_actor: namespace", namespace))
    if ref is None:
        raise ValueError(
            f"no actor named {name!r} in namespace "
            f"{namespace or current().facts()['namespace']!r}; it has ended, or belongs to "
            "another program and is not detached"
        )
    return ActorHandle(ref)


# Where users find them.
for _public in (remote, put, get, wait, cancel, kill, get_actor):
    _public.__module__ = "pool"
