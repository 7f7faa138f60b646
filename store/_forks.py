"""Forked children see what their parent saw; so it must stay what it was.

A child inherits the views of its parent. When the parent lets go of one, the memory would
be used again under the child's eyes. So what a process holds while it forks is *pinned*:
letting go of it counts only when the child has ended, or called exec.

The child is watched by a pipe of which it alone keeps the writing end, closed by exec and
by death. No process is waited for, no pid can be mistaken.

All of this is called under the depot's lock: what is told to wait for a child must not be told
so when that child's pin has just been swept away.
"""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque

    #: Number of a thing, and how many forks there had been when this process got it.
    Dropped = tuple[int, int]


class Pin:
    """One forked child, and what waits for its end."""

    __slots__ = ("fd", "generation", "waiting")

    def __init__(self, fd: int, generation: int) -> None:
        self.fd = fd
        self.generation = generation
        self.waiting: list[tuple[deque[Dropped], Dropped]] = []

    def is_over(self) -> bool:
        """Return whether the child has ended; never, if nobody can tell."""
        if self.fd < 0:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))


#: Got after every fork: what no child can see.
NEVER = 1 << 62

#: Forks so far, and the children that may still see what this process had then.
generation = 0
#: In a child: what is older is its parent's, see `is_inherited`.
_own_from = 0
pins: list[Pin] = []
_writing = -1
#: In a child: kept open as long as it lives.
_kept: list[int] = []


def take_dropped(dropped: deque[Dropped]) -> list[int]:
    """Empty a queue of things that were let go; return those that no child can see.

    The others come back to the queue when their child has ended.
    """
    numbers = []
    while dropped:
        try:
            item = dropped.popleft()
        except IndexError:  # another thread took the last one
            break
        number, born = item
        pin = next((pin for pin in pins if born < pin.generation), None) if pins else None
        if pin is None:
            numbers.append(number)
        else:
            pin.waiting.append((dropped, item))
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
    global generation, _writing
    try:
        reading, _writing = os.pipe()
    except OSError:
        # No descriptor: pinned for good, which wastes memory but corrupts nothing.
        reading = _writing = -1
    generation += 1
    pins.append(Pin(reading, generation))


def after_fork_in_parent() -> None:
    """Leave the writing end to the child."""
    global _writing
    if _writing >= 0:
        os.close(_writing)
        _writing = -1


def after_fork_in_child() -> None:
    """Keep the writing end; the parent's other children are not this one's concern."""
    global _own_from, _writing
    _own_from = generation
    if _writing >= 0:
        _kept.append(_writing)
        _writing = -1
    for pin in pins:
        if pin.fd >= 0:
            os.close(pin.fd)
    pins.clear()
