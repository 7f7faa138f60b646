"""Which chunks were asked to stop, and what follows if they do not: books without I/O.

A chunk is asked by a signal, which hits it only if it is what the worker runs at that
moment, and may be lost even then (see `pool._workers._worker.Worker.on_interrupt`). So whoever
asks looks again after a while: at one that was *cancelled*, whose outcome nobody wants any
more, to end its worker; at one that was *recalled*, to ask again until it has been struck, but
not twice.
"""

from __future__ import annotations

from pool._local._events import ASK, EXIT, KILL, Interrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    Key = tuple[int, int, int, int | None]

#: Seconds between a polite interrupt of a cancelled task and the end of its worker.
GRACE = 1.0

#: Seconds after which one that was recalled is asked again.
AGAIN = 0.1


class Interrupts:
    """Chunks, as ``(worker_id, message_id, job_id, index or None)``, that were asked to stop."""

    __slots__ = ("asked",)

    def __init__(self) -> None:
        #: When to look again, what to do then, and whether to go on until it is over.
        self.asked: dict[Key, tuple[float, int, bool]] = {}

    def deadline(self) -> float | None:
        """Return when to look again, None if there is nothing to look at."""
        # Asked without the lock by the thread that is about to sleep.
        return min((when for when, _, _ in list(self.asked.values())), default=None)

    def cancel(self, key: Key, now: float) -> Interrupt:
        """Ask one to stop whose outcome nobody wants; its worker ends if it does not."""
        self.asked[key] = (now + GRACE, KILL, False)
        return Interrupt(*key, ASK)

    def recall(self, key: Key, now: float, force: bool) -> Interrupt:
        """Ask one to stop whose outcome is wanted; with `force`, its worker ends."""
        self.asked[key] = (now + GRACE, KILL, True) if force else (now + AGAIN, ASK, True)
        return Interrupt(*key, EXIT if force else ASK)

    def missed(self, key: Key, now: float) -> Interrupt:
        """Ask one that is overdue and was never asked: it has begun only by now."""
        if key in self.asked:
            return Interrupt(*key, EXIT)  # recalled by force, until it is over
        return self.cancel(key, now)

    def heard(self, key: Key) -> None:
        """Note that a recalled one has been struck: not to be asked again."""
        if self.asked.get(key, _NOT_ASKED)[1:] == (ASK, True):
            del self.asked[key]

    def pardon(self, worker_id: int, message_id: int | None) -> None:
        """Forget those of a message (or of all messages of a worker) that is over."""
        if self.asked:
            for key in list(self.asked):
                if key[0] == worker_id and message_id in (None, key[1]):
                    del self.asked[key]

    def overdue(self, now: float) -> list[Interrupt]:
        """Return what is to be done to those that have not stopped."""
        found = []
        for key, (when, again, lasting) in list(self.asked.items()):
            if when > now:
                continue
            found.append(Interrupt(*key, again))
            if lasting:
                # It may not have begun, and be about to.
                self.asked[key] = (now + (AGAIN if again == ASK else GRACE), again, lasting)
            else:
                del self.asked[key]
        return found

    def clear(self) -> None:
        """Forget all."""
        self.asked.clear()


_NOT_ASKED = (0.0, KILL, False)
