"""Where the local engine does its I/O.

The driver turns what arrives (answers of workers, exits, user calls, deadlines) into events for the
scheduler, and has the commands that come back carried out: `Sending` writes to workers, `Arrivals`
reads from them, `Crew` starts, signals and buries them, `Outcomes` delivers results.
"""

from __future__ import annotations

import select
from _thread import get_ident as _get_ident

from pool._clock import monotonic
from pool._local import _events as ev
from pool._local._alarm import Alarm
from pool._local._arrivals import Arrivals
from pool._local._door import Door
from pool._local._functions import FunctionTable
from pool._local._given_up import given_up
from pool._local._job_table import JobTable
from pool._local._outcomes import Outcomes
from pool._local._scheduler import Scheduler
from pool._local._sending import Sending
from pool._local._timers import FOREVER, LONGEST, Timers
from pool._local._waiting import DEEPEST
from pool._transport._descriptors import epoll_above_streams
from pool._transport._watch import Watch
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._local._guard import Guard
    from pool._local._protocols import Aside, CallsBack, Crew

#: Seconds until a new pool first looks how much memory is left.
FIRST_LOOK = 0.1

#: What finalizers and `atexit` functions are told that use a pool after its workers have ended.
ENDED = (
    "the program is ending: its workers are gone, and nothing is run, fetched or waited for any "
    "more; do this before, or in a function that is registered by `atexit` after the first use"
)


class Driver(Door):
    """Carry out what the scheduler decides.

    Parameters
    ----------
    scheduler : Scheduler
    hire : callable
        ``hire(driver)`` returns the crew: the workers, on this machine or on others.
    outcomes : type
        What becomes of their answers.
    """

    def __init__(
        self, scheduler: Scheduler, hire: Callable[[Driver], Crew], outcomes: type[Outcomes]
    ) -> None:
        super().__init__()
        self.scheduler = scheduler
        #: By descriptor, what else is read from: tasks that use this pool, and what a runtime adds.
        self.clients: dict[int, Any] = {}
        #: What a runtime has driven along with the jobs; None for a Pool.
        self.aside: Aside | None = None
        #: Why no worker can be had; once set, every job fails with it.
        self.failure: BaseException | None = None
        #: The records may be half written: no job will finish any more.
        self.crashed = False
        #: Workers run an initializer before they are ready, and it may ask for names of the main
        #: module: somebody has to answer although no job is outstanding.
        self.initializes = False
        #: Results whose callbacks are running now: lists of one, or of none for an instant.
        self.called: dict[int, list[CallsBack]] = {}
        self.epoll = epoll_above_streams()
        self._alarm: Alarm | None = Alarm()
        try:
            self.crew = crew = hire(self)
        except BaseException:
            self._close_epoll()
            raise
        self.outcomes = outcomes(self)
        self.arrivals = Arrivals(self)
        self.sending = Sending(self)
        self.functions = FunctionTable(crew.peers, self.dirty)
        self.jobs = JobTable(self.functions, crew.peers, self.calling)
        # The same objects again, fewer attributes away: they are used in every round trip.
        self.peers = crew.peers
        self.loans = self.outcomes.loans
        self._by_fd = crew.by_fd
        self._receive = self.arrivals.receive
        self._unlaunched = crew.unlaunched
        #: What carries out each kind of command.
        self.handlers = self._handlers()
        #: Waits awake, for a moment, where a single answer may come at once.
        self.watch = Watch(lambda: self.epoll.poll(0, 64), lambda s: self.epoll.poll(s, 64))
        self.epoll.register(self._alarm.fileno(), select.EPOLLIN)
        for control in crew.controls:
            self.epoll.register(control, select.EPOLLIN)
        self.timers = Timers()
        #: When a thread last took in what had arrived, on the monotonic clock.
        self.looked = 0.0
        #: Bytes that this process and the workers may hold together, see `pool._memory`.
        self.memory_limit: int | None = None
        #: When to look how much memory is left, on the monotonic clock; None: never.
        self.memory_due: float | None = monotonic() + FIRST_LOOK
        #: Made when memory is first looked at.
        self.guard: Guard | None = None

    def _handlers(self) -> dict[type[Any], Callable[[Any], None]]:
        crew, outcomes = self.crew, self.outcomes
        return {
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

    # ------------------------------------------------------------------ events in

    @property
    def outstanding(self) -> bool:
        """Whether there is anything for which some thread has to drive."""
        return bool(
            self.jobs
            or self.calling
            or self.loans
            or self.inbox
            or self.dirty
            or (self.initializes and self.scheduler.starting)
            or self.scheduler.interrupting  # tasks that do not stop must be ended by force
            or (self.aside is not None and self.aside.outstanding)
            # Until the end of that worker is noticed, no guard of this process looks at memory.
            or (self.guard is not None and self.guard.ending is not None)
        )

    @property
    def calls_back(self) -> bool:
        """Whether callbacks are due or under way."""
        return bool(self.calling or self.called)

    @property
    def over(self) -> bool:
        """Whether all workers have ended for good, or will when the driver is released."""
        # Another thread may have terminated the pool and be waiting for the lead in order to
        # release the driver. Its workers end with the release, which whoever comes first does.
        ending = self.closed or self.crashed or self.scheduler.broken
        # No peers is not enough: the last worker may have ended, and its successor not be there.
        return ending or not (self.peers or self.jobs)

    def check_open(self) -> None:
        """Raise if no outcome will come any more; for threads that found the driver closed.

        A daemon thread that comes here as the interpreter goes down blocks for ever, see `quit`.

        Raises
        ------
        RuntimeError
            If this thread ends the interpreter: a finalizer or `atexit` function would wait.
        PoolTerminated
            If the driver was released.
        """
        me = _get_ident()
        if self._quitter == me:
            raise RuntimeError(ENDED)
        if self._quitter:
            self._lock.acquire()  # never released
        elif self.closed:
            raise self.reason()

    def wake(self) -> None:
        """Make the thread that sleeps in `step` return from its sleep."""
        alarm = self._alarm  # read once: another thread may be closing everything
        if alarm is not None:
            alarm.ring()

    def _deadline(self) -> float | None:
        """Return when the scheduler or a timer is next due; None if nothing is."""
        deadline = self.scheduler.next_deadline()
        timer = self.timers.due
        return timer if deadline is None or (timer is not None and timer < deadline) else deadline

    def arrived(self) -> bool:
        """Return whether something has arrived that no thread has taken in; from any thread."""
        try:
            return bool(self.epoll.poll(0, 1))
        except (OSError, ValueError):
            return False  # closed meanwhile

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Have `action` run after `seconds` by whichever thread drives; called under the lock."""
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
        calls = len(self.called) < DEEPEST or bool(self.calling and not self.jobs)
        if self.calling and calls:
            patience = 0.0  # callbacks are due, and no message will arrive to tell of that
        # Set before the deadline is read: who makes something due earlier from here on wakes this.
        self.sleeping = FOREVER
        deadline = self._deadline()
        if deadline is not None:
            self.sleeping = deadline
            left = max(0.0, min(deadline - monotonic(), LONGEST))
            patience = left if patience is None else min(patience, left)
        due = self.memory_due
        if due is not None and (self.jobs or self.loans):
            # Counted from when this pool last took something in: idle workers take no memory since
            # then. So the clock need not be read in every round trip.
            left = due - self.looked
            if patience is None or left < patience:
                patience = left if left > 0.0 else 0.0
        try:
            if eager:
                ready = shield.opened(self.watch.wait, patience)
            else:
                ready = shield.opened(self.epoll.poll, patience, 64)
        except (OSError, ValueError):
            if self.closed:
                return  # closed by a signal handler that has interrupted the sleep
            raise
        self.deal(ready, deadline, calls)

    def look(self) -> None:
        """Take in what has arrived, without sleeping or running callbacks; needs the lead."""
        self.deal(self.epoll.poll(0, 64), self._deadline(), calls=False)

    def deal(
        self, ready: list[tuple[int, int]], deadline: float | None = None, calls: bool = True
    ) -> None:
        """Take in what has arrived, as `step` does after its sleep.

        Parameters
        ----------
        ready : list of (descriptor, event)
            From `epoll`.
        deadline : float, optional
            What `_deadline` returned before the sleep.
        calls : bool
            Run callbacks that are due.
        """
        self.sleeping = 0.0
        if self.closed:
            return  # closed by a signal handler since the sleep
        with self._lock:
            try:
                if not self.closed:  # by a signal handler, or by a thread that had the lock
                    self.on_ready(ready, deadline)
                if self.inbox or self.dirty:
                    self._drain()
            except BaseException as error:
                if not self._was_closed(error):
                    self._crash(error)
                    raise
        self.ended_some = False  # this thread is the leader, who is to know of it
        if self.calling and calls:
            self.call_back()
        if self.inbox or self.dirty or self.closed:
            self.pump()  # handed in between the draining and the release of the lock

    def call_back(self) -> None:
        """Run callbacks that are due, without any lock held."""
        while self.calling:
            under_way: list[CallsBack] = []
            # Entered before anything is taken from `calling`: `LocalEngine.unfinished` then finds a
            # result whose callback is not over in one of the two.
            self.called[id(under_way)] = under_way
            try:
                try:
                    sink = self.calling.pop(0)
                except IndexError:
                    return  # another thread took the last one
                under_way.append(sink)
                try:
                    shield.opened(sink.call_back)
                except BaseException:
                    # Raised by a signal handler, perhaps before `call_back` began. It may be called
                    # again: it never repeats what it has done already.
                    self.calling.insert(0, sink)
                    raise
            finally:
                del self.called[id(under_way)]

    def on_ready(self, ready: list[tuple[int, int]], deadline: float | None = None) -> None:
        """Take in what has arrived at these descriptors, and what is due; needs the lock."""
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
            elif self._alarm is not None and fd == self._alarm.fileno():
                self._alarm.stop()
        due = self.memory_due
        if due is not None and self.looked >= due and (self.jobs or self.loans):
            self._look_at_memory()

    def limit_memory(self, nbytes: int | None) -> None:
        """Set how many bytes this process and the workers may hold together; None: any number."""
        self.memory_limit = nbytes
        if nbytes is None:
            self.memory_due = None

    def _look_at_memory(self) -> None:
        if self.guard is None:
            try:
                from pool._local._guard import Guard
            except OSError:
                self.memory_due = self.looked + FIRST_LOOK
                return  # no descriptor is left to import the module with

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
        """Tell the scheduler of an event, and carry out its commands; called under the lock."""
        for command in self.scheduler.handle(event, monotonic()):
            self.handlers[command.__class__](command)

    def _crash(self, error: BaseException) -> None:
        """Fail all jobs after an error of this package, or one that a signal handler raised.

        The records may be half written: no job is sure to finish, and no thread must wait for one.
        Nor for one that is only being submitted, by a thread that saw this driver at work.
        """
        self.crashed = self.scheduler.broken = True
        if self.failure is None:
            self.failure = given_up(
                "PoolTerminated",
                f"the pool was interrupted by {type(error).__name__}: {error}; "
                "its outstanding work is lost, later calls start new workers",
            )
        self.inbox.clear()
        for job_id in list(self.jobs):
            self.jobs.abort(job_id, self.reason())
        self.outcomes.abort_loans(self.reason)
        if self.aside is not None:
            self.aside.abort(self.failure)
        while self.dirty:
            self.calling.extend(self.dirty.popleft().abort(self.failure))
        self.wake()

    # ------------------------------------------------------------------ jobs that are over

    def cancel(self, job_id: int) -> None:
        """Cancel a job that nobody waits for any more; called under the lock."""
        if self.jobs.take_out(job_id) is not None:
            self.inbox.append(ev.CancelRequested(job_id))

    def _finish_job(self, command: ev.FinishJob) -> None:
        self.jobs.finish(command.job_id)
        self.ended_some = True

    def _abort_jobs(self, command: ev.AbortJobs) -> None:
        self.ended_some = True
        for job_id in command.job_ids:
            self.jobs.abort(job_id, self.reason())
        if self.scheduler.broken:
            self.outcomes.abort_loans(self.reason)

    def reason(self) -> BaseException:
        """Return the error that says why no job will finish any more."""
        if self.failure is None and self.scheduler.staff.gave_up:
            self.failure = self.outcomes.death("while starting (or in its initializer)")
        if self.failure is not None:
            # Every call raises it, and each would leave its frames there, with all that they hold.
            return self.failure.with_traceback(None)
        return given_up("PoolTerminated", "the pool was terminated before this job had finished")

    # ------------------------------------------------------------------ the end

    def quit(self) -> None:
        """End the workers as the interpreter goes down, and let nothing else happen.

        A daemon thread that waits for a result must neither get an error, which it would print, nor
        start workers anew: so this takes the lock and never releases it.
        """
        alone = self._lock.acquire(timeout=1.0)
        self._quitter = _get_ident()
        if alone and self.aside is not None:
            self.arrivals.receive_last()
        self.closed = True
        self.crew.end_all()
        if alone and self.aside is not None:
            self.aside.quit()

    def release(self) -> None:
        """Close all descriptors; the forkserver then ends all workers. Needs the lead."""
        with self._lock:  # another thread may be sending
            self._release(False)
            self._close_epoll()
        self._refuse_rest()

    def release_within(self, leads: bool) -> None:
        """Do so for a signal handler or a finalizer, in the midst of this thread's lines here.

        Unless it `leads`, whoever does may wait for it to leave them, or sleep: so what wakes that
        thread stays as long as this object. What was handed in is failed when they have been left.
        """
        self._release(False)
        self._close_epoll() if leads else self.wake()

    def release_forked(self) -> None:
        """Let go of a forked child's copies; what is behind them is the parent's, too."""
        self._release(True)
        self._close_epoll()

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

    def _close_epoll(self) -> None:
        self.epoll.close()
        self._alarm = None

    def _refuse_rest(self) -> None:
        """Fail what was handed in while everything was being closed: no thread drives any more."""
        self.inbox.clear()
        for job_id in list(self.jobs):
            self.jobs.abort(job_id, self.reason())
        while self.dirty:
            try:
                flushable = self.dirty.popleft()
            except IndexError:
                break  # another thread took the last one
            self.calling.extend(flushable.abort(self.reason()))
        self.call_back()
