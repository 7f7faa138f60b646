"""The keeper of a detached actor: a process that only starts it again after a crash.

An actor that may be restarted is the child of its keeper, which has the actor's listening socket
and, as bytes, its class and arguments. The keeper runs none of the user's code and has one thread,
so it can fork at any time. A program that calls the actor while it is started again waits in the
queue of that socket.

If the keeper dies, the kernel kills the actor; the keeper ends when the actor has left, or has
crashed too often, or before its constructor had returned.
"""

from __future__ import annotations

import os

from pool._transport import _rendezvous as rendezvous
from pool._workers._lifeline import Lifeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._transport._channel import Channel

_UP, _LEAVES = b"u", b"l"


class Life:
    """One life of an actor, from one start to its end; used by the actor itself.

    Parameters
    ----------
    report : int
        Descriptor of a pipe to the keeper.
    number : int
        How often the actor has been started before.
    """

    def __init__(self, report: int, number: int) -> None:
        self._report = report
        self.number = number

    def up(self) -> None:
        """Tell the keeper that the constructor has returned."""
        os.write(self._report, _UP)

    def leaves(self) -> None:
        """Tell the keeper that the actor ends by itself, and removes its socket."""
        os.write(self._report, _LEAVES)


def _told(report: int) -> bytes:
    """Return what a life that is over has told, and close the pipe."""
    # Not waiting: a child that the actor has left behind may hold the other end for long.
    os.set_blocking(report, False)
    try:
        return os.read(report, 2)
    except BlockingIOError:
        return b""
    finally:
        os.close(report)


def keep(restarts: int, first: Channel, path: str) -> Life | None:
    """Become the keeper of an actor, and fork its lives, one after the other.

    Parameters
    ----------
    restarts : int
        How often it may be started again; -1: always.
    first : Channel
        To the program that made it; only the first life has it.
    path : str
        Of the socket; it is removed after the last life, unless that has done so itself.

    Returns
    -------
    Life or None
        In each child its life; in the keeper None, when the last one is over.
    """
    lifeline = Lifeline()
    number = 0
    while True:
        read, write = os.pipe()
        lifeline.prepare()
        pid = os.fork()
        if not pid:
            os.close(read)
            lifeline.hold()
            return Life(write, number)
        lifeline.discard()
        os.close(write)
        if not number:
            first.close()  # so that the program sees the end of the first life
        os.waitpid(pid, 0)
        told = _told(read)
        if _LEAVES in told:
            return None
        if told != _UP or number == restarts:
            rendezvous.leave(path)
            return None
        number += 1
