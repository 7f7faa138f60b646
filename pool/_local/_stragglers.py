"""Messages that are stuck in a slow chunk: what is behind it is taken, what is before it is read.

Cheap chunks travel many to a message, and which of them will be slow nobody knows. The worker
hands back what is behind a slow one, and sends what it had kept of the outcomes before it, but only
when that is done; an hour may be too late for those who wait. So after a while their parent helps
itself.

The worker looks before each chunk whether it is to *halt* there, at a word that only its parent
writes (see `pool._transport._journal`); the parent looks which chunk the worker says it has
begun. Neither waits for the other, so the parent looks twice: it says where to halt, lets `SETTLE`
pass, and takes what is behind only if the worker has not reached that place by then. Had the
worker gone past it without seeing the word, it would have noted the next chunk before it looked,
and that note would be there after the time that a store needs to get to memory, by far.

Part of the scheduler, see `pool._local._scheduler`.
"""

from __future__ import annotations

from pool._local._events import Halt, TakeRest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool._local._events import Command
    from pool._local._records import Message, Worker
    from pool._local._scheduler import Scheduler

#: Seconds without news of a message after which it is taken for stuck: when its worker would hand
#: back the rest by itself, were it between two chunks (`pool._workers._worker.PATIENCE`).
PATIENCE = 5e-3

#: Seconds between saying where to halt and looking whether the worker is behind that place.
#: A processor's stores reach memory within microseconds.
SETTLE = 1e-3


class Stragglers:
    """Find messages that are stuck.

    Parameters
    ----------
    scheduler : Scheduler
        Whose books these are.

    Attributes
    ----------
    due : float or None
        When to look again.
    """

    __slots__ = ("_roster", "due")

    def __init__(self, scheduler: Scheduler) -> None:
        self._roster = scheduler.roster
        self.due: float | None = None

    def watch(self, now: float) -> None:
        """Look after a while, since a message with several chunks is on its way."""
        if self.due is None:
            self.due = now + PATIENCE

    def on_time(self, now: float) -> Iterator[Command]:
        """Yield what is to be done now, if anything is due."""
        if self.due is None or self.due > now:
            return
        self.due = None
        for worker, message in self._unfinished():
            if message.halted is not None and message.halted + SETTLE <= now:
                yield TakeRest(worker.worker_id, message.message_id)
                # It may be in vain: a worker that was quicker goes on, until it is stuck.
                worker.heard, message.halted = now, None
            elif message.halted is None and worker.heard + PATIENCE <= now:
                message.halted = now
                yield Halt(worker.worker_id, message.message_id)
            due = worker.heard + PATIENCE if message.halted is None else message.halted + SETTLE
            if self.due is None or due < self.due:
                self.due = due

    def _unfinished(self) -> Iterator[tuple[Worker, Message]]:
        """Yield workers that run a message with more than one chunk left, and the message."""
        for worker in self._roster:
            if worker.messages and not worker.stopping:
                message = next(iter(worker.messages.values()))
                if message.chunks > 1:
                    yield worker, message
