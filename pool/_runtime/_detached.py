"""Detached actors as a program sees them: made by it, or found by their names."""

from __future__ import annotations

import copy
import os
from contextlib import suppress

from pool._objects import _mailbox as mail
from pool._objects import _protocol as protocol
from pool._objects._attachments import Attachments, reached
from pool._objects._parcels import Parcel, flatten
from pool._pickling import loads
from pool._runtime._actor_calls import ActorCall
from pool._runtime._actors import Actor
from pool._runtime._processes import Link
from pool._transport import _rendezvous as rendezvous
from pool._transport._channel import Channel
from pool._transport._descriptors import without_sockets
from pool._transport._messages import HOST, READY, REFUSED
from pool._transport._pidfds import kill
from pool._transport._sockets import socket_pair
from pool._workers._argv import (
    check_not_frozen,
    interpreter,
    interpreter_argv,
    search_path,
    spawn,
)
from pool._workers._settings import capture
from pool._workers._thread_limits import thread_limits
from store._codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pool._objects._options import ActorOptions
    from pool._objects._refs import ActorRef, ObjectRef
    from pool._runtime._runtime import Runtime


class DetachedActor(Actor):
    """An actor whose process does not belong to this program.

    Its calls travel over a connection. When the last handle in this program is gone, the connection
    is closed, and the actor lives on. If it crashes and its keeper starts it again, the calls that
    had not begun or may be tried again are sent over a new connection.
    """

    #: Whether it was killed before its pid was known.
    _doomed = False
    #: Whether its process, or its keeper, has been started.
    _spawned = False
    #: The process to kill in order to end it: its keeper, or itself; 0: not known yet.
    keeper = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: A reference of its own until it has started: it must not end before others can find it.
        self._held: ActorRef | None = None
        self._fit_mailbox()

    def begin(self) -> None:
        """Start the actor when the values of its arguments exist."""
        self._held = self.hold()
        super().begin()

    def _granted(self, grant: Any) -> None:
        # Its resources do not count as this program's: the actor outlives it.
        if grant is not None:
            self.runtime.grants.give_back(grant)
        if self.mailbox.state != mail.DEAD:
            self._launch()

    def _launch(self) -> None:
        if self._spawned:
            self._reconnect()
            return
        self._spawned = True
        try:
            channel = _spawn(self)
        except (OSError, MemoryError) as error:
            self._cannot_start(f"its process could not be started: {error}")
            return
        self._use(channel)

    def _reconnect(self) -> None:
        """Connect to its socket, whose queue is open also while its keeper starts it again."""
        try:
            found = rendezvous.connect(self._address())
        except OSError:
            found = None
        if found is None:
            reason = "its process ended, and it is not started again"
            self.carry_out(self.mailbox.exited(reason, True))
            return
        channel, self.keeper = found
        rendezvous.unlimited(channel)
        self._use(channel)

    def _address(self) -> str:
        where = self.options.namespace or self.runtime.namespace
        return rendezvous.address(where, self.options.name)

    def _use(self, channel: Channel) -> None:
        self._link = Link(
            self.runtime.driver, channel, self.on_message, self._cut, self.on_refused, self.on_lost
        )

    def join(self, found: Introduced) -> None:
        """Use the connection to an actor that exists already."""
        self._spawned = True
        self.pid, self.keeper = found.pid, found.keeper
        self._use(found.channel)
        if found.started:
            self.carry_out(self.mailbox.started())

    def _cut(self) -> None:
        self._link = None
        if self.options.restarts and not (self.left or self.mailbox.killed):
            self.pid = 0
            self.carry_out(self.mailbox.exited("its process ended"))
            return
        # If it was killed, it has not removed its socket itself.
        try:
            rendezvous.sweep(self._address(), self.keeper, self.pid)
        except OSError:
            pass  # the next program that looks for the actor removes the socket, or gets the error
        reason = "it left by exit_actor()" if self.left else "its process ended"
        self.carry_out(self.mailbox.exited(reason, True))

    def on_message(self, link: Link, head: Any, blobs: list[Any], fds: list[int]) -> bool:
        """Take a message of the actor's; return whether more of them can be expected."""
        if head[0] == protocol.LOG:
            if self.runtime.log_to_driver:
                text = bytes(blobs[0]).decode("utf-8", "replace")
                self.runtime.print_later(head[1], head[2], head[3], text)
            return True
        if head[0] == REFUSED and head[3:] == (protocol.TAKEN,) and self.options.get_if_exists:
            self._join_other()
            return False
        if head[0] == READY:
            self.keeper = head[-1]
            if self._doomed:
                self._kill()
            return False
        if head[0] == protocol.STARTED:
            self._held = None
            self.keeper = head[-1]
            if blobs:  # it has accepted this connection; another program may have made it
                self._take_options(loads(blobs[0], blobs[1:]))
        more = super().on_message(link, head, blobs, fds)
        if head[0] == protocol.STARTED and self._doomed:
            self._doomed = False
            self._kill()
        return more

    def _join_other(self) -> None:
        """Connect to the actor that has the name already, which may not have started yet."""
        if self._link is not None:
            self._link.close()
            self._link = None
        self._reconnect()

    def _take_options(self, described: ActorOptions) -> None:
        """Take over the options that the actor was made with, perhaps by another program."""
        self.options = described
        self._fit_mailbox()

    def _fit_mailbox(self) -> None:
        options = self.options
        # The keeper counts the restarts. Here connections are tried until none is accepted.
        restarts = -1 if options.restarts else 0
        self.mailbox.fit(restarts, options.lanes)

    # ------------------------------------------------------------------ references

    def _needs_met(self) -> None:
        try:
            pending = _pending(self._parcel)
        except TypeError as error:
            self.cause = error
            self._cannot_start(str(error))
            return
        if pending is None:
            super()._needs_met()
        elif not pending._watch(lambda _: self._needs_met()):
            self._needs_met()  # nobody will make it any more: look for the next one

    def _can_go(self, call: ActorCall) -> bool:
        """Return whether all objects that go along have values; else look again when one has."""
        try:
            pending = _pending(call.parcel)
        except TypeError:
            return True  # the call fails when it is posted
        if pending is not None and not pending._watch(lambda _: self._look_again(call)):
            return self._can_go(call)
        return pending is None

    def _look_again(self, call: ActorCall) -> None:
        if self._can_go(call):
            self.carry_out(self.mailbox.resolved(call))

    def _packets(self, parcel: Parcel) -> Sequence[Any]:
        return [*parcel.packets, _attachments(parcel)]

    def _tell_of_drops(self) -> None:
        """Do nothing: a detached actor shares no memory with a program, and reads all messages."""

    def _end_connection(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self.carry_out(self.mailbox.exited("this program has no handle of it any more", True))

    def carry_out(self, commands: Any) -> None:
        """Carry out the mailbox's commands; STOP only closes the connection."""
        rest = [command for command in commands if command[0] != mail.STOP]
        super().carry_out(rest)
        if len(rest) != len(commands):
            self._end_connection()

    def _kill(self) -> None:
        whom = self.keeper if self.mailbox.killed else self.pid
        if self._link is None:
            self._kill_unstarted()
        elif whom:
            kill(whom, self._link.channel.fileno())
            if self.pid and self.pid != whom:
                # It dies with its keeper, but a moment later, and would tell others until then that
                # it has its name.
                kill(self.pid, self._link.channel.fileno())
        else:
            self._doomed = True

    def _gone(self) -> None:
        self._held = None
        if self._link is not None:
            self._link.close()
            self._link = None
        super()._gone()


def _spawn(actor: DetachedActor) -> Channel:
    """Start the process of a detached actor, which is no child of this one; return the channel."""
    check_not_frozen()
    ours, theirs = socket_pair()
    # The first process forks the actor and ends at once, so that the actor is no child of the
    # program: it leaves no zombie when it ends, and gets no signal when the terminal closes.
    code = (
        f"import os, sys; os.fork() and os._exit(0); sys.path[:] = {search_path()!r}; "
        f"from pool._in_worker._detached import main; main({theirs.fileno()})"
    )
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
    actions = [
        null,
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
        *without_sockets(),
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno()),
    ]
    try:
        pid = spawn(
            interpreter(),
            [*interpreter_argv(), "-c", code],
            {**os.environ, **thread_limits(1), **actor.runtime.grants.given},
            file_actions=actions,
            setsid=True,
        )
    finally:
        theirs.close()
    channel = Channel(ours)
    with suppress(ChildProcessError):  # the program has the kernel reap its children
        os.waitpid(pid, 0)
    _describe(actor, channel)
    return channel


def _describe(actor: DetachedActor, channel: Channel) -> None:
    """Send what the process of a detached actor has to know to become it."""
    options = copy.copy(actor.options)
    options.namespace = options.namespace or actor.runtime.namespace
    layout, blobs = flatten(
        [actor._encoded.packet, encode(options).packet, *actor._packets(actor._parcel)]
    )
    config = {
        "title": actor.title,
        "name": options.name,
        "namespace": options.namespace,
        "key": actor.name,
        "is_task": False,
        "is_async": options.facts.is_async,
        "concurrency": options.concurrency,
        "groups": options.groups,
        "environ": options.environ,
        "restarts": options.restarts,
        "settings": capture(actor.runtime.grants.given),
    }
    channel.send((HOST, config, layout), blobs)


def _pending(parcel: Parcel) -> ObjectRef | None:
    """Return an object that has to go along and has no value yet; None if all have."""
    if not (parcel.needs or parcel.refs):
        return None
    return next((ref for ref in reached([*parcel.needs, *parcel.refs]) if not ref._state), None)


def _attachments(parcel: Parcel) -> list[Any]:
    encoded = encode(Attachments(reached(parcel.refs)))
    return encoded.packet


class Introduced:
    """A detached actor that has told its options over a new connection.

    Parameters
    ----------
    path, channel, keeper
        As the attributes.
    head, blobs
        The actor's first message, see `pool._objects._protocol`.

    Attributes
    ----------
    path : str
        Of its socket.
    channel : Channel
    pid : int
    started : bool
        Whether its constructor has returned.
    keeper : int
        The process to kill in order to end it.
    options : ActorOptions
        Those that it was made with; they name its namespace.
    """

    def __init__(
        self, path: str, channel: Channel, keeper: int, head: Any, blobs: list[Any]
    ) -> None:
        self.path = path
        self.channel = channel
        self.keeper = keeper
        self.pid: int = head[1]
        self.started = head[0] == protocol.STARTED
        self.options: ActorOptions = loads(blobs[0], blobs[1:])


def find(namespace: str, name: str) -> Introduced | None:
    """Return the connection to a detached actor; None: no such actor.

    Called under the lock, where nothing may be raised. In a directory that cannot be trusted no
    actor is found; `Runtime.find` has raised the error before.
    """
    try:
        return introduced(rendezvous.address(namespace, name))
    except (OSError, ValueError):
        return None  # ValueError: the name cannot be part of a path


def introduced(path: str) -> Introduced | None:
    """Connect to the actor that listens on a socket, and receive what it tells of itself."""
    connected = rendezvous.connect(path)
    if connected is None:
        return None
    channel, keeper = connected
    try:
        head, blobs = channel.receive()
    except (ConnectionError, EOFError):
        # The connection was closed: the actor ends, or was killed and has left its socket.
        channel.close()
        rendezvous.sweep(path, keeper)
        return None
    except OSError:
        channel.close()
        return None
    rendezvous.unlimited(channel)
    return Introduced(path, channel, keeper, head, blobs)


def found_actor(runtime: Runtime, found: Introduced) -> DetachedActor:
    """Return the record of a detached actor that `find` has found."""
    from pool._objects._codes import SentCode

    code = SentCode.unknown(found.options.facts)
    actor = DetachedActor(runtime, code, Parcel([]), found.options)
    actor.join(found)
    return actor
