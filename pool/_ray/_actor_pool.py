"""Give work to a set of actors, one item at a time to each."""

from __future__ import annotations

from collections import deque

from pool._ray._api import get, wait
from pool.exceptions import ActorDiedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from pool._objects._refs import ObjectRef
    from pool._ray._classes import ActorHandle


class ActorPool:
    """Passes values to the actors of a list, each to one that is free.

    Parameters
    ----------
    actors : list of ActorHandle
    """

    __module__ = "pool"

    def __init__(self, actors: list[ActorHandle]) -> None:
        self._idle = list(actors)
        #: By reference, the last one of several: the number of the value, the actor that has it,
        #: and all that the call returned.
        self._running: dict[ObjectRef, tuple[int, ActorHandle, Any]] = {}
        self._refs: dict[int, ObjectRef] = {}
        self._next_task = 0
        self._next_return = 0
        self._waiting: deque[tuple[Callable[[ActorHandle, Any], ObjectRef], Any]] = deque()

    def map(
        self, fn: Callable[[ActorHandle, Any], ObjectRef], values: Iterable[Any]
    ) -> Iterator[Any]:
        """Yield ``get(fn(actor, value))`` for each value, in order.

        Parameters
        ----------
        fn : callable
            ``lambda actor, value: actor.method.remote(value)``.
        values : iterable
            Read at once.
        """
        return self._map(fn, values, self.get_next)

    def map_unordered(
        self, fn: Callable[[ActorHandle, Any], ObjectRef], values: Iterable[Any]
    ) -> Iterator[Any]:
        """Do as `map`, and yield results as they come."""
        return self._map(fn, values, self.get_next_unordered)

    def _map(
        self,
        fn: Callable[[ActorHandle, Any], ObjectRef],
        values: Iterable[Any],
        take: Callable[[], Any],
    ) -> Iterator[Any]:
        self._discard()
        for value in values:
            self.submit(fn, value)

        # A function of its own: as a generator, `map` would begin only with the first `next`.
        def results() -> Iterator[Any]:
            while self.has_next():
                yield take()

        return results()

    def _discard(self) -> None:
        # As in Ray's `map_unordered` (its `map` does not wait): wait for the results that an
        # abandoned `map` has left, and drop them.
        while self.has_next():
            try:
                self.get_next_unordered()
            except Exception:
                continue

    def submit(self, fn: Callable[[ActorHandle, Any], ObjectRef], value: Any) -> None:
        """Call ``fn(actor, value)`` with a free actor, at once or as soon as there is one."""
        if self._idle:
            self._start(self._idle.pop(), fn, value)
        else:
            self._waiting.append((fn, value))

    def _start(self, actor: ActorHandle, fn: Callable[..., ObjectRef], value: Any) -> None:
        promised: Any = fn(actor, value)
        ref = promised[-1] if isinstance(promised, list) else promised
        self._running[ref] = (self._next_task, actor, promised)
        self._refs[self._next_task] = ref
        self._next_task += 1

    def has_next(self) -> bool:
        """Return whether there are results to come."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in order of submission.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for it.
        ignore_if_timedout : bool
            Drop it if it is not there in time: the one after it is the next, and its actor is
            given other work, which waits there for the end of the call.

        Raises
        ------
        StopIteration
            If there is none.
        TimeoutError
            If it is not there in time.
        ActorDiedError
            If its actor is dead. That one is given no more work, unless there is no other.
        """
        if not self.has_next():
            raise StopIteration("there are no more results")
        # Skip results that `get_next_unordered` has taken.
        while self._next_return not in self._refs:
            self._next_return += 1
        ref = self._refs[self._next_return]
        if not wait([ref], timeout=timeout)[0]:
            if ignore_if_timedout:
                self._return_actor(self._take_out(ref)[0])
            raise TimeoutError(f"the next result was not there within {timeout} s")
        self._next_return += 1
        return self._finish(ref)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Return the result that comes first; raise what `get_next` raises, and drop no result."""
        if not self.has_next():
            raise StopIteration("there are no more results")
        ready, _ = wait(list(self._running), timeout=timeout)
        if not ready:
            raise TimeoutError(f"no result was there within {timeout} s")
        return self._finish(ready[0])

    def _finish(self, ref: ObjectRef) -> Any:
        actor, promised = self._take_out(ref)
        died = False
        try:
            return get(promised)
        except ActorDiedError as error:  # or what the method, or an argument, has of another one
            died = error.actor_id == actor._actor_id.hex()
            raise
        finally:
            # A dead one would fail all that waits, faster than others work. The last one is to:
            # what waits for an actor has no other way to an outcome.
            if not (died and (self._idle or self._running)):
                self._return_actor(actor)

    def _take_out(self, ref: ObjectRef) -> tuple[ActorHandle, Any]:
        number, actor, promised = self._running.pop(ref)
        del self._refs[number]
        return actor, promised

    def _return_actor(self, actor: ActorHandle) -> None:
        if self._waiting:
            self._start(actor, *self._waiting.popleft())
        else:
            self._idle.append(actor)

    def has_free(self) -> bool:
        """Return whether an actor is free."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> ActorHandle | None:
        """Take a free actor out of the pool; None if none is free."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle) -> None:
        """Add an actor.

        Raises
        ------
        ValueError
            If it is in the pool already.
        """
        if actor in self._idle or any(actor == busy for _, busy, _ in self._running.values()):
            raise ValueError("this actor is in the pool already")
        self._return_actor(actor)
