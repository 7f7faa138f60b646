"""When a worker began and finished its tasks, written where the program can read it.

It costs two readings of a clock and six words for each task, in memory that both processes share.
Nothing is sent, and the entries of a worker that was killed remain. The oldest are overwritten.

Layout of a trace (`pool._transport._journal`): the number of entries that were made, 64 bits;
names of tasks, a line each, ended by a zero byte; then entries of four doubles: when the task was
submitted, begun and finished (seconds of `time.perf_counter`; 0: not yet), and twice the number of
its name, plus one if it failed.
"""

from __future__ import annotations

from pool._clock import perf_counter
from pool._transport._journal import TRACE_NBYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._workers._worker import Worker

COUNT_NBYTES = 8
#: Where the entries begin.
ENTRIES_AT = 64 * 1024
NAMES_NBYTES = ENTRIES_AT - COUNT_NBYTES
#: Doubles of an entry.
WIDTH = 4
#: Entries that are kept.
KEPT = (TRACE_NBYTES - ENTRIES_AT) // (8 * WIDTH)


class Trace:
    """The trace of the tasks of this process, which run one after the other.

    Parameters
    ----------
    trace : memoryview
        The memory of the worker's slot for it.
    """

    __slots__ = ("_at", "_count", "_entries", "_made", "_names", "_numbers", "_used")

    def __init__(self, trace: memoryview) -> None:
        self._made = trace[:COUNT_NBYTES].cast("Q")
        self._names = trace[COUNT_NBYTES:ENTRIES_AT]
        self._entries = trace[ENTRIES_AT:].cast("d")
        self._numbers: dict[str, int] = {}
        self._used = 0
        self._count = 0
        self._at = 0

    def begin(self, submitted: float, name: str) -> None:
        """Note that a task begins."""
        number = self._numbers.get(name)
        if number is None:
            number = self._number(name)
        self._at = at = self._count % KEPT * WIDTH
        entries = self._entries
        entries[at] = submitted
        entries[at + 2] = 0.0
        entries[at + 3] = 2 * number
        entries[at + 1] = perf_counter()
        self._count += 1
        self._made[0] = self._count

    def end(self, failed: bool) -> None:
        """Note that the task that began last is over."""
        entries = self._entries
        at = self._at
        entries[at + 2] = perf_counter()
        if failed:
            entries[at + 3] += 1

    def _number(self, name: str) -> int:
        """Write a name; return its number, that of its line."""
        line = " ".join(name.split()).encode("utf-8", "replace") + b"\n\0"
        if self._used + len(line) > NAMES_NBYTES:
            # Thousands of names: the last line stands for all others, which are not kept.
            return max(0, len(self._numbers) - 1)
        self._names[self._used : self._used + len(line)] = line
        self._used += len(line) - 1
        self._numbers[name] = number = len(self._numbers)
        return number


class NoTrace:
    """In place of a `Trace` if the worker has no memory for one."""

    def begin(self, submitted: float, name: str) -> None:
        """Do nothing."""

    def end(self, failed: bool) -> None:
        """Do nothing."""


#: The trace of this process.
trace: Trace | NoTrace = NoTrace()


def start(worker: Worker) -> None:
    """Note the tasks of this worker from now on."""
    global trace
    if worker.trace is not None and isinstance(trace, NoTrace):
        trace = Trace(worker.trace)


Entry = tuple[str, float, float, float, bool]


def entries(trace: memoryview) -> list[Entry]:
    """Return the entries of a trace as ``(name, submitted, begun, finished, failed)``.

    The worker may be writing meanwhile: entries that it overwrites just now are left out.
    """
    count = trace[:COUNT_NBYTES].cast("Q")[0]
    if not count:
        return []
    names = (
        bytes(trace[COUNT_NBYTES:ENTRIES_AT])
        .partition(b"\0")[0]
        .decode("utf-8", "replace")
        .split("\n")
    )
    number = min(count, KEPT)
    raw = trace[ENTRIES_AT : ENTRIES_AT + number * 8 * WIDTH].cast("d").tolist()
    found: list[Entry] = []
    for at in range(0, len(raw), WIDTH):
        submitted, begun, finished, kind = map(float, raw[at : at + WIDTH])
        line, failed = divmod(int(kind), 2)
        if submitted <= begun and (not finished or begun <= finished) and line < len(names):
            found.append((names[line], submitted, begun, finished, bool(failed)))
    return found
