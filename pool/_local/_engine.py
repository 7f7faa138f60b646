"""The local engine: a scheduler, its driver and who leads it, as one thing with a life.

Faces talk to this class only.
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
from pool._local._members import members
from pool._local._outcomes import Outcomes
from pool._local._scheduler import Scheduler
from pool._local._streams import Batch, CallStream, told_apart
from pool._local._tending import TendedLead
from pool._pickling import drop_large, forget_all, inherits, start_anew
from pool._pickling._shared import ALL, number_globals, upcoming
from pool._transport._messages import AWAITED
from pool._workers import _launcher
from store._codec import OUT_OF_BAND_MIN
from store._interrupts import shield
from store._settings import wanted_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from typing import Any

    from pool._local._express import Loan
    from pool._local._jobs import Function, Sink, Source
    from pool._local._lazy import Growing

#: Functions that `LocalEngine.call_soon` remembers.
STREAMS_KEPT = 256

_engines: weakref.WeakSet[LocalEngine] = weakref.WeakSet()


class LocalEngine:
    """Run jobs on worker processes of this machine.

    Parameters
    ----------
    processes : int
    initializer : callable, optional
    initargs : tuple
    maxtasksperchild : int, optional
    method : {"forkserver", "fork", "spawn"}
    limits : dict, optional
        Environment variables that limit BLAS and OpenMP threads in the workers.
    preload : sequence of str
        Modules for the forkserver to import.
    traced : bool
        Give workers room to note what they run.
    pool : int
        What tells the pool of this engine from others of this process.
    shares : bool
        Fork if the initializer's arguments lie on shared memory: as `multiprocessing` does where
        nobody chose another way to start workers.

    Attributes
    ----------
    inherited : int
        Workers have inherited the arrays on shared memory that are numbered below (see
        `pool._pickling._shared`).
    asks : int
        For pickling what its workers are to have: that number, or `ALL` where another engine can
        be had whose workers inherit more.
    claims : set of int
        Threads that are about to submit a job, so that this must not be disposed of.
    scheduler, driver, lead
        What decides, what does, and which thread has the driver do it.
    """

    #: Whether workers are processes of this machine.
    near = True
    #: How far away they are.
    distance = NEAR
    #: What becomes of the answers of workers.
    outcomes: type[Outcomes] = Outcomes

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
    ) -> None:
        self.method = method
        self.inherited = 0
        self.asks = ALL
        self.claims: set[int] = set()
        self._terminates = 0
        self._owner = os.getpid()
        limit = os.environ.get("POOL_MEMORY_LIMIT")
        if limit is not None:
            from pool._memory import parse_limit

            memory_limit = parse_limit(limit)
        wanted_mode()  # what is wrong with the settings of the store is known before it is used
        start_anew()
        launcher, initial = self._launcher(
            initializer, tuple(initargs), limits or {}, preload, pool, shares
        )
        # An interrupt in the midst of this would leave descriptors behind that nobody knows.
        shielded = shield.enter()
        try:
            initializes = initializer is not None and self.method != "fork"
            self._start(processes, maxtasksperchild, launcher, initial, traced, initializes)
            if limit is not None:
                self.driver.limit_memory(memory_limit)
        finally:
            try:
                shield.leave(shielded)
            except BaseException:  # of a handler of the program's, whatever it raises
                if hasattr(self, "driver"):
                    self.dispose()
                raise

    def _start(
        self,
        processes: int,
        maxtasksperchild: int | None,
        launcher: Callable[[int], _launcher.Launcher],
        initial: Sequence[Any],
        traced: bool,
        initializes: bool,
    ) -> None:
        self.scheduler = Scheduler(processes, maxtasksperchild, self.distance)
        try:
            self.driver = Driver(
                self.scheduler,
                lambda driver: Crew(driver, launcher, initial, traced),
                self.outcomes,
            )
        except OSError as error:
            from pool._errors import StartError

            raise StartError(
                f"cannot start a pool of {processes} workers: {error}; a low `ulimit -n` or "
                "`ulimit -f`, too little memory, or a full disk is the usual cause"
            ) from error
        self.lead = TendedLead(self.driver)
        #: By the ``id`` of their payload, with a reference to it.
        self._streams: dict[int, tuple[CallStream, Any]] = {}
        #: Lazy jobs, whose input is read to its end when nobody can be expected to take their
        #: results any more.
        self.lazies: weakref.WeakSet[Any] = weakref.WeakSet()
        self._enter()
        self.driver.initializes = initializes
        self.driver.post(ev.PoolOpened())
        if self.driver.crashed:
            self.dispose()
            assert self.driver.failure is not None
            raise self.driver.failure
        if initializes:
            self.attend()

    def _enter(self) -> None:
        """Be known to what ends engines with the program, and in forked children."""
        _engines.add(self)

    def _launcher(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        limits: dict[str, str],
        preload: Sequence[str],
        pool: int,
        shares: bool,
    ) -> tuple[Callable[[int], _launcher.Launcher], Sequence[Any]]:
        """Return what connects to a forkserver, and what each worker is to be sent first."""
        payload: Any = None
        initial: Sequence[Any] = ()
        if initializer is not None and self.method != "fork":
            from pool._pickling._initializers import dumps_initializer

            try:
                given = (initializer, initargs)
                payload = dumps_initializer(*given, ALL if shares else 0, shares)
            except Exception:
                if not hasattr(os, "fork"):
                    raise
                # Locks of multiprocessing, open connections and the like can only be
                # inherited: then they are.
                self.method = "fork"
            else:
                if inherits(payload):
                    self.method = "fork"
        if self.method == "fork":
            number_globals()
            self.inherited = self.asks = upcoming()
            run = None if initializer is None else lambda: initializer(*initargs)
            return lambda journal: _launcher.fork(run, journal, limits, pool), ()
        if payload is not None and (payload.buffers or len(payload.data) >= OUT_OF_BAND_MIN):
            from store._depot import stored
            from store._mappings import Block

            blobs = stored([payload.data, *payload.buffers])
            if any(type(blob) is Block for blob in blobs):
                payload, initial = AWAITED, blobs
        method = self.method
        return (
            lambda journal: _launcher.connect(method, payload, journal, limits, preload, pool),
            initial,
        )

    # ------------------------------------------------------------------ jobs

    @property
    def usable(self) -> bool:
        """Whether jobs can be submitted: not after a crash, and not in a forked child."""
        driver = self.driver
        return not (driver.closed or driver.crashed)

    @property
    def foreign(self) -> bool:
        """Whether this belongs to the process that was forked."""
        return self._owner != os.getpid()

    def function(self, payload: Any) -> Function:
        """Register a pickled function; see `FunctionTable`."""
        driver = self.driver
        if payload.encoded.buffers:
            # What workers let go since somebody looked is room for this.
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
        sink : Sink
        label : callable
            ``label(first item, last item)`` names them for error messages.
        timeout : float, optional
            Seconds for each chunk.
        retries : int
        awaited : bool
            The caller is going to wait at once: nobody has to stand in.
        depth : int
        cost_key : hashable, optional
            Jobs of one key share an estimate of their time, and messages. None: those of
            the same function and chunk size.
        """
        job_id = self.driver.jobs.new_id()
        job = Job(job_id, function, mode, source, sink, label)
        job.timeout = timeout
        job.retries = retries
        job.depth = depth
        source.inherited = self.inherited
        driver = self.driver
        driver.jobs.add(job)
        if self.claims:
            self.claims.discard(get_ident())
        key = cost_key or (0 if function is None else function.function_id, source.chunksize)
        try:
            driver.post(
                ev.JobSubmitted(job_id, source.chunks, source.final, key, depth, timeout, retries)
            )
            if not awaited:
                self.attend()
        except BaseException:
            from pool._errors import TaskCancelled

            # The caller will never have the handle by which it could be cancelled.
            self.cancel(job_id, TaskCancelled("interrupted by Ctrl-C"))
            raise
        return job_id

    def call_now(self, payload: Any, blobs: list[Any], label: Any) -> Loan | None:
        """Call a function on an idle worker, if there is one; see `pool._local._express`."""
        return call_now(self, payload, blobs, label)

    def call_soon(self, payload: Any, label: Any, args: tuple[Any, ...], result: Any) -> None:
        """Submit one call of a stateless function with immutable arguments; never waits.

        Parameters
        ----------
        payload : FunctionPayload
        label : callable
            Makes the label of a new stream.
        args : tuple
            Of ATOMS.
        result : AsyncResult
        """
        known = self._streams.get(id(payload))
        stream = self._new_stream(payload, label()) if known is None else known[0]
        try:
            stream.add(args, result)
            scheduler, driver = self.scheduler, self.driver
            if scheduler.hungry or scheduler.broken or driver.closed:  # then no answer will come
                driver.pump()
            self.attend()
        except BaseException:
            result.cancel()  # the caller will never have it
            raise

    def _new_stream(self, payload: Any, label: Any) -> CallStream:
        if len(self._streams) > STREAMS_KEPT:
            self._streams.clear()
        stream = CallStream(self.driver, self.function(payload), label)
        key, streams = id(payload), self._streams
        # It goes with the payload, which goes with the function: there may be data in it.
        streams[key] = stream, weakref.ref(payload, lambda _: streams.pop(key, None) and None)
        return stream

    def attend(self) -> None:
        """See to it that outstanding work goes on although nobody waits for it."""
        lead = self.lead
        lead.attend(weakref.ref(lead))

    def glance(self) -> None:
        """Take in what has arrived; for who wants to know how far it is."""
        self.lead.glance()
        self.lead.ensure_stand_in(weakref.ref(self.lead))

    def catch_up(self) -> None:
        """See to it that all that was submitted is known, in whatever thread."""
        driver = self.driver
        if not (driver.closed or driver.held_here):
            driver.locked(lambda: None)

    def unfinished(self) -> list[tuple[Any, Any]]:
        """Return number and result of each call that is not over, callbacks included.

        Calls that travel together have one number; each is told by its place besides.
        """
        driver = self.driver
        found: list[tuple[Any, Any]] = []
        for job_id, job in _items(driver.jobs):
            if isinstance(job.sink, Batch):
                found += [((job_id, place), result) for place, result in job.sink.unfinished()]
            else:
                found.append((job_id, job.sink))
        found += [(loan.message_id, loan) for _, loan in _items(driver.loans)]
        # In this order: a sink goes from the one to the other.
        due: list[Any] = list(driver.calling)
        for _, under_way in _items(driver.called):
            due += under_way or [None]
        return found + told_apart(due)

    def resize(self, processes: int) -> None:
        """Have so many workers that may run tasks at the same time."""
        self.driver.post(ev.ProcessesChanged(processes))

    def offer(self, feed: Growing, many: bool) -> None:
        """See to it that an input's new chunks are sent as soon as a worker can take one.

        At once if a worker has nothing to do, or if there are `many`. Else whoever receives the
        next answer tells the scheduler of them too: before that no worker gets free. Either it
        sees them, or this thread sees the worker that has got free.
        """
        driver = self.driver
        if not feed.offered:
            feed.offered = True
            driver.dirty.append(feed)
        if many or self.scheduler.starving:
            driver.pump()
            self.attend()

    def wait(
        self, ready: Callable[[], bool], timeout: float | None = None, eager: bool = False
    ) -> bool:
        """Block until ``ready()``; return whether it came to that. See `Lead.wait`."""
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
        call_back = sink.abort(error)
        if call_back:
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
        self.attend()

    def join(self) -> None:
        """Wait until all workers have ended, after `close` or `terminate`."""
        for lazy in members(self.lazies):
            lazy.lift()
        # What another thread is just about to be told of is neither in the jobs nor in a worker.
        self.catch_up()
        driver = self.driver
        self.lead.wait(lambda: driver.over)
        self.dispose()
        driver.crew.wait_gone()

    def terminate(self) -> None:
        """End all workers at once; outstanding jobs fail."""
        if self.driver.closed or self._owner != os.getpid() or self._terminates == get_ident():
            return  # by a callback that this very call runs: there may be thousands of them
        self._terminates = get_ident()
        try:
            self.driver.post(ev.PoolTerminated())
            if not self.driver.held_here:
                self.driver.call_back()
        finally:
            self._terminates = 0
        self.dispose()

    def dispose(self) -> None:
        """Let go of every descriptor and thread."""
        driver = self.driver
        if self.foreign or driver.closed:
            return
        within = driver.held_here
        lead = self.lead
        driver.release_within(lead.taken_here) if within else lead.exclusively(driver.release)
        lead.retire_stand_in(waits=not within)
        _engines.discard(self)
        if not _engines:
            drop_large()

    def forked(self) -> None:
        """Forget, in a forked child, what belongs to the parent."""
        from pool._errors import PoolTerminated

        driver = self.driver
        # First: the tasks of workers that wait for a job in the parent must not hear of its end.
        driver.release_forked()
        # A thread that is not here may have had the other one.
        self.lead = TendedLead(driver)
        text = "this result belongs to the process that was forked"
        while driver.jobs:
            _, job = driver.jobs.popitem()
            job.sink.abort(PoolTerminated(text))
        # Of those with callbacks, which are the parent's to run: told when somebody waits.
        driver.failure = driver.failure or PoolTerminated(text)


def _items(books: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Return what a dict holds that other threads change meanwhile."""
    return list(books.copy().items())


def _terminate_all() -> None:
    """End what a program leaves behind when it ends."""
    for engine in members(_engines):
        if not (engine.driver.closed or engine.foreign):
            engine.driver.quit()
    forget_all()


def _after_fork() -> None:
    for engine in members(_engines):
        engine.forked()
    _engines.clear()


atexit.register(_terminate_all)
os.register_at_fork(after_in_child=_after_fork)
