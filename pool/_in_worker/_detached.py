"""A detached actor: a program of its own, with a door that other programs find.

It is started by exec and then cut loose, so that nothing of the program that made it is
its parent, and that program's end is not its own. It serves any number of programs, each
over a connection of its own with the protocol of ordinary actors. A thread answers the
door, also while the actor is made and while it works.
"""

from __future__ import annotations

import _socket
import os
import sys
import threading
from contextlib import suppress
from time import sleep

from pool._in_worker import _runner
from pool._in_worker._actor import ActorHost
from pool._in_worker._context import context
from pool._in_worker._farewell import farewell
from pool._in_worker._logs import redirect
from pool._objects import _home
from pool._objects import _protocol as protocol
from pool._objects._options import ASYNC_CONCURRENCY
from pool._objects._parcels import unflatten
from pool._pickling import dumps_exception, install_main
from pool._transport import _rendezvous as rendezvous
from pool._transport._channel import Channel
from pool._transport._messages import READY, REFUSED
from pool._transport._sockets import socket_from
from pool._workers._carried import take_over
from pool._workers._imports import when_imported
from pool._workers._settings import apply
from pool._workers._tied import tie_children
from store._codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from typing import Any

    from pool._in_worker._keeper import Life


#: Seconds after which a door that could not be opened is tried again.
_BREATH = 0.05


class Detached:
    """Serve one instance to many programs.

    Parameters
    ----------
    host : ActorHost
        With its instance; copied for each connection.
    """

    def __init__(self, host: ActorHost, config: dict[str, Any]) -> None:
        self._host = host
        self._config = config
        self._end = threading.Event()
        self._turn = threading.Lock()
        #: Held while somebody is told whether the instance is there.
        self._opening = threading.Lock()
        #: Connections from before it is there.
        self._early: list[Channel] = []
        #: Those of connections by which it has left, where several calls run at a time.
        self._left: list[ActorHost] = []
        #: Run the calls of all connections, if there may be several at a time.
        self._threads: ThreadPoolExecutor | None = None

    def run(
        self, first: Channel | None, door: _socket.socket, construct: Callable[[], bool]
    ) -> bool:
        """Make the instance, and serve until one of the methods leaves.

        Parameters
        ----------
        first : Channel or None
            To the program that made it; None if it has been started again.
        door : socket
        construct : callable
            Return whether the instance could be made.

        Returns
        -------
        bool
            Whether there was an instance.
        """
        threading.Thread(target=self._answer_door, args=(door,), daemon=True).start()
        if self._config["is_async"]:
            return self._run_async(first, construct)
        if not construct():
            return False
        concurrency = self._config["concurrency"]
        if concurrency > 1:
            from pool._in_worker._concurrent import threads

            self._threads = threads(concurrency)
        self._open_door(self._in_thread)
        if first is not None:
            self._in_thread(first)
        self._end.wait()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            for host in self._left:
                host.part()
        self._turn.acquire()  # for good: what is still called finds an actor that has ended
        return True

    def _open_door(self, welcome: Callable[[Channel], object]) -> None:
        """Serve those who come, and who have come before the instance was there."""
        with self._opening:
            self._welcome = welcome
            early, self._early = self._early, []
        for channel in early:
            self._let_in(channel)

    def _answer_door(self, door: _socket.socket) -> None:
        while True:
            try:
                channel = rendezvous.accept(door)
            except OSError:
                # No descriptor is free, for a while: whoever it is waits at the door.
                sleep(_BREATH)
                continue
            if channel is not None:
                self._let_in(channel)

    def _let_in(self, channel: Channel) -> None:
        with self._opening:
            welcome = self._welcome
            try:
                self._introduce(channel, welcome is not None)
            except OSError:
                return  # it looked in and left
            if welcome is None:
                self._early.append(channel)
                return
        welcome(channel)

    def _introduce(self, channel: Channel, started: bool) -> None:
        config = self._config
        facts = encode(
            (
                self._host.name, config["namespace"], config["facts"], config["restarts"],
                config["task_retries"],
            )
        )  # fmt: skip
        # Of one that is still being made, too: its handles have to know its methods.
        kind = protocol.STARTED if started else READY
        channel.send((kind, os.getpid(), *self._host.kept_by), [facts.data, *facts.buffers])

    #: Serves one more connection; None before there is an instance.
    _welcome: Callable[[Channel], object] | None = None

    def _in_thread(self, channel: Channel) -> None:
        threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def _serve(self, channel: Channel) -> None:
        """Run the calls of one program; those of all programs take turns."""
        host = self._host.over(channel)
        if self._threads is not None:
            from pool._in_worker._concurrent import serve_on

            if serve_on(self._threads, host):
                self._left.append(host)
                self._end.set()
            return
        while True:
            message = host.receive()
            if message is None:
                channel.close()
                return
            head, blobs = message
            if head[0] != protocol.CALL:
                continue
            with self._turn:
                _speaking.channel = channel
                try:
                    goes_on = host.run(head, blobs)
                except OSError:
                    channel.close()  # who called is gone, or is to take us for that
                    return
            if not goes_on:
                self._end.set()
                return

    def _run_async(self, first: Channel | None, construct: Callable[[], bool]) -> bool:
        import asyncio

        from pool._in_worker._concurrent import AsyncServer, run

        slots = asyncio.Semaphore(self._config["concurrency"] or ASYNC_CONCURRENCY)

        async def serve(channel: Channel) -> None:
            host = self._host.over(channel)
            server = AsyncServer(host, slots)
            servers.add(server)
            await server.serve()
            servers.discard(server)
            if server.left:
                left.set()

        async def main() -> bool:
            if not construct():
                return False
            loop = asyncio.get_running_loop()
            served: set[Any] = set()

            def welcome(channel: Channel) -> None:
                if left.is_set():
                    channel.close()
                    return
                task = asyncio.ensure_future(serve(channel))
                served.add(task)
                task.add_done_callback(served.discard)

            self._open_door(lambda channel: loop.call_soon_threadsafe(welcome, channel))
            if first is not None:
                welcome(first)
            await left.wait()
            for server in servers:
                server.leave()
            while served:
                await asyncio.wait(served)
            return True

        servers: set[AsyncServer] = set()
        left = asyncio.Event()
        return run(main(), left.set)


class _Speaking(threading.local):
    """To whom this thread speaks."""

    channel: Channel | None = None


_speaking = _Speaking()


def _speak(stream: int, text: str) -> None:
    """Hand what was printed to the program whose call prints it; nobody else asked."""
    channel = _speaking.channel
    if channel is None or context.actor is None:
        return
    try:
        head = (protocol.LOG, context.actor.label(), os.getpid(), stream)
        channel.send(head, [text.encode("utf-8", "replace")])
    except OSError:
        return  # it is gone


def main(fd: int) -> None:
    """Become the actor that is described in the first message over `fd`."""
    channel = Channel(socket_from(fd))
    (_, config, layout), blobs = channel.receive()
    os.set_inheritable(fd, False)
    apply(config["settings"])
    os.environ.update(config["environ"])
    found = rendezvous.listen(config["namespace"], config["name"])
    if found is None:
        error = ValueError(f"an actor named {config['name']!r} exists already")
        encoded = dumps_exception(error)
        head = (REFUSED, os.getpid(), len(encoded.buffers), protocol.TAKEN)
        channel.send(head, [encoded.data, *encoded.buffers])
        return
    door, path = found
    life = None
    if config["restarts"]:
        from pool._in_worker._keeper import keep

        try:
            life = keep(config["restarts"], channel)
        finally:
            if life is None:
                rendezvous.leave(path)
        if life is None:
            return
    if life is None or not life.number:
        with suppress(ConnectionError):  # who made it has ended
            # Whom to end, should it never be up.
            channel.send((READY, os.getpid() if life is None else os.getppid()))
    try:
        try:
            host = _live(config, unflatten(layout, blobs), channel, door, life)
        finally:
            if life is None:
                rendezvous.leave(path)
        if host is not None:
            farewell(host)
    finally:
        _runner.tidy()
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _live(
    config: dict[str, Any],
    packets: list[Any],
    channel: Channel,
    door: _socket.socket,
    life: Life | None,
) -> ActorHost | None:
    """Make the instance and serve it; return the host of what has left.

    Parameters
    ----------
    config : dict
    packets : list
        Of the class, of what handles have to know of it, and of the constructor's arguments.
    channel : Channel
        To the program that made it.
    door : socket
    life : Life, optional
        None: it has no keeper, and lives once.
    """
    from pool._pickling import loads

    install_main(config["settings"]["main"])
    code, facts, *arguments = packets
    config["facts"] = loads(facts[0], facts[1:])
    first: Any = channel
    if life is not None and life.number:
        context.reconstructed = True
        first, channel = None, _Nobody()  # type: ignore[assignment]  # it is only sent to
    # `get_actor` without a namespace means this one.
    context.namespace = config["namespace"]
    host = ActorHost(channel, config)
    host.detached = True
    if life is not None:
        host.kept_by = (os.getppid(),)
    context.actor = host
    _home.starter = _start_runtime
    redirect(_speak)
    _speaking.channel = first
    when_imported("multiprocessing.process", lambda module: tie_children(module.current_process()))
    carried = dict(config["settings"]["carried"])
    carried.pop("io", None)  # where the program's own output goes; what it prints is told apart
    take_over(carried)  # after that, since handlers write where it leads

    def construct() -> bool:
        if not host.construct(code, *arguments):
            return False
        if life is not None:
            life.up()
        return True

    if not Detached(host, config).run(first, door, construct):
        return None
    if life is not None:
        life.leaves()
    return host


def _start_runtime() -> Any:
    """Start a runtime of this actor's own, as in any program."""
    # By name: it belongs to a layer above this one.
    __import__("pool._ray._api")
    return sys.modules["pool._ray._api"]._start()


class _Nobody:
    """In place of the channel to a program that is not there."""

    def send(self, *message: Any) -> None:
        """Do nothing."""
