"""Which chunks were asked to stop, and what is done if they do not: records without I/O.

A chunk is asked by a signal, which strikes it only if the worker runs it at that moment, and may be
lost even then (see `pool._workers._worker.Worker.on_interrupt`). So each chunk is looked at again
after a while. If it was *cancelled*, so that nobody wants its outcome, its worker is ended. If it
was *recalled*, it is asked again until an interrupt has been raised in it, and then not any more.
"""

from __future__ import annotations

from pool._local._events import ASK, EXIT, KILL, Interrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    Key = tuple[int, int, int, int | None]

#: Seconds between a polite interrupt of a cancelled task and the end of its worker.
GRACE = 1.0

#: Seconds after which a chunk that was recalled is asked again.
AGAIN = 0.1


class Interrupts:
    """The chunks that were asked to stop.

    A key is ``(worker_id, message_id, job_id, index)``; index None stands for all chunks of the job
    in that message.
    """

    __slots__ = ("asked",)

    def __init__(self) -> None:
        #: When to look at the chunk again, how to interrupt it then, and whether to repeat that
        #: until its message is over.
        self.asked: dict[Key, tuple[float, int, bool]] = {}

    def deadline(self) -> float | None:
        """Return when to look at a chunk again, None if there is none to look at."""
        # Called without the lock by the thread that is about to sleep.
        return min((when for when, _, _ in list(self.asked.values())), default=None)

    def cancel(self, key: Key, now: float) -> Interrupt:
        """Ask a chunk to stop whose outcome nobody wants; its worker is killed if it does not."""
        self.asked[key] = (now + GRACE, KILL, False)
        return Interrupt(*key, ASK)

    def recall(self, key: Key, now: float, force: bool) -> Interrupt:
        """Ask a chunk to stop whose outcome is wanted; with `force`, end its worker."""
        self.asked[key] = (now + GRACE, KILL, True) if force else (now + AGAIN, ASK, True)
        return Interrupt(*key, EXIT if force else ASK)

    def missed(self, key: Key, now: float) -> Interrupt:
        """Ask a chunk that is overdue but has begun only now, so that it was never asked."""
        if key in self.asked:
            return Interrupt(*key, EXIT)  # recalled by force, which is repeated until it is over
        return self.cancel(key, now)

    def heard(self, key: Key) -> None:
        """Note that an interrupt was raised in a recalled chunk: it is not asked again."""
        if self.asked.get(key, _NOT_ASKED)[1:] == (ASK, True):
            del self.asked[key]

    def pardon(self, worker_id: int, message_id: int | None) -> None:
        """Forget the chunks of a message that is over (of all messages of the worker if None)."""
        if self.asked:
            for key in list(self.asked):
                if key[0] == worker_id and message_id in (None, key[1]):
                    del self.asked[key]

    def overdue(self, now: float) -> list[Interrupt]:
        """Return how to interrupt the chunks that have not stopped in time."""
        found = []
        for key, (when, again, lasting) in list(self.asked.items()):
            if when > now:
                continue
            found.append(Interrupt(*key, again))
            if lasting:
                # The chunk may not have begun yet, and be about to.
                self.asked[key] = (now + (AGAIN if again == ASK else GRACE), again, lasting)
            else:
                del self.asked[key]
        return found

    def clear(self) -> None:
        """Forget all chunks."""
        self.asked.clear()


_NOT_ASKED = (0.0, KILL, False)
