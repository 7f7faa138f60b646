"""Outcomes as the worker of an agent has sent them: this process does not read them."""

from __future__ import annotations

import _pickle

from pool._cluster._messages import FAILED, MANY, PARTS, RAISED, VALUE, portable
from pool._local._outcomes import Outcomes
from pool._local._pickle_streams import split_stream
from pool._transport._messages import STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._jobs import Job


class Raw:
    """An outcome, as the worker has sent it."""

    __slots__ = ("blobs", "parts", "position")

    def __init__(self, blobs: list[Any]) -> None:
        self.blobs = blobs
        #: Pickles of lists of values that come before.
        self.parts: list[Any] = []
        #: Of the item that raised.
        self.position = 0


class Streamed:
    """One of several outcomes that the worker has sent as one stream of pickles."""

    __slots__ = ("count", "index", "stream")

    def __init__(self, stream: bytes, count: int, index: int) -> None:
        self.stream = stream
        self.count = count
        self.index = index


class RawError(Exception):
    """What an initializer raised, as the worker has sent it."""

    def __init__(self, blobs: list[Any]) -> None:
        super().__init__()
        self.blobs = blobs


class RawOutcomes(Outcomes):
    """Deliver outcomes that are not for this process to read."""

    __slots__ = ()

    def value(self, blobs: list[Any]) -> Raw:
        return Raw(blobs)

    def values(self, stored: Any, count: int, layout: int) -> list[Any]:
        if layout == STREAM:
            stream = bytes(stored)
            return [Streamed(stream, count, index) for index in range(count)]
        return super().values(stored, count, layout)  # numbers

    def part(self, blobs: list[Any]) -> list[Any]:
        return [blobs[0]]

    def whole(self, parts: list[Any], value: Raw) -> Raw:
        value.parts = parts
        return value

    def error(self, blobs: list[Any]) -> RawError:
        return RawError(blobs)

    def annotate(self, job: Job, chunk: int, position: int, error: Any) -> None:
        if type(error) is Raw:
            error.position = position


def as_sent(taken: list[tuple[bool, Any]]) -> list[Any]:
    """Return outcomes as they are sent; streams as one, where all of one is there."""
    sent = []
    at = 0
    while at < len(taken):
        failed, value = taken[at]
        if type(value) is not Streamed:
            sent.append(_outcome(failed, value))
            at += 1
            continue
        rest = value.count - value.index
        part = [each for _, each in taken[at : at + rest] if type(each) is Streamed]
        part = [each for each in part if each.stream is value.stream]
        at += len(part)
        if len(part) == value.count:
            sent.append((MANY, value.stream, value.count))
        else:
            pickles = split_stream(value.stream, value.count)
            sent += [(VALUE, [pickles[each.index]]) for each in part]
    return sent


def _outcome(failed: bool, value: Any) -> Any:
    """Return an outcome as it is sent."""
    if type(value) is Raw:
        blobs = portable(value.blobs)
        if failed:
            return RAISED, blobs, value.position
        return (PARTS, blobs, portable(value.parts)) if value.parts else (VALUE, blobs)
    if not failed:
        return value  # a number
    try:
        return FAILED, _pickle.dumps(value, 5)
    except Exception as error:
        return FAILED, _pickle.dumps(RuntimeError(f"{type(value).__name__}: {value} ({error})"), 5)
