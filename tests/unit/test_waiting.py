"""Who drives: leaders, followers and the stand-in, over a driver that does as it is told."""

from __future__ import annotations

import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pool._local._waiting import Lead
from store._interrupts import shield

if TYPE_CHECKING:
    from types import FrameType

    Strike = Callable[[FrameType, str, object], Any]

STAND_IN = "actorpool"


class Driver:
    """Sleeps in `step` until a test tells it what happens there."""

    def __init__(self) -> None:
        self.crashed = self.closed = self.outstanding = self.held_here = False
        self._happenings: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        #: Name of the thread, each time one begins to sleep.
        self.entered: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.inside = 0
        self.calling: list[object] = []
        #: Who has run callbacks.
        self.called: queue.SimpleQueue[str] = queue.SimpleQueue()

    def step(self, patience: float | None, eager: bool = False) -> None:
        self.inside += 1
        self.entered.put(threading.current_thread().name)
        try:
            happening = self._happenings.get(timeout=patience)
        except queue.Empty:
            return
        finally:
            self.inside -= 1
        if happening is not None:
            happening()

    def wake(self) -> None:
        self._happenings.put(None)

    def call_back(self) -> None:
        self.calling.clear()
        self.called.put(threading.current_thread().name)

    def happen(self, what: Callable[[], object]) -> None:
        self._happenings.put(what)

    def wait_for_leader(self, name: str) -> None:
        """Wait until the thread of that name sleeps in `step`."""
        while self.entered.get() != name:
            continue

    def steppers(self) -> set[str]:
        """Return the names of all that have stepped since this was last asked."""
        names = set()
        while not self.entered.empty():
            names.add(self.entered.get())
        return names


class Waiter:
    """A thread that waits, and knows when it has become a follower."""

    def __init__(self, lead: Lead, name: str, timeout: float | None = None) -> None:
        self.done = threading.Event()
        self.follows = threading.Event()
        self.result: list[object] = []
        self._lead = lead
        self.thread = threading.Thread(target=self._run, args=(timeout,), name=name)
        self.thread.start()

    def _run(self, timeout: float | None) -> None:
        try:
            self.result.append(self._lead.wait(self._ready, timeout))
        except BaseException as error:
            self.result.append(error)

    def _ready(self) -> bool:
        # Asked once more between becoming a follower and falling asleep.
        if threading.current_thread() is self.thread and any(
            follower.ready == self._ready for follower in self._lead._followers
        ):
            self.follows.set()
        return self.done.is_set()

    def join(self) -> object:
        self.thread.join()
        (result,) = self.result
        return result


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def lead(driver: Driver) -> Iterator[Lead]:
    lead = Lead(driver)
    yield lead
    driver.outstanding = False
    driver.wake()
    lead.retire_stand_in()


def leading(driver: Driver, lead: Lead, name: str) -> Waiter:
    waiter = Waiter(lead, name)
    driver.wait_for_leader(name)
    return waiter


def following(lead: Lead, name: str) -> Waiter:
    waiter = Waiter(lead, name)
    waiter.follows.wait()
    return waiter


def finish(driver: Driver, waiter: Waiter) -> None:
    """Make what it waits for happen, and see it go."""
    driver.happen(waiter.done.set)
    assert waiter.join() is True


def interrupt() -> None:
    raise KeyboardInterrupt


def me() -> str:
    return threading.current_thread().name


# --- one thread -------------------------------------------------------------------------


def test_what_is_ready_needs_no_driving(driver: Driver, lead: Lead) -> None:
    assert lead.wait(lambda: True) is True
    assert lead.wait(lambda: True, 0.0) is True
    assert driver.steppers() == set()


def test_thread_that_waits_drives(driver: Driver, lead: Lead) -> None:
    arrived: list[int] = []
    driver.happen(lambda: None)
    driver.happen(lambda: arrived.append(1))
    assert lead.wait(lambda: bool(arrived)) is True
    assert driver.steppers() == {me()}
    assert not lead.taken


def test_timeout_of_a_leader(driver: Driver, lead: Lead) -> None:
    assert lead.wait(lambda: False, 0.001) is False
    assert driver.steppers() == {me()}
    assert not lead.taken


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_no_patience_at_all(driver: Driver, lead: Lead, timeout: float) -> None:
    assert lead.wait(lambda: False, timeout) is False
    assert not lead.taken


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_lead_is_free_after_an_error(driver: Driver, lead: Lead, kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("in the middle")

    driver.happen(fail)
    with pytest.raises(kind, match="in the middle"):
        lead.wait(lambda: False)
    assert not lead.taken
    arrived: list[int] = []
    driver.happen(lambda: arrived.append(1))
    assert lead.wait(lambda: bool(arrived))


def test_callback_may_wait_for_another_result(driver: Driver, lead: Lead) -> None:
    order: list[str] = []

    def callback() -> None:
        driver.happen(lambda: order.append("inner"))
        assert lead.wait(lambda: "inner" in order)
        assert lead.wait(lambda: False, 0.001) is False
        order.append("outer")

    driver.happen(callback)
    assert lead.wait(lambda: "outer" in order)
    assert order == ["inner", "outer"]


def test_waiting_inside_the_driver_is_refused(driver: Driver, lead: Lead) -> None:
    caught: list[str] = []

    def pickling() -> None:
        driver.held_here = True
        try:
            lead.wait(lambda: False)
        except RuntimeError as error:
            caught.append(str(error))
        driver.held_here = False

    driver.happen(pickling)
    assert lead.wait(lambda: bool(caught))
    assert "inside the pickling" in caught[0]


# --- two threads ------------------------------------------------------------------------


def test_follower_is_woken_by_the_leader(driver: Driver, lead: Lead) -> None:
    first = leading(driver, lead, "first")
    second = following(lead, "second")
    finish(driver, second)
    assert first.thread.is_alive()
    finish(driver, first)
    assert "second" not in driver.steppers()
    assert not lead.taken


def test_follower_takes_over_when_the_leader_is_done(driver: Driver, lead: Lead) -> None:
    first = leading(driver, lead, "first")
    second = following(lead, "second")
    finish(driver, first)
    driver.wait_for_leader("second")
    finish(driver, second)


def test_follower_takes_over_when_the_leader_fails(driver: Driver, lead: Lead) -> None:
    first = leading(driver, lead, "first")
    second = following(lead, "second")
    driver.happen(interrupt)
    assert isinstance(first.join(), KeyboardInterrupt)
    driver.wait_for_leader("second")
    finish(driver, second)


def test_timeout_of_a_follower_leaves_the_leader_alone(driver: Driver, lead: Lead) -> None:
    first = leading(driver, lead, "first")
    second = Waiter(lead, "second", timeout=0.001)
    assert second.join() is False
    assert lead.taken
    finish(driver, first)
    assert "second" not in driver.steppers()
    assert not lead._followers


def test_of_many_followers_each_gets_its_own_result(driver: Driver, lead: Lead) -> None:
    first = leading(driver, lead, "first")
    others = [following(lead, f"other {number}") for number in range(5)]
    for other in reversed(others):
        finish(driver, other)
    finish(driver, first)


# --- the stand-in -----------------------------------------------------------------------


def call_stand_in(driver: Driver, lead: Lead) -> None:
    driver.outstanding = True
    lead.ensure_stand_in()
    driver.wait_for_leader(STAND_IN)


def test_stand_in_drives_while_nobody_waits(driver: Driver, lead: Lead) -> None:
    call_stand_in(driver, lead)
    finished = threading.Event()
    driver.happen(finished.set)
    finished.wait()
    assert lead.taken


def test_stand_in_rests_when_nothing_is_left_and_comes_again(driver: Driver, lead: Lead) -> None:
    call_stand_in(driver, lead)
    driver.outstanding = False
    driver.wake()
    call_stand_in(driver, lead)


def test_stand_in_makes_way_for_a_thread_that_waits(driver: Driver, lead: Lead) -> None:
    call_stand_in(driver, lead)
    waiter = leading(driver, lead, "waiter")
    finish(driver, waiter)
    # And takes over again, for work is left.
    driver.wait_for_leader(STAND_IN)


def test_stand_in_is_not_needed_while_somebody_leads(driver: Driver, lead: Lead) -> None:
    waiter = leading(driver, lead, "waiter")
    driver.outstanding = True
    lead.ensure_stand_in()
    finish(driver, waiter)
    driver.wait_for_leader(STAND_IN)


def test_stand_in_takes_over_from_leader_and_follower_that_are_ready_at_once(
    driver: Driver, lead: Lead
) -> None:
    call_stand_in(driver, lead)
    first = leading(driver, lead, "first")
    second = following(lead, "second")

    def both() -> None:
        first.done.set()
        second.done.set()

    driver.happen(both)
    assert (first.join(), second.join()) == (True, True)
    # The leader left while there was a follower, and the follower had no reason to lead.
    driver.wait_for_leader(STAND_IN)


def test_stand_in_takes_over_from_a_leader_that_fails(driver: Driver, lead: Lead) -> None:
    call_stand_in(driver, lead)
    waiter = leading(driver, lead, "waiter")
    driver.happen(interrupt)
    assert isinstance(waiter.join(), KeyboardInterrupt)
    driver.wait_for_leader(STAND_IN)


def test_stand_in_takes_over_from_a_leader_that_ran_out_of_time(driver: Driver, lead: Lead) -> None:
    call_stand_in(driver, lead)
    waiter = Waiter(lead, "waiter", timeout=0.001)
    assert waiter.join() is False
    driver.steppers()
    # It may lead by now and have said so before; then it does not say so again until woken.
    driver.wake()
    driver.wait_for_leader(STAND_IN)


def test_callback_in_the_stand_in_may_wait(driver: Driver, lead: Lead) -> None:
    call_stand_in(driver, lead)
    results: list[bool] = []
    finished = threading.Event()

    def callback() -> None:
        driver.happen(lambda: results.append(True))
        lead.wait(lambda: bool(results))
        finished.set()

    driver.happen(callback)
    finished.wait()
    assert results == [True]


def test_error_in_the_stand_in_is_reported_and_callbacks_that_are_due_are_run(
    driver: Driver, lead: Lead, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
    monkeypatch.setattr(sys, "unraisablehook", reports.put)
    call_stand_in(driver, lead)

    def fail() -> None:
        driver.crashed = True
        raise ValueError("broken")

    driver.happen(fail)
    report = reports.get()
    assert (report.exc_type, str(report.exc_value)) == (ValueError, "broken")
    assert driver.called.get() == STAND_IN


def test_callbacks_of_an_engine_that_a_submitting_thread_has_given_up(
    driver: Driver, lead: Lead
) -> None:
    driver.outstanding = driver.crashed = True
    driver.calling.append("due")
    lead.ensure_stand_in()
    assert driver.called.get() == STAND_IN
    # Nothing else of it is driven.
    assert not lead.forsaken()
    assert driver.steppers() == set()


def test_callbacks_that_are_due_just_as_the_stand_in_goes_to_sleep(
    driver: Driver, lead: Lead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not hear who rings while it is awake, and has to look again."""
    driver.outstanding = driver.crashed = True
    call_back = lead.call_back
    late = ["due"]

    def call_back_too_early() -> None:
        call_back()
        driver.calling.extend(late)
        late.clear()
        lead.ensure_stand_in()

    monkeypatch.setattr(lead, "call_back", call_back_too_early)
    lead.ensure_stand_in()
    assert [driver.called.get() for _ in range(2)] == [STAND_IN] * 2


def test_retired_stand_in_is_gone(driver: Driver) -> None:
    lead = Lead(driver)
    call_stand_in(driver, lead)
    driver.outstanding = False
    driver.wake()
    lead.retire_stand_in()
    assert STAND_IN not in {thread.name for thread in threading.enumerate()}
    # And no other one is hired.
    driver.outstanding = True
    lead.ensure_stand_in()
    assert STAND_IN not in {thread.name for thread in threading.enumerate()}


def test_a_finalizer_does_not_wait_for_a_callback_in_the_stand_in(
    driver: Driver, lead: Lead
) -> None:
    call_stand_in(driver, lead)
    let_go, done = threading.Event(), threading.Event()

    def callback() -> None:
        let_go.wait()
        done.set()

    driver.happen(callback)
    driver.outstanding = False
    shield.finalize(lead.retire_stand_in)
    assert not done.is_set()
    let_go.set()
    done.wait()


def test_stand_in_does_not_keep_its_lead_alive(driver: Driver) -> None:
    lead = Lead(driver)
    call_stand_in(driver, lead)
    stand_in = lead._stand_in
    assert stand_in is not None
    driver.outstanding = False
    driver.wake()
    gone = threading.Event()
    weakref.finalize(lead, gone.set)
    del lead
    gone.wait()
    stand_in.retire()


def test_a_wait_in_a_callback_of_another_pool_is_as_safe_from_interrupts(
    driver: Driver, lead: Lead
) -> None:
    # The other pool's wait has let interrupts through, for its callback.
    seen: list[bool] = []
    driver.happen(lambda: seen.append(shield._open))
    token = shield.enter()
    try:
        assert shield.opened(lead.wait, lambda: bool(seen))
    finally:
        shield.leave(token)
    assert seen == [False]


# --- moments without anybody -------------------------------------------------------------


def test_nobody_drives_while_something_is_done_exclusively(driver: Driver, lead: Lead) -> None:
    call_stand_in(driver, lead)
    seen: list[tuple[bool, int]] = []
    lead.exclusively(lambda: seen.append((lead.taken, driver.inside)))
    assert seen == [(True, 0)]
    driver.wait_for_leader(STAND_IN)


def test_leader_itself_does_something_exclusively(driver: Driver, lead: Lead) -> None:
    seen: list[int] = []
    driver.happen(lambda: lead.exclusively(lambda: seen.append(1)))
    assert lead.wait(lambda: bool(seen))


@pytest.mark.parametrize("interrupted", [Lead.acquire, Lead.abdicate])
def test_between_any_two_instructions_the_leader_may_do_something_exclusively(
    driver: Driver, lead: Lead, interrupted: Callable[[Lead], object]
) -> None:
    # As a signal handler that terminates the pool does.
    seen: list[bool] = []

    def strike(frame: FrameType, event: str, argument: object) -> Strike | None:
        if frame.f_code is not interrupted.__code__:  # type: ignore[attr-defined]  # of a function
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            lead.exclusively(lambda: seen.append(lead.taken_here))
            assert lead.wait(lambda: False, 0.0) is False
        return strike

    before = sys.gettrace()
    # Python 3.12 has such events only if a frame wants them when tracing begins.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(strike)
    try:
        lead.acquire()
        lead.abdicate()
    finally:
        sys.settrace(before)
    assert len(seen) > 10
    assert all(seen)
    assert not lead.taken
    assert not lead.taken_here


def test_lead_is_free_after_an_exclusive_error(driver: Driver, lead: Lead) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lead.exclusively(fail)
    assert not lead.taken
