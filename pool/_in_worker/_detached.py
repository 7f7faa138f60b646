"""A detached actor: a program of its own, with a listening socket that other programs find.

It is started by exec and a double fork, so that it is no child of the program that made it and
outlives that program. It serves any number of programs, each over a connection of its own with the
protocol of ordinary actors. A thread accepts connections, also while the constructor or a method
runs.
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
from pool._in_worker._graceful_exit import exit_gracefully
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._in_worker._concurrent import Threads
    from pool._in_worker._keeper import Life
    from pool._in_worker._lanes import Lane


#: Seconds after which it is tried again to accept a connection, or to start a thread for it.
_RETRY_AFTER = 0.05


class Detached:
    """Serve one instance to many programs.

    Parameters
    ----------
    host : ActorHost
        Of the instance; copied for each connection.
    config : dict
        Of the first message, see `pool._runtime._detached`.
    """

    def __init__(self, host: ActorHost, config: dict[str, Any]) -> None:
        self._host = host
        self._config = config
        self._end = threading.Event()
        self._turn = threading.Lock()
        #: Held while a program is told whether the instance exists yet.
        self._admitting = threading.Lock()
        #: Serves one more connection; None before there is an instance.
        self._welcome: Callable[[Channel], object] | None = None
        #: Connections that were made before the instance existed.
        self._early: list[Channel] = []
        #: Hosts of the connections over which a call has ended the actor, if several run at a time.
        self._left: list[ActorHost] = []
        #: Run the calls of all connections, if several may run at a time.
        self._threads: Threads | None = None

    def run(
        self, first: Channel | None, listener: _socket.socket, construct: Callable[[], bool]
    ) -> bool:
        """Make the instance, and serve until one of the methods leaves.

        Parameters
        ----------
        first : Channel or None
            To the program that made it; None if it has been started again.
        listener : socket
        construct : callable
            Makes the instance; returns whether it could be made.

        Returns
        -------
        bool
            Whether there was an instance.
        """
        threading.Thread(target=self._accept_programs, args=(listener,), daemon=True).start()
        if self._config["is_async"]:
            return self._run_async(first, construct)
        if not construct():
            return False
        concurrency = self._config["concurrency"]
        if concurrency > 1 or self._host.groups:
            from pool._in_worker._concurrent import Threads

            self._threads = Threads(concurrency, self._host.groups)
        self._serve_programs(self._in_thread)
        if first is not None:
            self._in_thread(first)
        self._end.wait()
        if self._threads is not None:
            self._threads.shutdown(wait=True)
            for host in self._left:
                host.part()
        self._turn.acquire()  # for good: later calls find that the actor has ended
        return True

    def _serve_programs(self, welcome: Callable[[Channel], object]) -> None:
        """Serve the programs that connect, and those that connected before the instance existed."""
        with self._admitting:
            self._welcome = welcome
            early, self._early = self._early, []
        for channel in early:
            self._admit(channel)

    def _accept_programs(self, listener: _socket.socket) -> None:
        while True:
            try:
                channel = rendezvous.accept(listener)
            except OSError:
                # No descriptor is free at the moment: the program waits in the socket's queue.
                sleep(_RETRY_AFTER)
                continue
            if channel is not None:
                self._admit(channel)

    def _admit(self, channel: Channel) -> None:
        with self._admitting:
            welcome = self._welcome
            try:
                self._introduce(channel, welcome is not None)
            except OSError:
                channel.close()  # as the program has done already
                return
            if welcome is None:
                self._early.append(channel)
                return
        welcome(channel)

    def _introduce(self, channel: Channel, started: bool) -> None:
        # Also while the instance is being made: handles have to know its methods.
        kind = protocol.STARTED if started else READY
        channel.send((kind, os.getpid(), *self._host.kept_by), self._config["options"])

    def _in_thread(self, channel: Channel) -> None:
        while True:
            try:
                threading.Thread(target=self._serve, args=(channel,), daemon=True).start()
            except RuntimeError:
                sleep(_RETRY_AFTER)  # there is no room for a thread at the moment
            else:
                return

    def _serve(self, channel: Channel) -> None:
        """Run the calls of one program; those of all programs take turns."""
        host = self._host.for_channel(channel)
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
            with self._turn:
                try:
                    # Asked here again: calls of other programs may have taken long.
                    if host.is_dropped(head[1]):
                        host.refuse_cancelled(head)
                        continue
                    goes_on = host.run(head, blobs)
                except OSError:
                    channel.close()  # the caller is to see the actor as gone
                    return
            if not goes_on:
                self._end.set()
                return

    def _run_async(self, first: Channel | None, construct: Callable[[], bool]) -> bool:
        import asyncio

        from pool._in_worker._concurrent import AsyncServer
        from pool._in_worker._lanes import open_lanes, run, tell

        async def serve(channel: Channel) -> None:
            host = self._host.for_channel(channel)
            server = AsyncServer(host, lanes)
            servers.add(server)
            await server.serve()
            servers.discard(server)
            if server.left:
                left.set()

        async def main() -> bool:
            loop = asyncio.get_running_loop()
            concurrency = self._config["concurrency"] or ASYNC_CONCURRENCY
            lanes.update(open_lanes(concurrency, self._host.groups, lambda: tell(loop, left.set)))
            if not await lanes[""].construct(construct):
                return False
            served: set[Any] = set()

            def welcome(channel: Channel) -> None:
                if left.is_set():
                    channel.close()
                    return
                task = asyncio.ensure_future(serve(channel))
                served.add(task)
                task.add_done_callback(served.discard)

            self._serve_programs(lambda channel: loop.call_soon_threadsafe(welcome, channel))
            if first is not None:
                welcome(first)
            await left.wait()
            for server in servers:
                server.leave()
            while served:
                await asyncio.wait(served)
            return True

        lanes: dict[str, Lane] = {}
        servers: set[AsyncServer] = set()
        left = asyncio.Event()
        there_was_one = run(main(), left.set)
        for lane in lanes.values():
            lane.close(wait=there_was_one)
        return there_was_one


def _send_output(stream: int, text: str) -> None:
    """Send what was printed to the program whose call printed it.

    What no call prints, as the constructor or a thread of the actor's own, the one gets that made
    the actor.
    """
    host = context.host or context.actor
    try:
        head = (protocol.LOG, host.label(), os.getpid(), stream)
        host.channel.send(head, [text.encode("utf-8", "replace")])
    except OSError:
        return  # the program is gone


def _refuse(channel: Channel, error: Exception, *why: int) -> None:
    """Tell the program why there will be no actor."""
    encoded = dumps_exception(error)
    channel.send((REFUSED, os.getpid(), len(encoded.buffers), *why), encoded.packet)


def main(fd: int) -> None:
    """Become the actor that is described in the first message over `fd`."""
    channel = Channel(socket_from(fd))
    (_, config, layout), blobs = channel.receive()
    os.set_inheritable(fd, False)
    apply(config["settings"])
    os.environ.update(config["environ"])
    found = _take_name(config, channel)
    if found is None:
        return
    listener, path = found
    life = None
    if config["restarts"]:
        from pool._in_worker._keeper import keep

        try:
            life = keep(config["restarts"], channel, path)
        except BaseException:
            rendezvous.leave(path)
            raise
        if life is None:
            return
    if life is None or not life.number:
        with suppress(ConnectionError):  # the program that made the actor may have ended
            # Tells which process to kill if the constructor never returns.
            channel.send((READY, os.getpid() if life is None else os.getppid()))
    paths = [path]

    def give_up_name() -> None:
        """Remove the socket, once: as soon as that is known, another actor may have the name."""
        with suppress(IndexError):
            taken = paths.pop()
            if life is not None:
                life.leaves()
            rendezvous.leave(taken)

    try:
        try:
            host = _live(config, unflatten(layout, blobs), channel, listener, life, give_up_name)
        finally:
            if life is None:
                give_up_name()
        if host is not None:
            exit_gracefully(host)
    finally:
        _runner.tidy()
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _take_name(config: dict[str, Any], channel: Channel) -> tuple[_socket.socket, str] | None:
    """Return a socket that has the actor's name, and its path; None if the actor was refused."""
    try:
        found = rendezvous.listen(config["namespace"], config["name"])
    except OSError as error:
        from pool._errors import StartError

        text = f"{error}; programs find a detached actor by a socket in a folder of its user's: "
        text += "set XDG_RUNTIME_DIR to one in which files can be made"
        _refuse(channel, StartError(text, error.errno))
        return None
    if found is None:
        name = config["name"]
        _refuse(channel, ValueError(f"an actor named {name!r} exists already"), protocol.TAKEN)
    return found


def _live(
    config: dict[str, Any],
    packets: list[Any],
    channel: Channel,
    listener: _socket.socket,
    life: Life | None,
    give_up_name: Callable[[], None],
) -> ActorHost | None:
    """Make the instance and serve it; return its host if it has left by `exit_actor`.

    Parameters
    ----------
    config : dict
    packets : list
        Of the class, of its `ActorOptions`, and of the constructor's arguments.
    channel : Channel
        To the program that made it.
    listener : socket
    life : Life, optional
        None: the actor has no keeper and is never started again.
    give_up_name : callable
        Called before anybody is told that the actor leaves.
    """
    install_main(config["settings"]["main"])
    # The options are not opened here: they are for programs.
    code, config["options"], *arguments = packets
    first: Any = channel
    if life is not None and life.number:
        context.reconstructed = True
        first, channel = None, _NoChannel()  # type: ignore[assignment]  # it is only sent to
    # The namespace that `get_actor` looks in if none is given.
    context.namespace = config["namespace"]
    host = ActorHost(channel, config)
    host.detached = True
    host.give_up_name = give_up_name
    if life is not None:
        host.kept_by = (os.getppid(),)
    context.actor = host
    _home.starter = _start_runtime
    redirect(_send_output)
    when_imported("multiprocessing.process", lambda module: tie_children(module.current_process()))
    carried = dict(config["settings"]["carried"])
    carried.pop("io", None)  # the program's own output; what the actor prints is sent to callers
    take_over(carried)  # after `redirect`: handlers of loggers write to the streams it has set

    def construct() -> bool:
        if not host.construct(code, *arguments):
            return False
        if life is not None:
            life.up()
        return True

    if not Detached(host, config).run(first, listener, construct):
        return None
    give_up_name()  # in case no call has left, but a task of the actor's own
    return host


def _start_runtime() -> Any:
    """Start a runtime of this actor's own, as in any program."""
    # Imported by name, since it belongs to a layer above this one.
    __import__("pool._ray._lifetime")
    return sys.modules["pool._ray._lifetime"].start()


class _NoChannel:
    """Stands for the channel to the program that made the actor, after a restart."""

    def send(self, *message: Any) -> None:
        """Do nothing."""
