"""The home of this process: the runtime that `remote`, `get` and `put` use.

In a program it is the `Runtime`, which owns all objects and actors. In a worker it is a
`BorrowedRuntime`, which asks the program's. A process has at most one home; a forked child starts
its own.
"""

from __future__ import annotations

import _thread

from store._children import in_child, notice_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from typing import Any, Protocol
    from weakref import WeakValueDictionary

    from pool._objects._refs import ActorFacts, ActorRef, ObjectRef, Ref

    class Home(Protocol):
        """The methods that the functions of `pool._ray` need of a runtime."""

        named: WeakValueDictionary[bytes, Ref]
        #: The number of objects that have got a value or an error.
        seals: int
        #: The number of objects that have got an error.
        failures: int

        @property
        def usable(self) -> bool:
            """Whether it can be used; a home that cannot is replaced."""

        @property
        def foreign(self) -> bool:
            """Whether it belongs to the process that was forked."""

        def arrived(self, kind: str, name: bytes, facts: ActorFacts | None) -> Ref:
            """Return the reference of that name, found in a pickle; a worker borrows it."""

        def lent(self, kind: str, name: bytes, facts: ActorFacts | None) -> Ref:
            """Return the reference of that name, which the sender has noted as held here."""

        def taken_over(self, refs: Sequence[Ref]) -> None:
            """Note that references have arrived, which were kept for this process until now."""

        def future(self, ref: ObjectRef) -> Future[Any]:
            """Return a future of an object's value."""

        def put(self, value: object) -> ObjectRef:
            """Store a value."""

        def put_stored(self, stored: Any) -> ObjectRef:
            """Store a value that `seal` returned."""

        def submit(self, code: Any, args: Any, kwargs: Any, options: Any) -> list[ObjectRef]:
            """Run a task."""

        def create(self, code: Any, args: Any, kwargs: Any, options: Any) -> ActorRef:
            """Start an actor."""

        def call(
            self, actor: ActorRef, method: str, args: Any, kwargs: Any, returns: int, options: Any
        ) -> list[ObjectRef]:
            """Call a method of an actor; options None: those that the method has."""

        def fetch(self, refs: Sequence[ObjectRef], timeout: float | None) -> list[Any]:
            """Wait for objects and return ``(state, stored value)`` of each."""

        def wait(self, refs: Sequence[ObjectRef], number: int, timeout: float | None) -> None:
            """Wait until `number` of the objects have got their values, or the timeout."""

        def are_ready(self, refs: Sequence[ObjectRef]) -> list[bool]:
            """Return for each object whether it has got its value."""

        def cancel(self, ref: ObjectRef, force: bool, recursive: bool) -> None:
            """Cancel the task or call whose result the object is."""

        def kill(self, actor: ActorRef, no_restart: bool) -> None:
            """End an actor at once."""

        def find(self, name: str, namespace: str | None) -> ActorRef | None:
            """Return a named actor."""

        def facts(self) -> dict[str, Any]:
            """Return the resources, the node and other facts about the runtime."""

        def stop(self) -> None:
            """End the runtime with all its tasks and actors."""


_home: Home | None = None
#: Makes the home of a process that has none. `pool._ray` sets it, so that this package does not
#: import any runtime.
starter: Callable[[], Home] | None = None
#: The thread that ends the interpreter, see `close`; 0 before.
_last = 0
#: Whether `starter` makes a `BorrowedRuntime`: this process is a worker of a program.
borrows = False
#: Whether this process was forked from one with a home, and may have references of that one's.
forked = False


def current() -> Home:
    """Return the home of this process; start one if there is none that can be used."""
    if _home is not None and _home.usable:
        return _home
    notice_fork()
    if _last == _thread.get_ident():
        raise RuntimeError("the program is ending: no tasks and actors can be started any more")
    with _starting:
        home = found()  # another thread may have been quicker
        if home is None or not home.usable:
            if home is not None:
                home.stop()
            if starter is None:
                raise RuntimeError("a reference arrived in a process outside its program")
            home = starter()
            set_current(home)
        return home


def found() -> Home | None:
    """Return the home of this process, None if there is none yet."""
    notice_fork()
    return _home


def close() -> None:
    """Have no home made from now on, since the interpreter goes down.

    `current` raises an error in this thread, which runs the finalizers. Other threads, which are
    daemons and would print the error, wait in `current` until they are ended.
    """
    global _last
    _starting.acquire(timeout=1.0)
    _last = _thread.get_ident()


def borrow(start: Callable[[], Home]) -> None:
    """Have `start` make the home of this process, a worker: it asks the program's runtime."""
    global starter, borrows
    starter, borrows = start, True


def starting() -> AbstractContextManager[object]:
    """Return the lock under which the home is made and given up."""
    notice_fork()
    return _starting


def give_up(home: Home) -> None:
    """Give up `home`, unless another thread has replaced it since."""
    with _starting:
        if _home is home:
            set_current(None)


def set_current(home: Home | None) -> None:
    """Make `home` that of this process."""
    global _home
    _home = home


def _after_fork() -> None:
    global _starting, _last, forked
    _starting = _thread.RLock()
    _last = 0
    forked = forked or _home is not None
    set_current(None)


_starting = _thread.RLock()


in_child(_after_fork)
