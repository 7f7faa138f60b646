"""Copy large blobs by several threads: one core does not use up what the memory can do.

Two copies of the same bytes, one by each half, take little more than half the time of one.
"""

from __future__ import annotations

import _thread
import os
from collections import deque

from store._interrupts import shield
from store._memory import HUGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes that are worth a thread: copying them takes ten times as long as to start one.
PART_NBYTES = 8 << 20

#: More threads add little: few of them use up the memory's bandwidth.
THREADS_MAX = 4


def threads() -> int:
    """Return how many threads may copy at the same time.

    ``OMP_NUM_THREADS`` holds here, too: it says how many cores one process should use, and workers
    have it from their pool, which divides the CPUs among them.
    """
    count = len(os.sched_getaffinity(0))
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wanted.isdecimal():
        count = min(count, max(1, int(wanted)))
    return min(count, THREADS_MAX)


def copy(write: Callable[[int, memoryview], None], offset: int, data: memoryview) -> None:
    """Call ``write(offset, part)`` for all parts of `data`, by several threads if it is large.

    Parameters
    ----------
    write : callable
        Copies bytes to a place; may be called by several threads for different ranges.
    offset : int
        The place of the first byte. Parts begin at multiples of a huge page, so that no two
        threads make the same one.
    data : memoryview
        Of single bytes.

    Raises
    ------
    Exception
        What `write` raised first. No thread copies any more then.
    """
    count = 1
    if len(data) >= 2 * PART_NBYTES:
        count = min(threads(), len(data) // PART_NBYTES)
    if count < 2:
        write(offset, data)
        return
    copying = _Copying(write, _split(offset, data, count))
    # Whoever is told that this has failed frees the range, in which no thread may write then.
    token = shield.enter()
    try:
        copying.start(count - 1)
        if token:
            shield.opened(copying.work)
        else:
            copying.work()
    finally:
        copying.wait()
        shield.leave(token)
    if copying.errors:
        # Taken from there: its traceback has this very frame, and with that the caller's block.
        raise copying.errors.pop()


def _split(offset: int, data: memoryview, count: int) -> deque[tuple[int, memoryview]]:
    step = max(HUGE, 1)
    parts: deque[tuple[int, memoryview]] = deque()
    begin = 0
    for number in range(1, count + 1):
        end = len(data)
        if number < count:
            end = (offset + len(data) * number // count) // step * step - offset
        if end > begin:
            parts.append((offset + begin, data[begin:end]))
            begin = end
    return parts


class _Copying:
    """One blob that several threads copy.

    Each takes the next part. The thread that has the blob copies all itself if the others are late,
    as when there is no free core, or when other threads keep the interpreter busy.
    """

    __slots__ = ("_begun", "_parts", "_write", "errors")

    def __init__(
        self, write: Callable[[int, memoryview], None], parts: deque[tuple[int, memoryview]]
    ) -> None:
        self._write = write
        self._parts = parts
        #: One lock for each helper that may have taken a part; released when it is done.
        self._begun: list[_thread.LockType] = []
        #: What was raised first.
        self.errors: list[BaseException] = []

    def start(self, count: int) -> None:
        """Start helpers, fewer if the system has no room for threads."""
        for _ in range(count):
            try:
                _thread.start_new_thread(self._help, ())
            except RuntimeError:
                return

    def _help(self) -> None:
        done = _thread.allocate_lock()
        done.acquire()
        # Entered before it takes a part: `wait`, which leaves no part to be taken, finds it.
        self._begun.append(done)
        try:
            self.work()
        finally:
            done.release()

    def work(self) -> None:
        """Copy parts until there is none left."""
        while True:
            try:
                offset, part = self._parts.popleft()
            except IndexError:
                return
            try:
                self._write(offset, part)
            except BaseException as error:
                self._parts.clear()
                if not self.errors:
                    self.errors.append(error)

    def wait(self) -> None:
        """Have no other part copied, and wait for those that are."""
        self._parts.clear()
        for done in list(self._begun):
            done.acquire()
