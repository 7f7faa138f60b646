"""Views of what goes on inside a pool, for `pool._faces._standard`.

All are made for one look, and see to it that work goes on for those who look again and again
instead of waiting.
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
    """Return what these engines still have to give outcomes to, or to call back, by number.

    An input of which no more is read until somebody takes results would be unfinished for ever: so
    it is read.
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
    """Return how many tasks lie before workers that run others, or that are starting."""
    count = 0
    for engine in engines:
        engine.attend()
        for worker in list(engine.scheduler.workers.values()):
            messages = list(worker.messages.values())
            count += sum(message.chunks for message in messages[1 if worker.ready else 0 :])
    return count


class Count:
    """A queue of which is told how much is in it.

    Parameters
    ----------
    count : callable
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


class Handler:
    """What stands for the threads of the standard's Pool: whether anything is handled.

    Parameters
    ----------
    pool : Pool
    """

    daemon = True

    def __init__(self, pool: StandardPool) -> None:
        self._pool = pool

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
    """What stands for the event of a result.

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
