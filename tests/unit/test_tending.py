"""Threads that submit look after the engine, so that no stand-in has to; against a fake driver."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from time import monotonic
from types import SimpleNamespace

import pytest

from pool._local._tending import TendedLead
from pool._local._waiting import GRACE, Lead
from store import _mappings

STAND_IN = "actorpool"
ALWAYS = float("inf")


class Driver:
    """Sleeps in `step` until it is woken; says who looks."""

    def __init__(self) -> None:
        self.crashed = self.closed = self.held_here = False
        self.calls_back = self.something = False
        self.outstanding = True
        #: When somebody last looked, and how often that was asked.
        self.looked = 0.0
        #: Who has looked, and who has begun to sleep.
        self.looks: list[str] = []
        self.sleeps: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.wakes = 0
        self._happenings: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def check_open(self) -> None:
        raise AssertionError("it was closed")

    def arrived(self) -> bool:
        return self.something

    def look(self) -> None:
        self.looks.append(threading.current_thread().name)

    def step(self, patience: float | None, eager: bool = False) -> None:
        self.sleeps.put(threading.current_thread().name)
        happening = self._happenings.get()
        if happening is not None:
            happening()

    def wake(self) -> None:
        self.wakes += 1
        self._happenings.put(None)

    def call_back(self) -> None: ...

    def happen(self, what: Callable[[], object]) -> None:
        self._happenings.put(what)

    def wait_for(self, name: str) -> None:
        """Wait until the thread of that name sleeps."""
        while self.sleeps.get() != name:
            continue


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def lead(driver: Driver) -> Iterator[TendedLead]:
    lead = TendedLead(driver)
    yield lead
    driver.outstanding = False
    driver.wake()
    lead.retire_stand_in()


def call_stand_in(driver: Driver, lead: TendedLead) -> None:
    lead.ensure_stand_in()
    driver.wait_for(STAND_IN)


def me() -> str:
    return threading.current_thread().name


def test_a_thread_that_submits_looks_by_itself(driver: Driver, lead: TendedLead) -> None:
    lead.attend()
    assert driver.looks == [me()]


def test_it_does_not_look_again_at_once(driver: Driver, lead: TendedLead) -> None:
    driver.looked = ALWAYS
    lead.attend()
    assert driver.looks == []


def test_where_nothing_is_submitted_any_more_the_stand_in_drives(
    driver: Driver, lead: TendedLead
) -> None:
    lead.attend()
    driver.wait_for(STAND_IN)


class Watched(TendedLead):
    """Say when the stand-in asks whether it is needed."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.asked: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def looked_after(self) -> bool:
        self.asked.put(None)
        return super().looked_after


def test_the_stand_in_leaves_a_thread_alone_that_looks(driver: Driver) -> None:
    lead = Watched(driver)
    lead._visited = ALWAYS
    lead.ensure_stand_in()
    for _ in range(3):
        lead.asked.get()
    assert driver.sleeps.empty()
    # It has to run callbacks, whoever looks.
    driver.calls_back = True
    driver.wait_for(STAND_IN)
    driver.outstanding = False
    driver.wake()
    lead.retire_stand_in()


def test_as_long_as_work_is_outstanding_the_lead_is_kept_alive(driver: Driver) -> None:
    lead = Watched(driver)
    lead._visited = ALWAYS
    asked = lead.asked
    reference = weakref.ref(lead)
    lead.ensure_stand_in()
    stand_in = lead._stand_in
    asked.get()
    asked.get()
    del lead
    assert reference() is not None
    driver.outstanding = False
    assert stand_in is not None
    stand_in._thread.join()  # which ends when it finds nobody to stand in for
    assert reference() is None


def test_a_thread_that_submits_relieves_a_stand_in_that_is_late(
    driver: Driver, lead: TendedLead
) -> None:
    call_stand_in(driver, lead)
    driver.something = True
    while not driver.looks:
        lead.attend()
    assert driver.looks[0] == me()
    # Once nobody submits, it drives again.
    driver.wait_for(STAND_IN)


@pytest.mark.parametrize("case", ["nothing there", "a moment ago", "in a callback"])
def test_a_stand_in_is_left_in_peace(driver: Driver, lead: TendedLead, case: str) -> None:
    call_stand_in(driver, lead)
    if case != "nothing there":
        driver.something = True
    if case == "a moment ago":
        driver.looked = ALWAYS
    if case == "in a callback":
        driver.calls_back = True
    lead.attend()
    assert (driver.wakes, driver.looks) == (0, [])


def test_a_callback_that_submits_does_not_relieve_its_own_thread(
    driver: Driver, lead: TendedLead
) -> None:
    call_stand_in(driver, lead)
    driver.something = True
    finished = threading.Event()

    def callback() -> None:
        lead.attend()
        finished.set()

    driver.happen(callback)
    finished.wait()
    assert (driver.wakes, driver.looks) == (0, [])


def test_a_busy_stand_in_is_not_asked_again_at_once(driver: Driver, lead: TendedLead) -> None:
    call_stand_in(driver, lead)
    driver.something = True
    go_on = threading.Event()
    inside = threading.Event()

    def much() -> None:
        inside.set()
        go_on.wait()

    driver.happen(much)
    inside.wait()
    before = monotonic()
    lead.attend()
    assert (driver.wakes, driver.looks) == (1, [])
    # In which time a thread that submits makes a thousand calls.
    assert lead._patient >= before + GRACE
    go_on.set()


def test_whoever_leads_when_something_is_submitted_a_stand_in_is_hired(
    driver: Driver, lead: TendedLead
) -> None:
    done = threading.Event()
    waiter = threading.Thread(target=lambda: lead.wait(done.is_set), name="waiter")
    waiter.start()
    driver.wait_for("waiter")
    lead.attend()
    driver.happen(done.set)
    waiter.join()
    driver.wait_for(STAND_IN)


def test_a_glance_looks_and_frees_the_lead(driver: Driver, lead: TendedLead) -> None:
    lead.glance()
    assert driver.looks == [me()]
    assert not lead.taken
    assert driver.sleeps.empty()


def test_a_glance_leaves_it_to_the_leader(driver: Driver, lead: TendedLead) -> None:
    call_stand_in(driver, lead)
    lead.glance()
    assert driver.looks == []


def test_within_the_lines_of_the_driver_nobody_looks(driver: Driver, lead: TendedLead) -> None:
    # The collector, or a signal handler, may run anywhere, also while this thread handles an event:
    # it would wait for the lock that it holds itself.
    driver.held_here = True
    lead.glance()
    lead.attend()
    assert driver.looks == []


def test_within_the_lines_of_the_store_nobody_looks(
    driver: Driver, lead: TendedLead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finalizer may run there; to take in a result is to enter it with the store."""
    with monkeypatch.context() as inside:
        inside.setattr(_mappings, "books", SimpleNamespace(held_here=True))
        lead.glance()
        assert driver.looks == []
    lead.glance()
    assert driver.looks == [me()]


def test_within_the_lines_of_the_store_another_thread_ends_the_lead(
    driver: Driver, lead: TendedLead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that drives may be about to wait for the store."""
    monkeypatch.setattr(_mappings, "books", SimpleNamespace(held_here=True))
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    lead.end(lambda: ended.put(me()))
    assert ended.get() == "actorpool-end"


def test_a_plain_lead_is_not_looked_after(driver: Driver) -> None:
    assert not Lead(driver).looked_after
