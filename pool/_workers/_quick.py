"""The inner loops for chunks of one item, where every tenth of a microsecond counts.

A message of cheap chunks holds hundreds of them. Each outcome must be in the journal
before the next chunk runs, so that nothing is lost or run twice if the worker is killed.
To pickle each outcome by itself costs 0.3 us; integers and floats, the usual results of
very cheap functions, are stored and sent as plain machine words instead, in 0.05 us.
"""

from __future__ import annotations

import _pickle

from pool._clock import perf_counter
from pool._pickling import ATOMS, dumps_to_parent
from pool._transport._journal import (
    FINISHED,
    HALT,
    LAYOUT,
    TARGET,
    USED,
    WORDS_MAX,
    chunk_word,
)
from pool._transport._messages import FLOATS, INTS, STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: Outcomes larger than this are sent at once instead of being kept in the journal.
KEEP_MAX = 8 * 1024


class Loop:
    """Run chunks one after the other, and keep their outcomes in the journal.

    Parameters
    ----------
    words, data : memoryview
        Header and body of the worker's page.

    Attributes
    ----------
    finished : int
        How many chunks of the message have an outcome.
    first : int
        Of these, the first whose outcome is still in the page.
    layout : int
        How the outcomes from `first` on are stored: INTS, FLOATS or STREAM.
    used : int
        How many bytes these take.
    """

    __slots__ = (
        "_data", "_floats", "_halt", "_ints", "_mixed", "_sent_early", "_used_early", "_words",
        "finished", "first", "layout", "used",
    )  # fmt: skip

    def __init__(self, words: memoryview, data: memoryview) -> None:
        self._look_at(words, data)
        self.begin(0)

    def _look_at(self, words: memoryview, data: memoryview) -> None:
        # Views that only this loop has, which `detach` can release.
        self._words = words[:]
        self._data = data[:]
        self._ints = data[: WORDS_MAX * 8].cast("q")
        self._floats = data[: WORDS_MAX * 8].cast("d")

    def detach(self) -> memoryview:
        """Write to the page no more: this process was forked from the worker by a task.

        `run` may be under way in it. The views of the page that it holds are released, so that it
        stops at the next value that it would store there, and returns that value.

        Returns
        -------
        memoryview
            Words to use in place of the page's.
        """
        words = memoryview(bytearray(self._words)).cast("Q")
        words[TARGET] = 0  # interrupts are for the worker
        data = memoryview(bytearray(len(self._data)))
        try:
            for view in (self._words, self._data, self._ints, self._floats):
                view.release()
        except BufferError:
            pass  # forked by one thread while another one was sending: no loop goes on here
        self._look_at(words, data)
        return words

    def begin(self, message_id: int) -> None:
        """Start a message."""
        #: The value of HALT that tells to halt at chunk 0; for chunk n it is this plus n.
        self._halt = chunk_word(message_id, 0)
        self.finished = self.first = self.used = 0
        self._sent_early = self._used_early = 0
        self.layout = STREAM
        #: Outcomes of several types were seen: they are pickled, for to change between layouts
        #: takes a message each time.
        self._mixed = False

    def sent(self) -> None:
        """Note that all stored outcomes were sent, and begin at the start of the page again."""
        self.first = self.finished
        self.used = 0
        self.layout = STREAM
        self._sent_early = self._used_early = 0

    @property
    def halted(self) -> bool:
        """Whether the next chunk is to be handed back, not begun.

        Must be read after FINISHED was written, see `pool._local._stragglers`.
        """
        return self._words[HALT] == self._halt + self.finished

    @property
    def unsent(self) -> int:
        """How many stored outcomes have not been sent."""
        return self.finished - self.first - self._sent_early

    def kept(self) -> memoryview:
        """Return the stored outcomes that have not been sent."""
        return self._data[self._used_early : self.used]

    def send_early(self) -> tuple[int, bytes, int]:
        """Return number, bytes and layout of the stored outcomes, called from inside a task.

        The loop is under way: the outcomes stay where they are, and are merely not sent again.
        So the journal tells the same as before if the worker is killed.
        """
        words = self._words
        count = words[FINISHED] - self.first - self._sent_early
        if not count:
            return 0, b"", STREAM
        layout = words[LAYOUT]
        end = words[USED] if layout == STREAM else (words[FINISHED] - self.first) * 8
        data = bytes(self._data[self._used_early : end])
        self._sent_early += count
        self._used_early = end
        return count, data, layout

    def keep(self, data: bytes) -> bool:
        """Append a pickled outcome; return whether there was room for it."""
        used = self.used
        end = used + len(data)
        if self.layout != STREAM or len(data) > KEEP_MAX or end > len(self._data):
            return False
        self._data[used:end] = data
        self.used = end
        words = self._words
        words[USED] = end
        words[LAYOUT] = STREAM
        self.finished += 1
        words[FINISHED] = self.finished
        return True

    def run(
        self, function: Callable[[Any], Any], items: Iterator[Any], deadline: float
    ) -> tuple[bool, Any]:
        """Call ``function(item)`` for each item until something has to be sent.

        Parameters
        ----------
        function : callable
        items : iterator
        deadline : float
            Time of `perf_counter` after which no further item is begun.

        Returns
        -------
        more : bool
            Whether there is a value that could not be kept. False if there are no more items, the
            deadline has passed, or the parent told to halt.
        value : object
            That value.
        """
        for item in items:
            value = function(item)
            kind = value.__class__
            if (kind is int or kind is float) and not self._mixed:
                return self._run_words(function, items, deadline, value)
            if kind in ATOMS:
                data = _pickle.dumps(value, 5)
            else:
                try:
                    encoded = dumps_to_parent(value)
                except (Exception, SystemExit):
                    return True, value  # the caller pickles it again, and makes the error
                if encoded.buffers:
                    return True, value
                data = encoded.data
            if not self.keep(data):
                return True, value
            if self.halted or perf_counter() > deadline:
                break
        return False, None

    def _run_words(
        self, function: Callable[[Any], Any], items: Iterator[Any], deadline: float, value: Any
    ) -> tuple[bool, Any]:
        """Go on with outcomes that are all ints, or all floats, from `value` on."""
        kind = value.__class__
        if self.finished > self.first:
            self._mixed = True
            return True, value
        self.layout = layout = INTS if kind is int else FLOATS
        store = self._ints if kind is int else self._floats
        words = self._words
        words[LAYOUT] = layout
        halt = self._halt
        first = finished = self.finished
        last = first + WORDS_MAX
        try:
            store[0] = value
        except ValueError:  # beyond 64 bits
            self._mixed = True
            self.layout = STREAM
            return True, value
        finished += 1
        words[FINISHED] = finished
        try:
            if words[HALT] == halt + finished:
                return False, None
            for item in items:
                value = function(item)
                if value.__class__ is not kind or finished == last:
                    self._mixed = finished != last
                    return True, value
                try:
                    store[finished - first] = value
                except ValueError:
                    self._mixed = True
                    return True, value
                finished += 1
                words[FINISHED] = finished
                if words[HALT] == halt + finished or perf_counter() > deadline:
                    break
            return False, None
        finally:
            self.finished = finished
            self.used = (finished - first) * 8
