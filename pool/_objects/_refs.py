"""References to objects and actors: who holds them, and how they cross processes.

Objects are owned by Python's own counting of references. In the program that owns an object, the
`ObjectRef` *is* the object's record. All who need the object hold it: the user, a task that waits
for it, another object that contains it, the record of a worker that borrowed it. When the last of
them drops it, the value is freed; no count is kept by hand. In a worker, references are *borrowed*:
they return the loan when they are collected.

A reference gets a name (28 random-looking bytes) when it first leaves the process. Most never
leave it.
"""

from __future__ import annotations

import _thread
import os
from itertools import count
from types import GenericAlias

from store._children import in_child
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Sequence
    from typing import Any, Self

    from pool._objects._home import Home
    from pool._objects._ids import TaskID

#: States of an object. All but PENDING are true: `get` need not wait.
PENDING, READY, FAILED = 0, 1, 2

NAME_NBYTES = 28


class Ref:
    """A reference to an object or an actor.

    Parameters
    ----------
    home : Home
        The runtime of this process.
    name : bytes, optional
        The name under which other processes know it already.
    """

    __slots__ = ("__weakref__", "_home", "_name")

    def __init__(self, home: Home, name: bytes | None = None) -> None:
        self._home = home
        self._name = name

    def binary(self) -> bytes:
        """Return the name; make one if it has none yet."""
        name = self._name
        if name is None:
            with _naming:
                name = self._name
                if name is None:
                    name = new_name()
                    self._home.named[name] = self
                    self._name = name
        return name

    def hex(self) -> str:
        """Return the name as hexadecimal digits."""
        return self.binary().hex()

    def __reduce__(self) -> tuple[Any, ...]:
        collected = getattr(_collecting, "refs", None)
        if collected is None:
            raise TypeError(
                f"{self!r} can be sent only within the program that made it: as an argument "
                "of `.remote()`, in a value that is put or returned; here something else "
                "pickles it, and nobody would keep its object alive"
            )
        collected.append(self)
        return arrive, (type(self)._kind, self.binary())

    def __copy__(self) -> Self:
        return self  # a copy would refer to the same object or actor

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    _kind = ""


class ObjectRef(Ref):
    """Stand for the value of a task or of `put`, which `get` waits for.

    Can be passed to tasks and actors (as an argument of its own: they get the value; inside
    a list or another object: they get the reference), awaited, and turned into a
    `concurrent.futures.Future`.
    """

    __module__ = "pool"

    __slots__ = ("_call", "_state", "_value", "_watchers")
    _kind = "o"

    #: In annotations: ``ObjectRef[int]``.
    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self, home: Home, name: bytes | None = None) -> None:
        self._home = home
        self._name = name
        self._state = PENDING
        self._value: Any = None
        self._watchers: list[Callable[[ObjectRef], None]] | None = None
        #: The task or call whose result it is, as long as that can be cancelled.
        self._call: Any = None

    # ------------------------------------------------------------------ of the home

    def _seal(self, state: int, value: Any) -> None:
        """Set the value or error, unless it is set already; under the lock of the home."""
        if self._state:
            return
        self._value = value
        self._call = None
        # Last: from here on threads that do not hold the lock read the value.
        self._state = state
        self._home.seals += 1
        if state == FAILED:
            self._home.failures += 1
        watchers, self._watchers = self._watchers, None
        for watcher in watchers or ():
            watcher(self)

    def _watch(self, watcher: Callable[[ObjectRef], None]) -> bool:
        """Have `watcher` called when the value is set; False if it is set. Under the lock."""
        if self._state:
            return False
        if self._home.foreign:
            from pool._objects._outcomes import disown

            disown(self)
            return False
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(watcher)
        return True

    def _unwatch(self, watcher: Callable[[ObjectRef], None]) -> None:
        """Undo `_watch`."""
        if self._watchers is not None and watcher in self._watchers:
            self._watchers.remove(watcher)

    # ------------------------------------------------------------------ for users

    def future(self) -> Any:
        """Return a `concurrent.futures.Future` of the value."""
        return self._home.future(self)

    def as_future(self) -> asyncio.Future[Any]:
        """Return an `asyncio.Future` of the value."""
        import asyncio

        return asyncio.wrap_future(self.future())

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.as_future().__await__()

    def task_id(self) -> TaskID:
        """Return the name of the task or call of which this is the only result."""
        from pool._objects._ids import TaskID

        return TaskID(self.binary())

    def is_nil(self) -> bool:
        """Return False: there is an object behind every reference."""
        return False

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"


class ActorRef(Ref):
    """A reference to an actor, which ends when the last one is gone, unless it is detached.

    Attributes
    ----------
    facts : ActorFacts
        What handles have to know of the class.
    record : object
        The actor's record in the runtime; only in the program, None in workers.
    finalizer : Finalizer
        Tells the runtime when this reference is freed; only in the program, None in workers.
    """

    __slots__ = ("facts", "finalizer", "record")
    _kind = "a"

    def __init__(self, home: Home, facts: ActorFacts, name: bytes | None) -> None:
        super().__init__(home, name)
        self.facts = facts
        self.record: Any = None
        self.finalizer: Finalizer | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        function, (_, name) = super().__reduce__()
        return function, (self._kind, name, self.facts)


class Finalizer(int):
    """Calls `ended` when the object that holds this one has been freed.

    A ``__del__`` or a weak reference of the holder would tell too early if the holder is in a
    cycle of garbage: the ``__del__`` of another object of the cycle may still use the holder. This
    object refers to nothing, so the garbage collector does not track it, and it is freed only
    when its holder is really taken apart.

    Parameters
    ----------
    ended : callable
        Called by any thread, at any time.
    """

    __slots__ = ()

    #: What each of them calls, by its number.
    _ends: dict[int, Callable[[], None]] = {}

    def __new__(cls, ended: Callable[[], None]) -> Finalizer:
        """Make one with a number of its own."""
        finalizer = super().__new__(cls, next(_numbers))
        cls._ends[finalizer.real] = ended  # not `finalizer`: it would be held here
        return finalizer

    def __del__(self, _shield: Any = shield) -> None:
        _shield.finalize(self._ends.pop(self.real))


class ActorFacts:
    """What every handle of an actor knows.

    Attributes
    ----------
    title : str
        Name of the class.
    module : str
    methods : dict
        By name of the method: the number of values that it returns, whether it is a generator,
        and its `Signature`.
    is_async : bool
        Whether the class has async methods.
    calls : dict
        By name, for methods that have some: the `CallOptions` of their calls.
    groups : tuple of str
        The actor's concurrency groups.
    """

    __slots__ = ("calls", "groups", "is_async", "methods", "module", "title")

    def __init__(
        self,
        title: str,
        module: str,
        methods: dict[str, tuple[Any, bool, Any]],
        is_async: bool,
        calls: dict[str, Any],
        groups: tuple[str, ...],
    ) -> None:
        self.title = title
        self.module = module
        self.methods = methods
        self.is_async = is_async
        self.calls = calls
        self.groups = groups

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorFacts, (
            self.title, self.module, self.methods, self.is_async, self.calls, self.groups
        )  # fmt: skip


#: The older name of the class in Ray.
ObjectID = ObjectRef


# ---------------------------------------------------------------------- crossing processes


class Collecting:
    """Collect the references that this thread pickles inside a ``with`` block."""

    __slots__ = ("_before", "refs")

    def __enter__(self) -> list[Ref]:
        self._before = getattr(_collecting, "refs", None)
        self.refs: list[Ref] = []
        _collecting.refs = self.refs
        return self.refs

    def __exit__(self, *exc: object) -> None:
        _collecting.refs = self._before


class Known:
    """Have this thread unpickle the names of these references as these references themselves.

    Holds inside a ``with`` block, and whatever runtime the references are of. That may have
    ended, or be the one of a parent process; the present runtime would take their names for
    references of its own.

    Parameters
    ----------
    refs : sequence of Ref
    """

    __slots__ = ("_before", "_refs")

    def __init__(self, refs: Sequence[Ref]) -> None:
        self._refs = refs

    def __enter__(self) -> None:
        self._before = getattr(_collecting, "known", None)
        _collecting.known = {ref.binary(): ref for ref in self._refs}

    def __exit__(self, *exc: object) -> None:
        _collecting.known = self._before


def arrive(kind: str, name: bytes, facts: ActorFacts | None = None) -> Ref:
    """Return the reference of this process with that name: the unpickling of a `Ref`."""
    from pool._objects._home import current

    known: dict[bytes, Ref] | None = getattr(_collecting, "known", None)
    if known is not None and name in known:
        return known[name]
    return current().arrived(kind, name, facts)


def under_name(home: Home, name: bytes) -> Ref:
    """Return the reference under a name that another process gave it; make it if there is none.

    From any thread: several of a detached actor may receive it at once, and get the same one.
    """
    with _naming:
        ref = home.named.get(name)
        if ref is None:
            ref = home.named[name] = ObjectRef(home, name)
        return ref


def new_name() -> bytes:
    """Return a new name, which no reference of any process has."""
    return _prefix + next(_numbers).to_bytes(8, "big")


def _renew() -> None:
    global _prefix, _naming
    _prefix = os.urandom(NAME_NBYTES - 8)
    # Another thread may have held the lock when the parent forked.
    _naming = _thread.RLock()


_prefix = b""
_numbers = count(1)
_collecting = _thread._local()
_naming: Any = None
_renew()
in_child(_renew)
