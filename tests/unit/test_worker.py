"""The beginning of a worker whose initializer comes in a message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pool._pickling import dumps_to_worker
from pool._transport._channel import Channel, socket_pair
from pool._transport._journal import JournalFile, attach
from pool._transport._messages import AWAITED, EXIT, INITIALIZE, READY, REFUSED
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
