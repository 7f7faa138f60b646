"""The journal: pages are handed out clean, and what a worker wrote survives it."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import store._anonymous as anonymous
from pool import Pool, StartError
from pool._transport._journal import (
    FINISHED,
    FLUSHED,
    HALT,
    HEADER_NBYTES,
    LAYOUT,
    MESSAGE,
    SLOT_NBYTES,
    STRUCK,
    TARGET,
    TARGET_CHUNK,
    TRACE_AT,
    TRACE_NBYTES,
    USED,
    WORDS_MAX,
    JournalFile,
    attach,
)

WORDS = (
    MESSAGE, FINISHED, FLUSHED, USED, TARGET, TARGET_CHUNK, LAYOUT, TRACE_AT, HALT, STRUCK,
)  # fmt: skip

#: Bytes for outcomes in a page.
CAPACITY = SLOT_NBYTES - HEADER_NBYTES


@pytest.fixture
def journal() -> Iterator[JournalFile]:
    journal = JournalFile(3)
    yield journal
    journal.close()


def test_words_are_apart_and_inside_the_header() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert max(WORDS) * 8 < HEADER_NBYTES
    assert WORDS_MAX * 8 <= CAPACITY
    assert TRACE_NBYTES % os.sysconf("SC_PAGE_SIZE") == 0
    assert SLOT_NBYTES % os.sysconf("SC_PAGE_SIZE") == 0


def test_every_page_is_handed_out_once(journal: JournalFile) -> None:
    assert [journal.acquire() for _ in range(3)] == [0, 1, 2]
    journal.release(1)
    assert journal.acquire() == 1


@pytest.mark.parametrize("traced", [False, True])
def test_more_pages_are_made_when_all_are_in_use(traced: bool) -> None:
    journal = JournalFile(2, traced)
    behind = 2 + 2 * TRACE_NBYTES // SLOT_NBYTES if traced else 2
    numbers = [journal.acquire() for _ in range(5)]
    assert numbers == [0, 1, behind, behind + 1, behind + 2]
    pages = []
    for number in numbers:
        assert number is not None
        ours, theirs = journal.slot(number), attach(journal.fd, number)
        assert bool(theirs.words[TRACE_AT]) == (traced and number < 2)
        assert (ours.trace is None) == (theirs.trace is None) == (not traced or number >= 2)
        theirs.words[MESSAGE] = number
        theirs.data[:] = bytes([number]) * CAPACITY
        pages += [(number, ours), (number, theirs)]
    for number, page in pages:
        assert page.words[MESSAGE] == number
        assert bytes(page.data) == bytes([number]) * CAPACITY
        page.release()
    journal.release(behind)
    assert journal.acquire() == behind
    journal.close()


def test_no_room_for_more_pages_is_no_error(
    journal: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, nbytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(anonymous, "reserve", fail)
    assert [journal.acquire() for _ in range(5)] == [0, 1, 2, None, None]
    journal.release(1)
    assert journal.acquire() == 1


def test_page_is_handed_out_with_a_clean_header(journal: JournalFile) -> None:
    number = journal.acquire()
    assert number is not None
    slot = journal.slot(number)
    for word in WORDS:
        slot.words[word] = (1 << 64) - 1
    journal.release(number)
    assert journal.acquire() == number
    assert slot.words.tolist() == [0] * len(slot.words)
    slot.release()


def test_pages_do_not_overlap(journal: JournalFile) -> None:
    slots = [journal.slot(number) for number in range(3)]
    for number, slot in enumerate(slots):
        assert len(slot.data) == CAPACITY
        slot.data[:] = bytes([number + 1]) * CAPACITY
        for word in range(len(slot.words)):
            slot.words[word] = number
    for number, slot in enumerate(slots):
        assert bytes(slot.data) == bytes([number + 1]) * CAPACITY
        assert set(slot.words) == {number}
        slot.release()


def test_parent_reads_what_a_killed_worker_wrote(journal: JournalFile) -> None:
    ours = journal.slot(2)
    pid = os.fork()
    if pid == 0:
        try:
            theirs = attach(journal.fd, 2)
            theirs.data[:7] = b"outcome"
            theirs.words[USED] = 7
            theirs.words[MESSAGE] = 1 << 62
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert ours.words[MESSAGE] == 1 << 62
    assert bytes(ours.data[: ours.words[USED]]) == b"outcome"
    ours.release()


def test_worker_reads_whom_the_parent_aims_at(journal: JournalFile) -> None:
    ours = journal.slot(1)
    theirs = attach(journal.fd, 1)
    ours.words[TARGET_CHUNK] = 5
    ours.words[TARGET] = 9
    assert (theirs.words[TARGET], theirs.words[TARGET_CHUNK]) == (9, 5)
    theirs.release()
    ours.release()


def test_close_lets_everything_go_and_may_be_repeated() -> None:
    journal = JournalFile(1)
    slot = journal.slot(0)
    slot.release()
    journal.close()
    journal.close()
    assert journal.fd == -1


def test_close_leaves_a_page_that_is_in_use() -> None:
    journal = JournalFile(1)
    slot = journal.slot(0)
    slot.words[0] = 7
    journal.close()
    assert journal.fd == -1
    assert slot.words[0] == 7
    slot.release()
    journal._parts[0].close()


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the file on a filesystem, which may be full."""
    monkeypatch.setattr(anonymous, "MODE", "tmpfile")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("traced", [False, True])
def test_file_on_a_disk_has_its_space_before_anything_is_stored(traced: bool) -> None:
    journal = JournalFile(3, traced)
    found = os.fstat(journal.fd)
    journal.close()
    assert found.st_blocks * 512 >= found.st_size == 3 * (SLOT_NBYTES + traced * TRACE_NBYTES)


@pytest.mark.usefixtures("on_disk")
def test_full_disk_is_an_exception(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reserve = os.posix_fallocate

    def fail(fd: int, offset: int, nbytes: int) -> None:
        if nbytes > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(fd, offset, nbytes)

    monkeypatch.setattr(os, "posix_fallocate", fail)
    room = SLOT_NBYTES
    with pytest.raises(OSError, match=rf"space.* {2 * SLOT_NBYTES} bytes in {tmp_path}") as caught:
        JournalFile(2)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(StartError, match=rf"a pool of 1 workers.*{tmp_path}"):
        Pool(1).apply(abs, (1,))
    # Traces are not worth an error.
    journal = JournalFile(1, traced=True)
    assert not journal.traced and os.fstat(journal.fd).st_size == SLOT_NBYTES
    journal.close()
