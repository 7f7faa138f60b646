"""Reducers for what programs keep as attributes: locks, executors, weak references, files.

None of these can be sent itself; the receiver makes a new one that serves as well. Types are
identified by name, so that their modules need not be imported.
"""

from __future__ import annotations

import _pickle
import sys

from ._files import (
    reduce_file,
    reduce_raw_file,
    reduce_stream,
    reduce_temporary_file,
    stream_name,
)
from ._functions import reduce_to_name
from ._slots import native_base, reduced_as_object
from ._typing import (
    reduce_forward_reference,
    reduce_new_type,
    reduce_type_alias,
    reduce_type_parameter,
    reduce_type_variable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._picklers import BasePickler, Needs

    Reducer = Callable[[BasePickler, Any], Any]


#: By module, the base of classes whose objects hold a million others, the descriptions of all
#: services of a cloud, and among them what cannot be pickled: to find that out took half a minute.
_UNPICKLABLE = {
    "boto3.resources.factory": "ServiceResource",
    "boto3.session": "Session",
    "botocore.client": "BaseClient",
    "botocore.session": "Session",
}


class Unpicklable(_pickle.PicklingError):
    """An object of a class that cannot be pickled in any way, so that no part need be tried."""

    def __init__(self, kind: type) -> None:
        super().__init__(f"cannot pickle {kind.__qualname__!r} object")
        self.kind = kind


def find(kind: type) -> Reducer | None:
    """Return the reducer for objects of exactly this type.

    Raises
    ------
    Unpicklable
        For clients of boto3 and the like.
    """
    if kind.__module__ == "__main__":
        return None if _is_plain(kind) else _reduce_singleton
    if kind.__module__ in _UNPICKLABLE and _is_unpicklable(kind):
        raise Unpicklable(kind)
    reducer = _BY_NAME.get((kind.__module__, kind.__qualname__))
    if reducer is None or not _is_genuine(kind):
        return None
    return reducer


def _is_unpicklable(kind: type) -> bool:
    name = _UNPICKLABLE[kind.__module__]
    return any(base.__qualname__ == name for base in kind.__mro__)


def _is_plain(kind: Any) -> bool:
    return reduced_as_object(kind) or issubclass(kind, BaseException)  # see `_exceptions`


def find_late(obj: Any, kind: type) -> Reducer | None:
    """Return a reducer for an object that could not be pickled otherwise.

    Standard streams are found by identity, since a program may have replaced them by objects of
    any class. For other objects the bases of their classes are tried.
    """
    if stream_name(obj):
        return reduce_stream
    for base in kind.__mro__[1:]:
        reducer = _BY_BASE.get((base.__module__, base.__qualname__))
        if reducer is not None:
            return reducer
    return None


def _is_genuine(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    return getattr(module, kind.__qualname__, kind) is kind


def _reduce_singleton(pickler: BasePickler, obj: Any) -> Any:
    """Reduce an object of the main module that may pickle as a name or as a call of its class."""
    if pickler.inline and _is_held_by_class(obj):
        # The call would look for this very object in the class, which does not have it yet.
        return object.__new__, (type(obj),), obj.__getstate__()
    reduced = obj.__reduce_ex__(5)
    if not isinstance(reduced, str):
        return reduced
    if pickler.inline:
        from ._named import reduce_by_state

        return reduce_by_state(obj)  # in a prelude, which defines the name
    return reduce_to_name(pickler, "__main__", reduced) or reduced


def _is_held_by_class(obj: Any) -> bool:
    kind: Any = type(obj)
    if native_base(kind) is not object or kind.__reduce_ex__ is not object.__reduce_ex__:
        return False  # there is more to it than its attributes, or it is a member of an Enum
    return any(value is obj for value in vars(kind).values())


# ---------------------------------------------------------------- threading


def _reduce_lock(pickler: BasePickler, lock: Any) -> Any:
    return _new_lock, ()


def _reduce_rlock(pickler: BasePickler, lock: Any) -> Any:
    return _new_rlock, ()


def _new_lock() -> Any:
    import threading

    return threading.Lock()


def _new_rlock() -> Any:
    import threading

    return threading.RLock()


def _reduce_condition(pickler: BasePickler, condition: Any) -> Any:
    # With its lock, which may be shared with other conditions (`queue.Queue` has three).
    return type(condition), (condition._lock,)


def _reduce_event(pickler: BasePickler, event: Any) -> Any:
    return _new_event, (event.is_set(),)


def _new_event(is_set: bool) -> Any:
    import threading

    event = threading.Event()
    if is_set:
        event.set()
    return event


def _reduce_semaphore(pickler: BasePickler, semaphore: Any) -> Any:
    return type(semaphore), (getattr(semaphore, "_initial_value", semaphore._value),)


def _reduce_barrier(pickler: BasePickler, barrier: Any) -> Any:
    return type(barrier), (barrier._parties, barrier._action, barrier._timeout)


def _reduce_local(pickler: BasePickler, local: Any) -> Any:
    """Reduce an object with attributes for each thread.

    A global is sent with the attributes of this thread, as a forked worker would have them. One
    among arguments is sent empty, as a new thread would see it.
    """
    given = _arguments_of(local)
    if not _can_come_along(given):
        given = (), {}
    if not pickler.inline or pickler.up:
        return _new_local, (type(local), False, *given)
    attributes = dict(local.__dict__)
    state = {name: value for name, value in attributes.items() if _can_come_along(value)}
    lost = [name for name in attributes if name not in state]
    made = _new_local, (type(local), not lost, *given)
    if lost and state and type(local).__init__ is not object.__init__:
        return *made, (lost, state), None, None, _fill_local
    return *made, state or None


def _arguments_of(local: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with which each thread calls the `__init__` of such an object.

    Only the garbage collector can see them.
    """
    from gc import get_referents

    # Attributes in slots come before the class, those of threads after the arguments.
    found = iter(get_referents(local))
    while next(found, type(local)) is not type(local):
        continue
    args: Any = next(found, ())
    kwds: Any = next(found, {})
    if type(args) is not tuple:
        return (), {}
    return args, kwds if type(kwds) is dict and all(type(name) is str for name in kwds) else {}


def _can_come_along(value: Any) -> bool:
    """Return whether `value` can be pickled without definitions, and is of use elsewhere."""
    from io import BytesIO

    from ._implicit import stands_for_other
    from ._picklers import FastPickler

    pickler = FastPickler(BytesIO(), 5)
    try:
        if stands_for_other(value):
            return False
        pickler.dump(value)
    except Exception:  # of any kind: the worker does without this attribute
        return False
    return pickler.needs is None


def _new_local(kind: Any, complete: bool, args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
    if not complete:
        try:
            # Its `__init__` makes what could not be sent, such as a connection.
            return kind(*args, **kwds)
        except TypeError:  # it takes arguments that could not be sent
            pass
    return kind.__new__(kind, *args, **kwds)


def _fill_local(local: Any, given: tuple[list[str], dict[str, Any]]) -> None:
    """Give it what could be sent, if its `__init__` has made the rest.

    If that leaves `conn = None`, say, what was set with it later, such as ``closed = False``, would
    be a state that no process ever had.
    """
    lost, state = given
    if all(getattr(local, name, None) is not None for name in lost):
        local.__dict__.update(state)


# ---------------------------------------------------------------- dataclasses

#: Singletons with which `dataclasses` compares fields, by the names of their types.
_SENTINELS = {
    "_MISSING_TYPE": "MISSING",
    "_HAS_DEFAULT_FACTORY_CLASS": "_HAS_DEFAULT_FACTORY",
    "_KW_ONLY_TYPE": "KW_ONLY",
}


def _reduce_sentinel(pickler: BasePickler, sentinel: Any) -> Any:
    return getattr, (sys.modules["dataclasses"], _SENTINELS[type(sentinel).__name__])


def _reduce_field_kind(pickler: BasePickler, sentinel: Any) -> Any:
    return getattr, (sys.modules["dataclasses"], sentinel.name)


# ---------------------------------------------------------------- functions


def _reduce_curried(pickler: BasePickler, curried: Any) -> Any:
    """Reduce what toolz has curried with its function; toolz gives a name, which is its own."""
    make, (kind, _, args, kwds, attributes, _) = curried.__reduce__()
    return make, (kind, curried.func, args, kwds, attributes, False)


def _reduce_partial_method(pickler: BasePickler, method: Any) -> Any:
    """Reduce it to what it was called with: Python 3.14's asks for that when it is made."""
    return _new_partial_method, (type(method), method.func, method.args, method.keywords)


def _new_partial_method(kind: Any, func: Any, args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
    return kind(func, *args, **kwds)


# ---------------------------------------------------------------- queues, executors


def _reduce_queue(pickler: BasePickler, queue: Any) -> Any:
    with queue.mutex:
        items = list(queue.queue)
    return _new_queue, (type(queue), queue.maxsize, items)


def _new_queue(kind: Any, maxsize: int, items: list[Any]) -> Any:
    queue = kind(maxsize)
    queue.queue.extend(items)  # in their order, so that a heap stays a heap
    queue.unfinished_tasks = len(items)
    return queue


def _reduce_simple_queue(pickler: BasePickler, queue: Any) -> Any:
    if not queue.empty():
        raise _pickle.PicklingError(
            "cannot pickle a SimpleQueue that is not empty: its items cannot be seen without "
            "taking them out (a queue.Queue can be sent)"
        )
    return type(queue), ()


def _reduce_thread_executor(pickler: BasePickler, executor: Any) -> Any:
    return _new_thread_executor, (
        executor._max_workers,
        executor._thread_name_prefix,
        getattr(executor, "_initializer", None),
        getattr(executor, "_initargs", ()),
    )


def _new_thread_executor(
    max_workers: int, prefix: str, initializer: Any, initargs: tuple[Any, ...]
) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max_workers, prefix, initializer, initargs)


def _reduce_thread_pool(pickler: BasePickler, pool: Any) -> Any:
    return type(pool), (pool._processes, pool._initializer, pool._initargs)


# ---------------------------------------------------------------- weak references


def _reduce_weakref(pickler: BasePickler, reference: Any) -> Any:
    """Reduce a weak reference along with the object that it refers to.

    The receiver frees that object at once unless something else there holds it too.
    """
    target = reference()
    return (_dead_reference, ()) if target is None else (type(reference), (target,))


def _dead_reference() -> Any:
    from weakref import ref

    class Gone:
        pass

    return ref(Gone())


def _reduce_weak_mapping(pickler: BasePickler, mapping: Any) -> Any:
    return type(mapping), (dict(mapping.items()),)


def _reduce_weak_set(pickler: BasePickler, members: Any) -> Any:
    return type(members), (list(members),)


# ---------------------------------------------------------------- references


def _reduce_reference(pickler: BasePickler, reference: Any) -> Any:
    """Reduce a reference of the store, and note the names that the pickle of its object needs."""
    from store._refs import names_of

    if not pickler.up:  # the parent has them
        for key, names in needed(names_of(reference)).items():
            pickler.require(key, names)
    return reference.reduced_beside()


def _refuse_reference(pickler: BasePickler, reference: Any) -> Any:
    """Refuse a reference of Ray's own, which a worker could only look for in a Ray of its own."""
    raise _pickle.PicklingError(
        f"cannot pickle {reference!r}: workers of a pool are not connected to Ray; give them what "
        "`ray.get` returns, large objects by `pool.put`, in `initargs` or with the function"
    )


def needed(pairs: Iterable[tuple[str, str]]) -> Needs:
    """Return what a message needs for names of modules that a worker cannot import."""
    from ._origins import scope_of_module

    found: Needs = {}
    for module, name in pairs:
        scope = scope_of_module(module)
        if scope is not None and not scope.importable:
            found[scope.key, name] = vars(sys.modules[module])
    return found


_BY_NAME: dict[tuple[str, str], Reducer] = {
    ("_thread", "lock"): _reduce_lock,
    **{("dataclasses", name): _reduce_sentinel for name in _SENTINELS},
    ("dataclasses", "_FIELD_BASE"): _reduce_field_kind,
    ("_thread", "RLock"): _reduce_rlock,
    ("threading", "_RLock"): _reduce_rlock,
    ("threading", "Condition"): _reduce_condition,
    ("threading", "Event"): _reduce_event,
    ("threading", "Semaphore"): _reduce_semaphore,
    ("threading", "BoundedSemaphore"): _reduce_semaphore,
    ("threading", "Barrier"): _reduce_barrier,
    ("_thread", "_local"): _reduce_local,
    ("queue", "Queue"): _reduce_queue,
    ("queue", "LifoQueue"): _reduce_queue,
    ("queue", "PriorityQueue"): _reduce_queue,
    ("_queue", "SimpleQueue"): _reduce_simple_queue,
    ("concurrent.futures.thread", "ThreadPoolExecutor"): _reduce_thread_executor,
    ("multiprocessing.pool", "ThreadPool"): _reduce_thread_pool,
    ("_io", "TextIOWrapper"): reduce_file,
    ("_io", "BufferedReader"): reduce_file,
    ("_io", "BufferedWriter"): reduce_file,
    ("_io", "BufferedRandom"): reduce_file,
    ("_io", "FileIO"): reduce_raw_file,
    ("store", "ObjectRef"): _reduce_reference,
    ("ray", "ObjectRef"): _refuse_reference,
    ("tempfile", "_TemporaryFileWrapper"): reduce_temporary_file,
    ("functools", "partialmethod"): _reduce_partial_method,
    ("toolz.functoolz", "curry"): _reduce_curried,
    ("weakref", "ReferenceType"): _reduce_weakref,
    ("weakref", "WeakKeyDictionary"): _reduce_weak_mapping,
    ("weakref", "WeakValueDictionary"): _reduce_weak_mapping,
    ("_weakrefset", "WeakSet"): _reduce_weak_set,
    ("typing", "TypeVar"): reduce_type_variable,
    ("typing", "ParamSpec"): reduce_type_parameter,
    ("typing", "TypeVarTuple"): reduce_type_parameter,
    ("typing", "NewType"): reduce_new_type,
    ("typing", "TypeAliasType"): reduce_type_alias,
    ("annotationlib", "ForwardRef"): reduce_forward_reference,
}

#: Reducers that also apply to classes of the program's that are derived from these types.
_BY_BASE: dict[tuple[str, str], Reducer] = {
    key: _BY_NAME[key]
    for key in (
        ("_thread", "_local"),
        ("_io", "TextIOWrapper"),
        ("_io", "BufferedReader"),
        ("_io", "BufferedWriter"),
        ("_io", "BufferedRandom"),
    )
}
