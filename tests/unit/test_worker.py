"""The beginning of a worker whose initializer comes in a message."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pool._pickling import dumps_to_worker
from pool._transport._channel import Channel
from pool._transport._journal import ALL_CHUNKS, MESSAGE, TARGET, TARGET_CHUNK, JournalFile, attach
from pool._transport._messages import (
    AWAITED,
    DONE,
    EXIT,
    INITIALIZE,
    READY,
    REFUSED,
    REST,
    STREAM,
)
from pool._transport._sockets import socket_pair
from pool._workers._worker import Worker

Ends = tuple[Channel, Worker]


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
