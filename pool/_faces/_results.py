"""Result handles of `Pool`: what `multiprocessing.pool` calls AsyncResult and MapResult."""

from __future__ import annotations

import sys

from pool._faces._standard import StandardResult
from pool._local._last_calls import last_calls
from pool._unraisable import report
from store._interrupts import struck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._faces._progress import Progress
    from pool._local._engine import LocalEngine


class AsyncResult(StandardResult):
    """The result of one call, perhaps not there yet.

    Returned by the ``*_async`` methods of `Pool`; not made by users.
    """

    _as_standard = "ApplyResult"

    # Defaults in the class: a hundred thousand of these are made at a time.
    _callback: Callable[[Any], object] | None = None
    _error_callback: Callable[[BaseException], object] | None = None
    _done = False
    _success = True
    _value: Any = None
    _job_id = 0
    #: The place of the call among those submitted as one stream; None if it is not of a stream.
    _index: int | None = None
    _progress: Progress | None = None
    #: Whether exceptions are wanted as values.
    _caught = False
    #: Whether a thread that waits may spin: one answer is due soon, and no CPU is taken away.
    _eager = True

    def __init__(
        self,
        pool: object,
        engine: LocalEngine,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        # Kept until `get`: the pool of `Pool().apply_async(...)` must not be collected before.
        self._pool: object = pool
        self._engine = engine
        if callback is not None:
            self._callback = callback
        if error_callback is not None:
            self._error_callback = error_callback

    def _is_done(self) -> bool:
        return self._done

    def ready(self) -> bool:
        """Return whether the call has completed."""
        if not self._done:
            self._engine.glance()
        return self._done

    def successful(self) -> bool:
        """Return whether the call completed without raising an exception.

        Raises
        ------
        ValueError
            If the result is not ready.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is available or `timeout` seconds have passed."""
        if not self._done:
            self._wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        """Wait; Ctrl-C cancels the call, so that the pool is free for what comes next."""
        try:
            return self._engine.wait(self._is_done, timeout, self._eager)
        except KeyboardInterrupt:
            if not self._done:
                self.cancel()
            raise

    def get(self, timeout: float | None = None) -> Any:
        """Return the result when it arrives.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Raises
        ------
        multiprocessing.TimeoutError
            If it has not arrived by then.
        KeyboardInterrupt
            Upon Ctrl-C; the call is cancelled.
        BaseException
            What the call raised, with the worker's traceback as ``__cause__``.
        """
        if not self._done and not self._wait(timeout):
            from multiprocessing import TimeoutError

            raise TimeoutError(
                f"{self!r} is not done after {timeout} s; it goes on: wait again, or cancel() it"
            )
        self._pool = None  # not in `deliver`: to drop the last reference ends the pool
        if self._success:
            return self._value
        try:
            raise self._value
        finally:
            # The error's traceback holds this frame and those of its callers, and this the error:
            # a cycle, which would keep their arrays until garbage is collected.
            del self

    def cancel(self) -> bool:
        """Cancel the call: tasks that have not begun never run, running ones are interrupted.

        A running task gets a KeyboardInterrupt; a worker that does not answer within a
        second is replaced.

        Returns
        -------
        bool
            False if the call had completed.
        """
        self._engine.catch_up()
        error = cancellation(self._engine, self._job_id)
        return self._engine.cancel(self._job_id, error, self._index)

    def __repr__(self) -> str:
        if not self._done:
            state = "pending"
        elif self._success:
            state = "done"
        else:
            state = f"failed with {type(self._value).__name__}"
        number = f"{self._job_id}" if self._index is None else f"{self._job_id}.{self._index}"
        return f"<{type(self).__name__} {number}: {state}>"

    # ------------------------------------------------------------------ from the driver

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        self._value = values[0]
        self._success = not failed
        return False

    def finish(self) -> bool:
        if self._callback is None and self._error_callback is None and self._progress is None:
            self._done = True
            return False
        return True

    def abort(self, error: BaseException) -> bool:
        self._value = error
        self._success = False
        return self.finish()

    def call_back(self) -> None:
        """Call the user's callbacks, then let waiting threads go on."""
        try:
            if self._progress is not None:
                self._report()
            callback = self._callback if self._success else self._error_callback
            self._callback = self._error_callback = None
            if callback is not None:
                if not self._success and _is_given_up(self._value):
                    last_calls.add(callback, self._value, repr(self))
                else:
                    callback(self._value)
        except Exception as error:
            if struck(error):
                raise  # a time limit of the program's, for instance
            # Report it as for an uncaught exception in a thread: the driving thread is not at
            # fault and goes on.
            report(error, f"raised by the callback of {self!r}")
        finally:
            self._done = True

    def _report(self) -> None:
        progress, self._progress = self._progress, None  # not again, should this be interrupted
        assert progress is not None
        try:
            progress.update(1, failures([self._value], not self._success, self._caught))
        finally:
            progress.close()


class MapResult(AsyncResult):
    """The result of a ``map``: a list with one value for each item."""

    _as_standard = "MapResult"
    # The workers need the CPUs that a spinning thread would take.
    _eager = False

    def __init__(
        self,
        pool: object,
        engine: LocalEngine,
        chunksize: int,
        length: int,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        super().__init__(pool, engine, callback, error_callback)
        self._chunksize = chunksize
        self._length = length
        #: Not in `_value`, where a cancellation puts an error while results are still filled in.
        self._values = [None] * length
        #: The first chunk, by position, of those that failed; -1 if there is none.
        self._first_failed = -1
        #: Items delivered; failed ones among them; and how many of both the progress was told of.
        self._received = 0
        self._failures = 0
        self._reported = 0
        self._reported_failures = 0
        #: Whether nothing more is delivered.
        self._whole = False

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        size = self._chunksize
        self._received += len(values) * size
        if self._progress is not None:
            self._failures += failures(values, failed, self._caught)
        if failed:
            # Of several failures the first by position is raised: the same one each time.
            if self._first_failed < 0 or start < self._first_failed:
                self._first_failed = start
                self._error = values[0]
        elif size == 1:
            self._values[start : start + len(values)] = values
        else:
            for number, chunk in enumerate(values, start):
                self._values[number * size : (number + 1) * size] = chunk
        return self._progress is not None

    @property
    def _number_left(self) -> int:
        """The number of chunks without an outcome; programs read this private name."""
        size = self._chunksize
        return -(-self._length // size) - self._received // size

    def finish(self) -> bool:
        if self._first_failed >= 0:
            self._success = False
            self._value = self._error
        else:
            self._value = self._values
        self._values = []
        self._whole = True
        return super().finish()

    def abort(self, error: BaseException) -> bool:
        self._first_failed = 0
        self._error = error
        return self.finish()

    def call_back(self) -> None:
        if self._whole:
            super().call_back()
        elif self._progress is not None:
            self._report()

    def _report(self) -> None:
        progress = self._progress
        assert progress is not None
        received = min(self._received, self._length)  # the last chunk may be shorter
        failed = self._failures
        news = received - self._reported, failed - self._reported_failures
        # Before it is told of them: should that be interrupted, this is called again.
        self._reported, self._reported_failures = received, failed
        if any(news):
            progress.update(*news)
        if self._whole:
            progress.close() if self._success or failed else progress.fail()


def cancellation(engine: LocalEngine, job_id: int) -> BaseException:
    """Return the error of a call that is about to be cancelled."""
    from pool._errors import TaskCancelled

    job = engine.driver.jobs.get(job_id)
    return TaskCancelled(f"{'the call' if job is None else job.label} was cancelled")


def _is_given_up(error: Any) -> bool:
    """Return whether a call failed because its Pool was terminated."""
    errors = sys.modules.get("pool._errors")
    return errors is not None and isinstance(error, errors.PoolTerminated)


def failures(values: list[Any], failed: bool, caught: bool) -> int:
    """Return how many items are known to have failed, among delivered outcomes.

    Parameters
    ----------
    values : list
        Outcomes of chunks; of one chunk if `failed`.
    failed : bool
        Whether the outcome is what the chunk raised, so that at least one item failed.
    caught : bool
        Whether exceptions are wanted as values; each chunk is then one item.

    Returns
    -------
    int
    """
    if failed:
        return 1
    # Not by `isinstance`, which asks values for their class: a proxy may refuse to tell.
    return sum(issubclass(type(value), BaseException) for value in values) if caught else 0
