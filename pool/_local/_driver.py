"""The only place of the local engine that does I/O.

It turns what arrives (answers of workers, exits, user calls, deadlines) into events for
the scheduler and carries out the commands that come back.

Any thread may post an event: it appends to a deque and then tries the lock; whoever holds
the lock empties the deque. So nobody waits for the lock in order to submit, and a signal
handler or a finalizer that interrupts the holder cannot deadlock.
"""

from __future__ import annotations

import _signal
import _socket
import _thread
import os
import select
from collections import deque
from time import monotonic

from pool._local import _events as ev
from pool._local._interrupts import shield
from pool._local._peers import Peer, Sent, decode, decode_many
from pool._local._scheduler import Scheduler
from pool._transport._channel import socket_pair
from pool._transport._journal import JournalFile
from pool._transport._messages import CAUGHT, DONE, EXIT, EXITED, ONE, READY, REFUSED, RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pool._local._express import Loan
    from pool._local._jobs import Function, Job, Sink
    from pool._local._relay import Client
    from pool._local._streams import CallStream
    from pool._workers._launcher import Launcher

_DONTWAIT = _socket.MSG_DONTWAIT
_get_ident = _thread.get_ident

#: Functions kept in the workers beyond their job, for calls that repeat.
FUNCTIONS_KEPT = 256


class Driver:
    """Carry out what the scheduler decides.

    Parameters
    ----------
    scheduler : Scheduler
    launcher : callable
        ``launcher(journal fd) -> Launcher``.
    """

    def __init__(self, scheduler: Scheduler, launcher: Callable[[int], Launcher]) -> None:
        self.scheduler = scheduler
        self.jobs: dict[int, Job] = {}
        self.peers: dict[int, Peer] = {}
        self.clients: dict[int, Client] = {}
        #: Calls on borrowed workers, by worker_id; their messages count down from 2**62.
        self.loans: dict[int, Loan] = {}
        self.next_loan = 1 << 62
        #: Ends every job if set: why no worker can be had.
        self.failure: BaseException | None = None
        #: The books may be wrong: nothing will finish any more.
        self.crashed = False
        self.closed = False
        self.inbox: deque[ev.Event] = deque()
        #: Streams with calls that the scheduler does not know of.
        self.dirty: deque[CallStream] = deque()
        self._lock = _thread.allocate_lock()
        self._holder = 0
        self._buffer = bytearray(64 * 1024)
        self._calling: list[Sink] = []
        self._functions: dict[bytes, Function] = {}
        self._forgets: dict[int, list[int]] = {}
        self._unlaunched: list[int] = []
        self._early_mail: dict[int, list[ev.Send]] = {}
        self._last_exit: tuple[Peer, int] | None = None
        self._connect = launcher
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            ev.StartWorker: self._start_worker,
            ev.StopWorker: self._stop_worker,
            ev.KillWorker: self._kill_worker,
            ev.Send: self._send,
            ev.Reclaim: self._reclaim,
            ev.Interrupt: self._interrupt,
            ev.FailChunk: self._fail_chunk,
            ev.FinishJob: self._finish_job,
            ev.AbortJobs: self._abort_jobs,
        }
        self._journal = JournalFile(max(64, 4 * scheduler.processes))
        try:
            self._launcher = launcher(self._journal.fd)
        except BaseException:
            self._journal.close()
            raise
        self.epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.epoll.register(self._wake, select.EPOLLIN)
        self._control = self._launcher.channel.fileno()
        self.epoll.register(self._control, select.EPOLLIN)
        self._by_fd: dict[int, Peer] = {}
        #: When somebody last looked at the sockets.
        self.looked = 0.0

    # ------------------------------------------------------------------ events in

    def new_job_id(self) -> int:
        """Return a number that no job of this process had."""
        return next(_job_ids)

    @property
    def outstanding(self) -> bool:
        """Whether any job has not finished."""
        return bool(
            self.jobs
            or self.loans
            or self.inbox
            or self.dirty
            or self.scheduler.interrupting  # somebody has to see to it that they end
        )

    @property
    def held_here(self) -> bool:
        """Whether this very thread is inside the driver, further up its stack."""
        return self._holder == _get_ident()

    def post(self, event: ev.Event) -> None:
        """Hand in an event from any thread; never waits."""
        self.inbox.append(event)
        self.pump()

    def pump(self) -> None:
        """Handle what has been handed in, unless another thread is about to."""
        # Look again after each release: an event that came while the lock was held by
        # somebody who had just emptied the deque would wait for the next one.
        while (self.inbox or self.dirty) and not self.closed:
            shielded = shield.raised()
            try:
                if not self._lock.acquire(False):
                    return
                self._holder = _get_ident()
                try:
                    self._drain()
                except BaseException as error:
                    self._crash(error)
                    raise
                finally:
                    self._holder = 0
                    self._lock.release()
            finally:
                if shielded:
                    shield.lower()

    def locked(self, action: Callable[[], Any]) -> Any:
        """Run `action` while no event is being handled, and handle what it hands in."""
        shielded = shield.raised()
        try:
            with self._lock:
                self._holder = _get_ident()
                try:
                    result = action()
                    self._drain()
                except BaseException as error:
                    self._crash(error)
                    raise
                finally:
                    self._holder = 0
        finally:
            if shielded:
                shield.lower()
        return result

    def wake(self) -> None:
        """Make the thread that sleeps in `step` look around."""
        try:
            os.eventfd_write(self._wake, 1)
        except OSError:
            return  # closed meanwhile

    def step(self, patience: float | None) -> None:
        """Sleep until something happens, and deal with it.

        Parameters
        ----------
        patience : float, optional
            Seconds to sleep at most.
        """
        deadline = self.scheduler.next_deadline()
        if deadline is not None:
            left = max(0.0, deadline - monotonic())
            patience = left if patience is None else min(patience, left)
        ready = shield.opened(self.epoll.poll, patience, 64)
        self.locked(lambda: self._on_ready(ready, deadline))
        if self._calling:
            self.call_back()

    def call_back(self) -> None:
        """Run callbacks that are due, without any lock held."""
        while self._calling:
            try:
                sink = self._calling.pop(0)
            except IndexError:
                return  # another thread took the last one
            shield.opened(sink.call_back)

    def _on_ready(self, ready: list[tuple[int, int]], deadline: float | None) -> None:
        self.looked = monotonic()
        if deadline is not None and deadline <= self.looked:
            self.inbox.append(ev.DeadlinePassed())
        for fd, _ in ready:
            peer = self._by_fd.get(fd)
            if peer is not None:
                self._receive(peer)
            elif fd == self._control:
                self._on_control()
            elif fd in self.clients:
                self.clients[fd].on_ready()
            elif fd == self._wake:
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    continue  # another thread was quicker

    def _drain(self) -> None:
        inbox = self.inbox
        dirty = self.dirty
        while inbox or dirty:
            while dirty:
                dirty.popleft().flush()
            if not inbox:
                return
            self._handle(inbox.popleft())
            if self._unlaunched:
                self._launch()

    def _handle(self, event: ev.Event) -> None:
        for command in self.scheduler.handle(event, monotonic()):
            handler = self._handlers.get(command.__class__)
            if handler is not None:
                handler(command)

    def _crash(self, error: BaseException) -> None:
        """Give up in good order after an error that is ours, or came from a signal handler.

        The books may be half written, so nothing can be trusted to finish; but nobody
        must wait for it either.
        """
        self.crashed = True
        if self.failure is None:
            from pool._errors import PoolTerminated

            self.failure = PoolTerminated(
                f"the pool was interrupted by {type(error).__name__}: {error}; "
                "its outstanding work is lost, later calls start new workers"
            )
        self.inbox.clear()
        for job_id in list(self.jobs):
            self._abort(job_id)
        self._abort_loans()
        while self.dirty:
            self._calling.extend(self.dirty.popleft().abort(self.failure))
        self.wake()

    # ------------------------------------------------------------------ what arrives

    def _receive(self, peer: Peer) -> bool:
        """Take one message of a worker; the next poll tells of the next one."""
        try:
            head, blobs, fds = peer.channel.receive_fds(_DONTWAIT, 4)
        except (BlockingIOError, EOFError, ConnectionError):
            return False
        if fds:
            self._on_client(peer, fds)
        else:
            self._on_message(peer, head, blobs)
        return True

    def _on_message(self, peer: Peer, head: Any, blobs: list[Any]) -> None:
        kind = head[0]
        if kind == DONE:
            self._answered(peer, head, blobs)
        elif kind == READY:
            peer.pid = head[1]
            self._handle(ev.WorkerReady(peer.worker_id))
        elif kind == REFUSED:
            peer.pid = head[1]
            if self.failure is None:
                self.failure = _decoded_error(blobs)
            self._handle(ev.WorkerRefused(peer.worker_id))

    def _answered(self, peer: Peer, head: Any, blobs: list[Any]) -> None:
        _, message_id, chunks, final, elapsed, failed, layout = head
        if self.loans and message_id >= self.next_loan:
            self._loan_answered(peer, message_id, failed, blobs)
            return
        sent = peer.sent.get(message_id)
        if sent is not None:
            sent.answered += chunks
            if sent.defines:
                peer.known.update(sent.defines)
                sent.defines = []
            if final:
                del peer.sent[message_id]
        values: list[Any] = []
        if layout == ONE and chunks:
            try:
                values.append(decode(blobs))
            except BaseException as error:
                failed = 1
                values.append(_undecodable(error))
        elif chunks:
            try:
                values = decode_many(blobs[0], chunks, layout)
            except BaseException:
                self._answered_one_by_one(peer, message_id, chunks, final, elapsed, blobs[0])
                return
        event = ev.MessageAnswered(
            peer.worker_id, message_id, chunks, final, elapsed, (0,) if failed else ()
        )
        self._deliver(event, values, failed)

    def _loan_answered(self, peer: Peer, message_id: int, failed: int, blobs: list[Any]) -> None:
        del peer.sent[message_id]
        loan = self.loans.pop(peer.worker_id)
        try:
            value = decode(blobs)
        except BaseException as error:
            failed, value = 1, _undecodable(error)
        if failed:
            self._annotate(str(loan.label), value)
        loan.end(failed, value)
        event = ev.WorkerReturned(peer.worker_id, message_id, bool(failed))
        for command in self.scheduler.handle(event, monotonic()):
            self._handlers[command.__class__](command)

    def _end_loan(self, worker_id: int, running: int | None) -> None:
        """Settle a loan whose worker has ended."""
        loan = self.loans.pop(worker_id, None)
        if loan is None:
            return
        if running == loan.message_id:
            loan.end(1, self._death(f"while running {loan.label}"))
        else:
            loan.end(-1, None)

    def _answered_one_by_one(
        self, peer: Peer, message_id: int, chunks: int, final: bool, elapsed: float, stream: Any
    ) -> None:
        """Deliver a stream in which some outcome cannot be unpickled here.

        Only that one fails: pickles end where their STOP opcode says, whether or not
        what they describe can be built.
        """
        from pool._local._undecodable import split_stream

        each = elapsed / chunks
        for number, data in enumerate(split_stream(stream, chunks), 1):
            failed = 0
            try:
                value = decode([data])
            except BaseException as error:
                failed, value = 1, _undecodable(error)
            event = ev.MessageAnswered(
                peer.worker_id, message_id, 1, final and number == chunks, each,
                (0,) if failed else (),
            )  # fmt: skip
            self._deliver(event, [value], failed)

    def _deliver(self, event: ev.MessageAnswered, values: list[Any], failed: int) -> None:
        jobs = self.jobs
        for command in self.scheduler.handle(event, monotonic()):
            if command.__class__ is ev.Deliver:
                job_id, start, stop, offset = command
                job = jobs.get(job_id)
                if job is None:
                    continue  # cancelled a moment ago by another thread
                outcomes = values if stop - start == len(values) else (
                    values[offset : offset + stop - start]
                )  # fmt: skip
                failure = bool(failed)
                if failure:
                    self._annotate(job.describe(start, failed - 1), outcomes[0])
                    failure = not job.mode & CAUGHT
                if job.sink.deliver(start, outcomes, failure):
                    self._calling.append(job.sink)
                job.source.done(start, stop)
            else:
                self._handlers[command.__class__](command)

    def _annotate(self, where: str, error: Any) -> None:
        try:
            error.add_note(f"raised by {where}")
        except Exception:
            return  # an exception class that refuses attributes

    def _on_client(self, peer: Peer, fds: list[int]) -> None:
        """Let the tasks of this worker use the pool that they run in."""
        from pool._local._relay import Client
        from pool._transport._channel import Channel, socket_from

        client = Client(self, peer.worker_id, Channel(socket_from(fds[0]), self._buffer))
        self.clients[client.channel.fileno()] = client
        self.epoll.register(client.channel.fileno(), select.EPOLLIN)

    def drop_client(self, client: Client) -> None:
        """Forget a client whose worker has ended, and the jobs it had submitted."""
        fd = client.channel.fileno()
        if self.clients.pop(fd, None) is not None:
            self.epoll.unregister(fd)
            client.channel.close()

    def cancel(self, job_id: int) -> None:
        """Cancel a job that nobody waits for any more; called under the lock."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            job.source.stop()
            self.inbox.append(ev.CancelRequested(job_id))

    def _on_control(self) -> None:
        try:
            while True:
                head, _ = self._launcher.channel.receive(_DONTWAIT)
                if head[0] == EXITED:
                    for worker_id, status in head[1]:
                        self._on_exit(worker_id, status)
        except BlockingIOError:
            return
        except (EOFError, ConnectionError):
            self._forkserver_gone()

    def _on_exit(self, worker_id: int, status: int) -> None:
        peer = self.peers.pop(worker_id, None)
        if peer is None:
            return
        fd = peer.channel.fileno()
        self.epoll.unregister(fd)
        del self._by_fd[fd]
        while self._receive(peer):
            pass
        reclaimed = tuple(peer.reclaim())
        if reclaimed:
            self._handle(ev.MessagesReclaimed(worker_id, reclaimed))
        running, pickles = peer.salvage()
        for data in pickles:
            self._answered(peer, (DONE, running, 1, False, 0.0, 0, ONE), [data])
        self._last_exit = (peer, status)
        self._end_loan(worker_id, running)
        self._handle(ev.WorkerExited(worker_id, running))
        self._forgets.pop(worker_id, None)
        self._journal.release(peer.slot_id)
        peer.close()
        self._launch()

    def _forkserver_gone(self) -> None:
        """Our forkserver was killed, and with it (by the kernel) all workers."""
        self.epoll.unregister(self._control)
        if self.closed or self.scheduler.closing and not self.jobs:
            self._control = -1
            for worker_id in list(self.peers):
                self._on_exit(worker_id, _signal.SIGKILL)
            return
        self._launcher.close()
        self._launcher = self._connect(self._journal.fd)
        self._control = self._launcher.channel.fileno()
        self.epoll.register(self._control, select.EPOLLIN)
        for worker_id in list(self.peers):
            self._on_exit(worker_id, _signal.SIGKILL)

    # ------------------------------------------------------------------ commands out

    def _start_worker(self, command: ev.StartWorker) -> None:
        self._unlaunched.append(command.worker_id)

    def _launch(self) -> None:
        """Ask for the workers that are wanted, as far as journal pages are free."""
        batch = []
        while self._unlaunched and not self.closed:
            slot_id = self._journal.acquire()
            if slot_id is None:
                break  # more blocked tasks than pages: go on when a worker ends
            worker_id = self._unlaunched.pop(0)
            try:
                ours, theirs = socket_pair()
            except OSError as error:
                self._journal.release(slot_id)
                self._cannot_start(error)
                return
            peer = Peer(worker_id, ours, theirs, slot_id, self._journal.slot(slot_id), self._buffer)
            self.peers[worker_id] = self._by_fd[ours.fileno()] = peer
            self.epoll.register(ours.fileno(), select.EPOLLIN)
            batch.append((worker_id, slot_id, theirs.fileno()))
        if batch:
            self._launcher.launch(batch)
        if self._early_mail:
            for worker_id, *_ in batch:
                for mail in self._early_mail.pop(worker_id, ()):
                    self._send(mail)

    def _cannot_start(self, error: OSError) -> None:
        from pool._errors import StartError

        self.failure = StartError(
            f"cannot start worker number {len(self.peers) + 1} of {self.scheduler.processes}: "
            f"{error}. Each worker takes two descriptors here; raise `ulimit -n` or lower "
            "`processes`"
        )
        self.crashed = True
        self.inbox.append(ev.PoolTerminated())

    def _stop_worker(self, command: ev.StopWorker) -> None:
        peer = self.peers.get(command.worker_id)
        if peer is not None:
            self._post_mail(peer, (EXIT,), ())
        else:
            self._forget_unlaunched(command.worker_id)

    def _kill_worker(self, command: ev.KillWorker) -> None:
        if not self._forget_unlaunched(command.worker_id):
            self._signal(command.worker_id, _signal.SIGKILL)

    def _forget_unlaunched(self, worker_id: int) -> bool:
        """End a worker that was not even asked for; False if it was."""
        if worker_id not in self._unlaunched:
            return False
        self._unlaunched.remove(worker_id)
        self._early_mail.pop(worker_id, None)
        self.inbox.append(ev.WorkerExited(worker_id))
        return True

    def _signal(self, worker_id: int, number: int) -> None:
        try:
            self._launcher.signal(worker_id, number)
        except OSError:
            return  # the forkserver is gone, which we are about to learn

    def _send(self, command: ev.Send) -> None:
        worker_id, message_id, runs = command
        if self._unlaunched:
            self._launch()
        peer = self.peers.get(worker_id)
        if peer is None:
            # It waits for a page of the journal, and its mail with it.
            self._early_mail.setdefault(worker_id, []).append(command)
            return
        blobs: list[Any] = []
        defines: dict[int, tuple[int, bool, int]] = {}
        if any(run[0] not in self.jobs for run in runs):
            # One of them was cancelled a moment ago by another thread; its event follows.
            self._send_without(command)
            return
        jobs = [self.jobs[run[0]] for run in runs]
        for job in jobs:
            function = job.function
            if function is None:
                continue
            function_id = function.function_id
            if function_id not in peer.known and function_id not in defines:
                defines[function_id] = (
                    function_id, function.stateless, len(function.blobs) - 1
                )  # fmt: skip
                blobs.extend(function.blobs)
        entries = [
            job.encode(start, stop, blobs) for job, (_, start, stop) in zip(jobs, runs, strict=True)
        ]
        forgets = self._forgets.pop(worker_id, ()) if self._forgets else ()
        peer.sent[message_id] = Sent(runs, list(defines))
        try:
            self._post_mail(
                peer, (RUN, message_id, list(defines.values()), forgets, entries), blobs
            )
        except OSError as error:
            self._cannot_send(peer, message_id, jobs, error)

    def _send_without(self, command: ev.Send) -> None:
        """Let the scheduler send again what is not of jobs that are gone."""
        worker_id, message_id, runs = command
        for job_id in {run[0] for run in runs}:
            if job_id not in self.jobs:
                self.inbox.append(ev.CancelRequested(job_id))
        self.inbox.append(ev.MessagesReclaimed(worker_id, (message_id,)))

    def _cannot_send(self, peer: Peer, message_id: int, jobs: list[Job], error: OSError) -> None:
        """No memory or descriptor for a large message: its jobs fail, the pool goes on."""
        sent = peer.sent.pop(message_id)
        error.add_note(f"while sending {jobs[0].describe(sent.runs[0][1])} to a worker")
        for job in jobs:
            if self.jobs.pop(job.job_id, None) is not None:
                self.inbox.append(ev.CancelRequested(job.job_id))
                if job.sink.abort(error):
                    self._calling.append(job.sink)
        self.inbox.append(ev.MessagesReclaimed(peer.worker_id, (message_id,)))

    def _post_mail(self, peer: Peer, head: Any, blobs: Any) -> None:
        try:
            peer.channel.send(head, blobs)
        except ConnectionError:
            return  # it has died: its exit is on the way, and with it all it had

    def _reclaim(self, command: ev.Reclaim) -> None:
        peer = self.peers.get(command.worker_id)
        message_ids = () if peer is None else tuple(peer.reclaim())
        self.inbox.append(ev.MessagesReclaimed(command.worker_id, message_ids))

    def _interrupt(self, command: ev.Interrupt) -> None:
        worker_id, message_id, job_id, index, kill = command
        peer = self.peers.get(worker_id)
        if peer is None:
            return
        target = peer.target(message_id, job_id, index)
        if target is None:
            return  # it is over: nobody else's task must be hit
        if not kill:
            peer.aim(message_id, target)
            self._signal(worker_id, _signal.SIGINT)
        elif peer.runs(message_id, job_id, index):
            self._signal(worker_id, _signal.SIGKILL)

    def _fail_chunk(self, command: ev.FailChunk) -> None:
        job = self.jobs.get(command.job_id)
        if job is None:
            return  # cancelled a moment ago by another thread
        if command.timed_out:
            from pool._errors import TaskTimeout

            error: BaseException = TaskTimeout(
                f"{job.describe(command.index)} did not end within {job.timeout} s; "
                f"its worker was replaced"
            )
        else:
            error = self._death(f"while running {job.describe(command.index)}")
        if job.sink.deliver(command.index, [error], not job.mode & CAUGHT):
            self._calling.append(job.sink)
        job.source.done(command.index, command.index + 1)

    def _death(self, doing: str) -> BaseException:
        """Return the error that says how the last worker ended."""
        from pool._errors import WorkerDied

        assert self._last_exit is not None
        peer, status = self._last_exit
        return WorkerDied(peer.worker_id, peer.pid or 0, os.waitstatus_to_exitcode(status), doing)

    def _finish_job(self, command: ev.FinishJob) -> None:
        job = self.jobs.pop(command.job_id, None)
        if job is None:
            return
        self._forget_function(job)
        if job.sink.finish():
            self._calling.append(job.sink)

    def _abort_jobs(self, command: ev.AbortJobs) -> None:
        for job_id in command.job_ids:
            self._abort(job_id)
        if self.scheduler.broken:
            self._abort_loans()

    def _abort_loans(self) -> None:
        for loan in self.loans.values():
            loan.end(1, self._reason())
        self.loans.clear()

    def _reason(self) -> BaseException:
        """Return why nothing will finish any more."""
        if self.failure is None and self.scheduler.gave_up:
            self.failure = self._death("while starting (or in its initializer)")
        if self.failure is not None:
            return self.failure
        from pool._errors import PoolTerminated

        return PoolTerminated("the pool was terminated before this job had finished")

    def _abort(self, job_id: int) -> None:
        job = self.jobs.pop(job_id, None)
        if job is None:
            return
        job.source.stop()
        error = self._reason()
        if job.sink.abort(error):
            self._calling.append(job.sink)

    # ------------------------------------------------------------------ functions

    def function(self, payload: Any) -> Function:
        """Return the number under which workers keep a pickled function.

        Parameters
        ----------
        payload : FunctionPayload
        """
        from pool._local._jobs import Function

        data, buffers = payload.encoded.data, payload.encoded.buffers
        shared = not buffers and len(data) < 65536
        if shared:
            known = self._functions.get(data)
            if known is not None:
                return known
        function = Function(next(_function_ids), [data, *buffers], payload.stateless, shared)
        if shared:
            self._functions[data] = function
            if len(self._functions) > FUNCTIONS_KEPT and not self.jobs:
                for old in list(self._functions)[: FUNCTIONS_KEPT // 2]:
                    self._drop_function(self._functions.pop(old).function_id)
        return function

    def _forget_function(self, job: Job) -> None:
        if job.function is not None and not job.function.shared:
            self._drop_function(job.function.function_id)

    def _drop_function(self, function_id: int) -> None:
        for peer in self.peers.values():
            if function_id in peer.known:
                peer.known.discard(function_id)
                self._forgets.setdefault(peer.worker_id, []).append(function_id)

    # ------------------------------------------------------------------ the end

    def quit(self) -> None:
        """End the workers as the interpreter goes down, and let nothing else happen.

        A daemon thread may be waiting for a result. It shall neither get an error, which
        it would print, nor start workers anew: so the lock is taken and kept.
        """
        self._lock.acquire(timeout=1.0)
        self.closed = True
        self._launcher.close()

    def wait_gone(self) -> None:
        """Wait until no process of this pool is left, after `release`."""
        self._launcher.wait()

    def release(self, forked: bool = False) -> None:
        """Let go of all descriptors; the forkserver then ends all workers.

        Parameters
        ----------
        forked : bool
            This is a forked child: the kernel's objects behind the descriptors are
            shared with the parent and must be left as they are.
        """
        if self.closed:
            return
        self.closed = True
        if forked:
            self._launcher.forked()
        else:
            self._launcher.close()
        for peer in self.peers.values():
            peer.close()
        for client in self.clients.values():
            client.channel.close()
        self.clients.clear()
        self.peers.clear()
        self._by_fd.clear()
        self.epoll.close()
        os.close(self._wake)
        self._journal.close()


def _decoded_error(blobs: list[Any]) -> BaseException:
    try:
        error = decode(blobs)
    except BaseException as failure:
        return _undecodable(failure)
    return error  # type: ignore[no-any-return]


def _undecodable(error: BaseException) -> BaseException:
    try:
        error.add_note("raised here while unpickling what the worker sent")
    except Exception:
        return error
    return error


def _count() -> Iterator[int]:
    from itertools import count

    return count(1)


_function_ids = _count()
_job_ids = _count()
