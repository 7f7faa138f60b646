"""The local engine: a scheduler, its driver and its lead, started and ended together.

Faces talk to `LocalEngine` only.
"""

from __future__ import annotations

import atexit
import os
import weakref
from _thread import get_ident

from pool._local import _events as ev
from pool._local._costs import NEAR
from pool._local._crew import Crew
from pool._local._driver import Driver
from pool._local._express import call_now
from pool._local._jobs import Job
from pool._local._last_calls import PATIENCE, last_calls
from pool._local._members import items, members
from pool._local._outcomes import Outcomes
from pool._local._scheduler import Scheduler
from pool._local._starting import plan_start
from pool._local._streams import Batch, Streams, single_calls
from pool._local._tending import TendedLead
from pool._pickling import drop_large, forget_all, start_anew
from pool._pickling._shared import ALL
from pool._pickling._tables import number_inherited
from store._children import in_child, notice_fork
from store._interrupts import shield
from store._settings import wanted_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from typing import Any

    from pool._local._express import Loan
    from pool._local._jobs import Function, Sink, Source
    from pool._local._lazy import Growing
    from pool._local._protocols import Crew as AnyCrew

engines: weakref.WeakSet[LocalEngine] = weakref.WeakSet()  # those of this process


class LocalEngine:
    """Run jobs on worker processes of this machine.

    Parameters
    ----------
    processes : int
        Workers that may run tasks at the same time.
    initializer : callable, optional
        Called in each worker before its first task.
    initargs : tuple
    maxtasksperchild : int, optional
        Chunks after which a worker is replaced; None: never.
    method : {"forkserver", "fork", "spawn"}
    limits : dict, optional
        Environment variables that limit BLAS and OpenMP threads in the workers.
    preload : sequence of str
        Modules for the forkserver to import.
    traced : bool
        Give workers room to note what they run.
    pool : int
        Tells the pool of this engine from others of this process.
    shares : bool
        Fork if the initializer's arguments lie on shared memory: as `multiprocessing` does where
        nobody chose another start method.
    waits : bool
        Raise HalfImported rather than fork unasked while a module is imported.
    saves : bool
        With `shares`, fork too if that only saves time or memory.

    Raises
    ------
    StartError
        If descriptors, memory or the disk do not suffice for the workers.

    Attributes
    ----------
    inherited : int
        Workers have inherited the arrays on shared memory whose numbers are below this one (see
        `pool._pickling._shared`).
    asks : int
        Up to which of these numbers a pickle for the workers may name an array: `inherited`, or
        `ALL` where the call can go to another engine whose workers inherit more.
    claims : set of int
        Threads that are about to submit a job: until they have, the engine must not be disposed of.
    scheduler, driver, lead
        What decides, what carries out, and which thread has the driver do so.
    """

    #: Whether workers are processes of this machine.
    near = True
    #: How far away they are.
    distance = NEAR
    #: What becomes of the answers of workers.
    outcomes: type[Outcomes] = Outcomes
    #: How they are started.
    plan_start = staticmethod(plan_start)

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        maxtasksperchild: int | None = None,
        method: str = "forkserver",
        limits: dict[str, str] | None = None,
        preload: Sequence[str] = (),
        traced: bool = False,
        pool: int = 0,
        shares: bool = False,
        waits: bool = False,
        saves: bool = False,
    ) -> None:
        limit = os.environ.get("POOL_MEMORY_LIMIT")
        if limit is not None:
            from pool._memory import parse_limit

            memory_limit = parse_limit(limit)
        wanted_mode()  # raises now, not at the first array, if a setting of the store is wrong
        self._begin()
        self.method, connect, initial = self.plan_start(
            method, initializer, tuple(initargs), limits or {}, preload, pool, shares, waits, saves
        )
        if self.method == "fork":
            self.inherited = self.asks = number_inherited()
        self._start(
            Scheduler(processes, maxtasksperchild, self.distance),
            lambda driver: Crew(driver, connect, initial, traced),
            initializes=initializer is not None and self.method != "fork",
        )
        if limit is not None:
            self.driver.limit_memory(memory_limit)

    def _begin(self) -> None:
        """Set what an engine has before it has workers."""
        notice_fork()  # later it would take this engine for one of the parent's
        self.inherited = 0
        self.asks = ALL
        self.claims: set[int] = set()
        self._terminates, self._terminated = 0, False
        self._owner = os.getpid()
        start_anew()

    def _start(
        self, scheduler: Scheduler, hire: Callable[[Driver], AnyCrew], initializes: bool
    ) -> None:
        """Make the driver, and have it start the workers."""
        try:
            # An interrupt in the midst of this would leave descriptors that nothing ever closes.
            shielded = shield.enter()
            try:
                self._start_shielded(scheduler, hire, initializes)
            finally:
                shield.leave(shielded)
        except BaseException:  # also what one of the program's own signal handlers has raised
            if hasattr(self, "lead"):
                self.dispose()
            raise

    def _start_shielded(
        self, scheduler: Scheduler, hire: Callable[[Driver], AnyCrew], initializes: bool
    ) -> None:
        self.scheduler = scheduler
        try:
            self.driver = Driver(scheduler, hire, self.outcomes)
        except OSError as error:
            from pool._errors import StartError

            if isinstance(error, StartError):
                raise
            raise StartError(
                f"cannot start a pool of {scheduler.processes} workers: {error}; a low `ulimit -n` "
                "or `ulimit -f`, too little memory, or a full disk is the usual cause",
                error.errno,
            ) from error
        self.lead = TendedLead(self.driver)
        self.streams = Streams(self.driver)
        scheduler.dispatch.in_order = True
        #: Results of lazy jobs: `join` has their inputs read to the end, though nobody takes any.
        self.lazies: weakref.WeakSet[Any] = weakref.WeakSet()
        engines.add(self)
        self.driver.initializes = initializes
        self.driver.post(ev.WorkersWanted())
        if self.driver.crashed and self.driver.failure is not None:
            raise self.driver.failure
        if initializes:
            self.attend()

    # ------------------------------------------------------------------ jobs

    @property
    def usable(self) -> bool:
        """Whether jobs can be submitted: not after a crash, and not in a forked child."""
        driver = self.driver
        return not (driver.closed or driver.crashed)

    @property
    def foreign(self) -> bool:
        """Whether this engine was made by the parent, before this process was forked."""
        return self._owner != os.getpid()

    def function(self, payload: Any) -> Function:
        """Register a pickled function; see `FunctionTable`."""
        driver = self.driver
        if payload.encoded.buffers:
            # Workers may have let go of stored objects, which makes room for these buffers.
            self.lead.glance()
        return driver.functions.register(payload)

    def submit(
        self,
        function: Function | None,
        mode: int,
        source: Source,
        sink: Sink,
        label: Callable[[int, int], str],
        timeout: float | None = None,
        retries: int = 0,
        awaited: bool = False,
        depth: int = 0,
        cost_key: Hashable = None,
    ) -> int:
        """Start a job and return its id; never waits.

        Parameters
        ----------
        function : Function, optional
            None if each payload holds its own.
        mode : int
            CALL, MAP or STAR, see `pool._transport._messages`.
        source : Source
            Where its chunks come from.
        sink : Sink
            What receives its outcomes.
        label : callable
            ``label(first item, last item)`` names these items for error messages.
        timeout : float, optional
            Seconds for each chunk.
        retries : int
            How many times a chunk that failed, or whose worker died, is tried again.
        awaited : bool
            The caller is going to wait at once and will drive: no stand-in is needed.
        depth : int
            How many tasks up the job was submitted from; deeper jobs go first.
        cost_key : hashable, optional
            Jobs with the same key share an estimate of run times, and messages. None: the
            function and the chunk size are the key.

        Returns
        -------
        int
            The job_id, for `cancel` and `recall`.
        """
        job_id = self.driver.jobs.new_id()
        job = Job(job_id, function, mode, source, sink, label)
        job.timeout, job.retries, job.depth = timeout, retries, depth
        source.inherited = self.inherited if self.near else None
        driver = self.driver
        key = cost_key or (0 if function is None else function.function_id, source.chunksize)
        try:
            driver.jobs.add(job)
            if self.claims:
                self.claims.discard(get_ident())
            self.streams.seal()
            driver.post(
                ev.JobSubmitted(job_id, source.chunks, source.final, key, depth, timeout, retries)
            )
            if not awaited:
                self.attend()
        except BaseException:
            from pool._errors import TaskCancelled

            # The caller will never have a handle to cancel the job with.
            self.cancel(job_id, TaskCancelled("interrupted by Ctrl-C"))
            self.lead.ensure_stand_in()  # for callbacks, if it has crashed
            raise
        return job_id

    def call_now(self, payload: Any, blobs: list[Any], label: Any) -> Loan | None:
        """Call a function on an idle worker, if there is one; see `pool._local._express`."""
        return call_now(self, payload, blobs, label)

    def call_soon(self, payload: Any, label: Any, named: Any, args: Any, result: Any) -> None:
        """Submit one call of a stateless function with immutable arguments; never waits.

        Parameters
        ----------
        payload : FunctionPayload
        label, named : callable, object
            ``label(named)`` returns the label of a new stream, which may live long.
        args : tuple
            Of immutable values whose types are in `pool._pickling.ATOMS`.
        result : AsyncResult
            The caller's handle.
        """
        stream = self.streams.get(payload)
        if stream is None:
            stream = self.streams.add(payload, self.function(payload), label(named))
        try:
            stream.add(args, result)
            # Else the thread that takes in the next answer finds the call. A broken pool gets none.
            if self.scheduler.hungry or self.scheduler.broken or self.driver.closed:
                self.driver.pump()
            self.attend()
        except BaseException:
            result.cancel()  # the caller will never have the handle
            self.lead.ensure_stand_in()  # as in `submit`
            raise

    def begin_in_any_order(self) -> None:
        """Let calls begin in another order than that of their submission."""
        self.streams.in_order = self.scheduler.dispatch.in_order = False

    def attend(self) -> None:
        """See to it that outstanding work goes on although nobody waits for it."""
        self.lead.attend()

    def glance(self) -> None:
        """Take in what has arrived; for threads that ask how far their jobs are."""
        self.lead.glance()
        self.lead.ensure_stand_in()

    def catch_up(self) -> None:
        """Return once the scheduler knows of everything that any thread has submitted."""
        driver = self.driver
        if not (driver.closed or driver.held_here):
            driver.locked(lambda: None)

    def unfinished(self) -> list[tuple[Any, Any]]:
        """Return an identity and the result of each call that is not over, callbacks included.

        The identity is a job_id; for the calls of a stream, a job_id and the call's index in it.
        """
        driver = self.driver
        found: list[tuple[Any, Any]] = []
        for job_id, job in items(driver.jobs):
            if isinstance(job.sink, Batch):
                found += [((job_id, place), result) for place, result in job.sink.unfinished()]
            else:
                found.append((job_id, job.sink))
        found += [(loan.message_id, loan) for _, loan in items(driver.loans)]
        # `calling` before `called`: a sink moves from the one to the other, and must not be missed.
        due: list[Any] = list(driver.calling)
        for _, under_way in items(driver.called):
            due += under_way or [None]
        return found + single_calls(due)

    def resize(self, processes: int) -> None:
        """Change how many workers may run tasks at the same time."""
        self.driver.post(ev.ProcessesChanged(processes))

    def offer(self, feed: Growing, at_once: bool) -> None:
        """See to it that an input's new chunks are sent as soon as a worker can take one.

        The scheduler is told now if `at_once` is set, or if a worker has nothing to do. Otherwise
        the thread that takes in the next answer tells it, since no worker gets free before that.
        Nothing is missed between the two: either that thread sees the chunks, or this one sees
        the worker that has got free.
        """
        driver = self.driver
        if not feed.offered:
            feed.offered = True
            driver.dirty.append(feed)
        if at_once or self.scheduler.starving:
            driver.pump()
            self.attend()

    def wait(
        self, ready: Callable[[], bool], timeout: float | None = None, eager: bool = False
    ) -> bool:
        """Block until ``ready()`` or the timeout; return what ``ready()`` says then. See `Lead`."""
        return self.lead.wait(ready, timeout, eager)

    def cancel(self, job_id: int, error: BaseException, index: int | None = None) -> bool:
        """Cancel a job, or one call of a stream; return False if it had finished."""
        driver = self.driver
        job = driver.jobs.get(job_id)
        if job is None:
            return False
        sink: Any = job.sink
        if index is not None and driver.held_here:
            return bool(sink.drop_later(index, error))
        if index is not None:
            sink = driver.locked(lambda: sink.drop(index))
            if sink is None:
                return False
        elif driver.jobs.take_out(job_id) is None:
            return False
        else:
            driver.post(ev.CancelRequested(job_id))
        if sink.abort(error):
            sink.call_back()
        self.attend()
        driver.wake()
        return True

    def recall(self, job_id: int, index: int, force: bool) -> None:
        """Ask one chunk to end, or not to begin; its outcome is delivered all the same.

        Parameters
        ----------
        job_id, index : int
        force : bool
            End the worker that runs it, instead of raising KeyboardInterrupt there.
        """
        self.driver.post(ev.RecallRequested(job_id, index, force))
        self.attend()

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Take no more jobs; workers end when all jobs have finished."""
        self.driver.post(ev.PoolClosed())
        self.driver.wake()
        if self.driver.outstanding:
            self.attend()

    def join(self) -> None:
        """Wait until all workers have ended, after `close` or `terminate`."""
        for lazy in members(self.lazies):
            lazy.lift()
        # A job that another thread is just submitting is not yet in the scheduler's records.
        self.catch_up()
        driver = self.driver
        self.lead.wait(lambda: driver.over)
        self.dispose()
        driver.crew.wait_gone()

    def terminate(self) -> None:
        """End all workers at once; outstanding jobs fail."""
        if self.driver.closed or self._owner != os.getpid():
            return
        if self._terminates == get_ident() or (self._terminated and last_calls.called_here()):
            # Called by a callback that this very call runs further down, or that another thread
            # waits for here, perhaps with the lead; thousands of callbacks may do so.
            return
        self._terminates, self._terminated = get_ident(), True
        try:
            self.driver.post(ev.PoolTerminated())
            if not self.driver.held_here:
                self.driver.call_back()
        finally:
            self._terminates = 0
        self.dispose()
        if not self.driver.held_here:
            last_calls.wait(PATIENCE)

    def dispose(self) -> None:
        """Close every descriptor and end the stand-in thread."""
        driver, lead = self.driver, self.lead
        if self.foreign or driver.closed:
            return
        if driver.held_here:
            lead.end(lambda: driver.release_within(lead.taken_here), waits=False)
        else:
            lead.end(lambda: lead.exclusively(driver.release))
        engines.discard(self)
        if not engines:
            drop_large()

    def forked(self) -> None:
        """Forget, in a forked child, what belongs to the parent."""
        from pool._errors import PoolTerminated

        driver = self.driver
        # First, so that aborting the jobs here sends nothing to the parent's workers.
        driver.release_forked()
        # A thread that this child does not have may hold the old one.
        self.lead = TendedLead(driver)
        text = "this result belongs to the process that was forked"
        while driver.jobs:
            _, job = driver.jobs.popitem()
            job.sink.abort(PoolTerminated(text))
        # Results that wait for their callbacks, which only the parent runs, are in no job: `wait`
        # raises this.
        driver.failure = driver.failure or PoolTerminated(text)


def _terminate_all() -> None:
    """End the engines that a program has not closed when it ends."""
    left = [it for it in members(engines) if not (it.driver.closed or it.foreign)]
    for engine in left:
        engine.driver.quit()
    for engine in left:
        engine.driver.crew.linger(PATIENCE)
    forget_all()


def _after_fork() -> None:
    for engine in members(engines):
        engine.forked()
    engines.clear()


atexit.register(_terminate_all)
in_child(_after_fork)
