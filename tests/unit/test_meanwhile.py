"""What other threads do at the wrong moment: made to happen then, by what is looked at."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from schedulertable import Table

from pool._faces._results import MapResult
from pool._local._events import CancelRequested, Send
from pool._local._express import _borrow
from pool._local._interrupts import GRACE
from pool._local._job_table import JobTable
from pool._local._members import members
from pool._local._peers import Sent
from pool._local._sending import Sending
from pool._local._streams import Batch, CallStream


class Moment(float):
    """A time which something happens while it is compared with another one."""

    happening: Callable[[], object]

    def __lt__(self, other: Any) -> bool:
        self.happening()
        return float(self) < float(other)

    __gt__ = __lt__


def moment(when: float, happening: Callable[[], object]) -> Moment:
    made = Moment(when)
    made.happening = happening
    return made


# --- while the thread that drives looks for how long it may sleep ------------------------


def test_a_worker_comes_while_time_limits_are_looked_through() -> None:
    table = Table()
    workers = table.scheduler.workers
    table.submit(1, chunks=2, timeout=5.0)

    def come() -> None:
        workers[len(workers) + 1] = workers[1]

    for worker in list(workers.values()):
        for message in worker.messages.values():
            message.deadline = moment(worker.worker_id, come)
    assert table.scheduler.next_deadline() == 1
    assert len(workers) > 2


def test_a_time_limit_is_over_while_it_is_looked_at() -> None:
    table = Table(processes=1)
    table.submit(1, timeout=5.0)
    (message,) = table.scheduler.workers[1].messages.values()

    class Watched:
        """A message that is late just when it has been asked whether it can be."""

        @property
        def deadline(self) -> float | None:
            due, message.deadline = message.deadline, None
            return due

    table.scheduler.workers[1].messages[1] = Watched()  # type: ignore[assignment]  # all it is asked
    assert table.scheduler.next_deadline() == 5.0


def test_a_task_is_cancelled_while_others_are_looked_through() -> None:
    table = Table()
    table.submit(1)
    table.submit(2)
    table(CancelRequested(1))
    table(CancelRequested(2))
    asked = table.scheduler.interrupts.asked

    def cancelled() -> None:
        asked[(len(asked), 0, 0, None)] = (GRACE, 0, False)

    for number, key in enumerate(list(asked)):
        asked[key] = (moment(number, cancelled), 0, False)
    assert table.scheduler.next_deadline() == 0
    assert len(asked) > 2


def test_a_weak_set_changes_while_it_is_looked_through() -> None:
    class Changing(weakref.WeakSet[Any]):
        changes = 2

        def __iter__(self) -> Any:
            if self.changes:
                self.changes -= 1
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    kept = SimpleNamespace
    assert members(Changing([kept])) == [kept]


def test_the_workers_of_a_pool_go_before_one_of_them_is_borrowed() -> None:
    scheduler = SimpleNamespace(loans=SimpleNamespace(lendable=lambda: 1))
    driver: Any = SimpleNamespace(scheduler=scheduler, jobs={}, dirty=[], peers={})
    assert _borrow(driver, None, [], "call") is None


# --- while results are cancelled, which takes no lock --------------------------------------


class Vanishing(JobTable):
    """Jobs that are taken out as soon as they have been seen."""

    def __contains__(self, job_id: object) -> bool:
        return self.pop(job_id, None) is not None  # type: ignore[call-overload]  # a number

    def get(self, job_id: int, default: Any = None) -> Any:
        return self.pop(job_id, None)


def test_a_job_is_cancelled_while_it_is_sent() -> None:
    posted: list[Any] = []
    peer: Any = SimpleNamespace(
        sent={}, known=set(), forgets=[], post=lambda *sent: posted.append(sent)
    )
    jobs = Vanishing(SimpleNamespace(), {1: peer}, [])  # type: ignore[arg-type]  # not asked
    jobs[7] = SimpleNamespace(function=None, encode=lambda start, stop, blobs: (start, stop))  # type: ignore[assignment]  # all it is asked
    crew = SimpleNamespace(unlaunched=[])
    driver: Any = SimpleNamespace(crew=crew, peers={1: peer}, jobs=jobs, inbox=deque())
    Sending(driver).send(Send(1, 3, [(7, 0, 1)]))
    Sending(driver).send(Send(1, 4, [(7, 1, 2)]))
    assert [head[1] for head, _ in posted] == [3]
    assert [event.__class__.__name__ for event in driver.inbox] == [
        "CancelRequested", "MessagesReclaimed",
    ]  # fmt: skip


def test_a_job_is_cancelled_while_those_of_a_worker_are_looked_up() -> None:
    peer: Any = SimpleNamespace(sent={3: Sent([(7, 0, 1), (8, 0, 1)], [])})
    jobs = Vanishing(SimpleNamespace(), {1: peer}, [])  # type: ignore[arg-type]  # not asked
    job = jobs[7] = SimpleNamespace()  # type: ignore[assignment]  # as above
    assert jobs.of_worker(1) == [job]


def test_a_map_is_cancelled_while_its_outcomes_are_delivered() -> None:
    for chunksize in (1, 2):
        result = MapResult(None, SimpleNamespace(), chunksize, 4)  # type: ignore[arg-type]  # as above
        assert not result.deliver(0, [5] if chunksize == 1 else [[5, 6]], False)
        result.abort(ValueError("cancelled"))
        assert not result.deliver(1, [7] if chunksize == 1 else [[7, 8]], False)
        assert repr(result._value) == "ValueError('cancelled')"


def test_a_call_is_cancelled_when_all_of_its_kind_have_been_given_up() -> None:
    driver = SimpleNamespace(inbox=deque())
    batch = Batch(CallStream(driver, SimpleNamespace(), str), 1)  # type: ignore[arg-type]  # as above
    batch.results.append(SimpleNamespace(abort=lambda error: False))
    batch.abort(ValueError("given up"))
    assert batch.drop(0) is None
    assert not driver.inbox
