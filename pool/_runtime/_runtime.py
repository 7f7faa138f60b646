"""The runtime of a program: it owns objects, and drives the workers of tasks and actors.

One engine runs the tasks; its driver also reads the sockets of actors and of borrowers. So
a thread that waits for anything drives everything, and a round trip to an actor takes no
helper thread. All changes of the runtime's state are made under that driver's lock.
"""

from __future__ import annotations

import atexit
import os
import weakref
from itertools import count

from pool._local import _events as ev
from pool._local._engine import LocalEngine
from pool._objects import _home
from pool._objects._codes import let_go_of_data
from pool._objects._outcomes import disown, resolve_future
from pool._objects._parcels import Broken, pack, seal
from pool._objects._protocol import STREAM
from pool._objects._refs import FAILED, READY, ActorRef, ObjectRef, under_name
from pool._objects._resources import Resources
from pool._runtime._actor_calls import ActorCall, call_as_child, new_call
from pool._runtime._actors import Actor
from pool._runtime._aside import Aside
from pool._runtime._conditions import all_or_failed, enough
from pool._runtime._directory import Directory
from pool._runtime._grants import Grants
from pool._runtime._lending import GuestChannel, Lending
from pool._runtime._processes import ActorProcesses
from pool._runtime._streams import Stream
from pool._runtime._task_processes import TaskProcesses
from pool._runtime._tasks import Tasks
from pool._runtime._timeline import Timeline
from pool._runtime._unhandled import reported_if_unhandled
from pool._transport._channel import Channel
from pool._transport._sockets import socket_from
from pool._workers._thread_limits import thread_limits
from store._children import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Any

    from pool._local._peers import Peer
    from pool._objects._refs import ActorFacts, Ref

#: Modules that workers of a runtime need; imported once, in the process they are forked from.
PRELOAD = ("_ctypes", "pool._in_worker._actor", "pool._in_worker._borrowed")

_numbers = count(1)
_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()
#: References that have left this process, by name. Of all its runtimes, and of a parent's: what is
#: there when one has ended can still be given to tasks of the next.
_named: weakref.WeakValueDictionary[bytes, Ref] = weakref.WeakValueDictionary()


class Runtime(Aside):
    """The home of references in a program.

    Parameters
    ----------
    total : dict
        Resources by name; ``"CPU"`` is the number of workers of tasks.
    gpus : sequence of str
        Names of the GPUs.
    namespace : str
        The namespace of named actors that do not give one.
    log_to_driver : bool
        Whether this process prints what workers print.
    environ : dict
        Environment variables of all workers.
    """

    def __init__(
        self,
        total: dict[str, float],
        gpus: Sequence[str],
        namespace: str,
        log_to_driver: bool,
        environ: dict[str, str],
    ) -> None:
        limits = {**thread_limits(1), **environ}
        self._owner = os.getpid()
        #: For `tidy` of `pool._in_worker._runner`: always empty, as a runtime borrows nothing.
        self.returned = self.promises = ()
        self.seals = self.failures = 0
        self.namespace = namespace
        self.log_to_driver = log_to_driver
        self.engine = LocalEngine(
            int(total.get("CPU", 1)), limits=limits, preload=PRELOAD, traced=True
        )
        self.engine.begin_in_any_order()  # tasks begin as their arguments come
        driver = self.engine.driver
        super().__init__(driver)
        driver.aside = self
        self.named = _named
        self.streams: weakref.WeakValueDictionary[bytes, Stream] = weakref.WeakValueDictionary()
        self.books = Resources(total, gpus)
        #: Whether ordinary tasks, each of which takes a CPU, can run at all.
        self.has_workers = total.get("CPU", 1) >= 1
        self.grants = Grants(driver, self.books, environ, self.tell)
        self.tasks = Tasks(self)
        self.task_processes = TaskProcesses(self)
        self.processes = ActorProcesses(driver, limits, PRELOAD)
        self.directory = Directory(self)
        self.lending = Lending(self)
        self.number = next(_numbers)
        self.timeline = Timeline(driver.peers)
        _runtimes.add(self)

    # ------------------------------------------------------------------ along with the engine

    @property
    def outstanding(self) -> bool:
        """Whether a thread has to drive even if no task runs."""
        # Open pipes have to be read: a worker that fills one up waits until it is. A borrower may
        # ask at any time, from a thread of its own, and an actor may become a borrower.
        others = self.outputs.open or self.lending.borrowers or self.directory.alive
        return bool(self._actions or others or self.task_processes.pausing)

    def read_what_is_due(self) -> None:
        """Read what borrowers have sent before the end of a call."""
        if self.lending.due:
            self.lending.flush()

    def admit(self, worker: int | Actor, kind: str, fds: list[int], beside: Channel) -> None:
        """Take descriptors that a worker sends: an actor, or a worker of tasks by its number."""
        if kind == "output":
            self.outputs.add(fds, lambda: self._is_idle(worker))
        else:
            channel = Channel(socket_from(fds[0]), self.driver.crew.buffer, True, beside)
            self.lending.admit(worker, channel)

    def _is_idle(self, worker: int | Actor) -> bool:
        if isinstance(worker, Actor):
            return not worker.mailbox.posted
        peer = self.driver.peers.get(worker)
        return peer is None or not peer.sent

    def bury(self, peer: Peer) -> None:
        """Keep the timeline of a worker of tasks that has ended, and take back what it held."""
        self.timeline.bury(peer)
        self.lending.bury(peer.worker_id)

    def worker_blocked(self, worker_id: int) -> None:
        """Note that a task waits, so that its slot may be lent; 0 is a guest without slot."""
        if not worker_id:
            return
        for job in self.driver.jobs.of_worker(worker_id):
            if job.function is None:
                continue
            code = self.tasks.codes.get(job.function.function_id)
            if code is not None:
                code.waits = True
        self.driver.inbox.append(ev.WorkerBlocked(worker_id))

    def worker_unblocked(self, worker_id: int) -> None:
        """Note that the task goes on, and has its slot back."""
        if worker_id:
            self.driver.inbox.append(ev.WorkerUnblocked(worker_id))

    def abort(self, error: BaseException) -> list[Any]:
        """Give up, since the engine has crashed; return no callbacks."""
        super().abort(error)
        self.lending.abort()
        self.task_processes.end(error)
        for actor in list(self.directory.alive):
            actor.carry_out(actor.mailbox.refused(f"the runtime was given up: {error}"))
            actor.carry_out(actor.mailbox.exited("the runtime was given up"))
        return []

    # ------------------------------------------------------------------ Pools and their workers

    def when_there(
        self, needs: Sequence[Sequence[ObjectRef]], ready: Callable[[list[int]], None]
    ) -> None:
        """Call ``ready(places)`` for groups of objects as soon as all of a group have values.

        At once for those that have; for the others in the driving thread, without the lock.
        """

        def watch() -> list[int]:
            there = []
            for place, group in enumerate(needs):
                left = set(group)

                def arrived(ref: ObjectRef, left: Any = left, place: int = place) -> None:
                    left.discard(ref)
                    if not left:
                        self.afterwards(lambda: ready([place]))

                left.difference_update([ref for ref in group if not ref._watch(arrived)])
                if not left:
                    there.append(place)
            return there

        ready(self.locked(watch))
        self.engine.attend()

    def let_go(self, refs: Sequence[Ref]) -> None:
        """Drop the references that a task of a Pool was given; from any thread."""
        if not self.driver.closed:
            self.later(lambda: self.lending.linger(refs))

    def admit_guest(self, fd: int, beside: Channel) -> None:
        """Take a descriptor that a Pool's worker has sent over `beside`; from any thread."""
        channel = GuestChannel(socket_from(fd), self.driver.crew.buffer, beside)
        self.later(lambda: self.lending.admit_guest(channel))
        self.engine.attend()

    # ------------------------------------------------------------------ references

    def arrived(self, kind: str, name: bytes, facts: ActorFacts | None = None) -> Ref:
        """Return the reference of that name, found in a pickle; its sender holds it."""
        ref = self.named.get(name)
        if facts is not None and (ref is None or ref._home is not self):
            ref = self.locked(lambda: self.directory.held(name, facts))
        return self.lost(name) if ref is None else ref

    def lent(self, kind: str, name: bytes, facts: ActorFacts | None = None) -> Ref:
        """Return the reference of that name, which a borrower has made or handed over."""
        if facts is not None:
            return self.arrived(kind, name, facts)
        # If there is none, the borrower's message that gives it a value has not been read yet.
        return under_name(self, name)

    def lost(self, name: bytes) -> ObjectRef:
        """Return a reference to an object that does not exist any more: `get` raises."""
        from pool.exceptions import ObjectLostError

        ref = ObjectRef(self, name)
        ref._seal(FAILED, ObjectLostError(f"nobody holds object {name.hex()} any more"))
        return ref

    def taken_over(self, refs: Sequence[Ref]) -> None:
        """Note that the references in an error have arrived; under the lock."""
        self.lending.taken_over(refs)

    def future(self, ref: ObjectRef) -> Future[Any]:
        """Return a future of an object's value."""
        from concurrent.futures import Future

        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        if self.foreign:
            disown(ref)
            resolve_future(future, ref._state, ref._value)
            return future

        def resolve(ref: ObjectRef) -> None:
            self.afterwards(lambda: resolve_future(future, ref._state, ref._value))

        # After the driver is closed no object gets its value any more.
        if self.locked(lambda: not self.driver.closed and ref._watch(resolve)):
            self.engine.attend()
        elif ref._state:
            resolve_future(future, ref._state, ref._value)
        else:
            try:
                self.driver.check_open()
            except Exception as error:
                future.set_exception(error)
        return future

    # ------------------------------------------------------------------ objects

    def put(self, value: object) -> ObjectRef:
        """Store a value."""
        return self.put_stored(seal(value))

    def put_stored(self, stored: Any) -> ObjectRef:
        """Store a value that `seal` returned."""
        ref = ObjectRef(self)
        if stored.__class__ is Broken:
            ref._value, ref._state = self._error_of(stored), FAILED
            self.failures += 1
        else:
            ref._value = stored
            ref._state = READY
        return ref

    def give(self, ref: ObjectRef, stored: Any) -> None:
        """Give an object its value, or the error in place of it; under the lock."""
        if stored.__class__ is Broken:
            ref._seal(FAILED, self._error_of(stored))
        else:
            ref._seal(READY, stored)

    def _error_of(self, broken: Broken) -> BaseException:
        from pool.exceptions import RayTaskError

        return reported_if_unhandled(self, RayTaskError(broken.title, broken.open()))

    def fetch(self, refs: Sequence[ObjectRef], timeout: float | None) -> list[Any]:
        """Wait for objects and return ``(state, stored value)`` of each.

        None for one without a value: the time is over, or another has failed, which `get` raises.
        """
        if len(refs) == 1:
            (ref,) = refs
            self.engine.wait(lambda: bool(ref._state), timeout, True)
        else:
            self.engine.wait(all_or_failed(self, refs), timeout)
        return [(ref._state, ref._value) if ref._state else None for ref in refs]

    @property
    def foreign(self) -> bool:
        """Whether this is a forked child, and the runtime belongs to its parent."""
        return self._owner != os.getpid()

    def wait(self, refs: Sequence[ObjectRef], number: int, timeout: float | None) -> None:
        """Wait until `number` of the objects have got their values, or the timeout."""
        if timeout == 0:
            self.engine.lead.glance()
            return
        self.engine.wait(enough(self, refs, number), timeout)

    def are_ready(self, refs: Sequence[ObjectRef]) -> list[bool]:
        """Return for each object whether it has got its value."""
        return [bool(ref._state) for ref in refs]

    def cancel(self, target: ObjectRef | Stream, force: bool, recursive: bool) -> None:
        """Cancel the task or call whose result an object is, or which yields a stream.

        Raises
        ------
        ValueError
            If `force` and it is the call of an actor: the actor would have to be ended.
        """
        if self.foreign:
            return  # the parent's tasks are the parent's to cancel
        error: Exception | None = self.locked(lambda: self.cancel_here(target, force, recursive))
        if error is not None:
            raise error
        self.engine.attend()

    def cancel_here(
        self, target: ObjectRef | Stream, force: bool, recursive: bool
    ) -> Exception | None:
        """Do as `cancel`, under the lock; return the error instead of raising it."""
        call = target._call
        if call is None:
            return None  # the task is over, or there was none: the object was `put`
        if force and call.__class__ is ActorCall:
            return ValueError(
                f"cancel: {call.title}() is a method of an actor, which force=True would end with "
                "all its calls; use kill(actor), or leave force away"
            )
        call.cancel_family(force, recursive)
        return None

    # ------------------------------------------------------------------ tasks

    def submit(self, code: Any, args: Any, kwargs: Any, options: Any) -> Any:
        """Run a task; return the references to its values, or its stream."""
        if options.resources is not None or not self.has_workers:
            problem = self.grants.unschedulable(options.resources, code.title)
            if problem is not None:
                raise problem
        promised: Any
        call, promised = self.tasks.call(code, args, kwargs, options)
        if options.returns == STREAM:
            promised = call.stream = Stream(self)
            promised._call = call
        self.tasks.begin(call)
        return promised

    def new_stream(self, name: bytes) -> Stream:
        """Return a stream under the name that a borrower gave it."""
        stream = Stream(self)
        del self.streams[stream.name]
        stream.name = name
        self.streams[name] = stream
        return stream

    # ------------------------------------------------------------------ actors

    def create(self, code: Any, args: Any, kwargs: Any, options: Any) -> ActorRef:
        """Start an actor without waiting for it."""
        parcel = pack(args, kwargs)
        # Pickled now, so that later changes of the class do not count; and before the lock is
        # taken, since pickling may run code of the user's.
        code = code.in_full()
        found: ActorRef | Exception = self.locked(
            lambda: self.directory.create(code, parcel, options)
        )
        if isinstance(found, Exception):
            raise found
        self.engine.attend()
        return found

    def call(
        self, actor: ActorRef, method: str, args: Any, kwargs: Any, returns: int, options: Any
    ) -> Any:
        """Call a method of an actor; return the references, or the stream.

        Raises
        ------
        PendingCallsLimitExceeded, OwnerDiedError
        """
        if self.foreign:
            return call_as_child(actor, method, args, kwargs, returns, options)
        record: Actor = actor.record
        if (problem := record.too_many()) is not None:
            raise problem
        call = new_call(record, method, args, kwargs, returns, options)
        promised: Any = call.refs
        if returns == STREAM:
            promised = call.stream = Stream(self)
            promised._call = call
        self.later(lambda: record.call(call))
        self.engine.attend()
        return promised

    def kill(self, actor: ActorRef, no_restart: bool) -> None:
        """End an actor at once."""
        if not self.driver.ended:  # otherwise all actors are gone, and a finalizer calls this
            self.locked(lambda: actor.record.kill(no_restart))

    def find(self, name: str, namespace: str | None) -> ActorRef | None:
        """Return a named actor: of this program, or a detached one.

        Raises
        ------
        PermissionError
            If other users have access to the directory with the sockets of detached actors.
        """
        from pool._transport import _rendezvous as rendezvous

        rendezvous.folder()
        found: ActorRef | None = self.locked(lambda: self.directory.find(name, namespace))
        return found

    # ------------------------------------------------------------------ facts and the end

    def facts(self) -> dict[str, Any]:
        """Return the resources, the actors and other facts about the runtime."""
        found: dict[str, Any] = self.locked(self.facts_here)
        return found

    def facts_here(self) -> dict[str, Any]:
        """Return what `facts` does; under the lock."""
        return {
            "total": self.books.amounts(),
            "free": self.grants.free(self.engine.scheduler.workers.values()),
            "environ": self.grants.given,
            "namespace": self.namespace,
            "actors": self.directory.facts(),
        }

    @property
    def usable(self) -> bool:
        """Whether it can be used: not after its end or a crash, and not in a forked child."""
        driver = self.driver
        # Without a call of `engine.usable`, for speed: each task asks this.
        return not (driver.closed or driver.crashed or self._owner != os.getpid())

    def stop(self) -> None:
        """End all workers and actors, at once; wait until they are gone."""
        if self.driver.closed or self._owner != os.getpid():
            self.outputs.finish(forked=self._owner != os.getpid())
            return
        self.locked(self.directory.end_all)
        self.processes.end_all()
        self.engine.terminate()
        self.processes.close()
        self.processes.wait_gone()
        self.driver.crew.wait_gone()
        let_go_of_data()
        # Print what they wrote until the last moment.
        self.outputs.finish()
        self.logs.call_back()

    def forked(self) -> None:
        """Close, in a forked child, the descriptors that belong to the parent."""
        self.outputs.finish(forked=True)
        self.processes.close(forked=True)


def _quit() -> None:
    """End the processes of actors when the program ends."""
    _home.close()
    for runtime in list(_runtimes):
        if not runtime.driver.closed and runtime._owner == os.getpid():
            runtime.processes.end_all()


def _after_fork() -> None:
    for runtime in list(_runtimes):
        runtime.forked()
    _runtimes.clear()


# Registered after the exit functions of the engine, and therefore called before them.
atexit.register(_quit)
in_child(_after_fork)
