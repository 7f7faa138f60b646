"""From the answers of workers, and their deaths, to the outcomes of jobs and loans."""

from __future__ import annotations

import _signal
import os

from pool._clock import monotonic
from pool._local import _events as ev
from pool._local._jobs import SENDING
from pool._local._peers import decode, decode_many, without_first
from pool._transport._messages import CAUGHT, ONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._local._driver import Driver
    from pool._local._express import Loan
    from pool._local._jobs import Job
    from pool._local._peers import Peer


#: In the place of "1 + position of the item that raised": the chunk has not even been sent.
UNSENT = -1


class Outcomes:
    """Deliver outcomes. Everything here runs under the driver's lock.

    Parameters
    ----------
    driver : Driver

    Attributes
    ----------
    loans : dict
        Calls on borrowed workers, by worker_id.
    last_loan : int
        The message_id of the last loan; these count down from 2**62, other message_ids up.
    last_exit : (Peer, int) or None
        The worker that ended last, and its wait status; below 0: minus the number of the error that
        kept it from being forked.
    """

    __slots__ = ("_driver", "last_exit", "last_loan", "loans")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.loans: dict[int, Loan] = {}
        self.last_loan = 1 << 62
        self.last_exit: tuple[Peer, int] | None = None

    def answered(self, peer: Peer, head: Any, blobs: list[Any]) -> None:
        """Take an answer: a DONE message of a worker."""
        _, message_id, chunks, final, elapsed, failed, layout = head
        if message_id >= self.last_loan:
            self._loan_answered(peer, message_id, failed, blobs)
            return
        sent = peer.sent.get(message_id)
        if sent is not None:
            if sent.harvested and chunks:
                skipped, sent.harvested = sent.harvested, 0
                if layout != ONE:
                    blobs[0] = without_first(blobs[0], chunks, skipped, layout)
                chunks -= skipped
            sent.answered += chunks
            if sent.defines:
                self._driver.functions.learned(peer, sent.defines)
                sent.defines = []
            if final:
                del peer.sent[message_id]
        values: list[Any] = []
        if layout == ONE and chunks:
            try:
                values.append(self.value(blobs))
            except BaseException as error:
                failed = 1
                values.append(_undecodable(error))
            if sent is not None and sent.parts and not failed:
                values = [self.whole(sent.parts, values[0])]
        elif chunks:
            try:
                values = self.values(blobs[0], chunks, layout)
            except BaseException:
                self._answered_one_by_one(peer, message_id, chunks, final, elapsed, blobs[0])
                return
        event = ev.MessageAnswered(
            peer.worker_id, message_id, chunks, final, elapsed, (0,) if failed else ()
        )
        self._deliver(event, values, failed)

    def value(self, blobs: list[Any]) -> Any:
        """Return the outcome that a payload holds."""
        return decode(blobs)

    def part(self, blobs: list[Any]) -> list[Any]:
        """Return values of a chunk that have come before its outcome."""
        values: list[Any] = decode(blobs)
        return values

    def whole(self, parts: list[Any], value: Any) -> Any:
        """Return the outcome of a chunk that has come in parts."""
        return parts + value

    def values(self, stored: Any, count: int, layout: int) -> list[Any]:
        """Return outcomes that were stored together."""
        return decode_many(stored, count, layout)

    def error(self, blobs: list[Any]) -> BaseException:
        """Return the exception that a payload holds."""
        return decoded_error(blobs)

    def refusal(self, blobs: list[Any]) -> BaseException:
        """Return what an initializer has raised, with a note that says so."""
        error = self.error(blobs)
        _note(error, "raised by the initializer")
        return error

    def annotate(self, job: Job, chunk: int, position: int, error: Any) -> None:
        """Note which item raised what, unless it could not even be sent, which has been noted."""
        where = job.describe(chunk, position)
        if not _was_unsendable(error, where):
            _note(error, f"raised by {where}")

    def add_part(self, peer: Peer, message_id: int, blobs: list[Any]) -> None:
        """Take the first values of a chunk that is under way, which has many."""
        sent = peer.sent.get(message_id)
        if sent is not None:
            sent.parts += self.part(blobs)

    def _answered_one_by_one(
        self, peer: Peer, message_id: int, chunks: int, final: bool, elapsed: float, stream: Any
    ) -> None:
        """Deliver a stream of outcomes of which one cannot be unpickled in this process.

        Only the chunk of that outcome fails: a pickle ends at its STOP opcode, whether or not the
        object that it describes can be built.
        """
        from pool._local._pickle_streams import split_stream

        each = elapsed / chunks
        for number, data in enumerate(split_stream(stream, chunks), 1):
            failed = 0
            try:
                value = self.value([data])
            except BaseException as error:
                failed, value = 1, _undecodable(error)
            event = ev.MessageAnswered(
                peer.worker_id, message_id, 1, final and number == chunks, each,
                (0,) if failed else (),
            )  # fmt: skip
            self._deliver(event, [value], failed)

    def _deliver(self, event: ev.MessageAnswered, values: list[Any], failed: int) -> None:
        """Tell the scheduler of outcomes, and hand them to the sinks that it says.

        Parameters
        ----------
        event : MessageAnswered
        values : list
            The outcomes of its chunks.
        failed : int
            0; or `values` is one exception, raised by the item at ``failed - 1``; or UNSENT.
        """
        driver = self._driver
        jobs = driver.jobs
        for command in driver.scheduler.handle(event, monotonic()):
            if command.__class__ is ev.Deliver:
                job_id, start, stop, offset = command
                job = jobs.get(job_id)
                if job is None:
                    continue  # cancelled a moment ago by another thread
                outcomes = values if stop - start == len(values) else (
                    values[offset : offset + stop - start]
                )  # fmt: skip
                failure = bool(failed)
                if failure:
                    if failed != UNSENT:
                        self.annotate(job, start, failed - 1, outcomes[0])
                    failure = not job.mode & CAUGHT
                if job.sink.deliver(start, outcomes, failure):
                    driver.calling.append(job.sink)
                job.source.done(start, stop)
            else:
                driver.handlers[command.__class__](command)

    def unsent(self, peer: Peer, message_id: int, error: OSError | MemoryError) -> None:
        """Fail the chunks of a message that could not be sent."""
        sent = peer.sent.pop(message_id, None)
        runs = [] if sent is None else list(sent.runs)
        left = sum(stop - start for _, start, stop in runs)
        for job_id, start, stop in runs:
            job = self._driver.jobs.get(job_id)
            for chunk in range(start, stop):
                left -= 1
                event = ev.MessageAnswered(peer.worker_id, message_id, 1, not left, 0.0, (0,))
                # A new exception for each chunk, since each gets a note of its own.
                raised = type(error)(*error.args)
                if job is not None:
                    raised.add_note(f"while sending {job.describe(chunk)} to a worker")
                self._deliver(event, [raised], UNSENT)

    def fail_chunk(self, command: ev.FailChunk) -> None:
        """Fail a chunk whose worker ended while running it."""
        job = self._driver.jobs.get(command.job_id)
        if job is None:
            return  # cancelled a moment ago by another thread
        if command.timed_out:
            from pool._errors import TaskTimeout

            task = job.describe(command.index)
            error: BaseException = TaskTimeout(
                f"{task} did not end within {job.timeout} s; its worker was replaced",
                seconds=job.timeout,
                task=task,
            )
        else:
            from pool._errors import RECEIVED, RUNNING

            doing = RUNNING if command.begun else RECEIVED
            error = self.death(doing + job.describe(command.index))
        self._deliver_error(job, command.index, error)

    def drop_chunk(self, command: ev.DropChunk) -> None:
        """Fail a chunk that was recalled before it had begun."""
        from pool._errors import TaskCancelled

        job = self._driver.jobs.get(command.job_id)
        if job is None:
            return  # cancelled a moment ago by another thread
        task = job.describe(command.index)
        error = TaskCancelled(f"{task} was cancelled before it began", task=task)
        self._deliver_error(job, command.index, error)

    def _deliver_error(self, job: Job, index: int, error: BaseException) -> None:
        """Deliver an error as the outcome of a chunk for which no worker answers."""
        if job.sink.deliver(index, [error], not job.mode & CAUGHT):
            self._driver.calling.append(job.sink)
        job.source.done(index, index + 1)

    def death(self, doing: str) -> BaseException:
        """Return the error that says how the last worker ended."""
        from pool._errors import WorkerDied

        assert self.last_exit is not None
        peer, status = self.last_exit
        if status < 0:
            return self._cannot_fork(peer, -status)
        exitcode = os.waitstatus_to_exitcode(status)
        guard = self._driver.guard
        if guard is not None and guard.ending == peer.worker_id and exitcode == -_signal.SIGKILL:
            return guard.error(peer, exitcode, doing)
        return WorkerDied(peer.worker_id, peer.pid or 0, exitcode, doing)

    def _cannot_fork(self, peer: Peer, number: int) -> BaseException:
        """Return the error that says why a worker could not be forked."""
        from pool._errors import SHORTAGES, StartError

        wanted = self._driver.scheduler.processes
        return StartError(
            f"cannot fork worker {peer.worker_id} of a pool of {wanted}: {os.strerror(number)}; "
            f"{SHORTAGES.get(number, 'the system refuses')}; lower `processes`",
            number,
        )

    # ------------------------------------------------------------------ loans

    def _loan_answered(self, peer: Peer, message_id: int, failed: int, blobs: list[Any]) -> None:
        del peer.sent[message_id]
        loan = self.loans.pop(peer.worker_id, None)
        if loan is None:
            return  # the loan was aborted before its answer came
        try:
            value = decode(blobs)
        except BaseException as error:
            failed, value = 1, _undecodable(error)
        if failed:
            _note(value, f"raised by {loan.label}")
        loan.end(failed, value)
        event = ev.WorkerReturned(peer.worker_id, message_id, bool(failed))
        driver = self._driver
        for command in driver.scheduler.handle(event, monotonic()):
            driver.handlers[command.__class__](command)

    def end_loan(self, worker_id: int, running: int | None) -> None:
        """End the loan of a worker that has ended, if it was lent.

        Parameters
        ----------
        worker_id : int
        running : int or None
            The message of which a chunk was under way. If that is not the call's, the call was not
            begun, and the caller submits it the ordinary way.
        """
        loan = self.loans.pop(worker_id, None)
        if loan is None:
            return
        if running == loan.message_id:
            loan.end(1, self.death(f"while running {loan.label}"))
        else:
            loan.end(-1, None)

    def abort_loans(self, reason: Callable[[], BaseException]) -> None:
        """End every loan with the error that `reason` returns."""
        for loan in self.loans.values():
            loan.end(1, reason())
        self.loans.clear()


def _note(error: Any, text: str) -> None:
    try:
        error.add_note(text)
    except BaseException:
        return  # an exception class that refuses attributes


def _was_unsendable(error: Any, where: str) -> bool:
    """Return whether `error` says that an item of the call which `where` names could not be sent.

    See `pool._local._jobs.unsendable`. A worker takes the first item of the chunk for the culprit.
    """
    try:
        note = str(error.__notes__[-1])
    except BaseException:
        return False  # it has none, or the program has set something else
    call = where.rpartition(" of ")[2]
    return note.startswith(SENDING) and note.rpartition(" of ")[2].removeprefix(SENDING) == call


def decoded_error(blobs: list[Any]) -> BaseException:
    """Unpickle an exception; if that raises, return what it raised."""
    try:
        error: BaseException = decode(blobs)
    except BaseException as failure:
        return _undecodable(failure)
    return error


def _undecodable(error: BaseException) -> BaseException:
    _note(error, "raised here while unpickling what the worker sent")
    return error
