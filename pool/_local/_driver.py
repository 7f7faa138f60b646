"""Where the local engine does its I/O.

The driver turns what arrives (answers of workers, exits, user calls, deadlines) into
events for the scheduler, and has the commands carried out that come back. `Sending` and `Arrivals`
see to what goes to workers and comes from them, `Crew` to their lives, `Outcomes` to results.

Any thread may post an event: it appends to a deque and then tries the lock; whoever holds
the lock empties the deque. So nobody waits for the lock in order to submit, and a signal
handler or a finalizer that interrupts the holder cannot deadlock.
"""

from __future__ import annotations

import _thread
import os
import select
from collections import deque
from itertools import count
from time import monotonic

from pool._local import _events as ev
from pool._local._arrivals import Arrivals
from pool._local._crew import Crew
from pool._local._functions import FunctionTable
from pool._local._outcomes import Outcomes
from pool._local._scheduler import Scheduler
from pool._local._sending import Sending
from pool._local._timers import Timers
from pool._transport._watch import Watch
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._local._guard import Guard
    from pool._local._jobs import Job
    from pool._local._protocols import Aside, CallsBack, Flushable
    from pool._workers._launcher import Launcher

#: Seconds until a new pool first looks how much memory is left.
FIRST_LOOK = 0.1

#: What finalizers and `atexit` functions get that come too late.
ENDED = (
    "the program is ending: its workers are gone, and nothing is run, fetched or waited for any "
    "more; do this before, or in a function that is registered by `atexit` after the first use"
)

_get_ident = _thread.get_ident


class Driver:
    """Carry out what the scheduler decides.

    Parameters
    ----------
    scheduler : Scheduler
    launcher : callable
        ``launcher(journal fd) -> Launcher``.
    initial : sequence of bytes-like or Block
        The payload that every worker awaits before it starts; empty if none does.
    traced : bool
        Give workers room to note what they run.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        launcher: Callable[[int], Launcher],
        initial: Sequence[Any] = (),
        traced: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.jobs: dict[int, Job] = {}
        #: What else is read from, by descriptor.
        self.clients: dict[int, Any] = {}
        self.aside: Aside | None = None
        #: Ends every job if set: why no worker can be had.
        self.failure: BaseException | None = None
        #: The books may be wrong: nothing will finish any more.
        self.crashed = False
        self.closed = False
        #: Workers run code of the program's before they are ready, which may look names up here.
        self.initializes = False
        #: Nothing that is handed in can be done any more, and whoever does it is to know.
        self._released = False
        self.inbox: deque[ev.Event] = deque()
        #: Streams with calls that the scheduler does not know of.
        self.dirty: deque[Flushable] = deque()
        self._lock = _thread.allocate_lock()
        self._holder = 0
        #: The thread that ends the interpreter.
        self._last = 0
        #: Whose callbacks are due.
        self.calling: list[CallsBack] = []
        #: Whose callbacks are being run: lists of one, or of none for an instant.
        self.called: dict[int, list[CallsBack]] = {}
        self.epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self.crew = crew = Crew(self, launcher, initial, traced)
        except BaseException:
            os.close(self._wake)
            raise
        self.outcomes = outcomes = Outcomes(self)
        self.arrivals = Arrivals(self)
        self.sending = Sending(self)
        self.functions = FunctionTable(crew.peers, self.dirty)
        # The same objects by shorter ways.
        self.peers = crew.peers
        self.loans = outcomes.loans
        self._by_fd = crew.by_fd
        self._receive = self.arrivals.receive
        self._unlaunched = crew.unlaunched
        #: What carries out each kind of command.
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            ev.StartWorker: crew.start,
            ev.StopWorker: crew.stop,
            ev.KillWorker: crew.kill,
            ev.Send: self.sending.send,
            ev.Reclaim: crew.reclaim,
            ev.Halt: crew.halt,
            ev.TakeRest: crew.take_rest,
            ev.Interrupt: crew.interrupt,
            ev.FailChunk: outcomes.fail_chunk,
            ev.DropChunk: outcomes.drop_chunk,
            ev.FinishJob: self._finish_job,
            ev.AbortJobs: self._abort_jobs,
        }
        #: To wait for one answer that may come at once.
        self.watch = Watch(lambda: self.epoll.poll(0, 64), lambda s: self.epoll.poll(s, 64))
        self.epoll.register(self._wake, select.EPOLLIN)
        for control in crew.controls:
            self.epoll.register(control, select.EPOLLIN)
        self.timers = Timers()
        #: When somebody last looked at the sockets.
        self.looked = 0.0
        #: Bytes that this process and the workers may hold together, see `pool._memory`.
        self.memory_limit: int | None = None
        #: When to look how much memory is left; None: never.
        self.memory_due: float | None = monotonic() + FIRST_LOOK
        #: Made with the first look.
        self.guard: Guard | None = None

    # ------------------------------------------------------------------ events in

    def new_job_id(self) -> int:
        """Return a number that no job of this process had."""
        return next(_job_ids)

    def add_job(self, job: Job) -> None:
        """Enter a job of which the scheduler is about to be told."""
        if job.function is not None:
            self.functions.use(job.function)
        self.jobs[job.job_id] = job

    @property
    def outstanding(self) -> bool:
        """Whether any job has not finished."""
        return bool(
            self.jobs
            or self.calling
            or self.loans
            or self.inbox
            or self.dirty
            or (self.initializes and self.scheduler.starting)
            or self.scheduler.interrupting  # somebody has to see to it that they end
            or (self.aside is not None and self.aside.outstanding)
        )

    @property
    def held_here(self) -> bool:
        """Whether this very thread is inside the driver, further up its stack; or for good."""
        return _get_ident() in (self._holder, self._last)

    @property
    def ended(self) -> bool:
        """Whether the interpreter goes down, and nothing is done any more."""
        return bool(self._last)

    def check_open(self) -> None:
        """Refuse to wait where nothing will come any more; for threads that found it closed.

        Raises
        ------
        RuntimeError
            If this thread ends the interpreter: a finalizer waits.
        PoolTerminated
            If all was let go of.
        """
        me = _get_ident()
        if self._last == me:
            raise RuntimeError(ENDED)
        if self._last:
            self._lock.acquire()  # a daemon thread, see `quit`
        elif self.closed:
            raise self._reason()

    def post(self, event: ev.Event) -> None:
        """Hand in an event from any thread; never waits."""
        self.inbox.append(event)
        self.pump()
        if self._released:
            self._refuse_rest()

    # `pump`, `locked` and `deal` handle events in the same frame: the lock, its holder, and what
    # is done about an error. Written out, since each of them is on the way of every round trip.

    def pump(self) -> None:
        """Handle what has been handed in, unless another thread is about to."""
        # Look again after each release: an event that came while the lock was held by
        # somebody who had just emptied the deque would wait for the next one.
        while (self.inbox or self.dirty) and not self.closed:
            shielded = shield.raised()
            try:
                if not self._lock.acquire(False):
                    return
                self._holder = _get_ident()
                try:
                    self._drain()
                except BaseException as error:
                    self._crash(error)
                    raise
                finally:
                    self._holder = 0
                    self._lock.release()
            finally:
                if shielded:
                    shield.lower()
        if self.calling:
            self.wake()  # whoever drives calls back, and may be asleep

    def locked(self, action: Callable[[], Any]) -> Any:
        """Run `action` while no event is being handled, and handle what it hands in."""
        if self._last:
            self.check_open()
        shielded = shield.raised()
        try:
            with self._lock:
                self._holder = _get_ident()
                try:
                    result = action()
                    self._drain()
                except BaseException as error:
                    self._crash(error)
                    raise
                finally:
                    self._holder = 0
        finally:
            if shielded:
                shield.lower()
        if self.inbox or self.dirty:
            self.pump()  # handed in between the draining and the release of the lock
        elif self.calling:
            self.wake()
        return result

    def wake(self) -> None:
        """Make the thread that sleeps in `step` look around."""
        try:
            os.eventfd_write(self._wake, 1)
        except OSError:
            return  # closed meanwhile

    def arrived(self) -> bool:
        """Whether there is something that nobody has taken in; from any thread."""
        try:
            return bool(self.epoll.poll(0, 1))
        except (OSError, ValueError):
            return False  # closed meanwhile

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Have whoever drives do something after a while; called under the lock."""
        self.timers.add(monotonic() + seconds, action)
        self.wake()

    def step(self, patience: float | None, eager: bool = False) -> None:
        """Sleep until something happens, and deal with it.

        Called with the shield raised, by the thread that has the lead.

        Parameters
        ----------
        patience : float, optional
            Seconds to sleep at most.
        eager : bool
            Wait for one answer, which may come at once; see `pool._transport._watch`.
        """
        if self.calling:
            patience = 0.0  # due since something was handed in: nothing will arrive for that
        deadline = self.scheduler.next_deadline()
        timer = self.timers.due
        if timer is not None and (deadline is None or timer < deadline):
            deadline = timer
        if deadline is not None:
            left = max(0.0, deadline - monotonic())
            patience = left if patience is None else min(patience, left)
        due = self.memory_due
        if due is not None and (self.jobs or self.loans):
            # Counted from when this pool last had work: what was idle took no memory. So no
            # clock is read here, on the way of every round trip.
            left = due - self.looked
            if patience is None or left < patience:
                patience = left if left > 0.0 else 0.0
        if eager:
            self.deal(shield.opened(self.watch.wait, patience), deadline)
        else:
            self.deal(shield.opened(self.epoll.poll, patience, 64), deadline)

    def deal(self, ready: list[tuple[int, int]], deadline: float | None = None) -> None:
        """Take in what has arrived, as `step` does after its sleep.

        Parameters
        ----------
        ready : list of (descriptor, event)
            From `epoll`.
        deadline : float, optional
            Of the scheduler or a timer, before the sleep.
        """
        with self._lock:
            self._holder = _get_ident()
            try:
                self._on_ready(ready, deadline)
                if self.inbox or self.dirty:
                    self._drain()
            except BaseException as error:
                self._crash(error)
                raise
            finally:
                self._holder = 0
        if self.calling:
            self.call_back()
        if self.inbox or self.dirty:
            self.pump()  # handed in between the draining and the release of the lock

    def call_back(self) -> None:
        """Run callbacks that are due, without any lock held."""
        while self.calling:
            under_way: list[CallsBack] = []
            # Before anything is taken, so that who looks for what is not over finds it somewhere.
            self.called[id(under_way)] = under_way
            try:
                try:
                    sink = self.calling.pop(0)
                except IndexError:
                    return  # another thread took the last one
                under_way.append(sink)
                shield.opened(sink.call_back)
            finally:
                del self.called[id(under_way)]

    def _on_ready(self, ready: list[tuple[int, int]], deadline: float | None) -> None:
        self.looked = monotonic()
        if deadline is not None and deadline <= self.looked:
            self.inbox.append(ev.DeadlinePassed())
            self.timers.run(self.looked)
        for fd, _ in ready:
            peer = self._by_fd.get(fd)
            if peer is not None:
                self._receive(peer)
            elif fd in self.crew.controls:
                self.crew.on_control(fd)
            elif fd in self.clients:
                self.clients[fd].on_ready()
            elif fd == self._wake:
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    continue  # another thread was quicker
        due = self.memory_due
        if due is not None and self.looked >= due and (self.jobs or self.loans):
            self._look_at_memory()

    def limit_memory(self, nbytes: int | None) -> None:
        """Set what this process and the workers may hold together; None: anything."""
        self.memory_limit = nbytes
        if nbytes is None:
            self.memory_due = None

    def _look_at_memory(self) -> None:
        if self.guard is None:
            from pool._local._guard import Guard

            self.guard = Guard(self, self.memory_limit)
        self.memory_due = self.looked + self.guard.look()

    def _drain(self) -> None:
        inbox = self.inbox
        dirty = self.dirty
        while inbox or dirty:
            while dirty:
                dirty.popleft().flush()
            if inbox:
                self.handle(inbox.popleft())
                if self._unlaunched:
                    self.crew.launch()

    def handle(self, event: ev.Event) -> None:
        """Tell the scheduler, and do what it says; called under the lock."""
        for command in self.scheduler.handle(event, monotonic()):
            handler = self.handlers.get(command.__class__)
            if handler is not None:
                handler(command)

    def _crash(self, error: BaseException) -> None:
        """Give up in good order after an error that is ours, or came from a signal handler.

        The books may be half written, so nothing can be trusted to finish; but nobody
        must wait for it either.
        """
        self.crashed = True
        if self.failure is None:
            self.failure = _given_up(
                f"the pool was interrupted by {type(error).__name__}: {error}; "
                "its outstanding work is lost, later calls start new workers"
            )
        self.inbox.clear()
        for job_id in list(self.jobs):
            self._abort(job_id)
        self.outcomes.abort_loans(self._reason)
        if self.aside is not None:
            self.aside.abort(self.failure)
        while self.dirty:
            self.calling.extend(self.dirty.popleft().abort(self.failure))
        self.wake()

    # ------------------------------------------------------------------ what is under way

    def jobs_of(self, worker_id: int) -> list[Job]:
        """Return the jobs of the tasks that a worker has; called under the lock."""
        peer = self.peers.get(worker_id)
        if peer is None:
            return []
        numbers = {run[0] for sent in peer.sent.values() for run in sent.runs}
        return [self.jobs[number] for number in numbers if number in self.jobs]

    def chunk_of(self, worker_id: int, message_id: int, chunk: int) -> tuple[Job, int] | None:
        """Return job and index of a chunk, None if its message is over; called under the lock.

        Parameters
        ----------
        worker_id, message_id, chunk : int
            What the worker's journal says that it runs.
        """
        peer = self.peers.get(worker_id)
        sent = None if peer is None else peer.sent.get(message_id)
        number, index = (None, 0) if sent is None else sent.locate(chunk)
        job = None if number is None else self.jobs.get(number)
        return None if job is None else (job, index)

    def depth_of(self, worker_id: int) -> int:
        """Return how deep the tasks are that a worker runs; called under the lock."""
        return max((job.depth for job in self.jobs_of(worker_id)), default=0)

    # ------------------------------------------------------------------ jobs that are over

    def take_out(self, job_id: int) -> Job | None:
        """Take a job out of the books that will not finish; None if another thread was quicker."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            job.source.stop()
            self.functions.forget(job.function)
        return job

    def cancel(self, job_id: int) -> None:
        """Cancel a job that nobody waits for any more; called under the lock."""
        if self.take_out(job_id) is not None:
            self.inbox.append(ev.CancelRequested(job_id))

    def _finish_job(self, command: ev.FinishJob) -> None:
        job = self.jobs.pop(command.job_id, None)
        if job is None:
            return
        self.functions.forget(job.function)
        if job.sink.finish():
            self.calling.append(job.sink)

    def _abort_jobs(self, command: ev.AbortJobs) -> None:
        for job_id in command.job_ids:
            self._abort(job_id)
        if self.scheduler.broken:
            self.outcomes.abort_loans(self._reason)

    def _reason(self) -> BaseException:
        """Return why nothing will finish any more."""
        if self.failure is None and self.scheduler.gave_up:
            self.failure = self.outcomes.death("while starting (or in its initializer)")
        if self.failure is not None:
            return self.failure
        return _given_up("the pool was terminated before this job had finished")

    def _abort(self, job_id: int) -> None:
        job = self.jobs.pop(job_id, None)
        if job is None:
            return
        job.source.stop()
        error = self._reason()
        if job.sink.abort(error):
            self.calling.append(job.sink)

    # ------------------------------------------------------------------ the end

    def quit(self) -> None:
        """End the workers as the interpreter goes down, and let nothing else happen.

        A daemon thread may be waiting for a result. It shall neither get an error, which
        it would print, nor start workers anew: so the lock is taken and kept.
        """
        alone = self._lock.acquire(timeout=1.0)
        self._last = _get_ident()
        self.closed = True
        self.crew.end_all()
        if alone and self.aside is not None:
            self.aside.quit()

    def release(self, forked: bool = False) -> None:
        """Let go of all descriptors; the forkserver then ends all workers.

        Parameters
        ----------
        forked : bool
            This is a forked child: the kernel's objects behind the descriptors are
            shared with the parent and must be left as they are.
        """
        if forked or self.held_here:
            self._release(forked)
            return
        with self._lock:  # another thread may be sending
            self._release(forked)
        self._refuse_rest()

    def _release(self, forked: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self._released = not forked
        if self.guard is not None:
            self.guard.close(forked)
        self.crew.close(forked)
        for client in self.clients.values():
            client.channel.close()
        self.clients.clear()
        self.epoll.close()
        os.close(self._wake)

    def _refuse_rest(self) -> None:
        """Fail what was handed in while everything was being closed: nobody will look at it."""
        self.inbox.clear()
        for job_id in list(self.jobs):
            self._abort(job_id)
        while self.dirty:
            self.calling.extend(self.dirty.popleft().abort(self._reason()))
        self.call_back()


def _given_up(text: str) -> BaseException:
    try:
        from pool._errors import PoolTerminated
    except OSError:
        return RuntimeError(text)  # no descriptor to import anything by
    return PoolTerminated(text)


_job_ids = count(1)
