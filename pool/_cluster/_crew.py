"""The workers of a pool on a cluster: asking for agents, calling them, losing them."""

from __future__ import annotations

import _pickle
import _signal
import sys
from functools import partial

from pool._cluster._messages import Run, Texts, nbytes_of, owned, portable
from pool._cluster._peers import Lost, RemotePeer
from pool._errors import StartError, WorkerLost
from pool._local import _events as ev
from pool._transport._channel import BUFFER_NBYTES
from pool._transport._messages import RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._cluster._messages import Answer, Config, Started
    from pool._cluster._peers import Cluster
    from pool._local._driver import Driver
    from pool._local._jobs import Job


#: Bytes from which on a function is sent once for all workers.
SHARED_NBYTES = 1 << 20

#: Seconds until a pool that waits for its first worker says so.
SLOW_START = 30.0

#: Seconds after which whoever waits looks whether the cluster is still there: calls of one that
#: the program itself has left may never return.
LOOK = 1.0


class ClusterCrew:
    """Start, call and bury agents. Everything here runs under the driver's lock.

    Parameters
    ----------
    driver : Driver
    cluster : Cluster
    config : Config
    initializer : list of bytes-like, optional
        Payload of the initializer and its arguments, for each agent.

    Attributes
    ----------
    peers : dict
        The workers that were asked for, by worker_id.
    last_lost : (RemotePeer, str)
        Who was lost last, and why.
    """

    def __init__(
        self, driver: Driver, cluster: Cluster, config: Config, initializer: list[Any] | None
    ) -> None:
        self._driver = driver
        self._cluster = cluster
        self._config = config
        self._initializer: Any = initializer
        if initializer is not None and nbytes_of(initializer) >= SHARED_NBYTES:
            self._initializer = cluster.share(initializer)
        self.peers: dict[int, Any] = {}
        self.by_fd: dict[int, Any] = {}
        self.controls: dict[int, Any] = {}
        self.unlaunched: list[int] = []
        self.buffer = bytearray(BUFFER_NBYTES)
        self.last_lost = (RemotePeer(0), "")
        #: What stands for large functions in calls.
        self._shared: dict[int, Any] = {}
        self._warned = False

    # ------------------------------------------------------------------ beginnings

    def start(self, command: ev.StartWorker) -> None:
        self.unlaunched.append(command.worker_id)

    def launch(self) -> None:
        driver = self._driver
        while self.unlaunched and not driver.closed:
            peer = RemotePeer(self.unlaunched.pop(0))
            peer.send = partial(self._send, peer)
            peer.let_go = self._let_go
            lost = partial(self._hand_in, peer, self._on_lost)
            try:
                if why := self._cluster.gone():
                    raise StartError(why)
                config = self._config._replace(number=peer.worker_id)
                peer.agent = self._cluster.hire(config, self._initializer, lost)
                self.peers[peer.worker_id] = peer
                self._call(peer, self._on_started, "start")
            except Exception as error:
                driver.failure = StartError(f"the cluster cannot start a worker: {error}")
                driver.failure.__cause__ = error
                driver.crashed = True
                driver.inbox.append(ev.PoolTerminated())
                return
        if not self._warned:
            self._warned = True
            driver.after(SLOW_START, self._warn)
            driver.after(LOOK, self._look)

    def _look(self) -> None:
        if why := self._cluster.gone():
            for peer in list(self.peers.values()):
                self._on_lost(peer, why)
        self._driver.after(LOOK, self._look)

    def _warn(self) -> None:
        if any(peer.ready for peer in self.peers.values()) or not self.peers:
            return
        sys.stderr.write(
            f"actorpool: none of {len(self.peers)} workers has started for {SLOW_START:.0f} s; the "
            f"cluster has {self._cluster.cpus()} CPUs in all, perhaps others use them, or a "
            "package is being installed there\n"
        )

    def keep_mail(self, command: ev.Send) -> None:
        """Do nothing: that worker has ended, which the scheduler is about to be told.

        It sends this to another one then.
        """

    # ------------------------------------------------------------------ calls

    def _call(
        self,
        peer: RemotePeer,
        then: Callable[..., None],
        method: str,
        args: tuple[Any, ...] = (),
        shared: Sequence[Any] = (),
    ) -> None:
        def done(value: Any, error: BaseException | None) -> None:
            if isinstance(error, Lost):
                self._hand_in(peer, self._on_lost, str(error))
            else:
                self._hand_in(peer, then, value, error)

        peer.agent.call(done, method, args, shared)

    def _hand_in(self, peer: RemotePeer, action: Callable[..., None], *args: Any) -> None:
        """Have whoever drives take in some news, which any thread may bring."""
        self._driver.dirty.append(_News(self, peer, action, args))
        self._driver.wake()

    def _on_started(
        self, peer: RemotePeer, started: Started | None, error: BaseException | None
    ) -> None:
        driver = self._driver
        if started is None or started.failure is not None:
            self._refuse(peer, error, started and started.failure)
            return
        peer.host = started.host
        peer.ready = True
        driver.handle(ev.WorkerReady(peer.worker_id))
        while peer.mail:
            self._send(peer, *peer.mail.popleft())

    def _refuse(
        self, peer: RemotePeer, error: BaseException | None, blobs: Sequence[Any] | None
    ) -> None:
        """End the pool: an agent cannot start, or an initializer has raised what is in `blobs`."""
        driver = self._driver
        if driver.failure is None:
            data, buffers = owned(blobs or (b"",))
            driver.failure = error or driver.outcomes.refusal([data, *buffers])
        driver.handle(ev.WorkerRefused(peer.worker_id))

    def _send(self, peer: RemotePeer, head: Any, blobs: list[Any]) -> None:
        assert head[0] == RUN
        _, message_id, defines, forgets, entries = head
        position = 0
        functions = []
        for function_id, _, buffers in defines:
            end = position + 1 + buffers
            functions.append(self._function(function_id, blobs[position:end]))
            position = end
        described = []
        for entry, (job_id, start, stop) in zip(entries, peer.sent[message_id].runs, strict=True):
            job = self._driver.jobs.get(job_id)
            timeout, label = (
                (None, None) if job is None else (job.timeout, _sendable(job, start, stop))
            )
            described.append(Run(*(*entry, start, timeout, label)))
        self._call(
            peer,
            lambda peer, *answer: self._on_answer(peer, message_id, *answer),
            "run",
            (
                message_id,
                forgets,
                [(function_id, stateless) for function_id, stateless, _ in defines],
                described,
                portable(blobs[position:]),
            ),
            functions,
        )

    def _function(self, function_id: int, blobs: list[Any]) -> Any:
        shared = self._shared.get(function_id)
        if shared is not None:
            return shared
        sent = portable(blobs)
        if nbytes_of(sent) < SHARED_NBYTES:
            return sent
        shared = self._shared[function_id] = self._cluster.share(sent)
        return shared

    def _let_go(self) -> None:
        """Let go of functions whose jobs have ended: they may be large."""
        for known in [known for known in self._shared if not self._driver.functions.is_live(known)]:
            del self._shared[known]

    def _on_answer(
        self,
        peer: RemotePeer,
        message_id: int,
        answer: Answer | None,
        error: BaseException | None,
    ) -> None:
        driver = self._driver
        sent = peer.sent.get(message_id)
        if sent is None:
            return
        outcomes: Any = driver.outcomes
        if answer is None:
            # The call itself has failed: its arguments could not be sent, or a mistake of ours.
            self._on_lost(peer, f"{type(error).__name__}: {error}")
            return
        outcomes.take(peer, message_id, answer)
        if answer.failure is not None:
            self._refuse(peer, None, answer.failure)
            return
        if answer.kept is not None:
            driver.handle(ev.RestReturned(peer.worker_id, message_id, answer.kept))
        if not answer.final:
            self._call(
                peer,
                lambda peer, *answer: self._on_answer(peer, message_id, *answer),
                "go_on",
                (message_id,),
            )

    # ------------------------------------------------------------------ signals

    def stop(self, command: ev.StopWorker) -> None:
        peer = self.peers.get(command.worker_id)
        if peer is None:
            self._forget_unlaunched(command.worker_id)
        elif peer.ready:
            self._call(peer, self._on_stopped, "close")
        else:
            self._end(peer)

    def _on_stopped(self, peer: RemotePeer, value: object, error: BaseException | None) -> None:
        self._end(peer, 0)

    def kill(self, command: ev.KillWorker) -> None:
        peer = self.peers.get(command.worker_id)
        if peer is not None:
            self._end(peer)
        else:
            self._forget_unlaunched(command.worker_id)

    def _forget_unlaunched(self, worker_id: int) -> None:
        if worker_id in self.unlaunched:
            self.unlaunched.remove(worker_id)
            self._driver.inbox.append(ev.WorkerExited(worker_id))

    def reclaim(self, command: ev.Reclaim) -> None:
        # What an agent has been sent stays there; it gives back by itself what it cannot begin.
        peer = self.peers.get(command.worker_id)
        message_ids: tuple[int, ...] = ()
        if peer is not None and peer.mail:
            message_ids = tuple(head[1] for head, _ in peer.mail)
            peer.forgets += [number for head, _ in peer.mail for number in head[3]]
            peer.mail.clear()
            for message_id in message_ids:
                del peer.sent[message_id]
        self._driver.inbox.append(ev.MessagesReclaimed(command.worker_id, message_ids))

    def halt(self, command: ev.Halt) -> None:
        """Do nothing: the agent sees to that."""

    def take_rest(self, command: ev.TakeRest) -> None:
        """Do nothing, as above."""

    def interrupt(self, command: ev.Interrupt) -> None:
        worker_id, message_id, job_id, index, how = command
        peer = self.peers.get(worker_id)
        sent = None if peer is None else peer.sent.get(message_id)
        if peer is None or sent is None or how != ev.ASK or not peer.ready:
            return  # over; or asked already, and the agent makes sure
        for number, (run_job, start, stop) in enumerate(sent.runs):
            if run_job == job_id and (index is None or start <= index < stop):
                position = None if index is None else index - start
                peer.agent.urge("cancel", message_id, number, position)

    def signal(self, worker_id: int, number: int) -> None:
        peer = self.peers.get(worker_id)
        if peer is not None:
            self._hand_in(peer, self._on_lost, "the program has ended it")

    def ask_pids(self) -> None:
        """Do nothing: they are processes of other machines."""

    def on_control(self, control: int) -> None:
        """Do nothing: there is nothing to read here."""

    # ------------------------------------------------------------------ ends

    def _on_lost(self, peer: RemotePeer, why: str) -> None:
        self.last_lost = (peer, why)
        peer.mail.clear()
        # First: nothing more is to be sent there, where it might be run in spite of all.
        self._end(peer)
        outcomes: Any = self._driver.outcomes
        outcomes.give_up(peer, lambda doing: WorkerLost(peer.worker_id, peer.host, why, doing))

    def _end(self, peer: RemotePeer, status: int = _signal.SIGKILL) -> None:
        """Note the end of a worker; what it has not begun is sent to another one."""
        if self.peers.pop(peer.worker_id, None) is not None:
            peer.status = status
            peer.agent.end()
            # Not told at once: the scheduler may be telling what this follows from.
            self._driver.inbox.append(ev.WorkerExited(peer.worker_id))

    def close(self, forked: bool) -> None:
        if not forked:
            self.end_all()
        self.peers.clear()
        self._shared.clear()
        self._initializer = None

    def end_all(self) -> None:
        for peer in list(self.peers.values()):
            peer.agent.end()

    def wait_gone(self) -> None:
        """Do nothing: they have ended, or are about to."""

    def linger(self, seconds: float) -> None:
        """Do nothing, likewise."""


def _sendable(job: Job, start: int, stop: int) -> Any:
    """Return what names items of some chunks on another machine."""
    try:
        _pickle.dumps(job.label)
    except Exception:
        texts = [job.describe(chunk) for chunk in range(start, stop)]
        return Texts(texts, start * job.chunksize, job.chunksize)
    return job.label


class _News:
    """What a thread of the cluster's library has brought."""

    def __init__(
        self,
        crew: ClusterCrew,
        peer: RemotePeer,
        action: Callable[..., None],
        args: Sequence[Any],
    ) -> None:
        self._crew = crew
        self._peer = peer
        self._action = action
        self._args = args

    def flush(self) -> None:
        """Take it in, unless the worker has been given up; under the driver's lock."""
        if self._crew.peers.get(self._peer.worker_id) is self._peer:
            self._action(self._peer, *self._args)

    def abort(self, error: BaseException) -> tuple[()]:
        """Do nothing: the workers end."""
        return ()
