"""What crews and agents say to each other.

Everything here is pickled by the system in between. Pickles of the program's objects are bytes
in it, with large buffers as arrays of bytes, which these systems share or send without copies.
"""

from __future__ import annotations

import sys
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, NamedTuple

    #: A pickle and its buffers.
    Payload = Sequence[Any]

    class Config(NamedTuple):
        version: tuple[Any, ...]
        maxtasksperchild: int | None
        limits: Mapping[str, str]
        main: bytes
        path: Sequence[str]
        number: int = 1

    class Started(NamedTuple):
        host: str
        pid: int
        failure: Payload | None

    class Run(NamedTuple):
        function_id: int
        mode: int
        layout: int
        chunks: int
        chunksize: int
        extra: Any
        first: int
        timeout: float | None
        label: Any

    class Answer(NamedTuple):
        outcomes: Sequence[Any]
        final: bool
        kept: int | None
        elapsed: float
        failure: Payload | None
else:
    # `version`: what both sides must have in common. `main`: what the main module of the program
    # says of itself. `path`: its `sys.path`. `number`: of the worker.
    Config = namedtuple("Config", "version maxtasksperchild limits main path number", defaults=(1,))
    # `failure`: what the initializer raised; in an answer, in a worker that was to follow another.
    Started = namedtuple("Started", "host pid failure")
    # Chunks of one job that follow each other, the `first` of them having this number; the rest as
    # in `pool._transport._messages`.
    Run = namedtuple("Run", "function_id mode layout chunks chunksize extra first timeout label")
    # `outcomes` of the chunks that follow those of the answer before, see below. `final`: nothing
    # more will come. `kept`: chunks that the agent goes on with; those behind them it gives back;
    # None if it gives nothing back. `elapsed`: seconds that these outcomes took.
    Answer = namedtuple("Answer", "outcomes final kept elapsed failure")

# An outcome is a number as it is, or a tuple that begins with one of these.
VALUE = 0  #: a payload
PARTS = 1  #: a payload, and pickles of lists of values that come before its own
RAISED = 2  #: a payload, and the position of the item in the chunk
FAILED = 3  #: an exception of this library, pickled: nothing of the program's raised it
MANY = 4  #: pickles of values, one after the other, and how many: so many outcomes in one


class Texts:
    """A label that was written out for each chunk of a run.

    Parameters
    ----------
    texts : list of str
    first : int
        Number of the first item.
    chunksize : int
    """

    def __init__(self, texts: list[str], first: int, chunksize: int) -> None:
        self._texts = texts
        self._first = first
        self._chunksize = chunksize

    def __call__(self, first: int, last: int) -> str:
        """Name the chunk that has these items."""
        return self._texts[(first - self._first) // self._chunksize]


#: Bytes from which on a buffer is worth an array of its own.
LARGE_NBYTES = 64 << 10


def version() -> tuple[Any, ...]:
    """Return what this process has that the other side must have, too."""
    return (*sys.version_info[:2], sys.modules["pool"].__version__)


def portable(blobs: Iterable[Any]) -> list[Any]:
    """Return blobs as what can be sent to another machine: bytes, and arrays of bytes."""
    return [_portable(blob) for blob in blobs]


def _portable(blob: Any) -> Any:
    if type(blob) is bytes and len(blob) < LARGE_NBYTES:
        return blob
    import numpy as np

    from store._mappings import Block

    view = blob.view() if type(blob) is Block else blob
    if memoryview(view).nbytes < LARGE_NBYTES:
        return bytes(view)
    return np.frombuffer(view, np.uint8)


def received(blobs: Iterable[Any]) -> list[Any]:
    """Return blobs that have come as what can be passed on to a worker."""
    return [blob if type(blob) is bytes else memoryview(blob) for blob in blobs]


def owned(blobs: Iterable[Any]) -> tuple[Any, list[Any]]:
    """Return a pickle and its buffers such that what is unpickled may be written to."""
    data, *buffers = received(blobs)
    return data, [bytearray(buffer) for buffer in buffers]


def nbytes_of(blobs: Iterable[Any]) -> int:
    """Return how large blobs are, in bytes."""
    return sum(len(blob) if type(blob) is bytes else memoryview(blob).nbytes for blob in blobs)
