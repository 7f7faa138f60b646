"""Actors as the program that owns them sees them: their class, mailbox and process."""

from __future__ import annotations

import _pickle
import _signal
import weakref

from pool._objects import _mailbox as mail
from pool._objects import _protocol as protocol
from pool._objects._ids import ActorID
from pool._objects._mailbox import Mailbox
from pool._objects._parcels import Parcel, Sealed, flatten
from pool._objects._refs import FAILED, ActorRef, Finalizer, ObjectRef, new_name
from pool._pickling import loads
from pool._runtime._actor_calls import EMPTY, ActorCall
from pool._runtime._causes import how_ended, said
from pool._runtime._unhandled import reported_if_unhandled
from pool._transport._messages import CLIENT, EXIT, HOST, REFUSED
from pool._transport._messages import READY as WORKER_READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._objects._codes import Code, SentCode
    from pool._objects._options import ActorOptions
    from pool._objects._resources import Grant
    from pool._runtime._processes import Link
    from pool._runtime._runtime import Runtime


#: Calls share a message up to this size.
MESSAGE_NBYTES = 16 * 1024


def _when_let_go(reference: weakref.ref[Actor]) -> Callable[[], None]:
    """Return a function that tells an actor that its last handle is gone.

    The function must not hold the actor. It is itself held, by a table that lasts, until the
    reference goes; and if the actor holds that reference in turn, neither would ever go.
    """

    def tell() -> None:
        actor = reference()
        if actor is not None:
            actor._let_go()

    return tell


class Actor:
    """One actor. Everything but `__init__` and properties runs under the driver's lock.

    Parameters
    ----------
    runtime : Runtime
    code : Code
        Its class; pickled now, so that a restart gets the same one even if it is redefined.
    parcel : Parcel
        Arguments of the constructor; kept as long as the actor may be started again.
    options : ActorOptions
    """

    def __init__(
        self, runtime: Runtime, code: Code | SentCode, parcel: Parcel, options: ActorOptions
    ) -> None:
        self.runtime = runtime
        self.title = code.title
        self.options = options
        self.name = new_name()
        self.mailbox = Mailbox(options.restarts, options.lanes)
        self.pid = 0
        self.grant: Grant | None = None
        #: The error that its creation failed with.
        self.cause: BaseException | None = None
        self._encoded = code.payload().encoded
        self._code_refs = code.refs
        self._parcel = parcel
        #: To the reference that its handles share; None if there never was a handle.
        self._ref: weakref.ref[ActorRef] | None = None
        #: How many such references there are: more than one, if a new one was made before the end
        #: of the last was noted.
        self._held_by = 0
        #: The connection to its process; None if it has none.
        self._link: Link | None = None
        self._worker_id = 0
        #: Whether it has ended by itself, as by `exit_actor`.
        self.left = False
        self._starts = 0

    #: Whether it is a task that has a process of its own.
    is_task = False

    def waits(self, number: int) -> None:
        """Do nothing: an actor keeps its CPUs while it waits, as in Ray."""

    def read_all(self) -> None:
        """Take in all messages that the actor has sent so far."""
        if self._link is not None:
            self._link.drain()

    def describe(self) -> str:
        """Name it in errors."""
        pid = f" (pid {self.pid})" if self.pid else ""
        name = f" {self.options.name!r}" if self.options.name else ""
        return f"{self.title}{name}{pid}"

    # ------------------------------------------------------------------ handles

    def hold(self) -> ActorRef:
        """Return the reference that its handles share; a new one if the last handle is gone."""
        ref = None if self._ref is None else self._ref()
        if ref is None:
            ref = ActorRef(self.runtime, self.options.facts, self.name)
            ref.record = self
            ref.finalizer = Finalizer(_when_let_go(weakref.ref(self)))
            self._ref = weakref.ref(ref)
            self._held_by += 1
            self.runtime.named[self.name] = ref
            self.mailbox.held()
        return ref

    def _let_go(self) -> None:
        """Note that the last handle of it is gone; from any thread, at any time."""
        if not self.runtime.driver.closed:
            # Only noted here: the garbage collector may call this anywhere.
            self.runtime.later(self._dropped)

    def _dropped(self) -> None:
        self._held_by -= 1
        if not self._held_by:  # else there is a handle again
            self.carry_out(self.mailbox.released())

    # ------------------------------------------------------------------ beginnings

    def begin(self) -> None:
        """Start the actor as soon as its arguments and its resources are there."""
        missing = [1]

        def arrived(need: ObjectRef | None) -> None:
            missing[0] -= 1
            if not missing[0]:
                self._needs_met()

        for need in set(self._parcel.needs):
            if need._watch(arrived):
                missing[0] += 1
        arrived(None)

    def _needs_met(self) -> None:
        if self.mailbox.state == mail.DEAD:
            return  # killed meanwhile: it must not ask for resources, which others wait for
        for need in self._parcel.needs:
            if need._state == FAILED:
                self.cause = need._value
                self._cannot_start(f"an argument of its constructor failed: {said(need._value)}")
                return
        self._parcel.fill()
        self.runtime.grants.ask(self.options.resources, self._granted)

    def _cannot_start(self, why: str) -> None:
        """End the actor, which has no process and is not to get one any more."""
        self.mailbox.refused(why)
        self.carry_out(self.mailbox.exited("it was never started"))

    def _granted(self, grant: Grant | None) -> None:
        if self.mailbox.state == mail.DEAD:
            if grant is not None:
                self.runtime.grants.give_back(grant)
            return
        self.grant = grant
        self._launch()

    def _launch(self) -> None:
        runtime = self.runtime
        self.left = False
        self._starts += 1
        try:
            self._worker_id, self._link = runtime.processes.launch(self)
        except Exception as error:  # of the system, or since no forkserver can be started
            self._cannot_start(f"its process could not be started: {error}")
            return
        gpus = runtime.grants.names_of(self.grant)
        config = {
            "title": self.title,
            "name": self.options.name,
            "key": self.name,
            "is_async": self.options.facts.is_async,
            "concurrency": self.options.concurrency,
            "groups": self.options.groups,
            "granted": runtime.grants.environ(self.options.resources, gpus),
            "environ": self.options.environ,
            "gpus": gpus,
            "resources": self.options.resources,
            "log": runtime.log_to_driver,
            "namespace": runtime.namespace,
            "reconstructed": self._starts > 1,
            "is_task": self.is_task,
        }
        layout, blobs = flatten([self._encoded.packet, *self._parcel.packets])
        self._send((HOST, config, layout), blobs)

    def _send(self, head: Any, blobs: Any = ()) -> None:
        if self._link is not None:
            self._link.send(head, blobs)

    # ------------------------------------------------------------------ calls

    def too_many(self) -> Exception | None:
        """Return the error if no more calls may wait, else None; any thread, without the lock."""
        limit = self.options.pending
        if not 0 < limit <= len(self.mailbox):
            return None
        from pool.exceptions import PendingCallsLimitExceeded

        return PendingCallsLimitExceeded(
            f"actor {self.describe()} has {len(self.mailbox)} calls waiting, and "
            f"max_pending_calls={limit}"
        )

    def call(self, call: ActorCall) -> None:
        """Take a call; those of one caller come in their order."""
        if call.cancelled:  # since it was submitted
            call.fail(call.cancellation())
            return
        problem = self.too_many()
        if problem is not None:  # made by a task or an actor; the program itself has asked before
            call.fail(problem)
            return
        call.waiting = 0
        for need in set(call.parcel.needs):
            if need._watch(lambda _: self._need_met(call)):
                call.waiting += 1
        call.ready = not call.waiting and self._can_go(call)
        self.carry_out(self.mailbox.called(call))

    def _need_met(self, call: ActorCall) -> None:
        call.waiting -= 1
        if not call.waiting and self._can_go(call):
            self.carry_out(self.mailbox.resolved(call))

    def _can_go(self, call: ActorCall) -> bool:
        """Return whether a call whose arguments are there can be posted."""
        return True

    def _post(self, calls: Sequence[ActorCall]) -> None:
        """Send calls, many in a message if they are small."""
        entries: list[Any] = []
        blobs: list[Any] = []
        nbytes = 0
        for call in calls:
            parcel = call.parcel
            failed = next((need for need in parcel.needs if need._state == FAILED), None)
            if failed is not None:
                self._not_sent(call, failed._value)
                continue
            parcel.fill()
            nbytes += parcel.nbytes
            if entries and nbytes > MESSAGE_NBYTES:
                self._send((protocol.CALL, tuple(entries)), blobs)
                entries, blobs, nbytes = [], [], parcel.nbytes
            try:
                layout, packets = flatten(self._packets(parcel))
            except TypeError as error:
                self._not_sent(call, error)
                continue
            entries.append((call.number, call.method, call.returns, layout, call.name, call.group))
            blobs += packets
        if entries:
            self._send((protocol.CALL, tuple(entries)), blobs)

    def _packets(self, parcel: Parcel) -> Sequence[Any]:
        """Return the packets that are sent for the arguments of a call."""
        return parcel.packets

    def on_refused(self, head: Any, error: BaseException) -> None:
        """Fail the calls of a message for which there is no memory or descriptor."""
        if head[0] == protocol.CALL:
            for number, *_ in head[1]:
                call = self.mailbox.posted.get(number)
                if call is not None:
                    self._not_sent(call, error)
        elif head[0] == HOST:
            reason = f"its class and arguments could not be sent: {error}"
            self.runtime.later(lambda: self.carry_out(self.mailbox.refused(reason)))

    def _not_sent(self, call: ActorCall, error: BaseException) -> None:
        self.mailbox.take_out(call.number)
        call.fail(error)
        # Later, since the commands of which this call was one are being carried out. Until then the
        # calls behind it stay in their queue, where no later one can overtake them.
        self.runtime.later(lambda: self.carry_out(self.mailbox.flush()))

    def cancel(self, call: ActorCall) -> None:
        """Cancel a call: take it back, or tell the actor if it has been sent."""
        call.retries = 0
        if self.mailbox.withdraw(call):
            call.fail(call.cancellation())
            self.carry_out(self.mailbox.flush())
        elif call.number in self.mailbox.posted:
            self._send((protocol.DROP, call.number))
            self._tell_of_drops()

    def _tell_of_drops(self) -> None:
        self.runtime.processes.tell_of_drops()

    # ------------------------------------------------------------------ messages

    def on_message(self, link: Link, head: Any, blobs: list[Any], fds: list[int]) -> bool:
        """Take a message of the actor's; return whether more are likely to come."""
        kind = head[0]
        if kind == protocol.RESULT:
            _, number, status, begun, finished = head
            self._answered(number, status, begun, finished, blobs)
        elif kind == protocol.YIELDED:
            call = self.mailbox.posted.get(head[1])
            if call is not None and call.stream is not None:
                self._took_over(call.yielded(head[2], blobs))
        elif kind == protocol.STARTED:
            self.pid = head[1]
            if not self.options.restarts:
                # References that it keeps it has borrowed before, over a socket that may be read
                # after this one; so its arguments are let go of only when that was read.
                self.runtime.lending.linger(self._parcel.refs)
                self._parcel = EMPTY
            self.carry_out(self.mailbox.started())
        elif kind == REFUSED:
            self._refused(head[1], blobs)
        elif kind == CLIENT:
            self.runtime.admit(self, head[1], fds, link.channel)
        elif kind == WORKER_READY:
            self.pid = head[1]
        return bool(self.mailbox.posted)

    def on_lost(self, head: Any, error: OSError) -> bool:
        """Fail the call of a message that no descriptor was left for; return whether it has one."""
        if head is None:
            return False
        if head[0] == protocol.RESULT:
            _, number, _, begun, finished = head
            self._answered(number, protocol.ERROR, begun, finished, [_pickle.dumps(error, 5)])
            return True
        if head[0] == protocol.YIELDED:
            call = self.mailbox.posted.get(head[1])
            if call is not None and call.stream is not None:
                call.stream.end(error=error)
            return True
        return False

    def _refused(self, pid: int, blobs: list[Any]) -> None:
        from pool.exceptions import RayTaskError

        self.pid = pid
        try:
            error = loads(blobs[0], blobs[1:])
        except BaseException as failure:
            error = failure
        self.cause = RayTaskError(f"{self.title}.__init__", error)
        reason = f"its constructor raised {type(error).__name__}: {said(error)}"
        self.carry_out(self.mailbox.refused(reason))

    def _answered(
        self, number: int, status: int, begun: float, finished: float, blobs: list[Any]
    ) -> None:
        call, commands = self.mailbox.answered(number)
        if status == protocol.LEFT:
            self.left = True
        if call is not None:
            failed = status != protocol.VALUE
            if begun:
                entry = (call.title, call.begun, begun, finished, failed)
                self.runtime.timeline.called(self.pid, entry)
            try:
                answer = loads(blobs[0], blobs[1:])
            except BaseException as error:
                status, answer = protocol.ERROR, error
            if call.cancelled and status != protocol.LEFT and not self._minds_cancellations:
                # As in Ray: a cancelled method's call fails, whatever the method returns.
                for stored in call.stored_in(answer) if status == protocol.VALUE else ():
                    self._took_over(stored)
                call.fail(call.cancellation())
            elif status == protocol.VALUE:
                self._deliver(call, answer)
            elif status == protocol.LEFT:
                call.fail(self._death(call.method, "it left by exit_actor()"))
            else:
                self._failed(call, answer)
        self.carry_out(commands)

    @property
    def _minds_cancellations(self) -> bool:
        """Whether a cancellation is raised in the method, which may then still return a value."""
        return self.options.facts.is_async or self.is_task

    def _failed(self, call: ActorCall, error: BaseException) -> None:
        from pool.exceptions import RayTaskError, TaskCancelledError

        if isinstance(error, TaskCancelledError):
            call.fail(error)
        elif call.retries_after(error):
            self.carry_out(self.mailbox.called_again(call))
        else:
            call.fail(reported_if_unhandled(self.runtime, RayTaskError(call.title, error)))

    def _deliver(self, call: ActorCall, answer: Any) -> None:
        if call.returns == protocol.STREAM:
            call.stream.end(count=answer)
        else:
            for ref, stored in zip(call.refs, call.stored_in(answer), strict=True):
                self.runtime.give(ref, stored)
                self._took_over(stored)
        call.over()

    def _took_over(self, stored: Any) -> None:
        """Note that a result has arrived, and the references that were handed over for it."""
        if stored.__class__ is Sealed:
            self.runtime.lending.taken_over(stored.refs, self)

    # ------------------------------------------------------------------ ends

    def on_exit(self, exitcode: int | None) -> None:
        """Note that its process has ended; messages that it had sent before still count."""
        self.mailbox.ending()
        link, self._link = self._link, None
        if link is not None:
            link.drain_out()
            link.close()
        self.runtime.lending.read_from(self)
        self.carry_out(self.mailbox.exited(how_ended(exitcode, self.left), self.left))

    def kill(self, no_restart: bool) -> None:
        """End the actor at once."""
        if self._link is None and self.options.restarts and not no_restart:
            return  # it has no process yet that could be ended; it waits to be started anyway
        self.carry_out(self.mailbox.kill("it was ended by kill()", no_restart))

    def carry_out(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Carry out the commands that the mailbox has returned."""
        if not commands:
            return
        posts = [command[1] for command in commands if command[0] == mail.POST]
        if posts:
            self._post(posts)
        for command in commands:
            kind = command[0]
            if kind == mail.FAIL:
                _, call, reason, restarting = command
                call.fail(self._death(call.method, reason, restarting))
            elif kind == mail.LAUNCH:
                self._launch()
            elif kind == mail.IDLE:
                # Later, since this may be called while a message of that borrower is handled.
                self.runtime.later(self._end)
            elif kind == mail.STOP:
                self._send((EXIT,))
            elif kind == mail.KILL:
                self._kill()
            elif kind == mail.GONE:
                self._gone()

    def _end(self) -> None:
        """Have the actor end, unless it has asked for its own handle, or has called itself."""
        self.runtime.lending.read_from(self)
        self.carry_out(self.mailbox.end())

    def _kill(self) -> None:
        if self._link is not None:
            self.runtime.processes.signal(self._worker_id, _signal.SIGKILL)
        else:
            self._kill_unstarted()

    def _kill_unstarted(self) -> None:
        """End the actor while it waits for arguments or resources."""
        self.carry_out(self.mailbox.exited("it was never started"))

    def _gone(self) -> None:
        self.runtime.lending.linger(self._parcel.refs)
        self.runtime.lending.linger(self._code_refs)
        self._code_refs = ()
        self._parcel = EMPTY
        if self.grant is not None:
            self.runtime.grants.give_back(self.grant)
            self.grant = None
        else:
            self.runtime.grants.withdraw(self.options.resources, self._granted)
        self.runtime.directory.gone(self)

    def _death(self, method: str, reason: str, restarting: bool = False) -> BaseException:
        from pool.exceptions import ActorDiedError, ActorUnavailableError

        kind = ActorUnavailableError if restarting else ActorDiedError
        if restarting:
            reason += "; it is being started again"
        error = kind(self.describe(), method, reason)
        error.actor_id = ActorID(self.name).hex()
        error.__cause__ = self.cause
        error.actor_init_failed = self.cause is not None
        return error
