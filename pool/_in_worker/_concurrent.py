"""Actors that run several calls side by side: on threads, or on event loops."""

from __future__ import annotations

import _thread
from functools import partial

from pool._clock import perf_counter
from pool._in_worker._context import context
from pool._in_worker._runner import cancelled, tidy
from pool._objects._protocol import CALL, DROP, STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from typing import Any, TypeVar

    from pool._in_worker._actor import ActorHost
    from pool._in_worker._lanes import Lane

    T = TypeVar("T")


def serve_threads(host: ActorHost, concurrency: int) -> None:
    """Receive in this thread, and run calls on up to `concurrency` others."""
    threads = Threads(concurrency, host.groups)
    left = False
    try:
        left = serve_on(threads, host)
    finally:
        # If one call has left, the others run to their ends, as in Ray.
        threads.shutdown(wait=left)
    if left:
        host.part()


class Threads:
    """Threads that run calls, some for each concurrency group.

    Parameters
    ----------
    concurrency : int
        Calls that may run at the same time and are in no group; 0: one.
    groups : mapping
        Those of each group.
    """

    def __init__(self, concurrency: int, groups: Mapping[str, int]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._executors = {
            group: ThreadPoolExecutor(number, thread_name_prefix="actor")
            for group, number in {"": concurrency or 1, **groups}.items()
        }

    def submit(self, run: Callable[..., None], head: Any, blobs: list[Any]) -> Future[None]:
        """Have a call run; raise RuntimeError after `shutdown`."""
        return of_group(self._executors, head).submit(run, head, blobs)

    def shutdown(self, wait: bool) -> None:
        """Begin no more calls; with `wait`, return when those that run are over."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
        for executor in self._executors.values():
            executor.shutdown(wait=wait)


def of_group(groups: Mapping[str, T], head: Any) -> T:
    """Return what belongs to the concurrency group of a call."""
    # A program that takes a detached actor for one of another class may name one that is not here.
    return groups.get(head[-1], groups[""])


def serve_on(threads: Threads, host: ActorHost) -> bool:
    """Receive in this thread, and run calls on threads that other connections may use as well.

    Returns
    -------
    bool
        Whether it ended because the actor leaves.
    """
    from concurrent.futures import wait

    host.alone = False
    leaving = _thread.allocate_lock()

    def run(head: Any, blobs: list[Any]) -> None:
        if leaving.locked():
            return  # not begun: the caller is answered by the end of the actor
        if not host.run(head, blobs) and leaving.acquire(False):
            # The receiving thread sleeps in `recv`; to shut down its end of the socket wakes it.
            host.channel.socket.shutdown(0)
        tidy()

    def forget(number: int, _: object) -> None:
        dropped.pop(number, None)

    dropped: dict[int, Any] = {}
    try:
        while True:
            message = host.receive()
            if message is None:
                if host.detached:
                    # The program may have ended. What it has called is done all the same.
                    wait(list(dropped.values()))
                return leaving.locked()
            head, blobs = message
            if head[0] == CALL:
                try:
                    future = threads.submit(run, head, blobs)
                except RuntimeError:
                    return False  # the actor has left by another connection
                dropped[head[1]] = future
                future.add_done_callback(partial(forget, head[1]))
            elif head[0] == DROP:
                _drop(host, head[1], dropped)
    finally:
        for future in list(dropped.values()):
            future.cancel()


def _drop(host: ActorHost, number: int, futures: dict[int, Any]) -> None:
    future = futures.get(number)
    if future is None:
        return  # the call is over
    host.note_drop(number)
    if future.cancel():
        from pool.exceptions import TaskCancelledError

        host.fail(number, TaskCancelledError("the call was cancelled before it began"), 0.0)


def serve_async(host: ActorHost, concurrency: int, construct: Callable[[], bool]) -> None:
    """Make the instance and run its calls on an event loop; methods that are not async block it.

    The constructor runs on the loop as well: it may make asyncio tasks, which run beside the calls.
    """
    from pool._in_worker._lanes import open_lanes, run

    lanes: dict[str, Lane] = {}
    server = AsyncServer(host, lanes)
    lanes.update(open_lanes(concurrency, host.groups, server.leave))

    async def live() -> None:
        if await lanes[""].construct(construct):
            await server.serve()

    run(live(), server.leave)
    for lane in lanes.values():
        lane.close(wait=host.leaves)


class AsyncServer:
    """Run the calls that come over one channel.

    Parameters
    ----------
    host : ActorHost
    lanes : mapping
        By concurrency group; all channels to an actor share them.

    Attributes
    ----------
    left : bool
        Whether it ended because the actor leaves.
    """

    def __init__(self, host: ActorHost, lanes: Mapping[str, Lane]) -> None:
        import asyncio

        self.left = False
        self._host = host
        host.alone = False
        self._lanes = lanes
        #: By number of the call that runs, or waits for its turn: what cancels it.
        self._calls: dict[int, Callable[[], object]] = {}
        #: Set whenever one of them is over.
        self._over = asyncio.Event()
        self._end = asyncio.Event()
        self._receiver = _thread.get_ident()
        #: The loop that receives, in that thread; None before it does.
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self) -> None:
        """Serve until the other end is closed, or the actor leaves and what runs is over."""
        import asyncio

        self._loop = loop = asyncio.get_running_loop()
        if self.left:
            self._end.set()  # it was told so before
        fd = self._host.channel.fileno()
        loop.add_reader(fd, self._on_readable)
        try:
            await self._end.wait()
        finally:
            loop.remove_reader(fd)
        # Of a detached actor, what a program that has ended has called is done all the same.
        while self._calls and (self.left or self._host.detached):
            self._over.clear()
            await self._over.wait()
        if self.left:
            self._host.part()

    def leave(self) -> None:
        """Take no more calls: the actor leaves. Calls that run go on to their ends, as in Ray.

        Called in any thread.
        """
        from pool._in_worker._lanes import tell

        self.left = self._host.leaves = True
        self._host.give_up_name()
        if _thread.get_ident() == self._receiver:
            # At once: `SystemExit` may have stopped the loop in front of a read that it was about
            # to do, which it then does twice, unless `serve` ends first.
            self._end.set()
        elif self._loop is not None:
            tell(self._loop, self._end.set)

    def _on_readable(self) -> None:
        self._host.end_fork()  # a fork of the actor must not read its messages
        # One message, with all its calls; the event loop calls this again if there are more.
        self._take()
        while self._host.has_more:
            self._take()

    def _take(self) -> None:
        try:
            message = self._host.receive()
        except BaseException:
            # A message was lost, perhaps a call that is waited for: the actor ends as an answer.
            self._end.set()
            raise
        if message is None:
            self._end.set()
            return
        head, blobs = message
        number = head[1]
        if head[0] == CALL:
            lane = of_group(self._lanes, head)
            call = self._run(head, blobs, lane.slots)
            self._calls[number] = lane.start(call, partial(self._forget, number))
        elif head[0] == DROP and number in self._calls:
            self._calls[number]()

    def _forget(self, number: int) -> None:
        self._calls.pop(number, None)
        self._over.set()
        tidy()

    async def _run(self, head: Any, blobs: list[Any], slots: asyncio.Semaphore) -> None:
        import asyncio

        _, number, method, returns, layout, task, _ = head
        host = self._host
        begun = 0.0
        try:
            async with slots:
                if self.left:
                    return  # not begun: the caller is answered by the end of the actor
                begun = perf_counter()
                context.name = f"{host.title}.{method}"
                context.begin(host, number)
                value = host.begin(method, layout, blobs, task)
                host.end_fork()
                answer = await self._finish(number, value, returns, method)
        except asyncio.CancelledError:
            if self._end.is_set():
                return  # the event loop ends: the caller is answered by the end of the actor
            host.fail(number, cancelled(f"{host.title}.{method}"), begun)
        except BaseException as error:
            if not host.fail(number, error, begun):
                self.leave()
        else:
            host.answer(number, answer, begun)

    async def _finish(self, number: int, value: Any, returns: int, method: str) -> Any:
        """Await what a method has returned, if need be; return the answer to its call."""
        if hasattr(value, "__aiter__"):
            if returns == STREAM:
                return await self._stream(number, value)
            value = [item async for item in value]
        elif hasattr(value, "__await__"):
            value = await value
            self._host.end_fork()
        return self._host.finish(number, value, returns, method)

    async def _stream(self, number: int, values: Any) -> int:
        count = 0
        async for value in values:
            self._host.yielded(number, count, value)
            count += 1
        return count
