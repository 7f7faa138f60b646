"""End the largest worker before memory runs out and the kernel kills a process of its choice.

No thread and no fixed interval: the thread that drives a pool with outstanding tasks sleeps no
longer than memory can last (see `pool._local._shortage`), and then looks. The reasoning is in
docs/design/memory.md.
"""

from __future__ import annotations

import _thread
import os
import weakref

from pool import _memory
from pool._clock import perf_counter
from pool._local import _events as ev
from pool._local._members import members
from pool._local._shortage import PATIENCE_LEAST, PATIENCE_MOST, largest, patience, shortest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._local._driver import Driver
    from pool._local._peers import Peer
    from pool._memory import Room

    #: A process in the table of an error: pid, what it runs, bytes that it holds for itself.
    Row = tuple[int, str, int]

#: Looking at memory takes at most this part of the time.
SHARE = 1 / 200

#: Processes in the table of an error, at most.
ROWS_MAX = 8

#: Held by the one guard of this process that looks; the guards are those of all its pools.
_deciding = _thread.allocate_lock()
_guards: weakref.WeakSet[Guard] = weakref.WeakSet()


class Guard:
    """Watch the memory of one pool's processes. Everything here runs under its driver's lock.

    Parameters
    ----------
    driver : Driver
    limit : int, optional
        Bytes that this process and the workers may hold together, beside the limits of the system.

    Attributes
    ----------
    ending : int or None
        The worker_id of the worker that this guard has killed, until it is gone: its memory comes
        back only then.
    """

    def __init__(self, driver: Driver, limit: int | None) -> None:
        self._driver = driver
        self._limit = limit
        self._fillers = min(driver.scheduler.processes + 1, os.cpu_count() or 1)
        self._verdict: tuple[tuple[Row, ...], Room] | None = None
        self.ending: int | None = None
        _guards.add(self)

    def look(self) -> float:
        """End a worker if memory is short; return in how many seconds to look again."""
        if not _deciding.acquire(False):
            return PATIENCE_LEAST  # the guard of another pool of this process looks
        try:
            # One worker at a time, of whichever pool. Asked before memory is read: a reading from
            # before one worker had ended must not end another.
            if any(guard.ending is not None for guard in members(_guards)):
                return PATIENCE_LEAST
            began = perf_counter()
            rooms = self._rooms()
            short = shortest(rooms)
            if short is not None:
                self._end_largest(short)
            least = min((perf_counter() - began) / SHARE, PATIENCE_MOST)
            return max(least, patience(rooms, self._fillers))
        finally:
            _deciding.release()

    def _rooms(self) -> list[Room]:
        """Return how much is left of each kind of memory that may run out."""
        rooms = _memory.rooms()
        if self._limit is not None:
            own = _memory.resident("self")
            pids = self._pids().values()
            used = own + sum(map(_memory.resident, pids))
            if used > self._limit:
                # Perhaps only because pages that forked workers share were counted for each one.
                used = own + sum(map(_memory.private, pids))
            rooms.append(_memory.own_room(self._limit, used))
        return rooms

    def _pids(self) -> dict[int, int]:
        peers = self._driver.peers.values()
        return {peer.worker_id: peer.pid for peer in peers if peer.pid is not None}

    def _end_largest(self, room: Room) -> None:
        pids = self._pids()
        bounds = {worker: _memory.resident(pid) for worker, pid in pids.items()}
        chosen = largest(bounds, lambda worker: _memory.private(pids[worker]), room)
        if chosen is None:
            return  # none of the workers is large: the kernel will choose
        worker_id, nbytes = chosen
        self.ending = worker_id
        tasks = {peer.worker_id: self._task(peer) for peer in self._driver.peers.values()}
        self._driver.handle(ev.MemoryShort(worker_id))
        # The others are measured, for the table, only now: it takes time, and memory is short.
        del bounds[worker_id]
        others = sorted(bounds, key=lambda worker: bounds[worker], reverse=True)[: ROWS_MAX - 2]
        rows = [
            (pids[worker_id], tasks[worker_id] + " (ended)", nbytes),
            (os.getpid(), "this program", _memory.private("self")),
            *((pids[other], tasks[other], _memory.private(pids[other])) for other in others),
        ]
        self._verdict = (tuple(sorted(rows, key=lambda row: row[2], reverse=True)), room)

    def _task(self, peer: Peer) -> str:
        """Return what a worker runs, in the user's terms."""
        loan = self._driver.loans.get(peer.worker_id)
        if loan is not None:
            return str(loan.label)
        place = peer.doing()
        job = None if place is None else self._driver.jobs.get(place[0])
        if place is None or job is None:
            return "idle"
        return job.describe(place[1])

    def error(self, peer: Peer, exitcode: int, doing: str) -> BaseException:
        """Return the error of a task whose worker was ended by this guard."""
        from pool._errors import OutOfMemory

        assert self._verdict is not None
        table, room = self._verdict
        return OutOfMemory(
            peer.worker_id, peer.pid or 0, exitcode, doing, table,
            room.available, room.limit, room.where,
        )  # fmt: skip

    def ended(self, worker_id: int) -> bool:
        """Note that a worker has ended; return whether it is the one that this guard has killed."""
        if worker_id != self.ending:
            return False
        self.ending = self._verdict = None
        return True

    def close(self, forked: bool) -> None:
        """Stop watching: the pool is gone, and its workers with it.

        Parameters
        ----------
        forked : bool
            Whether this is a forked child, see `Driver.release_forked`.
        """
        global _deciding
        if forked:
            # A thread that this child does not have may hold the other one.
            _deciding = _thread.allocate_lock()
        self.ending = None
        _guards.discard(self)
