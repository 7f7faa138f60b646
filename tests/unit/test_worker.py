"""The beginning of a worker whose initializer comes in a message, and interrupts between chunks."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # missing in typeshed
from types import SimpleNamespace
from typing import Any

import pytest

from pool._local._peers import decode, decode_many
from pool._pickling import dumps_to_worker
from pool._transport._channel import Channel
from pool._transport._journal import (
    ALL_CHUNKS,
    FINISHED,
    MESSAGE,
    TARGET,
    TARGET_CHUNK,
    JournalFile,
    attach,
)
from pool._transport._messages import (
    AWAITED,
    DONE,
    EXIT,
    INITIALIZE,
    MAP,
    ONE,
    PACKED,
    RANGE,
    READY,
    REFUSED,
    REST,
    RUN,
    STREAM,
)
from pool._transport._sockets import socket_pair
from pool._workers import _quick, _worker
from pool._workers._worker import Worker

Ends = tuple[Channel, Worker]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers hand nothing back because an error took some milliseconds to be pickled."""
    monkeypatch.setattr(_worker, "PATIENCE", 60.0)


@contextmanager
def beginning() -> Iterator[Ends]:
    ours, theirs = socket_pair()
    journal = JournalFile(1)
    page = attach(journal.fd, 0)
    parent = Channel(ours)
    worker = Worker(Channel(theirs), page, os.getpid())
    yield parent, worker
    parent.close()
    worker.channel.close()
    page.release()
    journal.close()


def send_initializer(parent: Channel, *call: Any) -> None:
    encoded = dumps_to_worker(call)
    parent.send((INITIALIZE,), [encoded.data, *encoded.buffers])


noted: list[int] = []


def note(data: bytes) -> None:
    noted.append(len(data))


def test_initializer_that_comes_after_another_message() -> None:
    with beginning() as (parent, worker):
        noted.clear()
        parent.send((EXIT,))
        send_initializer(parent, note, (b"x" * 100_000,))
        assert worker.initialize(AWAITED)
        assert noted == [100_000]
        assert parent.receive()[0] == (READY, os.getpid())
        worker.serve()  # the message that came first ends it


def test_initializer_in_a_message_may_raise() -> None:
    with beginning() as (parent, worker):
        send_initializer(parent, int, ("none",))
        assert not worker.initialize(AWAITED)
        head, _ = parent.receive()
        assert head[0] == REFUSED


def test_parent_that_is_gone_before_it_sent_the_initializer() -> None:
    with beginning() as (parent, worker):
        parent.close()
        assert not worker.initialize(AWAITED)


@pytest.mark.parametrize("interruptible", [True, False])
def test_interrupt_comes_when_what_is_behind_a_chunk_has_been_handed_back(
    interruptible: bool,
) -> None:
    with beginning() as (parent, worker):
        worker.words[MESSAGE] = worker.words[TARGET] = 5
        worker.words[TARGET_CHUNK] = ALL_CHUNKS
        worker._left = iter([1])
        worker.interruptible = interruptible

        def interrupted() -> tuple[int, bytes, int]:
            worker.on_interrupt(signal.SIGINT, None)
            return 2, b"outcomes", STREAM

        worker._loop = SimpleNamespace(send_early=interrupted)  # type: ignore[assignment]  # all it is asked
        if interruptible:
            with pytest.raises(KeyboardInterrupt):
                worker.hand_back()
        else:
            worker.hand_back()  # a task that has been interrupted goes on
        kinds = [head[0] for head, _ in filter(None, (parent.look(), parent.look()))]
        assert kinds == [DONE, REST]
        assert not worker.interruptible


aimed_at: list[Worker] = []


def aim_at_the_next(item: int) -> int:
    """Fail; by then the parent has aimed at the chunk behind this one."""
    if item == 10:
        worker = aimed_at.pop()
        worker.words[TARGET_CHUNK] = 1
        worker.words[TARGET] = worker.words[MESSAGE]
        raise LookupError
    return item


def outcomes(parent: Channel) -> list[Any]:
    """Return values, and classes of exceptions, of all chunks that were answered."""
    found: list[Any] = []
    while (message := parent.look()) is not None:
        (_, _, chunks, _, _, failed, layout), blobs = message
        if chunks:
            values = [decode(blobs)] if layout == ONE else decode_many(blobs[0], chunks, layout)
            found += map(type, values) if failed else values
    return found


def run(worker: Worker, function: Any, *runs: Any) -> None:
    blobs = [pickle.dumps(function), *(pickle.dumps(run) for run in runs if type(run) is list)]
    heads = tuple(
        (1, MAP, PACKED, len(run), 1, None)
        if type(run) is list
        else (1, MAP, RANGE, len(run), 1, (run.start, run.stop, run.step))
        for run in runs
    )
    worker._run((RUN, 5, ((1, True, 0),), (), heads), blobs)


def test_a_chunk_that_is_interrupted_before_it_begins_is_that_chunk() -> None:
    with beginning() as (parent, worker):
        aimed_at[:] = [worker]
        run(worker, aim_at_the_next, [10, 11, 12, 13])
        assert outcomes(parent) == [LookupError, KeyboardInterrupt, 12, 13]


def unpicklable(item: int) -> object:
    return (n for n in range(item))


def test_a_quick_result_that_cannot_be_sent_is_refused_like_any_other() -> None:
    with beginning() as (parent, worker):
        run(worker, unpicklable, [1, 2])
        # To find that out may take so long that the second chunk is handed back.
        assert outcomes(parent)[0] is MaybeEncodingError


@pytest.mark.parametrize("function", [abs, str])  # kept as words, and as pickles
@pytest.mark.parametrize("done", [2, 3, 5])
def test_an_interrupt_between_two_chunks_is_for_the_second(
    function: Any, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with beginning() as (parent, worker):

        def clock() -> float:
            if worker.words[FINISHED] == done and not worker.words[TARGET]:
                worker.words[TARGET_CHUNK] = done
                worker.words[TARGET] = worker.words[MESSAGE]
                worker.on_interrupt(signal.SIGINT, None)
            return 0.0

        # By clocks that stand: on a busy machine later chunks would be handed back.
        monkeypatch.setattr(_quick, "perf_counter", clock)
        monkeypatch.setattr(_worker, "perf_counter", lambda: 0.0)
        run(worker, function, range(3), [3, 4, 5])
        expected = [function(item) for item in range(6)]
        expected[done] = KeyboardInterrupt
        assert outcomes(parent) == expected
