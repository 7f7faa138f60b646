"""What a worker notes about its tasks is read as it was noted, also while it goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pool._in_worker._trace import KEPT, NAMES_NBYTES, Trace, entries
from pool._transport._journal import JournalFile, Slot, attach


@pytest.fixture
def slot() -> Iterator[Slot]:
    journal = JournalFile(1, traced=True)
    number = journal.acquire()
    assert number is not None
    page = journal.slot(number)
    yield page
    page.release()
    journal.close()


def view(slot: Slot) -> memoryview:
    assert slot.trace is not None
    return slot.trace


@pytest.fixture
def trace(slot: Slot) -> Iterator[Trace]:
    trace = Trace(view(slot))
    yield trace
    trace._entries.release()
    trace._names.release()
    trace._made.release()


def test_entries_come_back(slot: Slot, trace: Trace) -> None:
    trace.begin(1.0, "f")
    trace.end(False)
    trace.begin(2.0, "größer\n")
    trace.end(True)
    trace.begin(3.0, "f")
    first, second, third = entries(view(slot))
    assert (first[0], first[1], first[4]) == ("f", 1.0, False)
    assert first[1] <= first[2] <= first[3] <= second[2] <= second[3] <= third[2]
    assert (second[0], second[4]) == ("größer", True)
    assert third[3] == 0.0


def test_nothing_noted_is_nothing_read(slot: Slot) -> None:
    view(slot)[8:12] = b"old\0"
    assert entries(view(slot)) == []


def test_the_latest_are_kept(slot: Slot, trace: Trace) -> None:
    for number in range(KEPT + 10):
        trace.begin(number * 1e-6, "f")
        trace.end(False)
    found = entries(view(slot))
    # The clock of these tests begins at 0 for submissions: any of them is in the past, even if the
    # machine has just been started.
    assert sorted(entry[1] for entry in found) == [n * 1e-6 for n in range(10, KEPT + 10)]


def test_an_entry_that_is_being_overwritten_is_left_out(slot: Slot, trace: Trace) -> None:
    trace.begin(1.0, "f")
    trace.end(False)
    trace._entries[0] = 1e300  # the first of four stores of the next entry
    assert entries(view(slot)) == []


def test_more_names_than_there_is_room_for(slot: Slot, trace: Trace) -> None:
    for number in range(NAMES_NBYTES // 100 + 50):
        trace.begin(1.0, f"{number:099}")
        trace.end(False)
    names = [entry[0] for entry in entries(view(slot))]
    assert names[:2] == [f"{0:099}", f"{1:099}"]
    assert all(names) and names[-1] == names[-2]
    # Each of those to come would cost more than the one before it, and be kept as well.
    assert len(trace._numbers) <= NAMES_NBYTES // 100


def test_a_page_that_is_used_again_has_an_empty_trace() -> None:
    journal = JournalFile(1, traced=True)
    number = journal.acquire()
    assert number is not None
    first = attach(journal.fd, number)
    trace = Trace(view(first))
    trace.begin(1.0, "f")
    page = journal.slot(number)
    assert [entry[0] for entry in entries(view(page))] == ["f"]
    journal.release(number)
    assert journal.acquire() == number
    assert entries(view(page)) == []
    page.release()
    journal.close()


def test_a_page_without_a_trace() -> None:
    journal = JournalFile(1)
    number = journal.acquire()
    assert number is not None
    assert attach(journal.fd, number).trace is None
    journal.close()
