"""One actor's life and mailbox: a state machine without any I/O.

Theory of operation
-------------------
::

    STARTING ──started──> ALIVE ──exited, restarts left──> STARTING
        │ refused            │ exited
        └────────> DEAD <────┘

Each caller has a queue of its own: its calls are *posted* to the actor in the order in
which they were made, and callers take turns. A call whose arguments do not exist yet holds back
those behind it, but not those of other callers. An actor that runs calls side by side has no order
to keep: there a call enters the queue when its arguments exist, and holds back no other. At most
`window` calls are posted and unanswered. The others stay here, where they can be withdrawn, and
survive a restart.

Guarantees
----------
* Every call leaves exactly once: it is answered, failed or withdrawn.
* A call is posted twice only if the actor died in between and the call says that it may
  be tried again.
* When the last handle is gone, the calls made before are answered. Then the actor ends, unless
  what it has sent meanwhile contains a handle again.
"""

from __future__ import annotations

from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import Any

#: Calls that are posted to an actor and not answered, at most, if it runs one at a time. More are
#: posted when half of them are answered: so several go in one message, and the actor never waits.
WINDOW = 32

STARTING, ALIVE, DEAD = "STARTING", "ALIVE", "DEAD"

# Commands to the caller of a method.
LAUNCH = "launch"  #: start the actor's process
POST = "post"  #: send a call
#: fail a call, since the actor died: ``(FAIL, call, reason, restarting)``
FAIL = "fail"
#: the actor has no handle and no calls: take in what it has sent, then do what `end` returns
IDLE = "idle"
STOP = "stop"  #: tell the actor to end in good order
KILL = "kill"  #: end its process at once
GONE = "gone"  #: the actor is dead for good: free its name and its resources


class Call:
    """One call of a method.

    Attributes
    ----------
    caller : hashable
        The calls of one caller stay in order.
    ready : bool
        Whether the values of all its arguments exist.
    retries : int
        Times that it may be posted again: if the actor dies, and after errors that its method says;
        -1: always.
    number : int
        Set anew each time it is posted; 0 before.
    """

    __slots__ = ("caller", "number", "ready", "retries")

    def __init__(self, caller: Hashable, ready: bool = True, retries: int = 0) -> None:
        self.caller = caller
        self.ready = ready
        self.retries = retries
        self.number = 0

    def use_retry(self) -> None:
        """Count that it is posted again."""
        if self.retries > 0:
            self.retries -= 1


class Mailbox:
    """Decide what happens to an actor's calls and to its process.

    Each method takes one event and returns commands: ``(LAUNCH,)``, ``(POST, call)``, ...

    Parameters
    ----------
    restarts : int
        Times that the actor may be started again; -1: always.
    concurrency : int
        Calls that it runs side by side. At least as many are always posted, since they may
        wait for each other.
    in_order : bool
        Whether calls of one caller wait for those before them.
    """

    __slots__ = (
        "_ended", "_in_order", "_kill_reason", "_killed", "_next", "_queues", "_stopping",
        "_unready", "posted", "reason", "restarts", "state", "stopped", "used_restarts", "window",
    )  # fmt: skip

    def __init__(self, restarts: int = 0, concurrency: int = 1, in_order: bool = True) -> None:
        self.fit(restarts, concurrency, in_order)
        self.state = STARTING
        self.used_restarts = 0
        #: Calls that are posted and not answered, by number, oldest first.
        self.posted: dict[int, Any] = {}
        #: Why the actor is dead, for the errors of its calls.
        self.reason = ""
        #: By caller. Ordered sets, so that a call is withdrawn from the middle as quickly. A plain
        #: dict takes long to find its first key if others were deleted before it.
        self._queues: dict[Hashable, OrderedDict[Any, None]] = {}
        #: An ordered set: calls that enter a queue when their arguments exist, oldest first.
        self._unready: dict[Any, None] = {}
        self._next = 1
        #: Whether all handles are gone.
        self._stopping = False
        #: Whether the actor was told to end in good order, so that it runs no more calls.
        self.stopped = False
        #: Whether it was ended on purpose and may not be started again.
        self._killed = False
        #: Why its present process is ended on purpose, though it may be started again; else "".
        self._kill_reason = ""
        #: Whether its process has ended, and some of what it had sent is still to be taken in.
        self._ended = False

    def fit(self, restarts: int, concurrency: int, in_order: bool) -> None:
        """Go by these from now on; for the parameters see the class."""
        self.restarts = restarts
        self.window = max(WINDOW, 2 * concurrency)
        self._in_order = in_order

    def __len__(self) -> int:
        """Return how many calls have no answer; needs no lock."""
        # A copy: other threads may change the dict meanwhile.
        queued = sum(map(len, list(self._queues.values())))
        return len(self.posted) + len(self._unready) + queued

    # ------------------------------------------------------------------ calls

    def called(self, call: Any) -> list[tuple[Any, ...]]:
        """Take a new call."""
        if self.state == DEAD:
            return [(FAIL, call, self.reason, False)]
        if not (call.ready or self._in_order):
            self._unready[call] = None
            return []
        self._enqueue(call)
        return self._post()

    def called_again(self, call: Any) -> list[tuple[Any, ...]]:
        """Take a call that has raised, and is made again: that uses one of its retries."""
        call.use_retry()
        return self.called(call)

    def _enqueue(self, call: Any) -> None:
        queue = self._queues.get(call.caller)
        if queue is None:
            queue = self._queues[call.caller] = OrderedDict()
        queue[call] = None

    def resolved(self, call: Any) -> list[tuple[Any, ...]]:
        """Note that the values of all arguments of a call exist."""
        call.ready = True
        if call in self._unready:
            del self._unready[call]
            self._enqueue(call)
        return self._post()

    def answered(self, number: int) -> tuple[Any, list[tuple[Any, ...]]]:
        """Take out the call that was answered; None in its place if it is not here any more."""
        return self.posted.pop(number, None), self._post()

    def take_out(self, number: int) -> None:
        """Take out a posted call that could not be sent; `flush` then posts others instead."""
        self.posted.pop(number, None)

    def withdraw(self, call: Any) -> bool:
        """Take back a call unless it is posted; return whether it was taken back."""
        if call in self._unready:
            del self._unready[call]
            return True
        queue = self._queues.get(call.caller)
        if queue is None or call not in queue:
            return False
        del queue[call]
        if not queue:
            del self._queues[call.caller]
        return True

    def flush(self) -> list[tuple[Any, ...]]:
        """Post the calls for which `withdraw` or `take_out` has made room."""
        return self._post()

    def _post(self) -> list[tuple[Any, ...]]:
        if not (self._queues or self._stopping):
            return []  # nothing to do, as after most answers
        if self.state != ALIVE or self._killed or self._ended:
            return []  # the actor is dying or dead, and `exited` has not been told yet
        commands: list[tuple[Any, ...]] = []
        if len(self.posted) > self.window // 2:
            return commands  # it has enough to do; many calls in one message are cheaper
        for caller in list(self._queues):
            if len(self.posted) == self.window:
                break
            queue = self._queues[caller]
            while queue and len(self.posted) < self.window:
                call = next(iter(queue))
                if not call.ready:
                    break
                del queue[call]
                call.number = self._next
                self._next += 1
                self.posted[call.number] = call
                commands.append((POST, call))
            if not queue:
                del self._queues[caller]
            elif len(self.posted) == self.window:
                # Others come first the next time: one that always has calls waiting must not keep
                # them from the actor.
                self._queues[caller] = self._queues.pop(caller)
        if self._is_idle:
            commands.append((IDLE,))
        return commands

    @property
    def _is_idle(self) -> bool:
        return (
            self._stopping
            and self.state == ALIVE
            and not (self.posted or self._queues or self._unready)
            and not (self._killed or self.stopped)
        )

    # ------------------------------------------------------------------ life

    def started(self) -> list[tuple[Any, ...]]:
        """Note that its constructor has returned."""
        if self.state != STARTING:
            return []
        self.state = ALIVE
        return self._post()

    def refused(self, reason: str) -> list[tuple[Any, ...]]:
        """Note that its constructor raised: it will not be tried again."""
        self._killed = True
        self.reason = reason
        return [(KILL,)] if self.state != DEAD else []

    def ending(self) -> None:
        """Note that the process receives nothing any more; `exited` follows when all is read."""
        self._ended = True

    def exited(self, reason: str, intended: bool = False) -> list[tuple[Any, ...]]:
        """Note that its process has ended.

        Parameters
        ----------
        reason : str
        intended : bool
            Whether the actor chose to end. It is not started again then.
        """
        self._ended = False
        if self.state == DEAD:
            return []
        reason, self._kill_reason = self._kill_reason or reason, ""
        wanted = (
            not self._stopping
            or self._queues
            or self._unready
            or any(call.retries for call in self.posted.values())
        )
        again = (
            bool(wanted)
            and not (self._killed or intended)
            and (self.restarts < 0 or self.used_restarts < self.restarts)
        )
        posted, self.posted = list(self.posted.values()), {}
        if not again:
            self.state = DEAD
            self.reason = self.reason or reason
            commands: list[tuple[Any, ...]] = [
                (FAIL, call, self.reason, False) for call in (*posted, *self._unposted())
            ]
            self._queues.clear()
            self._unready.clear()
            return [*commands, (GONE,)]
        self.state = STARTING
        self.stopped = False
        self.used_restarts += 1
        commands = [(FAIL, call, reason, True) for call in posted if not call.retries]
        for call in reversed([call for call in posted if call.retries]):
            call.use_retry()
            self._enqueue(call)
            self._queues[call.caller].move_to_end(call, last=False)
        return [*commands, (LAUNCH,)]

    def _unposted(self) -> Iterator[Any]:
        for queue in self._queues.values():
            yield from queue
        yield from self._unready

    def released(self) -> list[tuple[Any, ...]]:
        """Note that the last handle is gone."""
        self._stopping = True
        return self._post()

    def held(self) -> None:
        """Note that there is a handle again: the actor may have kept or passed on its own."""
        self._stopping = False

    def end(self) -> list[tuple[Any, ...]]:
        """Have the actor end if it is still idle, after the command IDLE was carried out."""
        if not self._is_idle:
            return []
        self.stopped = True
        return [(STOP,)]

    def kill(self, reason: str, no_restart: bool = True) -> list[tuple[Any, ...]]:
        """End the actor's process at once; `no_restart`: and do not start it again."""
        if self.state == DEAD:
            return []
        if no_restart:
            self._killed = True
            self.reason = reason
        self._kill_reason = reason
        return [(KILL,)]

    @property
    def killed(self) -> bool:
        """Whether it was ended on purpose and may not be started again."""
        return self._killed

    # ------------------------------------------------------------------ self-checks

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong."""
        assert len(self.posted) <= self.window
        assert all(self._queues.values())
        if self.state != ALIVE:
            assert not self.posted
        if self.state == DEAD:
            assert not (self._queues or self._unready)
            assert self.reason
