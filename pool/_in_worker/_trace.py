"""When a worker began and finished its tasks, written where the program can read it.

Two readings of a clock and six words for each task, in memory that both processes have: nothing is
sent, and what a worker noted is there after it was killed. The oldest entries are overwritten.

Layout of the trace of a slot (`pool._transport._journal`): names of tasks, a line each, ended by
a zero byte; then entries of four doubles: when the task was submitted, begun and finished (seconds
of `time.perf_counter`; 0: not yet), and twice the number of its name, plus one if it failed.
"""

from __future__ import annotations

from time import perf_counter

from pool._transport._journal import TRACE_NBYTES, TRACED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._workers._worker import Worker

NAMES_NBYTES = 64 * 1024
#: Doubles of an entry.
WIDTH = 4
#: Entries that are kept.
KEPT = (TRACE_NBYTES - NAMES_NBYTES) // (8 * WIDTH)


class Trace:
    """The trace of the tasks of this process, which run one after the other.

    Parameters
    ----------
    words, trace : memoryview
        Of the slot.
    """

    __slots__ = ("_at", "_count", "_entries", "_names", "_numbers", "_used", "_words")

    def __init__(self, words: memoryview, trace: memoryview) -> None:
        self._words = words
        self._names = trace[:NAMES_NBYTES]
        self._entries = trace[NAMES_NBYTES:].cast("d")
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
        self._words[TRACED] = self._count

    def end(self, failed: bool) -> None:
        """Note that the task that began last is over."""
        entries = self._entries
        at = self._at
        entries[at + 2] = perf_counter()
        if failed:
            entries[at + 3] += 1

    def _number(self, name: str) -> int:
        """Write a name down; its number is that of its line."""
        line = " ".join(name.split()).encode("utf-8", "replace") + b"\n\0"
        if self._used + len(line) > NAMES_NBYTES:
            # Thousands of names: the last line stands for all others.
            self._numbers[name] = number = max(0, len(set(self._numbers.values())) - 1)
            return number
        self._names[self._used : self._used + len(line)] = line
        self._used += len(line) - 1
        self._numbers[name] = number = len(self._numbers)
        return number


#: That of this process; there before the first task.
trace: Trace = None  # type: ignore[assignment]
_started = False


def start(worker: Worker) -> None:
    """Have the tasks of this worker noted."""
    global trace, _started
    if not _started:
        _started = True
        trace = Trace(worker.words, worker.trace)


Entry = tuple[str, float, float, float, bool]


def entries(words: memoryview, trace: memoryview) -> list[Entry]:
    """Return the entries of a slot as ``(name, submitted, begun, finished, failed)``.

    Its worker may be writing: what it overwrites just now is left out.
    """
    count = words[TRACED]
    if not count:
        return []
    names = bytes(trace[:NAMES_NBYTES]).partition(b"\0")[0].decode("utf-8", "replace").split("\n")
    number = min(count, KEPT)
    raw = trace[NAMES_NBYTES : NAMES_NBYTES + number * 8 * WIDTH].cast("d").tolist()
    found: list[Entry] = []
    for at in range(0, len(raw), WIDTH):
        submitted, begun, finished, kind = map(float, raw[at : at + WIDTH])
        line, failed = divmod(int(kind), 2)
        if submitted <= begun and (not finished or begun <= finished) and line < len(names):
            found.append((names[line], submitted, begun, finished, bool(failed)))
    return found
