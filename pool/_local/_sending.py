"""Messages to workers: the chunks of jobs, with the functions that a worker does not have yet.

Part of the driver, whose lock is held whenever something here is called.
"""

from __future__ import annotations

from pool._local import _events as ev
from pool._local._peers import Sent
from pool._transport._messages import RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pool._local._driver import Driver
    from pool._local._jobs import Job
    from pool._local._peers import Peer


class Sending:
    """Send what the scheduler has decided.

    Parameters
    ----------
    driver : Driver
        The driver of the jobs and workers.
    """

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def send(self, command: ev.Send) -> None:
        """Send a message, with the functions that the worker does not have."""
        driver = self._driver
        worker_id, message_id, runs = command
        if driver.crew.unlaunched:
            driver.crew.launch()
        peer = driver.peers.get(worker_id)
        if peer is None:
            driver.crew.keep_mail(command)
            return
        blobs: list[Any] = []
        defines: dict[int, tuple[int, bool, int]] = {}
        jobs: list[Job] = []
        for job_id, *_ in runs:
            job = driver.jobs.get(job_id)
            if job is None:
                # Another thread has just cancelled the job; the scheduler does not know yet.
                self._send_without(command)
                return
            jobs.append(job)
        sent = peer.sent[message_id] = Sent(runs, [])
        for job in jobs:
            function = job.function
            if function is None:
                continue
            function_id = function.function_id
            if function_id not in peer.known and function_id not in defines:
                defines[function_id] = (
                    function_id, function.stateless, len(function.blobs) - 1
                )  # fmt: skip
                blobs.extend(function.blobs)
        sent.defines = list(defines)
        forgets: Sequence[int] = ()
        try:
            entries = [
                job.encode(start, stop, blobs)
                for job, (_, start, stop) in zip(jobs, runs, strict=True)
            ]
            if peer.forgets:
                forgets, peer.forgets = peer.forgets, []
            peer.post((RUN, message_id, list(defines.values()), forgets, entries), blobs)
        except (OSError, MemoryError) as error:
            peer.forgets.extend(forgets)
            self._cannot_send(peer, message_id, error)

    def _send_without(self, command: ev.Send) -> None:
        """Hand a message back to the scheduler, to send again what is of jobs that still exist."""
        driver = self._driver
        worker_id, message_id, runs = command
        for job_id in {run[0] for run in runs}:
            if job_id not in driver.jobs:
                driver.inbox.append(ev.CancelRequested(job_id))
        driver.inbox.append(ev.MessagesReclaimed(worker_id, (message_id,)))

    def _cannot_send(self, peer: Peer, message_id: int, error: OSError | MemoryError) -> None:
        """Have the chunks of a message fail for which there is no memory or descriptor.

        Later, when the driver flushes: the scheduler must not be told of an outcome while the
        commands that it returned, of which this message is one, are still being carried out.
        """
        peer.sent[message_id].defines = []
        self._driver.dirty.append(_Unsent(self._driver, peer, message_id, error))


class _Unsent:
    """A message that could not be sent, until its chunks are failed."""

    def __init__(
        self, driver: Driver, peer: Peer, message_id: int, error: OSError | MemoryError
    ) -> None:
        self._driver = driver
        self._peer = peer
        self._message_id = message_id
        self._error = error

    def flush(self) -> None:
        """Fail the chunks, unless the worker has died meanwhile; under the driver's lock."""
        if self._driver.peers.get(self._peer.worker_id) is self._peer:
            self._driver.outcomes.unsent(self._peer, self._message_id, self._error)

    def abort(self, error: BaseException) -> tuple[()]:
        """Do nothing: the jobs are given up."""
        return ()
