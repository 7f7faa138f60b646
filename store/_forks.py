"""Forked children see what their parent saw; so it must stay what it was.

A child inherits the views of its parent. When the parent lets go of one, the memory would
be used again under the child's eyes. So what a process holds while it forks is *pinned*:
letting go of it counts only when the child has ended, or called exec.

The child is watched by a *tether*: a lock on a file that it alone has mapped. The mapping ends
with exec and death and by nothing else. A descriptor would not do: daemons close all that they
inherited and go on. No process is waited for, no pid can be mistaken.

All of this is called under the depot's lock: what is told to wait for a child must not be told
so when that child's pin has just been swept away.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock

from store import _anonymous, _memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from weakref import ref

    from store._mappings import Block

    #: Number of a thing, how many forks there had been when this process got it, and the block that
    #: was let go, if it may be there still.
    Dropped = tuple[int, int, ref[Block] | None]


def tether() -> tuple[int, int]:
    """Return two descriptors of a file that is locked as long as the first one is open.

    Or is mapped: a lock belongs to what was opened, and a mapping keeps that open. The second was
    opened by itself, so by it one can ask for the lock.

    Raises
    ------
    OSError
    """
    holding = _anonymous.create("actorpool-tether")
    try:
        asking = os.open(f"/proc/self/fd/{holding}", os.O_RDWR | os.O_CLOEXEC)
        try:
            flock(holding, LOCK_EX | LOCK_NB)
        except BaseException:
            os.close(asking)
            raise
    except BaseException:
        os.close(holding)
        raise
    return holding, asking


def is_loose(asking: int) -> bool:
    """Return whether nobody has the other end of a tether any more."""
    try:
        flock(asking, LOCK_EX | LOCK_NB)
    except OSError:
        return False
    return True


class Pin:
    """One forked child, and what waits for its end.

    Parameters
    ----------
    fd : int
        By which one can ask for the lock that the child holds, see `tether`; -1: there is none.
    generation : int
    """

    __slots__ = ("fd", "generation", "waiting")

    def __init__(self, fd: int, generation: int) -> None:
        self.fd = fd
        self.generation = generation
        self.waiting: list[tuple[deque[Dropped], Dropped]] = []

    def is_over(self) -> bool:
        """Return whether the child has ended; never, if nobody can tell."""
        return self.fd >= 0 and is_loose(self.fd)


#: Got after every fork: what no child can see.
NEVER = 1 << 62

#: Forks so far, and the children that may still see what this process had then.
generation = 0
#: In a child: what is older is its parent's, see `is_inherited`.
_own_from = 0
pins: list[Pin] = []
#: While this process forks: what the child is to hold, and where that is mapped.
_holding = -1
_mapped = 0


def take_dropped(dropped: deque[Dropped]) -> list[int]:
    """Empty a queue of things that were let go; return those that no child can see.

    The others come back to the queue when their child has ended. What is in a cycle of garbage is
    told that it goes before it is known whether it does: as long as it is there it waits as well.
    """
    numbers = []
    kept = []
    while dropped:
        try:
            item = dropped.popleft()
        except IndexError:  # another thread took the last one
            break
        number, born, block = item
        if block is not None and block() is not None:
            kept.append(item)
            continue
        pin = next((pin for pin in pins if born < pin.generation), None) if pins else None
        if pin is None:
            numbers.append(number)
        else:
            pin.waiting.append((dropped, item))
    dropped.extend(kept)
    return numbers


def sweep() -> None:
    """Return to their queues what children held that have ended."""
    for pin in list(pins):
        if pin.is_over():
            pins.remove(pin)
            os.close(pin.fd)
            for dropped, item in pin.waiting:
                dropped.append(item)


def pending() -> bool:
    """Return whether anything waits for the end of a child."""
    return bool(pins) and any(pin.waiting for pin in list(pins))


def is_inherited(born: int) -> bool:
    """Return whether something was got before this process was forked.

    Its parent keeps it for this process, and for nobody else.
    """
    return born < _own_from


def pinned() -> int:
    """Return how many things wait for the end of a child."""
    return sum(len(pin.waiting) for pin in list(pins))


def before_fork() -> None:
    """Pin what this process holds; the pin is there before the child is."""
    sweep()
    _pin()


def _pin() -> None:
    global generation, _holding, _mapped
    asking = -1
    try:
        _holding, asking = tether()
        _mapped = _memory.keep_open(_holding)
    except OSError:
        # No descriptor, or no room for a mapping: pinned for good, which wastes memory but
        # corrupts nothing.
        _let_go()
        if asking >= 0:
            os.close(asking)
            asking = -1
    generation += 1
    pins.append(Pin(asking, generation))


def _let_go() -> None:
    global _holding, _mapped
    if _mapped:
        _memory.unmap(_mapped, _memory.PAGE)
        _mapped = 0
    if _holding >= 0:
        os.close(_holding)
        _holding = -1


def after_fork_in_parent() -> None:
    """Leave the mapping to the child."""
    _let_go()


def after_fork_in_child() -> None:
    """Keep the mapping; the parent's other children are not this one's concern."""
    global _own_from, _mapped
    _own_from = generation
    _mapped = 0
    _let_go()
    for pin in pins:
        if pin.fd >= 0:
            os.close(pin.fd)
    pins.clear()
