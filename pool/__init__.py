"""Take the place of :mod:`multiprocessing`, with a Pool on persistent workers.

``from pool import Pool`` replaces ``from multiprocessing import Pool``, and ``import pool as
multiprocessing`` replaces the whole module; ``import pool as ray`` runs programs written for Ray
on one machine. Names of this package are imported when they are first asked for; every other
public name is the standard module's.

Guarantees: importing this package imports neither `multiprocessing` nor any third-party module,
and asking for ``Pool`` does not either. That start-up time is paid by every program and by every
worker, so this file knows names only, never what stands behind them.

How it is built
---------------
Each of these uses only those before it, and the package `store`, which knows nothing of this one
(``tests/unit/test_imports.py`` checks that):

===============  ==================================================================================
``_errors``      with ``_clock``, ``_context``, ``_cpus``, ``_memory``, ``_unraisable``: used by all
``_pickling``    what can be sent, and how it arrives
``_transport``   messages between two processes
``_workers``     the servers that fork workers, and the loop of a worker
``_local``       the engine: a scheduler that decides, a driver that does all I/O
``_cluster``     the same engine with workers that Ray or Dask place on other machines
``exceptions``   Ray's errors
``_objects``     references, actors and resources as books without any I/O
``_in_worker``   tasks and actors where they run
``_runtime``     tasks and actors in the program that owns them
``_ray``         Ray's functions, classes and handles
``_faces``       the Pool, its results and its options
===============  ==================================================================================

All other modules only give these a public name. ``docs/design/overview.md`` follows one call of
``Pool.map`` through them; the reasons are in the other documents there.
"""

from __future__ import annotations

import os
import sys

__version__ = "0.1.0"

# `typing` takes several milliseconds to import; type checkers treat this name as true.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import (
        Array,
        AuthenticationError,
        Barrier,
        BoundedSemaphore,
        BufferTooShort,
        Condition,
        Event,
        JoinableQueue,
        Lock,
        Manager,
        Pipe,
        Process,
        ProcessError,
        Queue,
        RawArray,
        RawValue,
        RLock,
        Semaphore,
        SimpleQueue,
        TimeoutError,
        Value,
        allow_connection_pickling,
        current_process,
        freeze_support,
        get_all_start_methods,
        get_logger,
        get_start_method,
        log_to_stderr,
        parent_process,
        reducer,
        set_executable,
    )
    from multiprocessing.pool import ThreadPool
    from typing import Any

    from ._context import get_context, set_forkserver_preload, set_start_method
    from ._cpus import cpu_count
    from ._errors import (
        InvalidTransition,
        OutOfMemory,
        PoolError,
        PoolTerminated,
        StartError,
        TaskCancelled,
        TaskTimeout,
        WorkerDied,
        WorkerLost,
    )
    from ._faces._pool import Pool
    from ._faces._progress import ProgressEvent
    from ._faces._stats import active_children

    # The redundant names tell type checkers that they are offered: they are not in `__all__`.
    from ._objects._refs import ObjectRef as ObjectRef
    from ._pickling import CannotSend
    from ._ray._actor_pool import ActorPool as ActorPool
    from ._ray._api import cancel as cancel
    from ._ray._api import get as get
    from ._ray._api import get_actor as get_actor
    from ._ray._api import kill as kill
    from ._ray._api import put as put
    from ._ray._api import remote as remote
    from ._ray._api import wait as wait
    from ._ray._classes import ActorHandle as ActorHandle
    from ._ray._classes import method as method
    from ._ray._facts import available_resources as available_resources
    from ._ray._facts import cluster_resources as cluster_resources
    from ._ray._facts import get_gpu_ids as get_gpu_ids
    from ._ray._facts import get_runtime_context as get_runtime_context
    from ._ray._facts import nodes as nodes
    from ._ray._facts import timeline as timeline
    from ._ray._generators import ObjectRefGenerator as ObjectRefGenerator
    from ._ray._lifetime import LoggingConfig as LoggingConfig
    from ._ray._lifetime import init as init
    from ._ray._lifetime import is_initialized as is_initialized
    from ._ray._lifetime import shutdown as shutdown

# The standard module's own `__all__`, and ours. Written out, because to compute it
# `multiprocessing` would have to be imported.
__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "CannotSend",
    "Condition",
    "Event",
    "InvalidTransition",
    "JoinableQueue",
    "Lock",
    "Manager",
    "OutOfMemory",
    "Pipe",
    "Pool",
    "PoolError",
    "PoolTerminated",
    "Process",
    "ProcessError",
    "ProgressEvent",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "StartError",
    "TaskCancelled",
    "TaskTimeout",
    "ThreadPool",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "WorkerLost",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

# Where the names live that are not `multiprocessing`'s.
_HOMES = {
    "CannotSend": "pool._pickling",
    "InvalidTransition": "pool._errors",
    "OutOfMemory": "pool._errors",
    "Pool": "pool._faces._pool",
    "PoolError": "pool._errors",
    "PoolTerminated": "pool._errors",
    "ProgressEvent": "pool._faces._progress",
    "StartError": "pool._errors",
    "TaskCancelled": "pool._errors",
    "TaskTimeout": "pool._errors",
    "ThreadPool": "multiprocessing.pool",
    "WorkerDied": "pool._errors",
    "WorkerLost": "pool._errors",
    "active_children": "pool._faces._stats",
    "cpu_count": "pool._cpus",
    "get_context": "pool._context",
    "set_forkserver_preload": "pool._context",
    "set_start_method": "pool._context",
}

# Ray's words. Not in `__all__`: `from pool import *` is what programs for `multiprocessing`
# write, and it must not bring them a `get` and a `wait` that they never heard of.
_RAY = {
    "ActorHandle": "pool._ray._classes",
    "ActorID": "pool._objects._ids",
    "ActorPool": "pool._ray._actor_pool",
    "DynamicObjectRefGenerator": "pool._objects._dynamic",
    "JobID": "pool._objects._ids",
    "LoggingConfig": "pool._ray._lifetime",
    "NodeID": "pool._objects._ids",
    "ObjectRef": "pool._objects._refs",
    "ObjectID": "pool._objects._refs",  # its older name
    "ObjectRefGenerator": "pool._ray._generators",
    "TaskID": "pool._objects._ids",
    "available_resources": "pool._ray._facts",
    "cancel": "pool._ray._api",
    "cluster_resources": "pool._ray._facts",
    "get": "pool._ray._api",
    "get_actor": "pool._ray._api",
    "get_gpu_ids": "pool._ray._facts",
    "get_runtime_context": "pool._ray._facts",
    "init": "pool._ray._lifetime",
    "is_initialized": "pool._ray._lifetime",
    "kill": "pool._ray._api",
    "method": "pool._ray._classes",
    "nodes": "pool._ray._facts",
    "put": "pool._ray._api",
    "remote": "pool._ray._api",
    "shutdown": "pool._ray._lifetime",
    "timeline": "pool._ray._facts",
    "wait": "pool._ray._api",
}

# Modules of Ray that are not supported: the error says what to do instead.
_ABSENT = ("dag", "data", "experimental", "rllib", "serve", "train", "tune", "workflow")

_SUBMODULES = (
    "actor", "cloudpickle", "dummy", "exceptions", "pool", "remote_function", "runtime_context",
    "runtime_env", "util",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _RAY.get(name)
    if home is not None:
        value = getattr(_imported(home), name)
        if name in _RAY:
            _take_along()
    elif name in _SUBMODULES:
        value = _imported("pool." + name)
    elif name in _ABSENT:
        reason = _imported("pool._ray._absent").reason("pool." + name)
        raise AttributeError(reason, name=name, obj=sys.modules[__name__])
    elif name.startswith("_"):
        # Probing for a private name must not import anything.
        raise AttributeError(
            f"module 'pool' has no attribute {name!r}", name=name, obj=sys.modules[__name__]
        )
    else:
        # Not kept in `globals()`: if a program patches `multiprocessing`, the patch counts here.
        return _standard(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_RAY, *_SUBMODULES})


def _take_along() -> None:
    """Also keep the other names of Ray's that imported modules have.

    A finalizer may be the first to need one, when nothing can be imported any more.
    """
    for name, home in _RAY.items():
        value = getattr(sys.modules.get(home), name, None)
        if value is not None:
            globals().setdefault(name, value)


def _imported(module: str) -> Any:
    __import__(module)
    return sys.modules[module]


def _standard(name: str) -> Any:
    """Return a public attribute or a submodule of the standard module."""
    try:
        return getattr(_imported("multiprocessing"), name)
    except AttributeError:
        pass
    submodule = "multiprocessing." + name
    try:
        return _imported(submodule)
    except ModuleNotFoundError as error:
        if error.name != submodule:
            raise
    raise AttributeError(
        f"neither module 'pool' nor module 'multiprocessing' has an attribute {name!r}",
        name=name,
        obj=sys.modules[__name__],
    )


def _require_own_store() -> None:
    """Make sure that ``import store`` finds the package that was installed with this one.

    Raises
    ------
    ImportError
        If another module of that name comes first on `sys.path`; it names the file.
    """
    import store

    own = os.path.join(os.path.dirname(os.path.dirname(__file__)), "store")
    found = getattr(store, "__file__", None) or str(next(iter(store.__path__), "?"))
    folder = os.path.dirname(found) if found.endswith((".py", ".pyc")) else found
    # One folder can be reached by two spellings; only then is the file system asked.
    if folder == own or (os.path.isdir(own) and os.path.samefile(folder, own)):
        return
    raise ImportError(
        f"'import store' finds {found}, which stands in the way of the package 'store' that "
        f"'pool' needs and that is installed with it in {own}; rename that file or folder, or "
        f"take its place off sys.path",
        name="store",
        path=found,
    )


_require_own_store()
