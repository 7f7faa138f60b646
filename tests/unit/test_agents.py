"""What agents and crews say to each other, without any of them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from pool._cluster._errands import Errand, Share, label_of, source_of
from pool._cluster._messages import (
    FAILED,
    LARGE_NBYTES,
    MANY,
    PARTS,
    RAISED,
    VALUE,
    Run,
    Texts,
    nbytes_of,
    owned,
    portable,
)
from pool._cluster._outcomes import _read
from pool._cluster._raw import Raw, Streamed, as_sent
from pool._errors import TaskTimeout
from pool._faces._options import Label
from pool._local import _events as ev
from pool._local._costs import Distance
from pool._local._scheduler import Scheduler
from pool._transport._messages import EACH, MAP, PACKED, RANGE


def run(layout: int, chunks: int, chunksize: int, extra: Any, first: int = 0) -> Run:
    return Run(1, MAP, layout, chunks, chunksize, extra, first, None, Label("map", abs))


def test_chunks_of_a_range() -> None:
    source, used = source_of(run(RANGE, 3, 2, (4, 10, 1)), [])
    blobs: list[Any] = []
    assert (used, source.chunks, source.encode(1, 3, blobs)) == (0, 3, (RANGE, (6, 10, 1)))


def test_chunks_of_plain_items() -> None:
    source, used = source_of(run(PACKED, 2, 2, None), [pickle.dumps([1, 2, 3]), b"of another run"])
    blobs: list[Any] = []
    layout, _ = source.encode(0, 2, blobs)
    assert (used, source.chunks, layout) == (1, 2, PACKED)
    assert pickle.loads(blobs[0]) == [1, 2, 3]


def test_chunks_with_buffers_of_their_own() -> None:
    source, used = source_of(run(EACH, 3, 1, (0, 2, 0)), [b"a", b"b", b"b1", b"b2", b"c", b"rest"])
    blobs: list[Any] = []
    assert used == 5
    assert source.encode(1, 3, blobs) == (EACH, (2, 0))
    assert blobs == [b"b", b"b1", b"b2", b"c"]
    source.done(0, 3)
    blobs.clear()
    source.encode(0, 3, blobs)
    assert not blobs  # let go


def test_outcomes_are_answered_in_their_order_and_once() -> None:
    errand = Errand(4, (1, 1))
    share = Share(errand, 0, 4)
    share.deliver(1, [7], False)
    assert errand.take() == []
    share.deliver(0, [6], False)
    assert errand.take() == [(False, 6), (False, 7)]
    share.deliver(2, [8], False)
    errand.kept = 3  # the last one was given back
    errand.submitted = True
    assert errand.take() == [(False, 8)] and not errand.is_over()
    share.finish()
    assert errand.take() == [] and errand.is_over()


def test_what_never_comes_has_an_outcome_as_well() -> None:
    errand = Errand(3, (1, 1))
    first, second = Share(errand, 0, 2), Share(errand, 2, 1)
    first.deliver(1, [5], False)
    first.abort(KeyError("gone"))
    second.deliver(0, [6], False)
    second.finish()
    (failed, error), *rest = errand.take()
    assert failed and isinstance(error, KeyError) and rest == [(False, 5), (False, 6)]
    assert not errand.open


def stream(*values: Any) -> list[Any]:
    data = b"".join(map(pickle.dumps, values))
    return [Streamed(data, len(values), index) for index in range(len(values))]


def test_streams_travel_whole_if_all_of_them_is_there() -> None:
    whole, part = stream("a", "b"), stream("c", "d", "e")
    sent = as_sent([(False, each) for each in [*whole, 5, *part[:2]]])
    assert [each if isinstance(each, int) else each[0] for each in sent] == [MANY, 5, VALUE, VALUE]
    values = [value for _, values in _read(sent) for value in values]
    assert values == ["a", "b", 5, "c", "d"]
    rest = as_sent([(False, part[2])])
    assert [values for _, values in _read(rest)] == [["e"]]


class Unreadable:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _raise, (self.error,)


def _raise(error: type[BaseException]) -> None:
    raise error("cannot be had here")


@pytest.mark.parametrize("error", [LookupError, SystemExit])
def test_one_outcome_that_cannot_be_read_fails_alone(error: type[BaseException]) -> None:
    sent = as_sent([(False, each) for each in stream("a", Unreadable(error), "b")])
    assert [failed for failed, _ in _read(sent)] == [0, 1, 0]


def test_errors_parts_and_buffers() -> None:
    raised = Raw([pickle.dumps(ValueError("x"))])
    raised.position = 3
    parts = Raw([pickle.dumps([3])])
    parts.parts = [pickle.dumps([1, 2])]
    array = np.arange(100_000)
    buffers: list[Any] = []
    data = pickle.dumps(array, 5, buffer_callback=buffers.append)
    large = Raw([data, *(buffer.raw() for buffer in buffers)])
    late = TaskTimeout("too long")
    sent = pickle.loads(
        pickle.dumps(as_sent([(True, raised), (False, parts), (False, large), (True, late)]), 5)
    )
    assert [each[0] for each in sent] == [RAISED, PARTS, VALUE, FAILED]
    (failed, [error]), (_, [whole]), (_, [found]), (unsent, [timeout]) = _read(sent)
    assert failed == 4 and str(error) == "x"
    assert whole == [1, 2, 3]
    assert (found == array).all() and found.flags.writeable
    assert unsent == -1 and isinstance(timeout, TaskTimeout)


def test_blobs_on_their_way() -> None:
    small, large = memoryview(b"small"), memoryview(bytes(LARGE_NBYTES))
    sent = portable([b"pickle", small, large])
    assert sent[:2] == [b"pickle", b"small"] and sent[2].dtype == np.uint8
    assert nbytes_of(sent) == len("picklesmall") + LARGE_NBYTES
    data, buffers = owned(sent)
    assert data == b"pickle" and [type(buffer) for buffer in buffers] == [bytearray, bytearray]


def test_labels_name_items_as_the_program_does() -> None:
    label = label_of(run(RANGE, 3, 2, (0, 6, 1), first=5))
    assert label(1, 1) == "item 11 of map(abs)"
    sent = pickle.loads(pickle.dumps(Label("map", lambda x: x)))
    assert str(sent).startswith("map(test_labels") or str(sent).startswith("map(test_agents")
    assert Texts(["fifth", "sixth"], 10, 2)(12, 13) == "sixth"


@pytest.mark.parametrize("watched", [True, False])
def test_far_away_nothing_is_timed_here(watched: bool) -> None:
    scheduler = Scheduler(1, distance=Distance(watched=watched))
    scheduler.handle(ev.WorkersWanted(), 0.0)
    scheduler.handle(ev.WorkerReady(1), 0.0)
    scheduler.handle(ev.JobSubmitted(1, 5, True, "key", 0, 2.0), 0.0)
    assert (scheduler.next_deadline() is not None) == watched


def test_nothing_is_sent_ahead_where_it_could_not_be_given_back() -> None:
    scheduler = Scheduler(1, distance=Distance(prefetch_below=0.0))
    scheduler.handle(ev.WorkersWanted(), 0.0)
    commands = scheduler.handle(ev.JobSubmitted(1, 5, True, "key"), 0.0)
    assert [type(command) for command in commands] == [ev.Send]


def test_what_came_back_from_behind_a_long_task_is_not_sent_there_again() -> None:
    scheduler = Scheduler(1, distance=Distance(message_work=50e-3, prefetch_below=0.2))
    scheduler.handle(ev.WorkersWanted(), 0.0)
    scheduler.handle(ev.WorkerReady(1), 0.0)
    scheduler.handle(ev.JobSubmitted(1, 50, True, "key"), 0.0)
    scheduler.handle(ev.MessageAnswered(1, 1, 1, True, 1e-3, ()), 0.0)
    first, second = scheduler.workers[1].messages
    assert scheduler.handle(ev.MessageAnswered(1, second, 0, True, 0.0, ()), 0.3) == []
    assert list(scheduler.workers[1].messages) == [first]
    done = scheduler.workers[1].messages[first].chunks
    commands = scheduler.handle(ev.MessageAnswered(1, first, done, True, 1.0, ()), 1.0)
    assert ev.Send in [type(command) for command in commands]
