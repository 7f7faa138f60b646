"""Where an async actor runs the calls of each of its concurrency groups.

An actor without groups has one lane, on the event loop that receives its calls. One that has groups
has a lane for each, and one for the calls that are in none: each has an event loop of its own, in a
thread, so that a method which blocks its loop holds up no other group.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from pool._in_worker._graceful_exit import GRACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")


class Lane:
    """Runs calls on the event loop that receives them.

    Parameters
    ----------
    concurrency : int
        Calls that may run at the same time.

    Attributes
    ----------
    slots : asyncio.Semaphore
        One for each of these.
    """

    def __init__(self, concurrency: int) -> None:
        self.slots = asyncio.Semaphore(concurrency)

    async def construct(self, construct: Callable[[], T]) -> T:
        """Return what `construct` returns, called where the calls run."""
        return construct()

    def start(
        self, call: Coroutine[Any, Any, None], over: Callable[[], object]
    ) -> Callable[[], object]:
        """Run a call.

        Parameters
        ----------
        call : coroutine
        over : callable
            Called at its end, on the loop that receives.

        Returns
        -------
        callable
            Cancels it. To be held until it is over, as the loop does not hold it.
        """
        task = asyncio.ensure_future(call)
        task.add_done_callback(lambda _: over())
        return task.cancel

    def close(self, wait: bool) -> None:
        """End the loop, if it is its own; with `wait`, return when what runs there has ended."""


class LaneBeside(Lane):
    """Runs calls on an event loop of its own.

    Parameters
    ----------
    concurrency : int
    group : str
        Names its thread.
    leave : callable
        Called, in any thread, if something that runs on the loop ends the actor.
    """

    def __init__(self, concurrency: int, group: str, leave: Callable[[], None]) -> None:
        super().__init__(concurrency)
        self._end = asyncio.Event()
        started = threading.Event()

        async def live() -> None:
            self._loop = asyncio.get_running_loop()
            started.set()
            await self._end.wait()

        self._thread = threading.Thread(
            target=lambda: run(live(), leave), name=f"actor: {group or 'default'}", daemon=True
        )
        self._thread.start()
        started.wait()

    async def construct(self, construct: Callable[[], T]) -> T:
        """Return what `construct` returns, called where the calls run."""

        async def make() -> T:
            return construct()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self._loop))

    def start(
        self, call: Coroutine[Any, Any, None], over: Callable[[], object]
    ) -> Callable[[], object]:
        """Run a call; see `Lane`."""
        receiving = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            task = self._loop.create_task(call)
            task.add_done_callback(lambda _: tell(receiving, over))
            tasks.append(task)

        def cancel() -> None:
            # Behind its first step: a task that is cancelled before that runs nothing at all, so
            # that nobody would answer the call.
            self._loop.call_soon(tasks[0].cancel)

        tell(self._loop, begin)
        return lambda: tell(self._loop, cancel)

    def close(self, wait: bool) -> None:
        """End the loop; see `Lane`."""
        tell(self._loop, self._end.set)
        if wait:
            self._thread.join(GRACE)


def open_lanes(
    concurrency: int, groups: Mapping[str, int], leave: Callable[[], None]
) -> dict[str, Lane]:
    """Return the lanes of an actor by concurrency group; "": of the calls that are in none.

    Parameters
    ----------
    concurrency : int
        Calls that are in no group and may run at the same time.
    groups : mapping
        Those of each group.
    leave : callable
        As for `LaneBeside`.
    """
    if not groups:
        return {"": Lane(concurrency)}
    return {
        group: LaneBeside(number, group, leave)
        for group, number in {"": concurrency, **groups}.items()
    }


def tell(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Have a loop call a function; from any thread."""
    with suppress(RuntimeError):  # the loop is closed, since the actor ends
        loop.call_soon_threadsafe(function)


def run(main: Coroutine[Any, Any, T], leave: Callable[[], None]) -> T:
    """Run a coroutine on an event loop of its own, as `asyncio.run` does, to its end.

    `SystemExit`, and what `exit_actor` raises, goes through the loop if a task of the actor's own
    raises it, or a callback: the loop stops. Here it goes on, since what else runs has to end, too.

    Parameters
    ----------
    main : coroutine
    leave : callable
        Called in that case: the actor is to end.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except SystemExit:
                if task.done():
                    raise
                leave()
