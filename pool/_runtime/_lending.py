"""Who borrows from the runtime, and when what they say is read.

Each borrower has a socket of its own beside that of its outcomes, so what it sent in one order
may be read in another. What a call held is let go only when it is known who else holds it.
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

    def __init__(self, sock: _socket.socket, buffer: bytearray) -> None:
        super().__init__(sock, buffer, linked=True)
        self._made_in = os.getpid()

    def close(self) -> None:
        """Say that the runtime has ended; close this end when nobody looks at what it brought."""
        if self._made_in == os.getpid():
            try:
                self.send((OVER,), flags=_socket.MSG_DONTWAIT)
                # Nobody reads any more: who goes on sending is to get an error, not to wait.
                self.socket.shutdown(_socket.SHUT_RD)
            except OSError:
                pass  # it has ended, or has not read for long: it finds the end closed
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
        #: What calls held that are over.
        self._lingering: list[Ref] = []
        #: What results contain that have arrived, and the actor that has sent it; None: not known.
        self._taken: list[tuple[Ref, Actor | None]] = []
        #: What results contain that workers of tasks have left behind, which nobody has read.
        self._left: dict[int, list[Ref]] = {}
        #: Whether `flush` has anything to do; looked at after each call of an actor.
        self.due = False

    # ------------------------------------------------------------------ who borrows

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
        """Forget a borrower whose worker has ended; what it had answered before still counts.

        Parameters
        ----------
        handed : sequence of Ref
            What its results contain that are still on the way.
        """
        driver = self._runtime.driver
        if borrower.actor is not None:
            borrower.actor.read_all()
        else:
            peer = driver.peers.get(worker_id)
            while peer is not None and driver.arrivals.receive(peer):
                pass
            if peer is not None and handed:
                # Some may be in its journal, which is looked at when its exit is known.
                self._left.setdefault(worker_id, []).extend(handed)
        if borrower in self.borrowers:
            self.borrowers.remove(borrower)

    def bury(self, worker_id: int) -> None:
        """Let go of what a worker of tasks has left behind: all its results have been read."""
        left = self._left.pop(worker_id, ())
        if left:
            # Not yet: those results are being dealt with.
            self.linger(left)

    def read_from(self, actor: Actor) -> None:
        """Read what an actor has asked for until now."""
        for borrower in list(self.borrowers):
            if borrower.actor is actor:
                borrower.link.drain()

    # ------------------------------------------------------------------ in which order

    def read(self) -> None:
        """Read what borrowers have sent until now."""
        for borrower in list(self.borrowers):
            borrower.link.drain()

    def linger(self, refs: Sequence[Ref]) -> None:
        """Let go of what a call held, when all that came before its end has been read."""
        if refs:
            self._lingering.extend(refs)
            self.due = True
            self._runtime.driver.dirty.append(self._runtime)

    def taken_over(self, refs: Sequence[Ref], sender: Actor | None = None) -> None:
        """Note that a result has arrived with what it contains."""
        if refs:
            # That it was handed over was said before, and may be read after.
            self._taken.extend([(ref, sender) for ref in refs])
            self.due = True
            self._runtime.driver.dirty.append(self._runtime)

    def flush(self) -> None:
        """Read what is due, and let go."""
        self.due = False
        # What was sent before the end of a call is in a socket by now: among it may be that
        # somebody else holds what the call held.
        lingering, self._lingering = self._lingering, []
        taken, self._taken = self._taken, []
        self.read()
        for ref, sender in taken:
            # What another one hands over may still be on its way.
            for borrower in self.borrowers:
                if sender in (None, borrower.actor) and borrower.arrived(ref):
                    break
        del lingering

    def abort(self) -> None:
        """Let go at once: nothing is read any more."""
        self._lingering.clear()
        self._taken.clear()
        self._left.clear()
