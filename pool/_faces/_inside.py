"""Views of what goes on inside a pool, for `pool._faces._standard`.

Each is made anew when a program asks for it. Programs may poll them instead of waiting for a
result, so asking also drives the engine: otherwise the work would not go on.
"""

from __future__ import annotations

from pool._local._members import members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pool._faces._standard import StandardPool, StandardResult
    from pool._local._engine import LocalEngine


def unfinished(engines: Iterable[LocalEngine]) -> dict[Any, Any]:
    """Return the jobs of these engines that lack outcomes or whose callbacks are due, by number.

    A lazy input is read no further until somebody takes results, and a program that polls here
    until nothing is left takes none: so the rest of the input is read.
    """
    found: dict[Any, Any] = {}
    for engine in engines:
        for lazy in members(engine.lazies):
            lazy.work_off()
        engine.catch_up()
        engine.attend()
        found.update(engine.unfinished())
    return found


def queued(engines: Iterable[LocalEngine]) -> int:
    """Return how many tasks have not been sent to a worker."""
    count = 0
    for engine in engines:
        engine.catch_up()
        engine.attend()
        count += engine.scheduler.queued
    return count


def sent_ahead(engines: Iterable[LocalEngine]) -> int:
    """Return how many tasks have been sent to workers that run another task or are starting."""
    count = 0
    for engine in engines:
        engine.attend()
        for worker in list(engine.scheduler.workers.values()):
            messages = list(worker.messages.values())
            count += sum(message.chunks for message in messages[1 if worker.ready else 0 :])
    return count


class Count:
    """Stands for a queue of the standard's Pool; tells only how much is in it.

    Parameters
    ----------
    count : callable
        Returns the number of items.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def qsize(self) -> int:
        """Return how many items there are."""
        return self._count()

    def empty(self) -> bool:
        """Return whether there are none."""
        return not self._count()

    def __repr__(self) -> str:
        return f"<{self._count()} waiting>"


class TaskQueue(Count):
    """Stands for the queue of tasks; also takes those of an iterator that a program has made.

    The lazy ``starmap`` that programs copy from each other makes an `IMapIterator` and puts its
    tasks here.

    Parameters
    ----------
    pool : Pool
    """

    def __init__(self, pool: StandardPool) -> None:
        super().__init__(lambda: queued(pool._engines.all()))
        self._pool: Any = pool

    def put(self, tasks: tuple[tuple[Any, Iterable[Any]], Any]) -> None:
        """Start to work on what `_guarded_task_generation` returned, with `_set_length`."""
        from pool._faces._lazy_calls import start_made

        (func, iterable), set_length = tasks
        start_made(self._pool, set_length.__self__, func, iterable)


class Handler:
    """Stands for the threads of the standard's Pool; tells whether the pool handles work.

    Parameters
    ----------
    pool : Pool
    """

    daemon = True

    def __init__(self, pool: StandardPool) -> None:
        self._pool: Any = pool

    @property
    def _state(self) -> str:
        """That of the pool. To set it ends the workers, unless it is set to ``"RUN"``.

        Programs set it to have no worker replaced from now on. Then they kill all of them, and wait
        until none is alive.
        """
        state: str = self._pool._state
        return state

    @_state.setter
    def _state(self, value: str) -> None:
        if value != "RUN":
            self._pool._end()  # not `terminate`, since a derived class may do this there
            self._pool._engines.linger()

    def is_alive(self) -> bool:
        """Return whether the pool does its work: until it was terminated, or closed and joined."""
        engines = self._pool._engines
        if self._pool._state == "RUN":
            return True  # where its engine has gone, the next call gets another one
        return self._pool._state == "CLOSE" and any(
            not engine.driver.closed for engine in engines.all()
        )

    def __repr__(self) -> str:
        return f"<handler of {self._pool!r}: {'alive' if self.is_alive() else 'ended'}>"


class Done:
    """Stands for the event that the standard sets when a result is there.

    Parameters
    ----------
    result : AsyncResult
    """

    def __init__(self, result: StandardResult) -> None:
        self._result: Any = result

    def is_set(self) -> bool:
        """Return whether the result is there."""
        ready: bool = self._result.ready()
        return ready

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the result; return whether it is there."""
        self._result.wait(timeout)
        return self.is_set()
