"""Ray's functions: start and stop the runtime, run and call, put, get and wait."""

from __future__ import annotations

import os

from pool._objects import _home
from pool._objects._home import current
from pool._objects._outcomes import disown, told, value_of
from pool._objects._parcels import is_of_store, of_runtime
from pool._objects._refs import FAILED, ActorRef, ObjectRef
from pool._ray import _kinds
from pool._ray._classes import ActorClass, ActorHandle
from pool._ray._functions import RemoteFunction
from pool._ray._generators import ObjectRefGenerator
from pool._ray._options import amount_of, others_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: Arguments of Ray's `init` that set up a cluster, and change nothing here.
_NO_EFFECT = frozenset(
    {
        "cgroup_path", "configure_logging", "dashboard_host", "dashboard_port",
        "enable_resource_isolation", "include_dashboard", "labels", "logging_config",
        "logging_format", "logging_level", "object_spilling_directory", "object_store_memory",
        "proxy_server_url", "system_reserved_cpu", "system_reserved_memory",
        "_driver_object_store_memory", "_enable_object_reconstruction", "_memory",
        "_metrics_export_port", "_node_ip_address", "_node_name", "_plasma_directory",
        "_redis_password", "_redis_username", "_system_config", "_temp_dir",
    }
)  # fmt: skip

#: Those that may be given as what they are without; and what to do instead.
_ONLY_EMPTY = {
    "job_config": "there are no jobs beside this program",
    "local_mode": "call the function itself, f._function(...), to run it here",
    "runtime_env": "workers have the packages, sys.path, folder and environment of the program; "
    "give tasks and actors env_vars by .options(runtime_env=...)",
}


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    ignore_reinit_error: bool = False,
    namespace: str | None = None,
    log_to_driver: bool | None = True,
    **others: Any,
) -> dict[str, Any]:
    """Start the runtime; not needed, since the first use does.

    Parameters
    ----------
    address : str, optional
        None, "auto" or "local": there is this machine only.
    num_cpus, num_gpus : int, optional
        How many there are. Without it: the CPUs that this process may use, the GPUs that
        CUDA_VISIBLE_DEVICES names.
    resources : dict, optional
        Others, by name.
    ignore_reinit_error : bool
        Return quietly if it runs already.
    namespace : str, optional
        Of named actors. Without it: one of this program's own.
    log_to_driver : bool, optional
        Print here what tasks and actors print; None: as without it.
    **others
        ``include_dashboard``, ``logging_level`` and the like are taken and do nothing;
        what nobody knows is refused.

    Raises
    ------
    RuntimeError
        If it runs already.
    ValueError
        If an argument is unknown, or `address` names a cluster.
    """
    if address not in (None, "auto", "local"):
        raise ValueError(
            f"address={address!r}: there is this machine only; use Ray itself on a cluster"
        )
    for name, value in others.items():
        if name in _ONLY_EMPTY and value:
            raise ValueError(f"init: argument {name!r} is not supported here: {_ONLY_EMPTY[name]}")
        if name not in _NO_EFFECT and name not in _ONLY_EMPTY:
            raise ValueError(f"init: unknown argument {name!r}")
    with _home.starting():
        running = is_initialized()
        if not running:
            _start(num_cpus, num_gpus, resources, namespace, log_to_driver in (None, True))
    if running and not ignore_reinit_error:
        raise RuntimeError(
            "the runtime runs already (the first use starts it, and tasks and actors have that "
            "of their program); call init() earlier, shutdown() before, or give "
            "ignore_reinit_error=True"
        )
    return facts()


def facts() -> dict[str, Any]:
    """Return what `init` returns."""
    from pool._ray._facts import RayContext, get_runtime_context

    return RayContext(
        node_ip_address="127.0.0.1",
        address="local",
        pid=os.getpid(),
        node_id=get_runtime_context().get_node_id(),
    )


def _is_program(home: Any) -> bool:
    return hasattr(home, "engine")


def _usable() -> Any:
    home: Any = _home.found()
    if home is not None and _is_program(home) and not home.usable:
        home.stop()
        _home.move_out(home)
        return None
    return home


def _start(
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    namespace: str | None = None,
    log_to_driver: bool = True,
) -> Any:
    from pool._cpus import usable_cpus
    from pool._runtime._runtime import Runtime

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = [name.strip() for name in visible.split(",") if name.strip()]
    if num_gpus is not None:
        num_gpus = int(amount_of("num_gpus", num_gpus))
        if devices and len(devices) < num_gpus:
            raise ValueError(
                f"num_gpus={num_gpus}, and CUDA_VISIBLE_DEVICES={visible!r} names {len(devices)}"
            )
        devices = devices[:num_gpus] or [str(index) for index in range(num_gpus)]
    cpus = usable_cpus() if num_cpus is None else num_cpus
    total = {"CPU": amount_of("num_cpus", cpus), **others_of(resources)}
    if devices:
        total["GPU"] = float(len(devices))
    namespace = text_of("namespace", namespace)
    if not namespace:
        from pool._in_worker._context import context

        # That of a detached actor, which is a program of its own.
        namespace = context.namespace or os.urandom(8).hex()
    runtime = Runtime(total, devices, namespace, log_to_driver)
    _home.settle_in(runtime)
    return runtime


def shutdown() -> None:
    """End all tasks and actors of this program, and wait until they are gone.

    Detached actors go on. The next use starts anew.
    """
    home = _home.found()
    if home is not None and _is_program(home):
        home.stop()
        _home.move_out(home)


def is_initialized() -> bool:
    """Return whether the runtime runs; in tasks and actors it does."""
    return _home.borrows or _usable() is not None


def remote(*args: Any, **given: Any) -> Any:
    """Make a function run as tasks, or a class live as actors.

    Used as ``@remote`` or ``@remote(num_cpus=2, ...)``.

    Raises
    ------
    TypeError
        If what is decorated is neither.
    ValueError
        It names the option that is unknown.
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
    """Store a value, copied now, and return the reference to it.

    Raises
    ------
    TypeError
        If it is a reference already.
    """
    if isinstance(value, ObjectRef):
        raise TypeError("put: this is a reference already; put the value, or a list with it")
    return current().put(value)


def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """Wait for values and return them; each call returns new copies, which may be changed.

    Parameters
    ----------
    object_refs : ObjectRef, or list of ObjectRef
        Those of `store.put` are welcome, too.
    timeout : float, optional
        Seconds for all of them together.

    Raises
    ------
    GetTimeoutError
        If one is not there in time.
    ValueError, TypeError
        If it is neither a reference nor a list; if there is something else in the list.
    Exception
        What the task raised, as soon as that is known, without waiting for the others: an
        instance of its class and of `RayTaskError`.
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
        # An error is not held back by what is still missing.
        found = failed
    try:
        return [value_of(*entry) for entry in found]
    except BaseException:
        for state, stored in found:
            if state == FAILED:
                told(stored)  # the first is raised; this call was about all of them
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
    """Wait until some of the values are there.

    Parameters
    ----------
    ray_waitables : list of ObjectRef or ObjectRefGenerator
        A generator is ready when its next reference is, or its end.
        Without duplicates; those that would be left are looked for only where it has to wait.
    num_returns : int
        How many to wait for.
    timeout : float, optional
        Seconds; 0 only looks.
    fetch_local : bool
        No effect: everything is local.

    Returns
    -------
    ready, not_ready : list of ObjectRef
        In the given order; at most `num_returns` are ready. An error counts as a value.
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
        # Met on the way, not looked for: a loop over what is left is to stay linear.
        promised = [_promised(ref) for ref in object_refs]
        taken = _there(promised, num_returns, timeout)
    ready = [object_refs[index] for index in taken]
    if len(ready) > 1 and len(set(ready)) != len(ready):
        raise ValueError(_TWICE)
    if len(taken) == 1:
        # Copied in one piece, which is most of the work of a loop over very many.
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
    """Return a reference of the runtime to wait for in place of something else."""
    if isinstance(waitable, ObjectRef):
        return waitable
    if isinstance(waitable, ObjectRefGenerator):
        return waitable._moment()
    if is_of_store(waitable):
        return of_runtime(waitable)
    raise TypeError(f"wait: a list of ObjectRef is expected; there is {waitable!r} in it") from None


_TWICE = "wait: the same reference is in the list twice"


class _NoRef(Exception):
    """Say that there is something else in a list of references."""


def _there(object_refs: list[ObjectRef], num_returns: int, timeout: float | None) -> list[int]:
    """Wait; return the positions of those that are there, `num_returns` at most."""
    if not isinstance(object_refs[0], ObjectRef):
        raise _NoRef
    home = object_refs[0]._home
    taken = _ready(home, object_refs, num_returns)
    if len(taken) < num_returns:
        # Looked at as a whole only where it is waited for: programs wait in a loop over all
        # that is left, which is to stay linear.
        for ref in object_refs:
            if not isinstance(ref, ObjectRef):
                raise _NoRef
        if len(set(object_refs)) != len(object_refs):
            raise ValueError(_TWICE)
        home = _home_of(object_refs)
        home.settle(object_refs, num_returns, timeout)
        taken = _ready(home, object_refs, num_returns)
    return taken


def _ready(home: Any, refs: list[ObjectRef], number: int) -> list[int]:
    """Return the positions of the first `number` references that are there."""
    if not _is_program(home):
        for ref in refs:
            if not isinstance(ref, ObjectRef):
                raise _NoRef
        return [index for index, there in enumerate(home.settled(refs)) if there][:number]
    found: list[int] = []
    for index, ref in enumerate(refs):
        if not isinstance(ref, ObjectRef):
            raise _NoRef
        if ref._state:
            if ref._state == FAILED:
                told(ref._value)
            found.append(index)
            if len(found) == number:
                break
    return found


# ---------------------------------------------------------------------- actors and the end


def cancel(ray_waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel a task, or a call of an actor; `get` raises `TaskCancelledError`.

    What has not begun never runs. A running task gets a `KeyboardInterrupt`; should it
    return a value all the same, `get` returns that. A running async method is cancelled as
    asyncio does it; another method runs on, and may ask
    ``get_runtime_context().is_canceled()``. A generator ends; so does iterating over its
    references, after one that raises. What is over stays as it is. Nothing is retried.

    Parameters
    ----------
    ray_waitable : ObjectRef or ObjectRefGenerator
        Of its result.
    force : bool
        End the process of a running task instead.
    recursive : bool
        Cancel also what it has submitted, tasks and calls of actors.

    Raises
    ------
    ValueError
        With `force`, if it is a call of an actor; use `kill`.
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
        False: as if it had crashed, so it may be started again.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(f"kill: the handle of an actor is expected, not {actor!r}")
    actor._ref._home.kill(actor._ref, no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """Return the handle of a named actor.

    Raises
    ------
    ValueError
        If there is none of that name.
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


# A worker has set its own, which asks its runtime.
if _home.starter is None:
    _home.starter = _start


# Where users find them.
for _public in (init, shutdown, is_initialized, remote, put, get, wait, cancel, kill, get_actor):
    _public.__module__ = "pool"
