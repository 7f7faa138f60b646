"""Messages that are stuck in a slow chunk: the chunks behind it go to other workers.

Cheap chunks travel many to a message, and nobody knows which of them will be slow. When a slow
chunk is over, the worker hands back the chunks behind it and sends the outcomes before it that it
had kept. But that may be after an hour. So after a while the parent takes those chunks, and reads
those outcomes in the worker's journal, by itself.

Before each chunk the worker notes its number, and then looks whether it is to *halt* there, at a
word of the journal that only the parent writes (see `pool._transport._journal`). Neither side waits
for the other. So the parent first writes at which chunk to halt, then lets `SETTLE` pass, and takes
the chunks from there on only if the worker has not noted that chunk by then. A worker that went
past it without seeing the word would have noted the chunk before it looked, and `SETTLE` is by far
longer than a store takes to get to memory.

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

#: Seconds without news of a message after which it counts as stuck: between two chunks its worker
#: would hand back the rest after as long (`pool._workers._worker.PATIENCE`).
PATIENCE = 5e-3

#: Seconds between telling a worker where to halt and looking whether it has gone past that chunk.
#: A processor's stores reach memory within microseconds.
SETTLE = 1e-3


class Stragglers:
    """Find messages that are stuck.

    Parameters
    ----------
    scheduler : Scheduler
        Whose roster this part reads.

    Attributes
    ----------
    due : float or None
        When to look again, on the monotonic clock; None: not needed.
    """

    __slots__ = ("_roster", "due")

    def __init__(self, scheduler: Scheduler) -> None:
        self._roster = scheduler.roster
        self.due: float | None = None

    def watch(self, now: float) -> None:
        """Have messages looked at after a while: one with several chunks is on its way."""
        if self.due is None:
            self.due = now + PATIENCE

    def on_time(self, now: float) -> Iterator[Command]:
        """Yield a command for each message that is stuck; nothing before `due`."""
        if self.due is None or self.due > now:
            return
        self.due = None
        for worker, message in self._unfinished():
            if message.halted is not None and message.halted + SETTLE <= now:
                yield TakeRest(worker.worker_id, message.message_id)
                # The worker may have gone past the place; then it is watched anew.
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
