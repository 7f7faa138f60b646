"""Keep objects unchanged as long as a forked child can see them.

A child inherits the views of its parent. If the parent let go of one, the memory would be used
again while the child looks at it. So what a process holds when it forks is *pinned*: letting go of
it counts only when the child has ended, or called exec.

The child is watched by a *tether*: a lock on a file that the child alone has mapped. The mapping
ends with exec or death and by nothing else. A descriptor would not do: daemons close all that they
inherited, and go on. No process is waited for, and no pid can be mistaken for another's.

All functions are called under the depot's lock: a block must not be made to wait for a child whose
pin another thread is just removing.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock

from store import _anonymous, _memory
from store._children import in_child_of_raw_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from weakref import ref

    from store._mappings import Block

    #: Number of a thing, how many forks there had been when this process got it, and the block
    #: that was finalized, if it may still be in use (see `Block.__del__`).
    Dropped = tuple[int, int, ref[Block] | None]


def tether() -> tuple[int, int]:
    """Return two descriptors of a file that is locked as long as the first is open or mapped.

    A lock belongs to an open file, which a mapping keeps open. The second descriptor is of another
    open file, so that it can be used to try the lock.

    Raises
    ------
    OSError
        If no descriptor is left.
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
    """Return whether no process has the first end of a tether open or mapped any more."""
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
        The second end of its tether; -1: there is none.
    generation : int
        How many forks there had been with this one.
    """

    __slots__ = ("fd", "generation", "waiting")

    def __init__(self, fd: int, generation: int) -> None:
        self.fd = fd
        self.generation = generation
        self.waiting: list[tuple[deque[Dropped], Dropped]] = []

    def is_over(self) -> bool:
        """Return whether the child has ended; always False without a tether."""
        return self.fd >= 0 and is_loose(self.fd)


#: In place of the number of forks: for things that no child can see.
NEVER = 1 << 62

#: How many times this process has forked.
generation = 0
#: In a child: things with a lower number are its parent's, see `is_inherited`.
_own_from = 0
#: The children that may still see what this process had when it forked.
pins: list[Pin] = []
#: While this process forks: the first end of the child's tether, and where it is mapped.
_holding = -1
_mapped = 0


def take_dropped(dropped: deque[Dropped]) -> list[int]:
    """Empty a queue of things that were let go of; return the numbers that no child can see.

    The others come back to the queue when their child has ended. A block in a cycle of garbage is
    finalized before it is certain that it goes: one that is still there stays in the queue.
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
    """Put things back into their queues that waited for children which have ended."""
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
    """Return whether this process has a thing from its parent, by the fork.

    The parent keeps such a thing for this process only, which must not send references to it.
    """
    return born < _own_from


def pinned() -> int:
    """Return how many things wait for the end of a child."""
    return sum(len(pin.waiting) for pin in list(pins))


def before_fork() -> None:
    """Pin what this process holds, before there is a child that can see it."""
    sweep()
    _pin()


def _pin() -> None:
    global generation, _holding, _mapped
    asking = -1
    try:
        _holding, asking = tether()
        _mapped = _memory.keep_open(_holding)
    except OSError:
        # No descriptor, or no room for a mapping: pinned for ever, which wastes memory but corrupts
        # nothing.
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
    """Keep the mapping of this child's tether, and forget the parent's other children."""
    global _own_from, _mapped
    _own_from = generation
    _mapped = 0
    _let_go()
    for pin in pins:
        if pin.fd >= 0:
            os.close(pin.fd)
    pins.clear()


def _after_raw_fork() -> None:
    """Count a fork for which nothing was pinned, in the child."""
    global generation
    generation += 1
    after_fork_in_child()


in_child_of_raw_fork(_after_raw_fork)
