"""Start a detached actor again after a crash: a process that does nothing else.

An actor that may be restarted is the child of its keeper, which listens at its door and has
what it is made from, as bytes. The keeper runs none of the user's code and has one thread,
so it can fork at any time. Whoever calls the actor while it is started again waits at the door.

The actor dies with its keeper, by the kernel's hand; the keeper ends when the actor has left,
has crashed too often, or before it was up.
"""

from __future__ import annotations

import os

from pool._workers._lifeline import Lifeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._transport._channel import Channel

_UP, _LEAVES = b"u", b"l"


class Life:
    """One life of an actor, as the actor itself has it.

    Parameters
    ----------
    report : int
        Descriptor of a pipe to the keeper.
    number : int
        How often it has been started before.
    """

    def __init__(self, report: int, number: int) -> None:
        self._report = report
        self.number = number

    def up(self) -> None:
        """Tell that the constructor has returned."""
        os.write(self._report, _UP)

    def leaves(self) -> None:
        """Tell that it ends because it wants to."""
        os.write(self._report, _LEAVES)


def keep(restarts: int, first: Channel) -> Life | None:
    """Give an actor its lives.

    Parameters
    ----------
    restarts : int
        How often it may be started again; -1: always.
    first : Channel
        To the program that made it; of the first life alone.

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
            first.close()  # who made it is to see the end of the first life
        os.waitpid(pid, 0)
        told = os.read(read, 2)
        os.close(read)
        if told != _UP or number == restarts:
            return None
        number += 1
