"""What is kept of processes that have ended: not more of their segments than is good."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest

import store
import store._depot
from store import _anonymous, _orphans, _readers
from store._links import Link
from store._mappings import Block
from store._segments import STEP, Segment

NBYTES = 200_000
_keys = count(1 << 62)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    gc.collect()
    _orphans.review()
    assert not _readers.orphans and not _orphans.crowded()


def received(value: int, used: int = NBYTES) -> tuple[Link, Any]:
    """Return what a process has sent that has made one object in a segment of its own."""
    segment = Segment(next(_keys), STEP, "memfd")
    segment.write(0, memoryview(np.full(used, value, "u1")))
    link = Link(lambda: None)
    note = (
        ((0, segment.key, 0, NBYTES, 0, NBYTES, 1),),
        (),
        (),
        ((segment.key, STEP),),
    )
    blobs: list[Any] = [b""]
    link.unpack(blobs, note, [os.dup(segment.reader_fd)])
    segment.close()
    return link, blobs[0]


def kept(value: int, used: int = NBYTES) -> Any:
    """Return a view of what came from a process that has ended since."""
    link, blob = received(value, used)
    view = np.frombuffer(blob.view() if type(blob) is Block else blob, "u1")
    del blob
    link.close()
    return view


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_are_bounded_whatever_is_kept() -> None:
    before = descriptors()
    views = [kept(number % 251) for number in range(3 * _orphans.COUNT_MAX)]
    assert len(_readers.orphans) == _orphans.COUNT_MAX
    assert descriptors() <= before + _orphans.COUNT_MAX + 8
    assert all((view == number % 251).all() for number, view in enumerate(views))
    # Those that were copied are objects of this process, which can be sent on as they are.
    copied = store.stats()["copied"]
    store.put(views[-1])
    assert store.stats()["copied"] == copied


def test_what_there_is_no_memory_to_copy_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [kept(1) for _ in range(_orphans.COUNT_MAX)]

    def refuse(*args: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(store._depot.Depot, "put", refuse)
        patched.setattr(Block, "copy", refuse)
        link, blob = received(2)
    assert type(blob) is Block and blob.copy() == bytes([2]) * NBYTES
    del blob, views
    link.close()


def test_few_descriptors_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 40)
    views = [kept(number) for number in range(20)]
    assert len(_readers.orphans) == 5
    assert all((view == number).all() for number, view in enumerate(views))


def test_what_was_let_go_makes_room() -> None:
    views = [kept(1) for _ in range(_orphans.COUNT_MAX + 1)]
    link, blob = received(2)
    assert blob.reader.key not in _readers.orphans and not link._readers.keys() & {blob.reader.key}
    del blob
    link.close()
    del views[:2]
    gc.collect()
    link, blob = received(3)
    assert link._readers.keys() == {blob.reader.key}
    del blob
    link.close()


def test_memory_that_nobody_looks_at_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_orphans, "SPARE_NBYTES", 4 << 20)
    frugal = [kept(1) for _ in range(30)]
    assert len(_readers.orphans) == 30
    frugal.clear()
    views = [kept(1, STEP) for _ in range(30)]
    assert len(_readers.orphans) <= 4
    assert all((view == 1).all() for view in views)


def test_segment_that_another_thread_is_letting_go_takes_nothing() -> None:
    view = kept(1)
    (reader,) = _readers.orphans.values()
    os.close(reader.fd)  # as its finalizer does
    _orphans.review()
    assert not _orphans.crowded()
    del view, reader


def test_segment_that_comes_again_while_another_thread_is_letting_it_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link, blob = received(1)
    key, fd = blob.reader.key, os.dup(blob.reader.fd)
    assert blob.reader.address
    came: list[Any] = []
    finalizer: Any = _readers.Reader.__del__
    unmap, close = finalizer.__defaults__

    def receive_and_unmap(address: int, nbytes: int) -> None:
        came.append(_readers.attach(key, fd, STEP))
        unmap(address, nbytes)

    link.close()
    monkeypatch.setattr(finalizer, "__defaults__", (receive_and_unmap, close))
    del blob
    monkeypatch.undo()
    (again,) = came
    assert os.pread(again.fd, 1, 0) == b"\1" and _readers.readers[key] is again
    came.clear()


def test_segment_that_goes_in_the_last_moments_of_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views = [kept(1)]
    before = descriptors()
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with monkeypatch.context() as patched:
        patched.setattr(_anonymous, "os", None)
        patched.setattr(_readers, "os", None)
        views.clear()
    assert not seen and descriptors() == before - 1


def test_segment_that_others_still_bring_is_none_of_them() -> None:
    link, blob = received(1)
    reader = blob.reader
    other = Link(lambda: None)
    for _ in range(2):  # until it is confirmed
        other.unpack([], ((), (), (), ((reader.key, STEP),)), [os.dup(reader.fd)])
    link.close()
    assert not _readers.orphans
    other.close()
    assert list(_readers.orphans) == [reader.key]


def test_where_there_is_no_room_it_is_copied_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, data: Any) -> Any:
        raise store.StoreFull("full")

    monkeypatch.setattr(_orphans, "COUNT_MAX", 1)
    monkeypatch.setattr(store._depot.Depot, "put", full)
    views = [kept(number) for number in range(3)]
    assert len(_readers.orphans) == 1
    assert all((view == number).all() for number, view in enumerate(views))


@pytest.mark.parametrize("mode", ["memfd+huge", "memfd", "tmpfile"])
def test_process_that_ends_keeps_what_is_held(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STORE", mode)
    assert not store._depot.shutdown()
    try:
        refs = [store.put(np.full(25_000, number)) for number in range(20)]
        del refs[1:15], refs[2:]
        store._depot.retire()
        (segment, _), *_ = store._depot.depot().arena.segments.values()
        taken = os.fstat(segment.fd).st_blocks * 512
        assert taken <= 2 * 25_000 * 8 + 4 * 4096
        assert [int(store.get(ref).sum()) for ref in refs] == [0, 15 * 25_000]
        # From here on nothing is put there.
        store.put(np.ones(25_000))
        assert os.fstat(segment.fd).st_blocks * 512 == taken
        refs.clear()
    finally:
        assert not store._depot.shutdown()
