"""What other threads do at the wrong moment: made to happen then, by what is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedulertable import Table

from pool._local._events import CancelRequested
from pool._local._interrupts import GRACE


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
