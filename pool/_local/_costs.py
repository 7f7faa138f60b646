"""How many chunks are worth one message: learned from measured run times.

A message costs both sides some ten microseconds and, when the receiver sleeps, a context
switch each way. So cheap chunks travel together; chunks that run for long travel alone,
so that none waits behind another while a worker idles.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

#: Seconds that the parent needs to receive one answer and send the next message. 15 us
#: when all is warm; 30-50 us when it shares its CPU with a busy worker and has to be
#: switched to. It serves all workers, so messages must be rarer with more of them.
MESSAGE_COST = 30e-6

#: Seconds of work that one message aims at, so that messages cost both sides together
#: less than a tenth of it. Chunks that would wait in it behind a straggler are handed back
#: by the worker (`pool._workers._worker.PATIENCE`).
MESSAGE_WORK = 1e-3

#: Factor on `MESSAGE_WORK` while very many chunks wait: the parent, which takes part of a CPU from
#: the workers, then has fewer messages to send. That the workers end less evenly, because the last
#: messages are larger too, does not show in so long a job.
PLENTY = 3

#: Very many wait if there are more than so many messages' worth for each free place of a worker.
MANY_MESSAGES = 100

#: A message may hold at most so many times the chunks of the last measured one: the first
#: chunk of a job may happen to be a quick one.
GROWTH = 16

#: Chunks in one message, at most: the number of outcomes that fit into a worker's journal.
BATCH_MAX = 4096


#: Chunks that run for longer, in seconds, are not sent ahead to a busy worker: that saves it 20 us
#: of idleness, which is not worth having to take them back.
PREFETCH_BELOW = 5e-3

#: Seconds of work that the window of lazy calls should hold for each worker.
WINDOW_WORK = 20e-3


class Distance:
    """How far away the workers are.

    Parameters
    ----------
    message_cost, message_work, prefetch_below : float
        In place of the constants of these names.
    window_work : float
        Seconds of work that should be ahead of the consumer of results, for each worker.
    watched : bool
        Whether tasks that take long are noticed here, by the clock. Else the other side sees to
        that.
    """

    __slots__ = ("message_cost", "message_work", "prefetch_below", "watched", "window_work")

    def __init__(
        self,
        message_cost: float = MESSAGE_COST,
        message_work: float = MESSAGE_WORK,
        prefetch_below: float = PREFETCH_BELOW,
        window_work: float = WINDOW_WORK,
        watched: bool = True,
    ) -> None:
        self.message_cost = message_cost
        self.message_work = message_work
        self.prefetch_below = prefetch_below
        self.window_work = window_work
        self.watched = watched


#: Processes of this machine.
NEAR = Distance()


class Costs:
    """Estimate seconds per chunk for each function, and batch sizes from that.

    Parameters
    ----------
    workers : int
        How many workers one parent serves.
    distance : Distance
    """

    __slots__ = ("_last", "_seconds", "_work", "_worth")

    def __init__(self, workers: int, distance: Distance = NEAR) -> None:
        self._seconds: dict[Hashable, float] = {}
        self._last: dict[Hashable, int] = {}
        self._work = max(distance.message_work, distance.message_cost * workers)
        self._worth = distance.message_cost * (workers + 1)

    def observe(self, key: Hashable, chunks: int, seconds: float) -> None:
        """Learn that `chunks` chunks of function `key` took `seconds` in a worker."""
        each = seconds / chunks
        known = self._seconds.get(key)
        # Half of the old estimate is kept: one straggler among cheap chunks makes the
        # next messages small, and is forgotten after a few of them.
        self._seconds[key] = each if known is None else (known + each) / 2
        self._last[key] = chunks
        if len(self._seconds) > 1024:
            self._forget()

    def seconds(self, key: Hashable) -> float | None:
        """Return the estimate for one chunk, None before the first measurement."""
        return self._seconds.get(key)

    def batch(self, key: Hashable, share: int) -> int:
        """Return how many chunks of function `key` one message should carry.

        Parameters
        ----------
        key : hashable
        share : int
            Chunks that wait, divided by the messages that all workers may hold. So messages
            shrink towards the end, and all workers end together.
        """
        each = self._seconds.get(key)
        if each is None:
            return 1
        if each <= 0.0:
            return BATCH_MAX
        work = self._work
        if share * each > MANY_MESSAGES * work and 4 * each < work:
            work *= PLENTY
        # Bounded before it is made an integer: the quotient may be infinite.
        wanted = int(min(work / each, self._last[key] * GROWTH, BATCH_MAX))
        # A share may be too small to be worth a message.
        return max(1, min(wanted, max(share, int(min(self._worth / each, BATCH_MAX)))))

    def least(self, key: Hashable) -> int:
        """Return how many chunks it takes to be worth a message to a worker that is busy."""
        each = self._seconds.get(key)
        if each is None:
            return 1
        return max(1, int(min(self._worth / each, BATCH_MAX))) if each > 0.0 else BATCH_MAX

    def _forget(self) -> None:
        for key in list(self._seconds)[:512]:
            del self._seconds[key], self._last[key]
