"""A user's call on its way: where its chunks come from and where outcomes go.

The scheduler knows a job as a number of chunks. Here is the rest: the function, how a
range of chunks becomes bytes, and the result handle.
"""

from __future__ import annotations

import _pickle

from pool._pickling import ATOMS, Together, dumps_to_worker, withdraw
from pool._transport._messages import CAUGHT, EACH, INLINE, PACKED, RANGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Protocol

    from pool._pickling import Captured

    class Sink(Protocol):
        """What receives the outcomes of a job: a result handle."""

        def deliver(self, start: int, values: list[Any], failed: bool) -> bool:
            """Take the outcomes of chunks ``start..start + len(values)``.

            Called under the driver's lock; must not call anything of the user's. If
            `failed`, there is one value and it is an exception. Return True if
            `call_back` is wanted.
            """

        def finish(self) -> bool:
            """Note that every chunk has its outcome; return True if callbacks follow."""

        def abort(self, error: BaseException) -> bool:
            """Note that nothing more will come; return True if callbacks follow."""

        def call_back(self) -> None:
            """Run the user's callbacks; called without any lock."""


class Function:
    """A pickled function that workers keep by number.

    Parameters
    ----------
    function_id : int
    blobs : list
        Its payload: pickle bytes and buffers.
    stateless : bool
        Whether a call cannot change what the next one sees, so that workers unpickle it once only.
    shared : bool
        Whether several jobs use it: it is dropped when it was not used for long, not with its job.
    captured : Captured, optional
        What it holds, if that may be among its items, too.
    """

    __slots__ = ("blobs", "captured", "function_id", "shared", "stateless", "uses")

    def __init__(
        self,
        function_id: int,
        blobs: list[Any],
        stateless: bool,
        shared: bool,
        captured: Captured | None = None,
    ) -> None:
        self.function_id = function_id
        self.blobs = blobs
        self.stateless = stateless
        self.shared = shared
        self.captured = captured
        #: How many jobs that are not over use it. Threads count without a lock, so the number may
        #: be wrong; it only decides which functions workers keep, and how long.
        self.uses = 0


class Job:
    """One user call, as the driver sees it."""

    __slots__ = (
        "chunksize",
        "depth",
        "function",
        "job_id",
        "label",
        "mode",
        "retries",
        "sink",
        "source",
        "timeout",
    )

    def __init__(
        self,
        job_id: int,
        function: Function | None,
        mode: int,
        source: Source,
        sink: Sink,
        label: Callable[[int, int], str],
    ) -> None:
        self.job_id = job_id
        self.function = function
        self.mode = mode
        self.source = source
        self.sink = sink
        self.label = label
        self.chunksize = source.chunksize
        self.timeout: float | None = None
        self.retries = 0
        self.depth = 0

    def describe(self, chunk: int, position: int | None = None) -> str:
        """Name a chunk, or one item of it, in the user's terms."""
        first = chunk * self.chunksize
        if position is not None:
            return self.label(first + position, first + position)
        return self.label(first, first + self.chunksize - 1)

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[Any, ...]:
        """Append the payloads of chunks start..stop; return the entry of the run."""
        layout, extra = self.source.encode(start, stop, blobs)
        function_id = INLINE if self.function is None else self.function.function_id
        # Workers are not told that errors are wanted as values: they report a failure as such, for
        # it may be tried again. `Outcomes` makes a value of the error that is delivered.
        mode = self.mode & ~CAUGHT
        return (function_id, mode, layout, stop - start, self.chunksize, extra)


class Source:
    """Where the chunks of a job come from.

    Attributes
    ----------
    chunks : int
        How many chunks there are so far.
    final : bool
        Whether there will be no more.
    chunksize : int
        Items in each chunk but the last.
    inherited : int or None
        What the workers have inherited, see `LocalEngine`; None: they are on other machines.
    captured : Captured or None
        What the function holds, if that may be among the items, too.
    """

    __slots__ = ("captured", "chunks", "chunksize", "final", "inherited")

    def __init__(self, chunks: int, final: bool, chunksize: int) -> None:
        self.chunks = chunks
        self.final = final
        self.chunksize = chunksize
        self.inherited: int | None = 0
        self.captured: Captured | None = None

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        """Append the payloads of chunks start..stop to `blobs`.

        Returns
        -------
        layout : int
            EACH, PACKED or RANGE, see `pool._transport._messages`.
        extra : object
            What a worker needs besides the blobs to take the chunks apart.
        """
        raise NotImplementedError

    def done(self, start: int, stop: int) -> None:
        """Free what is kept for chunks start..stop, which have their outcomes."""

    def stop(self) -> None:
        """Produce no more chunks: the job ended before its input did."""


def detached(payload: list[Any]) -> list[Any]:
    """Return a payload with copies of its buffers, which belong to arrays of the user's."""
    if len(payload) == 1:
        return payload
    from store._depot import stored

    return [payload[0], *stored(payload[1:])]


class OneCall(Source):
    """The single chunk of ``apply``, pickled when it was submitted.

    Parameters
    ----------
    blobs : list
        Its payload: pickle bytes and buffers.
    """

    __slots__ = ("_blobs", "_extra")

    def __init__(self, blobs: list[Any]) -> None:
        super().__init__(1, True, 1)
        self._blobs = blobs
        self._extra = (len(blobs) - 1,) if len(blobs) > 1 else None

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        blobs.extend(self._blobs)
        return EACH, self._extra


class Items(Source):
    """Chunks cut from a sequence when they are sent, not before.

    Parameters
    ----------
    items : sequence
        Must not change until the job has finished.
    chunksize : int
    describe : callable
        ``describe(index)`` names an item for error messages.
    """

    __slots__ = ("_describe", "items")

    def __init__(
        self, items: Sequence[Any], chunksize: int, describe: Callable[[int], str]
    ) -> None:
        super().__init__(-(-len(items) // chunksize), True, chunksize)
        self.items = items
        self._describe = describe

    def encode(self, start: int, stop: int, blobs: list[Any]) -> tuple[int, Any]:
        size = self.chunksize
        items = self.items[start * size : stop * size]
        if items.__class__ is range:
            return RANGE, (items.start, items.stop, items.step)
        if stop - start > 1 and ATOMS.issuperset(map(type, items)):
            # The values are immutable: one pickle of all cannot make two tasks share anything.
            # A list, whatever the items were in: of a slice of a tuple, the worker would take the
            # values for a payload.
            blobs.append(_pickle.dumps([*items], 5))
            return PACKED, None
        return append_each(
            (
                encode_chunk(
                    items[at : at + size],
                    start * size + at,
                    self._describe,
                    self.inherited,
                    self.captured,
                )
                for at in range(0, (stop - start) * size, size)
            ),
            blobs,
        )


def append_each(payloads: Iterable[list[Any]], blobs: list[Any]) -> tuple[int, Any]:
    """Append one payload for each chunk to `blobs`; return layout and extra, as `Source.encode`."""
    extra = []
    for payload in payloads:
        blobs.extend(payload)
        extra.append(len(payload) - 1)
    return EACH, tuple(extra) if any(extra) else None


def encode_chunk(
    items: Sequence[Any],
    first: int,
    describe: Callable[[int], str],
    inherited: int | None = 0,
    captured: Captured | None = None,
) -> list[Any]:
    """Pickle one chunk; what cannot be pickled becomes the failure of that chunk alone.

    Returns
    -------
    list
        A payload: pickle bytes and buffers.
    """
    try:
        met: dict[int, Any] | None = None if captured is None else {}
        offers: list[Any] = []
        encoded = dumps_to_worker(items, inherited, met, offers)
        if captured is not None and met and captured.meets(items, met):
            withdraw(offers)
            encoded = dumps_to_worker(Together(captured.function, items), inherited, offers=[])
    except BaseException as error:
        position, error = _culprit(items, error)
        return unsendable(error, describe(first + position))
    return encoded.packet


#: How the note begins that says which item could not be sent.
SENDING = "while sending "


def unsendable(error: BaseException, where: str) -> list[Any]:
    """Return the payload of a chunk that fails with `error` instead of being run."""
    try:
        encoded = dumps_to_worker(_Unsendable(_located(error, where)))
    except BaseException:
        encoded = dumps_to_worker(_Unsendable(_described(error, where)))
    return encoded.packet


def _culprit(items: Sequence[Any], error: BaseException) -> tuple[int, BaseException]:
    """Return the position of the first item that cannot be pickled, and the error about it alone.

    If each one can be pickled, return 0 and `error`, which is that of all together.
    """
    for position, item in enumerate(items):
        try:
            dumps_to_worker(item)
        except BaseException as raised:
            return position, raised
    return 0, error


def _located(error: BaseException, where: str) -> BaseException:
    """Return `error` as a worker will unpickle it, with a note that names the item."""
    try:
        error.add_note(SENDING + where)
        loaded: BaseException = _pickle.loads(_pickle.dumps(error))
    except BaseException:
        return _described(error, where)
    return loaded


def _described(error: BaseException, where: str) -> BaseException:
    """Return an error with the text of another one, which cannot be pickled itself."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:
        text = type(error).__name__  # its `__str__` raises
    described = _pickle.PicklingError(text)
    described.add_note(SENDING + where)
    return described


class _Unsendable:
    """Stand-in for a chunk that could not be pickled: unpickling it raises the error.

    So the failure comes back from a worker in order, like every other outcome.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (self._error,)


def _raise(error: BaseException) -> None:
    raise error
