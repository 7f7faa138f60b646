"""What an arena keeps for the next object and what it gives back."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store
import store._depot
from store._arena import Arena
from store._memory import HUGE, PAGE, collapse, map_file, unmap
from store._segments import FRESH, Segment
from store._settings import MODES

MIB = 1 << 20
KEPT = 16 * MIB


@pytest.fixture(params=[mode for mode in MODES if mode != "frames"])
def arena(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arena]:
    monkeypatch.setenv("POOL_STORE_KEEP", str(KEPT))
    made = Arena(request.param)
    yield made
    made.close()


def filled(arena: Arena, nbytes: int) -> Any:
    place = arena.allocate(nbytes)
    arena.write(place, memoryview(bytes(nbytes)))
    return place


def test_free_keeps_as_much_as_it_may(arena: Arena) -> None:
    places = [filled(arena, 10 * MIB) for _ in range(5)]
    for place in places:
        arena.free(place)
    assert arena.live == 0
    # Given back in steps of huge pages.
    assert KEPT - 2 * MIB <= arena.resident <= KEPT + 2 * MIB


def test_no_more_is_kept_than_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STORE_KEEP", "4M")
    monkeypatch.setenv("POOL_STORE_MAX", "200M")
    asked = Arena("memfd")
    monkeypatch.delenv("POOL_STORE_KEEP")
    for arena, most in ((asked, 4 * MIB), (Arena("memfd"), 50 * MIB)):
        places = [filled(arena, 10 * MIB) for _ in range(6)]
        for place in places:
            arena.free(place)
        assert most - 2 * MIB <= arena.resident <= most
        arena.close()


def test_what_is_kept_is_used_first(arena: Arena) -> None:
    for place in [filled(arena, 5 * MIB) for _ in range(6)]:
        arena.free(place)
    before = arena.resident
    place = filled(arena, 8 * MIB)
    assert arena.resident == before
    arena.free(place)


def test_trim_gives_everything_back(arena: Arena) -> None:
    kept = filled(arena, 4 * MIB)
    arena.free(filled(arena, 12 * MIB))
    assert arena.trim() >= 10 * MIB
    assert arena.resident - arena.live <= 2 * MIB
    arena.free(kept)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("failing_after", [None, 0, 2])
def test_what_is_written_in_steps_is_whole_and_its_neighbours_too(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, failing_after: int | None, threads: int
) -> None:
    """Wherever fresh pages begin, and if the system has no huge ones left in between."""
    monkeypatch.setattr(store._copying, "threads", lambda: threads)
    monkeypatch.setattr(store._copying, "PART_NBYTES", FRESH)
    calls = []

    def collapse_some(address: int, nbytes: int) -> int:
        calls.append(nbytes)
        if failing_after is not None and len(calls) > failing_after:
            return errno.EAGAIN
        return collapse(address, nbytes)

    monkeypatch.setattr(store._memory, "collapse", collapse_some)
    generator = np.random.default_rng(7)
    written = []
    for nbytes in (PAGE, FRESH - PAGE, FRESH + 1, 3 * FRESH + 3 * PAGE + 5, 5 * FRESH, 3 * PAGE):
        data = generator.bytes(nbytes)
        place = segment, offset = arena.allocate(nbytes)
        arena.write(place, memoryview(data))
        written.append((segment, offset, data))
    for segment, offset, data in written:
        assert os.pread(segment.fd, len(data), offset) == data
        assert not segment.missing(offset, len(data))
        assert segment.resident == segment._populated.count(1) * PAGE


def test_what_fails_leaves_nothing_allocated(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = filled(arena, 4 * MIB)
    ((_, allocator),) = arena.segments.values()

    def fail(*args: Any) -> bool:
        raise KeyboardInterrupt

    for wrong in (1e6, -1.5):
        with pytest.raises(TypeError):
            allocator.allocate(wrong)  # type: ignore[arg-type]  # that is the point
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(arena, "_allows", fail)
        arena.allocate(MIB)
    assert allocator.used == arena.live == 4 * MIB
    allocator.check_invariants()
    arena.free(kept)


def spilling(monkeypatch: pytest.MonkeyPatch, folder: Path, most: int) -> Arena:
    """Return an arena that takes so much memory, and the disk beyond."""
    monkeypatch.setenv("POOL_STORE_MAX", str(most))
    monkeypatch.setenv("POOL_STORE_SPILL", str(folder))
    return Arena("memfd")


def test_the_disk_is_used_only_while_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arena = spilling(monkeypatch, tmp_path, 90 * MIB)
    kept = filled(arena, 40 * MIB)
    large = filled(arena, 60 * MIB)
    assert large[0].on_disk and arena.spilled == 60 * MIB
    arena.free(large)
    # Not in what is left of the first segment, but there is room for another.
    place = filled(arena, 30 * MIB)
    assert not place[0].on_disk and not arena.spilled
    for taken in (kept, place):
        arena.free(taken)
    arena.close()


def test_what_is_on_disk_does_not_keep_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arena = spilling(monkeypatch, tmp_path, 60 * MIB)
    small, large = filled(arena, 40 * MIB), filled(arena, 80 * MIB)
    assert large[0].on_disk and not small[0].on_disk
    arena.free(small)
    assert 0 < arena.resident <= 15 * MIB
    assert arena.trim() > 0 and arena.resident == 0
    arena.free(large)
    arena.close()


def nbytes_on_disk(segment: Segment) -> int:
    assert segment.on_disk
    return os.fstat(segment.fd).st_blocks * 512


def test_disk_space_is_given_back_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arena = spilling(monkeypatch, tmp_path, MIB)
    places = [filled(arena, 8 * MIB) for _ in range(2)]
    segment = places[0][0]
    assert nbytes_on_disk(segment) >= 16 * MIB
    arena.free(places[0])
    assert 8 * MIB <= nbytes_on_disk(segment) < 9 * MIB
    segment.write(places[1][1], memoryview(b"1"))
    arena.free(places[1])
    assert nbytes_on_disk(segment) == 0
    arena.prefault(8 * MIB)
    assert nbytes_on_disk(segment) == 0 == arena.live
    arena.free(filled(arena, 8 * MIB))
    arena.close()


def test_what_fails_leaves_nothing_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reserve = os.posix_fallocate

    def fail(fd: int, offset: int, nbytes: int) -> None:
        reserve(fd, offset, nbytes // 2)
        raise OSError(errno.ENOSPC, "no space left")

    arena = spilling(monkeypatch, tmp_path, MIB)
    kept = arena.allocate(4 * MIB)
    place = segment, _ = arena.allocate(8 * MIB)
    what = "8 MB: 0 MB of at most 1 MB and 4 MB on disk are in use; .*no space left"
    with monkeypatch.context() as patched, pytest.raises(store.StoreFull, match=what):
        patched.setattr(os, "posix_fallocate", fail)
        arena.write(place, memoryview(bytes(8 * MIB)))
    assert nbytes_on_disk(segment) == 0
    arena.free(kept)
    arena.close()


@pytest.mark.parametrize(
    "fills", [Arena.write, lambda arena, place, data: arena.reserve(place, len(data))]
)
def test_what_fails_leaves_no_pages(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, fills: Callable[..., None]
) -> None:
    calls = count()

    def fail(fd: int, data: bytes, offset: int) -> int:
        if next(calls):
            raise OSError(errno.ENOSPC, "no space left")
        return write(fd, data[: len(data) // 2 + 1], offset)

    write = os.pwrite
    place = segment, _ = arena.allocate(8 * MIB)
    monkeypatch.setattr(os, "pwrite", fail)
    folders = "TMPDIR and POOL_STORE_SPILL" if arena.mode == "tmpfile" else "POOL_STORE_SPILL"
    with pytest.raises(store.StoreFull, match=f"no space left.* or set {folders} to a folder"):
        fills(arena, place, memoryview(bytes(8 * MIB)))
    assert os.fstat(segment.fd).st_blocks * 512 <= PAGE and not arena.resident
    arena.free(place)


def test_what_is_still_being_written_is_within_the_budget_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arena = spilling(monkeypatch, tmp_path, 60 * MIB)
    places = [arena.allocate(40 * MIB) for _ in range(2)]
    assert [segment.on_disk for segment, _ in places] == [False, True]
    for place in places:
        arena.write(place, memoryview(bytes(40 * MIB)))
        arena.free(place)
    arena.close()


def test_a_segment_that_is_too_large_keeps_nothing(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Argument:
        pass

    def allocate() -> Any:
        argument = Argument()
        arena.allocate(MIB)
        return weakref.ref(argument)

    def make(fd: int, nbytes: int) -> None:
        if nbytes > 2 * MIB:
            raise OSError(errno.EFBIG, "file too large")
        truncate(fd, nbytes)

    truncate = os.ftruncate
    monkeypatch.setattr(os, "ftruncate", make)
    gc.disable()
    try:
        assert allocate()() is None
    finally:
        gc.enable()
    assert [segment.nbytes for segment, _ in arena.segments.values()] == [2 * MIB]


def test_where_the_disk_is_full_no_pages_are_ready(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Segment, "reserve", fail)
    with pytest.raises(store.StoreFull, match="no space left") as caught:
        arena.prefault(MIB)
    assert caught.value.nbytes == MIB and isinstance(caught.value.__cause__, OSError)
    assert arena.live == 0


@pytest.mark.skipif(not HUGE, reason="no huge pages here")
@pytest.mark.parametrize("offset", [0, PAGE, HUGE - PAGE, HUGE, 3 * HUGE + 5 * PAGE])
@pytest.mark.parametrize("private", [False, True])
def test_parts_are_mapped_as_they_lie_in_huge_pages(
    arena: Arena, offset: int, private: bool
) -> None:
    segment, start = filled(arena, 16 * MIB)
    assert start == 0
    contents = (np.arange(16 * MIB) % 251).astype("u1")
    segment.write(start, memoryview(contents))
    address = map_file(segment.fd, offset, 4 * MIB, private)
    try:
        assert (address - offset) % HUGE == 0
        seen = np.ctypeslib.as_array((ctypes.c_uint8 * (4 * MIB)).from_address(address))
        assert (seen == contents[offset : offset + 4 * MIB]).all()
    finally:
        unmap(address, 4 * MIB)
    arena.free((segment, start))


def test_pages_that_threads_write_at_once_are_all_counted() -> None:
    inside, outside = threading.Event(), threading.Event()

    class Watched(bytearray):
        """Lets another thread run while the first one counts."""

        def count(self, *args: Any) -> int:
            found = super().count(*args)
            if threading.current_thread() is first:
                inside.set()
                outside.wait(0.2)  # in vain, if the other one must not come in between
            return found

    segment = Segment(1, 2 * MIB, "memfd")
    segment._populated = Watched(segment._populated)
    first = threading.Thread(target=segment._mark, args=(0, 4 * PAGE))
    first.start()
    inside.wait()
    segment._mark(8 * PAGE, 16 * PAGE)
    outside.set()
    first.join()
    assert segment.resident == 12 * PAGE
    segment.close()


def test_stats_have_all_sizes_before_there_is_anything() -> None:
    store._depot.shutdown()
    before = store.stats()
    ref = store.put(np.ones(100_000))
    after = store.stats()
    del ref
    assert before.keys() == after.keys()
    assert before["live"] == 0 < after["live"]
