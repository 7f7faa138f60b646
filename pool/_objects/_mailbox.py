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
survive a restart. All this holds for each concurrency group by itself, in a *lane* of its own:
calls of one group never wait for those of another.

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
    from collections.abc import Hashable, Iterator, Mapping
    from typing import Any

#: Calls that are posted to an actor and not answered, at most, if it runs one at a time. More are
#: posted when half of them are answered: so several go in one message, and the actor never waits.
WINDOW = 32

STARTING, ALIVE, DEAD = "STARTING", "ALIVE", "DEAD"

#: The lanes of an actor without concurrency groups that runs one call at a time.
ONE_AT_A_TIME = {"": (1, True)}

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
    group : str
        The concurrency group that it runs in; "": that of the calls which are in no other.
    ready : bool
        Whether the values of all its arguments exist.
    retries : int
        Times that it may be posted again: if the actor dies, and after errors that its method says;
        -1: always.
    number : int
        Set anew each time it is posted; 0 before.
    """

    __slots__ = ("caller", "group", "number", "ready", "retries")

    def __init__(
        self, caller: Hashable, ready: bool = True, retries: int = 0, group: str = ""
    ) -> None:
        self.caller = caller
        self.group = group
        self.ready = ready
        self.retries = retries
        self.number = 0

    def use_retry(self) -> None:
        """Count that it is posted again."""
        if self.retries > 0:
            self.retries -= 1


class _Lane:
    """The calls of one concurrency group."""

    __slots__ = ("in_order", "posted", "queues", "unready", "window")

    def __init__(self) -> None:
        self.window = WINDOW
        self.in_order = True
        #: How many calls are posted and not answered.
        self.posted = 0
        #: By caller. Ordered sets, so that a call is withdrawn from the middle as quickly. A plain
        #: dict takes long to find its first key if others were deleted before it.
        self.queues: dict[Hashable, OrderedDict[Any, None]] = {}
        #: An ordered set: calls that enter a queue when their arguments exist, oldest first.
        self.unready: dict[Any, None] = {}

    def __len__(self) -> int:
        """Return how many calls are not posted; needs no lock."""
        # A copy: other threads may change the dict meanwhile.
        return len(self.unready) + sum(map(len, list(self.queues.values())))

    def enqueue(self, call: Any) -> None:
        queue = self.queues.get(call.caller)
        if queue is None:
            queue = self.queues[call.caller] = OrderedDict()
        queue[call] = None

    def withdraw(self, call: Any) -> bool:
        if call in self.unready:
            del self.unready[call]
            return True
        queue = self.queues.get(call.caller)
        if queue is None or call not in queue:
            return False
        del queue[call]
        if not queue:
            del self.queues[call.caller]
        return True

    def take(self) -> list[Any]:
        """Take out the calls that are to be posted now."""
        taken: list[Any] = []
        if self.posted > self.window // 2:
            return taken  # it has enough to do; many calls in one message are cheaper
        room = self.window - self.posted
        for caller in list(self.queues):
            if len(taken) == room:
                break
            queue = self.queues[caller]
            while queue and len(taken) < room:
                call = next(iter(queue))
                if not call.ready:
                    break
                del queue[call]
                taken.append(call)
            if not queue:
                del self.queues[caller]
            elif len(taken) == room:
                # Others come first the next time: one that always has calls waiting must not keep
                # them from the actor.
                self.queues[caller] = self.queues.pop(caller)
        self.posted += len(taken)
        return taken

    def unposted(self) -> Iterator[Any]:
        for queue in self.queues.values():
            yield from queue
        yield from self.unready


class Mailbox:
    """Decide what happens to an actor's calls and to its process.

    Each method takes one event and returns commands: ``(LAUNCH,)``, ``(POST, call)``, ...

    Parameters
    ----------
    restarts : int
        Times that the actor may be started again; -1: always.
    lanes : mapping, optional
        By concurrency group ("": of the calls that are in no other): how many calls it runs side by
        side, and whether calls of one caller wait for those before them. At least as many are
        always posted, since they may wait for each other.
    """

    __slots__ = (
        "_ended", "_kill_reason", "_killed", "_lanes", "_next", "_stopping", "posted", "reason",
        "restarts", "state", "stopped", "used_restarts",
    )  # fmt: skip

    def __init__(
        self, restarts: int = 0, lanes: Mapping[str, tuple[int, bool]] = ONE_AT_A_TIME
    ) -> None:
        self._lanes: dict[str, _Lane] = {}
        self.fit(restarts, lanes)
        self.state = STARTING
        self.used_restarts = 0
        #: Calls that are posted and not answered, by number, oldest first.
        self.posted: dict[int, Any] = {}
        #: Why the actor is dead, for the errors of its calls.
        self.reason = ""
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

    def fit(self, restarts: int, lanes: Mapping[str, tuple[int, bool]]) -> None:
        """Go by these from now on; for the parameters see the class."""
        self.restarts = restarts
        for group, (concurrency, in_order) in lanes.items():
            lane = self._lanes.setdefault(group, _Lane())
            lane.window = max(WINDOW, 2 * concurrency)
            lane.in_order = in_order

    def __len__(self) -> int:
        """Return how many calls have no answer; needs no lock."""
        return len(self.posted) + sum(map(len, list(self._lanes.values())))

    # ------------------------------------------------------------------ calls

    def called(self, call: Any) -> list[tuple[Any, ...]]:
        """Take a new call."""
        if self.state == DEAD:
            return [(FAIL, call, self.reason, False)]
        lane = self._lanes[call.group]
        if not (call.ready or lane.in_order):
            lane.unready[call] = None
            return []
        lane.enqueue(call)
        return self._post()

    def called_again(self, call: Any) -> list[tuple[Any, ...]]:
        """Take a call that has raised, and is made again: that uses one of its retries."""
        call.use_retry()
        return self.called(call)

    def resolved(self, call: Any) -> list[tuple[Any, ...]]:
        """Note that the values of all arguments of a call exist."""
        call.ready = True
        lane = self._lanes[call.group]
        if call in lane.unready:
            del lane.unready[call]
            lane.enqueue(call)
        return self._post()

    def answered(self, number: int) -> tuple[Any, list[tuple[Any, ...]]]:
        """Take out the call that was answered; None in its place if it is not here any more."""
        return self.take_out(number), self._post()

    def take_out(self, number: int) -> Any:
        """Take out a posted call, as one that could not be sent: `flush` posts others instead."""
        call = self.posted.pop(number, None)
        if call is not None:
            self._lanes[call.group].posted -= 1
        return call

    def withdraw(self, call: Any) -> bool:
        """Take back a call unless it is posted; return whether it was taken back."""
        return self._lanes[call.group].withdraw(call)

    def flush(self) -> list[tuple[Any, ...]]:
        """Post the calls for which `withdraw` or `take_out` has made room."""
        return self._post()

    def _post(self) -> list[tuple[Any, ...]]:
        if self.state != ALIVE or self._killed or self._ended:
            return []  # the actor is dying or dead, and `exited` has not been told yet
        commands: list[tuple[Any, ...]] = []
        for lane in self._lanes.values():
            if not lane.queues:
                continue  # nothing to do, as after most answers
            for call in lane.take():
                call.number = self._next
                self._next += 1
                self.posted[call.number] = call
                commands.append((POST, call))
        if self._is_idle:
            commands.append((IDLE,))
        return commands

    @property
    def _is_idle(self) -> bool:
        return (
            self._stopping
            and self.state == ALIVE
            and not (self._killed or self.stopped or len(self))
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
            or any(self._lanes.values())
            or any(call.retries for call in self.posted.values())
        )
        again = (
            bool(wanted)
            and not (self._killed or intended)
            and (self.restarts < 0 or self.used_restarts < self.restarts)
        )
        posted = [self.take_out(number) for number in list(self.posted)]
        if not again:
            self.state = DEAD
            self.reason = self.reason or reason
            commands: list[tuple[Any, ...]] = [
                (FAIL, call, self.reason, False) for call in (*posted, *self._unposted())
            ]
            for lane in self._lanes.values():
                lane.queues.clear()
                lane.unready.clear()
            return [*commands, (GONE,)]
        self.state = STARTING
        self.stopped = False
        self.used_restarts += 1
        commands = [(FAIL, call, reason, True) for call in posted if not call.retries]
        for call in reversed([call for call in posted if call.retries]):
            call.use_retry()
            lane = self._lanes[call.group]
            lane.enqueue(call)
            lane.queues[call.caller].move_to_end(call, last=False)
        return [*commands, (LAUNCH,)]

    def _unposted(self) -> Iterator[Any]:
        for lane in self._lanes.values():
            yield from lane.unposted()

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
        for lane in self._lanes.values():
            assert lane.posted <= lane.window
            assert all(lane.queues.values())
        assert len(self.posted) == sum(lane.posted for lane in self._lanes.values())
        if self.state != ALIVE:
            assert not self.posted
        if self.state == DEAD:
            assert not len(self)
            assert self.reason
