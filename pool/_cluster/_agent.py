"""An agent: a worker of a pool on another machine, and what looks after it there."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import deque
from itertools import takewhile

from pool._cluster._errands import Errand, Share, label_of, source_of
from pool._cluster._messages import Answer, Started, portable, received, version
from pool._cluster._raw import RawError, RawOutcomes, as_sent
from pool._errors import StartError, TaskCancelled
from pool._local import _events as ev
from pool._local._costs import Distance
from pool._local._engine import LocalEngine
from pool._local._jobs import Function
from pool._transport._messages import AWAITED
from pool._workers import _launcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._cluster._messages import Config, Payload, Run

#: Seconds after which an agent answers with what there is, and gives back what it has not begun:
#: other workers may have nothing to do.
PATIENCE = 0.25

#: Messages that are remembered: many more than a crew may have sent and not heard of.
SEEN = 64

#: The number of the pool of every agent, for its worker: none of a pool that somebody made there.
POOL = 1


class AgentEngine(LocalEngine):
    """The engine of one worker, whose program is on another machine.

    Parameters
    ----------
    config : Config
    initializer : sequence of bytes-like, optional
        Payload of the initializer and its arguments.
    """

    #: Nothing waits in the worker's mailbox: there it could not be given back.
    distance = Distance(prefetch_below=0.0)
    outcomes = RawOutcomes

    def __init__(self, config: Config, initializer: Payload | None) -> None:
        self._config = config
        self._initializer = initializer
        # What it is, only the worker knows.
        placeholder = None if initializer is None else _refuse
        limits = dict(config.limits)
        super().__init__(1, placeholder, (), config.maxtasksperchild, limits=limits, pool=POOL)

    def plan_start(
        self,
        method: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        limits: dict[str, str],
        preload: Sequence[str],
        pool: int,
        shares: bool,
        waits: bool,
        saves: bool,
    ) -> tuple[str, Callable[[int], _launcher.Launcher], Sequence[Any]]:
        config = self._config
        path = [*sys.path, *(entry for entry in config.path if entry not in sys.path)]
        other = {"main": config.main, "path": path, "number": config.number}
        payload, initial = None, []
        if self._initializer is not None:
            from store._depot import stored

            payload, initial = AWAITED, stored(received(self._initializer))
            self._initializer = None
        return (
            method,
            lambda journal: _launcher.connect(
                method, payload, journal, limits, preload, pool, other
            ),
            initial,
        )


def _refuse() -> None:
    raise AssertionError("an initializer is called by workers only")


class Agent:
    """Run what the crew of a pool sends, on one worker.

    Any thread may call any method.

    Parameters
    ----------
    config : Config
    initializer : sequence of bytes-like, optional
        Payload of the initializer and its arguments.
    """

    def __init__(self, config: Config, initializer: Payload | None) -> None:
        self._config = config
        self._initializer = initializer
        self._functions: dict[int, Function] = {}
        self._errands: dict[int, Errand] = {}
        #: The last messages that have come. None is taken twice: a cluster may repeat a call whose
        #: result it has lost, as long as the crew waits for that.
        self._seen: deque[int] = deque(maxlen=SEEN)
        #: What is not wanted any more: message, number of a run in it, and of a chunk in that.
        self._called_off: set[tuple[int, int, int | None]] = set()
        self._over = threading.Event()

    def start(self) -> Started:
        """Wait until the worker is ready; say where it is, or what its initializer raised."""
        config = self._config
        if config.version != version():
            raise StartError(
                f"the program has {_versions(config.version)}, the machine "
                f"{socket.gethostname()} has {_versions(version())}: what the one has pickled is "
                "not for the other; install the same versions on all machines"
            )
        self._engine = engine = AgentEngine(config, self._initializer)
        self._initializer = None
        if self._over.is_set():
            engine.terminate()  # its end came in the meantime
            raise RuntimeError("the agent was ended before it had started")
        scheduler = engine.scheduler
        engine.wait(lambda: scheduler.broken or not (scheduler.starting and engine.usable))
        return Started(socket.gethostname(), os.getpid(), self._failure())

    def run(
        self,
        message_id: int,
        forgets: Sequence[int],
        defines: Sequence[tuple[int, bool]],
        runs: Sequence[Run],
        blobs: Sequence[Any],
        *functions: Sequence[Any],
    ) -> Answer:
        """Run chunks.

        Parameters
        ----------
        message_id : int
        forgets : sequence of int
            Numbers of functions that are not used any more.
        defines : sequence of (int, bool)
            Number of each function that is new, and whether it is stateless.
        runs : sequence of Run
        blobs : sequence of bytes-like
            Payloads of the chunks.
        *functions : sequence of bytes-like
            Payloads of the functions.
        """
        if message_id in self._seen:
            raise RuntimeError(f"message {message_id} has come before")
        self._seen.append(message_id)
        self.forget(forgets)
        self._define(defines, functions)
        key = (runs[0].function_id, runs[0].chunksize)
        errand = self._errands[message_id] = Errand(sum(run.chunks for run in runs), key)
        rest = received(blobs)
        offset = 0
        try:
            for run in runs:
                source, used = source_of(run, rest)
                del rest[:used]
                share = Share(errand, offset, run.chunks)
                job_id = self._engine.submit(
                    self._functions.get(run.function_id),
                    run.mode,
                    source,
                    share,
                    label_of(run),
                    run.timeout,
                    cost_key=key,
                )
                errand.jobs.append((job_id, offset, run.chunks))
                offset += run.chunks
        except BaseException:
            del self._errands[message_id]
            raise
        errand.submitted = True
        self._call_off(message_id, errand)
        return self._answer(message_id, errand, PATIENCE)

    def go_on(self, message_id: int) -> Answer:
        """Wait for what is left of a message."""
        return self._answer(message_id, self._errands[message_id], None)

    def cancel(self, message_id: int, number: int, index: int | None) -> None:
        """Stop the chunks of a run, or one of them, whose outcomes nobody wants.

        Parameters
        ----------
        message_id : int
        number : int
            Of the run in the message.
        index : int, optional
            Of the chunk in the run.
        """
        # Noted first: it may come before the message, and while that is being submitted.
        self._called_off.add((message_id, number, index))
        errand = self._errands.get(message_id)
        if errand is not None:
            self._call_off(message_id, errand)
        elif message_id in self._seen:
            self._forget_cancelled(message_id)  # it is over

    def forget(self, function_ids: Sequence[int]) -> None:
        """Let go of functions."""
        for function_id in function_ids:
            function = self._functions.pop(function_id, None)
            if function is not None:
                self._engine.driver.functions.drop(function)

    def park(self) -> None:
        """Wait for the end: what waits for this learns when this process is gone."""
        self._over.wait()

    def close(self) -> None:
        """End the worker in good order."""
        self._engine.close()
        self._engine.join()
        self._over.set()

    def end(self) -> None:
        """End the worker at once."""
        self._over.set()
        engine = getattr(self, "_engine", None)
        if engine is not None:
            engine.terminate()

    def __del__(self) -> None:
        if "_over" in vars(self):  # Ray makes one of which it calls no constructor
            self.end()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an agent has a worker, and stays where that is")

    # ------------------------------------------------------------------ inside

    def _failure(self) -> Payload | None:
        """Return what the initializer raised; raise what else has ended the engine."""
        engine = self._engine
        if engine.usable and not engine.scheduler.broken:
            return None
        failure = engine.driver.reason()
        if not isinstance(failure, RawError):
            raise failure
        return portable(failure.blobs)

    def _call_off(self, message_id: int, errand: Errand) -> None:
        for message, number, index in list(self._called_off):
            if message != message_id or number >= len(errand.jobs):
                continue
            job_id = errand.jobs[number][0]
            if index is None:
                self._engine.cancel(job_id, TaskCancelled("cancelled"))
            else:
                self._engine.driver.post(ev.CancelRequested(job_id, index))
                self._engine.attend()

    def _forget_cancelled(self, message_id: int) -> None:
        for each in list(self._called_off):
            if each[0] == message_id:
                self._called_off.discard(each)

    def _define(
        self, defines: Sequence[tuple[int, bool]], functions: Sequence[Sequence[Any]]
    ) -> None:
        for (function_id, stateless), blobs in zip(defines, functions, strict=True):
            if function_id not in self._functions:
                from store._depot import stored

                # Kept by the worker until the crew says that it is not needed any more.
                kept = Function(function_id, stored(received(blobs)), stateless, True)
                self._functions[function_id] = kept

    def _answer(self, message_id: int, errand: Errand, patience: float | None) -> Answer:
        engine = self._engine
        engine.wait(errand.is_over, patience)
        kept: list[int | None] = [None]

        def settle() -> list[Any]:
            before = errand.kept
            if errand.open and patience is not None:
                self._give_back(errand)
            taken = errand.take()
            kept[0] = None if errand.kept == before else errand.kept - errand.answered
            return taken

        if engine.usable:
            taken = engine.driver.locked(settle)
        else:
            taken = errand.take()
        final = not errand.open
        if final:
            del self._errands[message_id]
            self._forget_cancelled(message_id)
        failure = self._failure()
        if failure is not None:
            # The rest has no outcomes of its own: it fails with all that the pool has to do.
            taken = list(takewhile(lambda outcome: type(outcome[1]) is not RawError, taken))
            final = False
        # As the worker has measured it: it is not the time that the messages took.
        seconds = engine.scheduler.costs.seconds(errand.cost_key) or 0.0
        return Answer(as_sent(taken), final, kept[0], seconds * len(taken), failure)

    def _give_back(self, errand: Errand) -> None:
        """Take chunks at the end of a message that no worker has; under the lock."""
        driver = self._engine.driver
        for job_id, offset, count in reversed(errand.jobs):
            job = driver.scheduler.jobs.get(job_id)
            for index in reversed(range(count)):
                at = offset + index
                if at >= errand.kept:
                    continue
                if job is None or not job.waits(index):
                    return
                errand.kept = at
                # Now: what has been handed in before might send it.
                driver.handle(ev.CancelRequested(job_id, index))


def _versions(version: tuple[Any, ...]) -> str:
    major, minor, ours = version
    return f"Python {major}.{minor} and actorpool {ours}"
