"""A queue that tasks and actors share: it lives in an actor of its own."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable

from pool._ray._api import get, kill, remote, wait

__all__ = ["Empty", "Full", "Queue"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Empty(queue.Empty):
    """The queue has too few values."""


class Full(queue.Full):
    """The queue has too little room."""


class Queue:
    """Pass values between tasks, actors and the program, first in, first out.

    It can be passed to tasks and actors, and ends when no process refers to it any more.

    Parameters
    ----------
    maxsize : int
        The number of values that it has room for; 0: any number.
    actor_options : dict, optional
        Options of the actor that holds the values.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        self.actor = remote(_QueueActor).options(**(actor_options or {})).remote(maxsize)

    def __len__(self) -> int:
        return self.qsize()

    def qsize(self) -> int:
        """Return how many values are in it."""
        return int(get(self.actor.qsize.remote()))

    size = qsize

    def empty(self) -> bool:
        """Return whether there is nothing in it."""
        return bool(get(self.actor.empty.remote()))

    def full(self) -> bool:
        """Return whether there is no room in it."""
        return bool(get(self.actor.full.remote()))

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put a value in.

        Parameters
        ----------
        item : object
        block : bool
            Wait for room.
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        Full
            If there is no room, or none in time.
        ValueError
            If the timeout is negative.
        """
        try:
            get(self._putting(item, block, timeout))
        except Full as error:
            raise _plain(error) from None

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Do as `put`, in a coroutine."""
        try:
            await self._putting(item, block, timeout)
        except Full as error:
            raise _plain(error) from None

    def _putting(self, item: Any, block: bool, timeout: float | None) -> Any:
        if not block:
            return self.actor.put_nowait.remote(item)
        return self.actor.put.remote(item, _checked(timeout))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next value out.

        Parameters
        ----------
        block : bool
            Wait for one.
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        Empty
            If there is none, or none in time.
        ValueError
            If the timeout is negative.
        """
        try:
            return get(self._getting(block, timeout))
        except Empty as error:
            raise _plain(error) from None

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """Do as `get`, in a coroutine."""
        try:
            return await self._getting(block, timeout)
        except Empty as error:
            raise _plain(error) from None

    def _getting(self, block: bool, timeout: float | None) -> Any:
        if not block:
            return self.actor.get_nowait.remote()
        return self.actor.get.remote(_checked(timeout))

    def put_nowait(self, item: Any) -> None:
        """Put a value in, or raise `Full`."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """Take the next value out, or raise `Empty`."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Put all of these values in; if there is no room for all, none, and raise `Full`."""
        if not isinstance(items, Iterable):
            raise TypeError(f"items={items!r}: an iterable is expected")
        try:
            get(self.actor.put_nowait_batch.remote(list(items)))
        except Full as error:
            raise _plain(error) from None

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take `num_items` values out; if there are fewer, none, and raise `Empty`."""
        if not isinstance(num_items, int):
            raise TypeError(f"num_items={num_items!r}: a whole number is expected")
        if num_items < 0:
            raise ValueError(f"num_items={num_items}: it must not be negative")
        try:
            return list(get(self.actor.get_nowait_batch.remote(num_items)))
        except Empty as error:
            raise _plain(error) from None

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the queue; calls that still wait raise `ActorDiedError`.

        Parameters
        ----------
        force : bool
            End it at once, without waiting for the calls made before.
        grace_period_s : float
            Seconds to wait for these calls at most.
        """
        if self.actor is None:
            return
        if force or not wait([self.actor.__ray_terminate__.remote()], timeout=grace_period_s)[0]:
            kill(self.actor)
        self.actor = None


def _plain(error: Any) -> Exception:
    """Return the error that the actor raised as an error of its plain class."""
    cause: Exception = error.cause
    return type(cause)(*cause.args)


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


class _QueueActor:
    """The actor that holds the values."""

    def __init__(self, maxsize: int) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    def qsize(self) -> int:
        return self._queue.qsize()

    def empty(self) -> bool:
        return self._queue.empty()

    def full(self) -> bool:
        return self._queue.full()

    async def put(self, item: Any, timeout: float | None) -> None:
        try:
            await asyncio.wait_for(self._queue.put(item), timeout)
        except TimeoutError:
            raise Full from None

    async def get(self, timeout: float | None) -> Any:
        try:
            return await asyncio.wait_for(self._queue.get(), timeout)
        except TimeoutError:
            raise Empty from None

    def put_nowait(self, item: Any) -> None:
        self.put_nowait_batch([item])

    def put_nowait_batch(self, items: list[Any]) -> None:
        room = self._queue.maxsize - self._queue.qsize()
        if 0 < self._queue.maxsize and room < len(items):
            raise Full(f"there is room for {room} of {len(items)} values")
        for item in items:
            self._queue.put_nowait(item)

    def get_nowait(self) -> Any:
        return self.get_nowait_batch(1)[0]

    def get_nowait_batch(self, number: int) -> list[Any]:
        there = self._queue.qsize()
        if there < number:
            raise Empty(f"there are {there} of {number} values")
        return [self._queue.get_nowait() for _ in range(number)]
