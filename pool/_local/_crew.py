"""The workers of an engine as processes: asking for them, signals to them, their ends.

Each worker takes a page of the journal. More workers may be wanted than there is room for pages,
because those whose tasks are blocked do not count. The others wait here, with the messages that are
to be sent to them, until a page is free.
"""

from __future__ import annotations

import _signal
import errno
import os
import select
import sys
from _socket import MSG_DONTWAIT

from pool._clock import monotonic
from pool._local import _events as ev
from pool._local._given_up import given_up
from pool._local._peers import Peer
from pool._transport._channel import BUFFER_NBYTES
from pool._transport._descriptors import unpatched
from pool._transport._journal import EXIT_AT_ONCE, JournalFile
from pool._transport._messages import DONE, EXIT, EXITED, INITIALIZE, PIDS
from pool._transport._sockets import socket_pair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._local._driver import Driver
    from pool._workers._launcher import Launcher

#: Seconds until workers that were put off are started again.
PUT_OFF = 1.0


class Crew:
    """Start, signal and bury workers. Everything here runs under the driver's lock.

    Parameters
    ----------
    driver : Driver
    connect : callable
        ``connect(journal fd)`` returns the launcher that asks a forkserver for workers.
    initial : sequence of bytes-like or Block
        The payload of the initializer, if the forkserver does not have it: sent to each worker
        first, and kept for those to come.
    traced : bool
        Give workers room to note what they run, for a timeline.

    Attributes
    ----------
    peers, by_fd : dict
        The workers that were asked for, by worker_id and by the descriptor of the parent's socket.
    unlaunched : list of int
        The worker_ids of workers that are wanted and were not asked for yet.
    controls : dict
        The launchers, by the descriptor on which their forkserver tells of workers that ended. The
        last one starts the next workers.
    buffer : bytearray
        To receive into, for everything that is read under the driver's lock.
    """

    def __init__(
        self,
        driver: Driver,
        connect: Callable[[int], Launcher],
        initial: Sequence[Any],
        traced: bool,
    ) -> None:
        self._driver = driver
        self._connect = connect
        self._initial = initial
        self.peers: dict[int, Peer] = {}
        self.by_fd: dict[int, Peer] = {}
        self.unlaunched: list[int] = []
        self.buffer = bytearray(BUFFER_NBYTES)
        #: Whether workers were asked for before.
        self._begun = False
        #: Whether workers that were put off will be started again after a while.
        self._due = False
        #: Whether some worker was up when the pool ended.
        self._was_up = False
        #: By worker_id, the messages for workers that wait for a page of the journal.
        self._early_mail: dict[int, list[ev.Send]] = {}
        self._journal = JournalFile(max(64, 4 * driver.scheduler.processes), traced)
        try:
            launcher = connect(self._journal.fd)
        except BaseException:
            self._journal.close()
            raise
        self.controls: dict[int, Launcher] = {launcher.channel.fileno(): launcher}

    # ------------------------------------------------------------------ beginnings

    def start(self, command: ev.StartWorker) -> None:
        """Note that a worker is wanted; `launch` asks for it."""
        self.unlaunched.append(command.worker_id)

    def launch(self) -> None:
        """Ask for the workers that are wanted, as far as journal pages are free."""
        driver = self._driver
        if self._begun and self.unlaunched:
            self._take_successor()
        self._begun = True
        launcher = next(reversed(self.controls.values()), None)
        if launcher is None:
            return  # the pool has ended with its forkserver
        batch: list[tuple[int, int, int]] = []
        while self.unlaunched and not driver.closed:
            slot_id = self._journal.acquire()
            if slot_id is None:
                break  # no room for more pages: `_on_exit` goes on when a worker has ended
            worker_id = self.unlaunched.pop(0)
            try:
                peer, theirs = self._peer(worker_id, slot_id)
            except OSError as error:
                self._journal.release(slot_id)
                if self._puts_off(worker_id):
                    driver.handle(ev.StartPutOff(worker_id))
                    continue
                self._cannot_start(error, len(batch))
                return
            peer.launcher = launcher
            fd = peer.channel.fileno()
            self.peers[worker_id] = self.by_fd[fd] = peer
            driver.epoll.register(fd, select.EPOLLIN)
            batch.append((worker_id, slot_id, theirs))
        if batch:
            try:
                launcher.launch(batch)
            except ConnectionError:
                pass  # the forkserver has ended; `on_control` will learn of it
            except OSError as error:
                # No memory, or too many descriptors in flight: these workers never start, nor end.
                self._cannot_start(error, len(batch))
                return
        if self._early_mail:
            for worker_id, *_ in batch:
                for mail in self._early_mail.pop(worker_id, ()):
                    driver.sending.send(mail)

    def _peer(self, worker_id: int, slot_id: int) -> tuple[Peer, int]:
        """Return the parent's side of a new worker, and the descriptor of the worker's end."""
        ours, theirs = socket_pair()
        peer = Peer(worker_id, ours, theirs, slot_id, self._journal.slot(slot_id), self.buffer)
        try:
            self._initialize(peer)
        except OSError:
            peer.close()
            raise
        return peer, theirs.fileno()

    def _initialize(self, peer: Peer) -> None:
        """Send a worker the payload of the initializer, if it gets that from the parent."""
        if self._initial:
            peer.initialized = True
            peer.post((INITIALIZE,), self._initial)

    def _cannot_start(self, error: OSError, unasked: int) -> None:
        """End the pool; `unasked` of its peers have not been asked for."""
        driver = self._driver
        there = len(self.peers) - unasked
        driver.failure = given_up(
            "StartError",
            f"cannot start one more worker ({there} of {driver.scheduler.processes} are "
            f"there): {error}{_why(error, len(self.peers))}",
        )
        driver.crashed = True
        driver.inbox.append(ev.PoolTerminated())

    def _puts_off(self, worker_id: int) -> bool:
        """Return whether a worker that cannot be started now is to be put off.

        Then the workers that are missing are started again after a while, if none has ended before.
        """
        driver = self._driver
        if not driver.scheduler.staff.can_put_off(worker_id):
            return False
        if not self._due:
            self._due = True
            driver.after(PUT_OFF, self._start_again)
        self._early_mail.pop(worker_id, None)
        return True

    def _start_again(self) -> None:
        self._due = False
        self._driver.inbox.append(ev.WorkersWanted())

    def keep_mail(self, command: ev.Send) -> None:
        """Keep a message for a worker that waits for a page of the journal, until it has one."""
        self._early_mail.setdefault(command.worker_id, []).append(command)

    # ------------------------------------------------------------------ signals

    def stop(self, command: ev.StopWorker) -> None:
        """Tell a worker to end in good order."""
        peer = self.peers.get(command.worker_id)
        if peer is not None:
            peer.post((EXIT,))
        else:
            self._forget_unlaunched(command.worker_id)

    def kill(self, command: ev.KillWorker) -> None:
        """End a worker at once."""
        if not self._forget_unlaunched(command.worker_id):
            self.signal(command.worker_id, _signal.SIGKILL)

    def _forget_unlaunched(self, worker_id: int) -> bool:
        """Note the end of a worker that was not even asked for; return False if it was."""
        if worker_id not in self.unlaunched:
            return False
        self.unlaunched.remove(worker_id)
        self._early_mail.pop(worker_id, None)
        self._driver.inbox.append(ev.WorkerExited(worker_id))
        return True

    def reclaim(self, command: ev.Reclaim) -> None:
        """Take back the messages that a worker has not read."""
        peer = self.peers.get(command.worker_id)
        message_ids = () if peer is None else tuple(peer.reclaim())
        if peer is not None and not peer.initialized:
            # The initializer was taken back as well. The worker waits for it, so it is sent again,
            # and may well arrive behind other messages.
            try:
                self._initialize(peer)
            except OSError:
                self.signal(command.worker_id, _signal.SIGKILL)
        self._driver.inbox.append(ev.MessagesReclaimed(command.worker_id, message_ids))

    def halt(self, command: ev.Halt) -> None:
        """Have a worker begin no chunk of a message behind the one that it runs."""
        peer = self.peers.get(command.worker_id)
        if peer is not None:
            peer.halt(command.message_id)

    def take_rest(self, command: ev.TakeRest) -> None:
        """Take the chunks that a halted worker has not begun, and the outcomes it has not sent."""
        worker_id, message_id = command
        peer = self.peers.get(worker_id)
        begun = None if peer is None else peer.begun_at_halt(message_id)
        if peer is None or begun is None:
            return
        driver = self._driver
        sent = peer.sent[message_id]
        harvest = peer.harvest(message_id)
        if harvest is not None:
            count, layout, outcomes = harvest
            head = (DONE, message_id, count, False, 0.0, 0, layout)
            driver.outcomes.answered(peer, head, [outcomes])
            sent.harvested = count
        rest = ev.RestReturned(worker_id, message_id, begun - sent.answered)
        driver.inbox.append(rest)

    def interrupt(self, command: ev.Interrupt) -> None:
        """Ask a chunk to stop, or end its worker, if that is the chunk that the worker runs now."""
        worker_id, message_id, job_id, index, how = command
        peer = self.peers.get(worker_id)
        if peer is None:
            return
        target = peer.target(message_id, job_id, index)
        if target is None:
            return  # the chunk is over, or has not begun: the signal would hit another one
        if how == ev.ASK and peer.was_struck(message_id):
            self._driver.inbox.append(ev.RecallHeard(worker_id, message_id, job_id, index))
        elif how != ev.KILL:
            peer.aim(message_id, target if how == ev.ASK else target | EXIT_AT_ONCE)
            self.signal(worker_id, _signal.SIGINT)
        elif not peer.was_aimed_at(message_id, target):
            missed = ev.InterruptMissed(worker_id, message_id, job_id, index)
            self._driver.inbox.append(missed)
        elif peer.runs(message_id, job_id, index):
            self.signal(worker_id, _signal.SIGKILL)

    def signal(self, worker_id: int, number: int) -> None:
        """Send a signal to a worker, unless it has ended."""
        peer = self.peers.get(worker_id)
        if peer is None:
            return  # it has ended
        try:
            peer.launcher.signal(worker_id, number)
        except OSError:
            return  # the forkserver has ended; `on_control` will learn of it

    def ask_pids(self) -> None:
        """Ask the forkservers for the pids of workers that have not told theirs."""
        for launcher in self.controls.values():
            try:
                launcher.ask_pids()
            except OSError:
                continue  # as in `signal`

    # ------------------------------------------------------------------ ends

    def on_control(self, control: int) -> None:
        """Take a forkserver's notices of workers that have ended."""
        launcher = self.controls[control]
        try:
            while True:
                head, _ = launcher.channel.receive(MSG_DONTWAIT)
                if head[0] == EXITED:
                    for worker_id, status, pid in head[1]:
                        self._note_pid(worker_id, pid)
                        self._on_exit(worker_id, status)
                elif head[0] == PIDS:
                    for worker_id, pid in head[1]:
                        self._note_pid(worker_id, pid)
        except BlockingIOError:
            return
        except (EOFError, ConnectionError):
            self._forkserver_gone(control, launcher)

    def _note_pid(self, worker_id: int, pid: int) -> None:
        peer = self.peers.get(worker_id)
        if peer is not None and pid:
            peer.pid = pid

    def _on_exit(self, worker_id: int, status: int, alone: bool = True) -> None:
        driver = self._driver
        peer = self.peers.pop(worker_id, None)
        if peer is None:
            return
        fd = peer.channel.fileno()
        driver.epoll.unregister(fd)
        self.by_fd.pop(fd, None)  # a signal handler may have closed everything just now
        # Below 0 is an error number: there was no room to fork it.
        put_off = status < 0 and self._puts_off(worker_id)
        driver.arrivals.worker_exited(peer, status, alone, put_off)
        # Until this told the scheduler, it may have sent the worker more; that is sent again.
        self._early_mail.pop(worker_id, None)
        self._journal.release(peer.slot_id)
        peer.close()
        self.launch()

    def _take_successor(self) -> None:
        """Start the next workers in a forkserver that has loaded what tasks need, if there is one.

        For workers that follow others: after `maxtasksperchild` tasks, or a death.
        """
        launcher = next(reversed(self.controls.values()), None)
        try:
            successor = None if launcher is None else launcher.successor()
        except OSError:
            return  # no descriptors are left: the present forkserver will do
        if successor is not None:
            self._add(successor)

    def _add(self, launcher: Launcher) -> None:
        control = launcher.channel.fileno()
        self.controls[control] = launcher
        self._driver.epoll.register(control, select.EPOLLIN)

    def _forkserver_gone(self, control: int, launcher: Launcher) -> None:
        """Get a new forkserver: this one was killed, and its workers with it, by the kernel."""
        driver = self._driver
        driver.epoll.unregister(control)
        del self.controls[control]
        launcher.close()
        shortage: OSError | None = None
        if not self.controls and not (
            driver.closed or (driver.scheduler.closing and not driver.jobs)
        ):
            try:
                self._add(launcher.again() or self._connect(self._journal.fd))
            except OSError as error:
                shortage = error
        alone = True
        for worker_id, peer in list(self.peers.items()):
            if peer.launcher is launcher:
                self._on_exit(worker_id, _signal.SIGKILL, alone)
                alone = False
        if shortage is not None:
            self._cannot_start(shortage, 0)

    def close(self, forked: bool) -> None:
        """Close all descriptors; the forkserver then ends all workers.

        Parameters
        ----------
        forked : bool
            Whether this is a forked child, see `Driver.release_forked`.
        """
        if forked:
            for launcher in self.controls.values():
                launcher.forked()
        else:
            self.end_all()
        for peer in self.peers.values():
            peer.close()
        self.peers.clear()
        self.by_fd.clear()
        # What the initializer was given goes with the pool, not only with the next collection.
        self._initial = ()
        del self._connect
        for launcher in self.controls.values():
            launcher.forget()
        self._journal.close()

    def end_all(self) -> None:
        """Have the forkserver end all workers, and keep the descriptors of this process."""
        self._was_up = self._was_up or any(
            peer.pid is not None or peer.doing() for peer in self.peers.values()
        )
        self._end_busy()
        for launcher in self.controls.values():
            launcher.close()

    def _end_busy(self) -> None:
        """Have workers that run tasks end now; idle ones end in good order.

        What they have put into queues, such as the records of a `QueueHandler`, is written by a
        thread, and would often be lost.
        """
        for peer in self.peers.values():
            if peer.sent:
                self.signal(peer.worker_id, _signal.SIGTERM)

    def wait_gone(self) -> None:
        """Wait until no process of this pool is left, after `close`."""
        for launcher in self.controls.values():
            launcher.wait()

    def linger(self, seconds: float) -> None:
        """Wait until no worker is left, after `close`, but no longer than that.

        Unless none was up: then the forkserver may be busy with what comes before the first one.
        """
        if not self._was_up:
            return
        until = monotonic() + seconds
        for launcher in list(self.controls.values()):
            poll = unpatched("poll")()
            try:
                poll.register(launcher.channel.fileno(), 0)
            except ValueError:
                continue  # another thread has waited until the end
            poll.poll(max(0, until - monotonic()) * 1000)


def _why(error: OSError, peers: int) -> str:
    """Return a text on what uses up the descriptors, if none is left; opens none itself."""
    if error.errno != errno.EMFILE:
        return ""
    mapped = sys.modules.get("store._readers")
    segments = 0 if mapped is None else len(mapped.readers)
    limit = os.sysconf("SC_OPEN_MAX")
    return (
        f". All {limit} descriptors that this process may have (`ulimit -n`) are in use: "
        f"{2 * peers} by its other workers, {segments} by memory that it shares with others, the "
        "rest by files, connections and the like. Raise the limit, close what is not needed, or "
        "lower `processes`"
    )
