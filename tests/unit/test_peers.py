"""A worker as its parent sees it: what can be taken back, and what a death leaves behind."""

from __future__ import annotations

import _socket
import errno
import os
import pickle
import tracemalloc
from array import array
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pool._local._crew import Crew
from pool._local._events import Send
from pool._local._express import _SENT as LENT
from pool._local._express import Loan
from pool._local._outcomes import Outcomes
from pool._local._peers import Peer, Sent, decode, decode_many, without_first
from pool._local._pickle_streams import split_stream
from pool._transport._channel import BUFFER_NBYTES, Channel, DescriptorsLost
from pool._transport._journal import (
    ALL_CHUNKS,
    FINISHED,
    FLUSHED,
    HALT,
    LAYOUT,
    MESSAGE,
    TARGET,
    TARGET_CHUNK,
    USED,
    JournalFile,
    Slot,
    attach,
    chunk_word,
)
from pool._transport._messages import DONE, EXIT, FLOATS, INITIALIZE, INTS, ONE, RUN, STREAM
from pool._transport._sockets import socket_from, socket_pair
from store import _anonymous

DONTWAIT = _socket.MSG_DONTWAIT


class Pair:
    """A peer, and the worker that it stands for."""

    def __init__(self) -> None:
        self.journal = JournalFile(1)
        ours, theirs = socket_pair()
        self.worker = Channel(socket_from(os.dup(theirs.fileno())))
        self.page: Slot = attach(self.journal.fd, 0)
        self.peer = Peer(1, ours, theirs, 0, self.journal.slot(0), bytearray(BUFFER_NBYTES))

    def post(self, message_id: int, runs: list[tuple[int, int, int]], nbytes: int = 0) -> None:
        self.peer.sent[message_id] = Sent(runs, [])
        self.peer.channel.send((RUN, message_id, (), (), ()), [bytes(nbytes)])

    def begin(self, message_id: int) -> None:
        words = self.page.words
        words[FINISHED] = words[FLUSHED] = words[USED] = 0
        words[MESSAGE] = message_id

    def keep(self, *values: object) -> None:
        """Do as the worker does with outcomes that it does not send at once."""
        words = self.page.words
        words[LAYOUT] = STREAM
        for value in values:
            data = pickle.dumps(value)
            used = words[USED]
            self.page.data[used : used + len(data)] = data
            words[USED] = used + len(data)
            words[FINISHED] += 1

    def close(self) -> None:
        self.peer.close()
        self.worker.close()
        self.page.release()
        self.journal.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def salvaged(pair: Pair) -> tuple[int | None, list[Any]]:
    running, pickles = pair.peer.salvage()
    return running, [pickle.loads(data) for data in pickles]


def test_a_peer_takes_little_memory() -> None:
    journal, (ours, theirs) = JournalFile(1), socket_pair()
    buffer = bytearray(BUFFER_NBYTES)
    tracemalloc.start()
    try:
        peer = Peer(1, ours, theirs, 0, journal.slot(0), buffer)
        nbytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    peer.close()
    journal.close()
    assert nbytes < 8192


# --- taking back ------------------------------------------------------------------------


def test_unread_messages_are_taken_back_and_the_worker_never_sees_them(pair: Pair) -> None:
    pair.post(1, [(1, 0, 1)])
    pair.post(2, [(1, 1, 2)], nbytes=1 << 20)
    pair.post(3, [(1, 2, 3)])
    assert pair.worker.receive()[0][1] == 1
    assert pair.peer.reclaim() == [2, 3]
    assert list(pair.peer.sent) == [1]
    with pytest.raises(BlockingIOError):
        pair.worker.receive(DONTWAIT)


def test_what_a_worker_awaits_before_it_starts_may_be_taken_back(pair: Pair) -> None:
    pair.peer.channel.send((INITIALIZE,), [b"initializer"])
    pair.post(1, [(1, 0, 1)])
    assert pair.peer.initialized
    assert pair.peer.reclaim() == [1]
    assert not pair.peer.initialized


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "bad sector")])
def test_messages_that_cannot_be_read_are_taken_back_as_well(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*args: Any) -> Any:
        raise error

    pair.peer.sent[1] = Sent([(1, 0, 1)], [])
    # Each too small for the store, and all of them too large for the socket.
    pair.peer.channel.send((RUN, 1, (), (), ()), [bytes(60_000)] * 4)
    pair.post(2, [(1, 1, 2)])
    monkeypatch.setattr(_anonymous, "read_into", refuse)
    assert pair.peer.reclaim() == [1, 2]


def test_nothing_to_take_back(pair: Pair) -> None:
    assert pair.peer.reclaim() == []
    pair.post(1, [(1, 0, 1)])
    pair.worker.receive()
    assert pair.peer.reclaim() == []
    assert list(pair.peer.sent) == [1]


def test_taking_back_from_a_worker_that_is_gone(pair: Pair) -> None:
    pair.post(1, [(1, 0, 1)])
    pair.worker.close()
    assert pair.peer.reclaim() == [1]
    assert pair.peer.reclaim() == []


def test_function_is_not_taken_for_known_with_a_message_that_came_back(pair: Pair) -> None:
    pair.peer.sent[1] = Sent([(1, 0, 1)], [77])
    pair.peer.channel.send((RUN, 1, ((77, True, 0),), (), ()), [b"function"])
    assert pair.peer.reclaim() == [1]
    assert 77 not in pair.peer.known


def test_other_messages_are_not_reported(pair: Pair) -> None:
    pair.post(1, [(1, 0, 1)])
    pair.peer.channel.send((EXIT,))
    assert pair.peer.reclaim() == [1]


# --- what a death leaves ----------------------------------------------------------------


def test_worker_that_died_idle_leaves_nothing(pair: Pair) -> None:
    assert pair.peer.salvage() == (None, [])


def test_message_that_was_read_and_not_begun_is_not_running(pair: Pair) -> None:
    pair.begin(1)
    pair.post(2, [(1, 0, 3)])
    pair.worker.receive()
    assert pair.peer.salvage() == (None, [])


def test_message_that_was_begun_is_running(pair: Pair) -> None:
    pair.post(5, [(1, 0, 3)])
    pair.begin(5)
    assert pair.peer.salvage() == (5, [])


def test_outcomes_that_were_kept_are_found(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.keep("a", [1, 2], None)
    assert salvaged(pair) == (5, ["a", [1, 2], None])


def test_outcomes_that_were_sent_are_not_found_again(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.keep("a", "b", "c")
    # The parent got two of them; the worker died before it could note that.
    pair.peer.sent[5].answered = 2
    assert salvaged(pair) == (5, ["c"])


def test_outcomes_kept_after_a_flush(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.keep("a", "b")
    pair.peer.sent[5].answered = 2
    pair.page.words[USED] = 0
    pair.page.words[FLUSHED] = 2
    pair.keep("c")
    assert salvaged(pair) == (5, ["c"])


def test_outcome_that_was_written_and_not_counted_is_lost_alone(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.keep("a", "b")
    pair.page.words[FINISHED] = 1
    assert salvaged(pair) == (5, ["a"])


def test_worker_that_died_between_sending_and_noting_was_running_nothing(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.peer.sent[5].answered = 1
    assert pair.peer.salvage() == (None, [])


def test_message_that_was_answered_to_the_end_is_not_running(pair: Pair) -> None:
    pair.post(5, [(1, 0, 1)])
    pair.begin(5)
    del pair.peer.sent[5]
    assert pair.peer.salvage() == (None, [])


@pytest.mark.parametrize(
    ("layout", "code", "values"), [(INTS, "q", [-(1 << 63), 0, 5]), (FLOATS, "d", [0.1, -0.0, 2.0])]
)
def test_outcomes_kept_as_machine_words(
    pair: Pair, layout: int, code: str, values: list[Any]
) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    data = array(code, values).tobytes()
    pair.page.data[: len(data)] = data
    pair.page.words[LAYOUT] = layout
    pair.page.words[FINISHED] = len(values)
    assert repr(salvaged(pair)) == repr((5, values))
    pair.peer.sent[5].answered = 2
    assert repr(salvaged(pair)) == repr((5, values[2:]))


# --- what is stuck in a slow chunk ------------------------------------------------------


def test_a_worker_that_halts_where_it_was_told_has_begun_no_more(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.keep("a", "b")
    pair.peer.halt(5)
    assert pair.page.words[HALT] == chunk_word(5, 3)
    assert pair.peer.begun_at_halt(5) == 3
    assert pair.peer.harvest(5) == (2, STREAM, pickle.dumps("a") + pickle.dumps("b"))


def test_nothing_is_certain_of_a_worker_that_went_on(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.peer.halt(5)
    pair.keep("it had looked already")
    assert pair.peer.begun_at_halt(5) is None


def test_nothing_is_certain_of_another_message(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.peer.halt(5)
    assert pair.page.words[HALT] == 0, "it was not begun"
    pair.begin(5)
    pair.peer.halt(5)
    # The worker is between two messages: its counts are none of the one before.
    pair.page.words[MESSAGE] = 0
    assert pair.peer.begun_at_halt(5) is None
    pair.post(6, [(1, 9, 12)])
    pair.begin(6)
    assert pair.peer.begun_at_halt(5) is None
    assert pair.peer.begun_at_halt(6) is None


def test_outcomes_on_their_way_are_not_read_as_well(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.keep("a", "b")
    pair.page.words[USED] = 0
    pair.page.words[FLUSHED] = 2
    pair.keep("c")
    assert pair.peer.harvest(5) is None
    pair.peer.sent[5].answered = 2
    assert pair.peer.harvest(5) == (1, STREAM, pickle.dumps("c"))


def test_what_was_read_is_not_salvaged_again(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.keep("a", "b")
    harvest = pair.peer.harvest(5)
    assert harvest is not None
    pair.peer.sent[5].answered += harvest[0]
    assert salvaged(pair) == (5, [])
    pair.keep("c")
    assert salvaged(pair) == (5, ["c"])


def test_what_is_salvaged_after_some_was_read_is_answered_in_full(pair: Pair) -> None:
    pair.post(5, [(1, 0, 9)])
    pair.begin(5)
    pair.keep("a", "b")
    sent = pair.peer.sent[5]
    sent.answered = sent.harvested = 2
    pair.keep("c", "d")
    events: list[Any] = []
    scheduler = SimpleNamespace(handle=lambda event, now: events.append(event) or ())
    outcomes = Outcomes(SimpleNamespace(scheduler=scheduler, jobs={}))  # type: ignore[arg-type]  # all it is asked
    running, pickles = pair.peer.salvage()
    for data in pickles:
        outcomes.answered(pair.peer, (DONE, running, 1, False, 0.0, 0, ONE), [data])
    assert [event.done for event in events] == [1, 1]
    assert sent.answered == 4


def test_an_answer_without_what_is_known_of_it() -> None:
    stream = b"".join(pickle.dumps(value) for value in ("a", "b", "c"))
    assert decode_many(without_first(stream, 3, 2, STREAM), 1, STREAM) == ["c"]
    words = array("q", [1, 2, 3]).tobytes()
    assert decode_many(without_first(words, 3, 1, INTS), 2, INTS) == [2, 3]
    assert len(without_first(words, 3, 3, INTS)) == 0


def test_mail_for_a_worker_that_is_just_buried_is_not_kept(pair: Pair) -> None:
    crew: Any = SimpleNamespace(peers={1: pair.peer}, by_fd={pair.peer.channel.fileno(): pair.peer})
    crew._early_mail = {}

    def worker_exited(peer: Peer, status: int, alone: bool, put_off: bool) -> None:
        Crew.keep_mail(crew, Send(1, 7, [(1, 0, 1)]))

    nothing = SimpleNamespace(unregister=id, release=id)
    arrivals = SimpleNamespace(worker_exited=worker_exited)
    crew._driver = SimpleNamespace(epoll=nothing, arrivals=arrivals)
    crew._journal, crew.launch = nothing, list
    Crew._on_exit(crew, 1, 0)
    assert crew._early_mail == {}


# --- calls on borrowed workers ----------------------------------------------------------


def test_an_answer_to_a_call_that_was_given_up_counts_for_no_other_call(pair: Pair) -> None:
    outcomes = Outcomes(SimpleNamespace())  # type: ignore[arg-type]  # not asked
    outcomes.last_loan -= 1
    number = outcomes.last_loan
    loan = outcomes.loans[pair.peer.worker_id] = Loan(pair.peer.worker_id, number, "call")
    pair.peer.sent[number] = LENT
    outcomes.abort_loans(lambda: ValueError("given up"))
    outcomes.answered(pair.peer, (DONE, number, 1, True, 0.0, 0, ONE), [pickle.dumps(5)])
    assert repr(loan.value) == "ValueError('given up')"
    assert not pair.peer.sent
    # As the next one may be told when its worker dies.
    pair.peer.sent[number - 1] = LENT
    pair.begin(number - 1)
    assert pair.peer.salvage() == (number - 1, [])


# --- whom an interrupt hits -------------------------------------------------------------


def test_interrupt_finds_the_running_chunk(pair: Pair) -> None:
    pair.post(5, [(1, 4, 6), (2, 0, 1)])
    pair.begin(5)
    assert pair.peer.runs(5, 1, None)
    assert pair.peer.runs(5, 1, 4)
    assert not pair.peer.runs(5, 1, 5)
    assert not pair.peer.runs(5, 2, None)
    pair.page.words[FINISHED] = 2
    assert pair.peer.runs(5, 2, 0)
    assert pair.peer.target(5, 2, 0) == 2
    assert pair.peer.target(5, 1, None) is None
    assert not pair.peer.runs(6, 2, None)


def test_interrupt_of_a_whole_message(pair: Pair) -> None:
    pair.post(5, [(1, 4, 6), (1, 0, 1)])
    assert pair.peer.target(5, 1, None) == ALL_CHUNKS
    assert pair.peer.target(6, 1, None) is None


def test_message_that_is_read_and_not_begun_is_about_to_run_its_first_chunk(pair: Pair) -> None:
    pair.post(5, [(1, 4, 6)])
    pair.begin(3)
    pair.page.words[FINISHED] = 1
    assert pair.peer.target(5, 1, 4) == 0
    assert pair.peer.target(5, 1, 5) is None


def test_worker_reads_the_aim(pair: Pair) -> None:
    assert not pair.peer.was_aimed_at(5, 3)
    pair.peer.aim(5, 3)
    assert pair.peer.was_aimed_at(5, 3)
    assert not pair.peer.was_aimed_at(5, 2)
    assert not pair.peer.was_aimed_at(4, 3)
    assert (pair.page.words[TARGET], pair.page.words[TARGET_CHUNK]) == (5, 3)


def test_chunk_of_a_message_is_found_in_its_job() -> None:
    sent = Sent([(1, 4, 6), (2, 0, 1)], [])
    assert [sent.locate(chunk) for chunk in range(4)] == [(1, 4), (1, 5), (2, 0), (None, 0)]


# --- outcomes ---------------------------------------------------------------------------


def test_stream_of_outcomes_is_taken_apart_exactly() -> None:
    values = [None, "a.b.", b".", {"x": [1.5]}, "." * 300]
    pickles = [pickle.dumps(value, protocol) for protocol, value in enumerate(values, 1)]
    assert split_stream(b"".join(pickles), len(values)) == pickles
    assert decode_many(b"".join(pickles), len(values), STREAM) == values


def test_outcomes_of_a_stream_share_nothing() -> None:
    value = ["x"]
    data = pickle.dumps(value) * 2
    first, second = decode_many(data, 2, STREAM)
    assert first == second
    assert first is not second


def test_payload_with_buffers() -> None:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(pickle.PickleBuffer(bytearray(b"abc")), 5, buffer_callback=buffers.append)
    assert bytes(decode([data, bytearray(b"abc")])) == b"abc"


def test_message_whose_descriptor_cannot_be_received_is_taken_back_all_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.post(1, [(7, 0, 1)])
    pair.post(2, [(7, 1, 2)])
    take_back = pair.peer._theirs.take_back
    first = []

    def without_descriptor(flags: int) -> Any:
        found = take_back(flags)
        if not first:
            first.append(found)
            raise DescriptorsLost(*found)
        return found

    monkeypatch.setattr(pair.peer, "_theirs", SimpleNamespace(take_back=without_descriptor))
    assert pair.peer.reclaim() == [1, 2]
