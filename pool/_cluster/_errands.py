"""Messages that an agent is working off, and what becomes of the chunks in them."""

from __future__ import annotations

import _pickle

from pool._errors import TaskCancelled
from pool._local._jobs import Items, Source, append_each
from pool._transport._messages import PACKED, RANGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._cluster._messages import Run


class Passed(Source):
    """Chunks that were pickled on another machine."""

    __slots__ = ("_payloads",)

    def __init__(self, payloads: list[list[Any]], chunksize: int) -> None:
        super().__init__(len(payloads), True, chunksize)
        self._payloads: list[list[Any] | None] = [*payloads]

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        payloads = self._payloads[start:stop]
        return append_each((payload for payload in payloads if payload is not None), blobs)

    def done(self, start: int, stop: int) -> None:
        self._payloads[start:stop] = [None] * (stop - start)


class Errand:
    """A message that is being worked off."""

    def __init__(self, count: int, cost_key: tuple[int, int]) -> None:
        self.cost_key = cost_key
        self.outcomes: list[Any] = [None] * count
        #: How many of them have been answered, and how many will be here.
        self.answered = 0
        self.kept = count
        #: Its jobs: number, number of the first chunk in this message, how many chunks.
        self.jobs: list[tuple[int, int, int]] = []
        self.open = 0
        #: Everything was handed to the worker.
        self.submitted = False

    def is_over(self) -> bool:
        """Return whether there is nothing to wait for."""
        return self.submitted and not self.open

    def take(self) -> list[Any]:
        """Return outcomes that were not answered, up to the first one that is not there."""
        taken: list[Any] = []
        for index in range(self.answered, self.kept):
            outcome = self.outcomes[index]
            if outcome is None:
                break
            taken.append(outcome)
            self.outcomes[index] = None
        self.answered += len(taken)
        return taken


class Share:
    """The sink of one job of an errand."""

    def __init__(self, errand: Errand, offset: int, count: int) -> None:
        self._errand = errand
        self._offset = offset
        self._count = count
        errand.open += 1

    def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
        at = self._offset + start
        self._errand.outcomes[at : at + len(values)] = [(failed, value) for value in values]
        return False

    def finish(self) -> bool:
        self._fill(TaskCancelled("cancelled"))
        self._errand.open -= 1
        return False

    def abort(self, error: BaseException) -> bool:
        self._fill(error)
        self._errand.open -= 1
        return False

    def _fill(self, error: BaseException) -> None:
        """Give an outcome to what has none: nobody waits for it, or nothing more will come."""
        outcomes = self._errand.outcomes
        for at in range(self._offset, min(self._offset + self._count, self._errand.kept)):
            if outcomes[at] is None and at >= self._errand.answered:
                outcomes[at] = (True, error)

    def call_back(self) -> None:
        """Do nothing: nobody in this process wants to be called."""


def source_of(run: Run, blobs: list[Any]) -> tuple[Source, int]:
    """Return where the chunks of a run come from, and how many blobs they are."""
    if run.layout == RANGE:
        return Items(range(*run.extra), run.chunksize, str), 0
    if run.layout == PACKED:
        # Plain values, of which nothing is the program's own.
        return Items(_pickle.loads(blobs[0]), run.chunksize, str), 1
    payloads = []
    position = 0
    for index in range(run.chunks):
        end = position + 1 + (0 if run.extra is None else run.extra[index])
        payloads.append(blobs[position:end])
        position = end
    return Passed(payloads, run.chunksize), position


def label_of(run: Run) -> Callable[[int, int], str]:
    """Return what names items of a run as the program does."""
    skipped = run.first * run.chunksize

    def label(first: int, last: int) -> str:
        text: str = run.label(skipped + first, skipped + last)
        return text

    return label
