"""What must be true of a scheduler's books, whatever has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool._local._roster import DEPTH
from pool._local._scheduler import Scheduler

if TYPE_CHECKING:
    from pool._local._events import Run


def check_invariants(scheduler: Scheduler, put_off: bool = False) -> None:
    """Assert what must hold between any two events; `put_off`: workers were, see `StartPutOff`."""
    queued = 0
    in_messages: dict[int, list[Run]] = {}
    for worker in scheduler.workers.values():
        assert len(worker.messages) <= DEPTH, worker.worker_id
        idle, room = (
            worker.worker_id in scheduler.roster.idle,
            worker.worker_id in scheduler.roster.room,
        )
        assert not (idle and room)
        assert not (worker.stopping or worker.blocked) or not (idle or room)
        assert not idle or not worker.messages
        for message in worker.messages.values():
            assert message.chunks == sum(stop - start for _, start, stop in message.runs)
            for run in message.runs:
                in_messages.setdefault(run[0], []).append(run)
    for job in scheduler.jobs.values():
        queued += job.unsent
        waiting = [*job.returned, (job.next, job.chunks)]
        assert job.unsent == sum(stop - start for start, stop in waiting), job.job_id
        assert job.returned == sorted(job.returned, reverse=True), job.job_id
        ranges = sorted([run[1:] for run in in_messages.get(job.job_id, [])] + waiting)
        assert all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:], strict=False)), ranges
        assert job.pending == sum(stop - start for start, stop in ranges), job.job_id
        assert job.pending or not job.final, f"job {job.job_id} is complete but kept"
        assert not job.unsent or job.enqueued, job.job_id
    assert queued == scheduler.queued, (queued, scheduler.queued)
    assert set(scheduler.roster.idle) | set(scheduler.roster.room) <= set(scheduler.workers)
    assert not scheduler.roster.idle or scheduler.staff.surplus() <= 0, "more are spare than wanted"
    if scheduler.queued and not scheduler.broken:
        # The place of one whose memory is wanted is taken when it is gone.
        condemned = sum(worker.condemned for worker in scheduler.workers.values())
        free = scheduler.roster.idle and scheduler.staff.excess() + condemned < 0
        assert not free, "a worker idles while chunks wait"
        # When one has ended that was waited for, those are started that were put off.
        live = [w for w in scheduler.workers.values() if not w.stopping or w.condemned or put_off]
        assert live or not scheduler.processes, "chunks wait and no worker will ever come"
