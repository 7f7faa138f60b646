"""The borrowers of a runtime, and in which order their messages are read.

Each borrower has a socket of its own beside that of its outcomes, so what it sent in one order
may be read in another. References that a call held are let go of only when all messages have been
read in which borrowers may have said that they hold them as well.
"""

from __future__ import annotations

import _socket
import os

from pool._objects._protocol import OVER
from pool._runtime._actors import Actor
from pool._runtime._borrowers import Borrower
from pool._transport._channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool._objects._refs import Ref
    from pool._runtime._runtime import Runtime


class GuestChannel(Channel):
    """The connection of a Pool's worker, which may outlive the runtime."""

    __slots__ = ("_made_in",)

    def __init__(self, sock: _socket.socket, buffer: bytearray, beside: Channel) -> None:
        super().__init__(sock, buffer, linked=True, beside=beside)
        self._made_in = os.getpid()

    def close(self) -> None:
        """Tell the worker that the runtime has ended; close when all that came over it is gone."""
        if self._made_in == os.getpid():
            try:
                self.send((OVER,), flags=_socket.MSG_DONTWAIT)
                # This end reads no more: a worker that goes on sending must get an error, not wait.
                self.socket.shutdown(_socket.SHUT_RD)
            except OSError:
                pass  # the worker has ended, or has not read for long: it finds the end closed
            else:
                if self.link is not None:
                    self.leave()
                    return
        super().close()


class Lending:
    """The borrowers of a runtime. Everything here runs under the driver's lock."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.borrowers: list[Borrower] = []
        #: References that calls held which are over.
        self._lingering: list[Ref] = []
        #: References in results that have arrived, with the actor that sent them; None: unknown.
        self._taken: list[tuple[Ref, Actor | None]] = []
        #: By worker_id, references in results of a dead worker that have not been read yet.
        self._left: dict[int, list[Ref]] = {}
        #: Whether `flush` has anything to do; looked at after each call of an actor.
        self.due = False

    # ------------------------------------------------------------------ borrowers come and go

    def admit(self, worker: Actor | int, channel: Channel) -> None:
        """Take the connection of an actor, or of a worker of tasks."""
        if isinstance(worker, Actor):
            self.borrowers.append(Borrower(self._runtime, channel, 0, worker))
        else:
            self.borrowers.append(Borrower(self._runtime, channel, worker))

    def admit_guest(self, channel: Channel) -> None:
        """Take the connection of a Pool's worker."""
        if self._runtime.driver.closed:
            channel.close()  # which tells it
            return
        self.borrowers.append(Borrower(self._runtime, channel, 0))

    def gone(self, borrower: Borrower, worker_id: int, handed: Sequence[Ref]) -> None:
        """Forget a borrower whose worker has ended; outcomes that it had sent before still count.

        Parameters
        ----------
        borrower : Borrower
        worker_id : int
        handed : sequence of Ref
            References in results of its own that have not been read yet.
        """
        driver = self._runtime.driver
        if borrower.actor is not None:
            borrower.actor.read_all()
        else:
            peer = driver.peers.get(worker_id)
            while peer is not None and driver.arrivals.receive(peer):
                pass
            if peer is not None and handed:
                # Some results may be in its journal, which is read when its exit is known.
                self._left.setdefault(worker_id, []).extend(handed)
        if borrower in self.borrowers:
            self.borrowers.remove(borrower)

    def bury(self, worker_id: int) -> None:
        """Let go of the references of a dead worker of tasks: all its results have been read."""
        left = self._left.pop(worker_id, ())
        if left:
            # Later, since those results are just being handled.
            self.linger(left)

    def read_from(self, actor: Actor) -> None:
        """Read what an actor has asked for so far."""
        for borrower in list(self.borrowers):
            if borrower.actor is actor:
                borrower.link.drain()

    # ------------------------------------------------------------------ in which order

    def read(self) -> None:
        """Read what borrowers have sent so far."""
        for borrower in list(self.borrowers):
            borrower.link.drain()

    def linger(self, refs: Sequence[Ref]) -> None:
        """Let go of references that a call held, once all that was sent before its end is read."""
        if refs:
            self._lingering.extend(refs)
            self.due = True
            self._runtime.driver.dirty.append(self._runtime)

    def taken_over(self, refs: Sequence[Ref], sender: Actor | None = None) -> None:
        """Note that a result with these references has arrived."""
        if refs:
            # The message that hands them over was sent before, and may be read later.
            self._taken.extend([(ref, sender) for ref in refs])
            self.due = True
            self._runtime.driver.dirty.append(self._runtime)

    def flush(self) -> None:
        """Read what borrowers have sent, and let go of what is due."""
        self.due = False
        # What was sent before the end of a call is in a socket by now. A borrower may have said
        # there that it holds what the call held.
        lingering, self._lingering = self._lingering, []
        taken, self._taken = self._taken, []
        self.read()
        for ref, sender in taken:
            # Of the sender only: another borrower's result with this reference may be on its way.
            for borrower in self.borrowers:
                if sender in (None, borrower.actor) and borrower.arrived(ref):
                    break
        del lingering

    def abort(self) -> None:
        """Let go of everything at once: no more messages are read."""
        self._lingering.clear()
        self._taken.clear()
        self._left.clear()
