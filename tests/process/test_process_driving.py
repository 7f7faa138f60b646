"""Threads that share a pool: whoever drives it at the moment, nobody waits in vain or too long."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import signal
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE, Gate
from pooltasks import begin, hold, pass_gate

from pool import PoolTerminated, TaskCancelled
from pool._faces import _calls
from pool._faces._engines import LocalEngines
from pool._local._arrivals import Arrivals
from pool._local._events import Send
from pool._local._roster import Roster
from pool._local._streams import CallStream
from pool._transport._channel import Channel
from pool._transport._messages import RUN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.ours_only

#: More than goes through a socket.
LARGE = bytes(400_000)


@pytest.fixture
def other_gate(tmp_path: Path) -> Any:
    folder = tmp_path / "other"
    folder.mkdir()
    made = Gate(folder)
    yield made
    made.close()


def test_a_callback_comes_though_the_thread_that_drove_has_gone(
    make_pool: Callable[..., Any], gate: Gate, other_gate: Gate
) -> None:
    # While that thread waits, nobody is needed to stand in; afterwards nobody is there to call.
    pool = make_pool(2)
    driving = threading.Thread(target=pool.map, args=(hold, [gate.path]))
    driving.start()
    gate.entered()
    called = threading.Event()
    pool.apply_async(hold, (other_gate.path,), callback=lambda value: called.set())
    other_gate.entered()
    gate.release()
    driving.join()
    other_gate.release()
    assert called.wait(PATIENCE)


@pytest.mark.parametrize("method", ["apply", "map"])
def test_a_time_limit_holds_though_another_thread_drives(
    make_pool: Callable[..., Any], gate: Gate, method: str
) -> None:
    pool = make_pool(2)
    pool.apply(os.getpid)
    # Which looks after memory would wake now and then.
    pool._engine.driver.limit_memory(None)
    arguments = (gate.path,) if method == "apply" else [gate.path]
    driving = threading.Thread(target=getattr(pool, method), args=(hold, arguments))
    driving.start()
    gate.entered()
    with pytest.raises(multiprocessing.TimeoutError):
        pool.apply_async(signal.pause, timeout=0.05).get()
    gate.release()
    driving.join()


def test_an_imap_is_looked_at_while_it_starts(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    engine = pool._engine
    submit = engine.submit

    def looked_at(*args: Any) -> Any:
        """Do as another thread does just when the job has been submitted."""
        number = submit(*args)
        assert len(pool._cache) == 1
        return number

    monkeypatch.setattr(engine, "submit", looked_at)
    assert list(pool.imap(abs, range(100))) == list(range(100))


def test_an_imap_that_cannot_start_a_thread_leaves_nothing_to_wait_for(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "actorpool-input":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        pool.imap(abs, iter(range(3)))
    assert not pool._cache
    pool.close()
    pool.join()


@pytest.mark.parametrize(
    "submit",
    [lambda pool: pool.map_async(abs, [[1]]), lambda pool: pool.apply_async(abs, (-1,))],
    ids=["map_async", "apply_async"],
)
def test_error_callbacks_come_if_a_submitting_thread_gives_up_the_pool(
    make_pool: Callable[..., Any],
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    submit: Callable[[Any], object],
) -> None:
    """The thread that stands in has gone to sleep: it saw an end with no callbacks yet."""
    pool = make_pool(2)
    pool.map(abs, [-1, -2])
    failed: SimpleQueue[BaseException] = SimpleQueue()
    lead, driver = pool._engine.lead, pool._engine.driver
    forsaken, reason = lead.forsaken, driver.reason
    asleep = threading.Event()

    def fail(command: object) -> None:
        raise MemoryError("of the driver")

    def look() -> bool:
        found: bool = forsaken()
        if driver.crashed and lead._stand_in.parked and not found:
            asleep.set()
        return found

    def reason_later() -> BaseException:
        assert asleep.wait(PATIENCE)
        error: BaseException = reason()
        return error

    pool.apply_async(hold, (gate.path,), error_callback=failed.put)
    monkeypatch.setattr(lead, "forsaken", look)
    monkeypatch.setattr(driver, "reason", reason_later)
    monkeypatch.setitem(driver.handlers, Send, fail)
    with pytest.raises(MemoryError):
        submit(pool)
    assert isinstance(failed.get(timeout=PATIENCE), PoolTerminated)


def test_a_pool_is_closed_without_a_thread_if_nothing_is_left_to_do(
    make_pool: Callable[..., Any],
) -> None:
    pool = make_pool(1)
    assert pool.map(abs, [-1]) == [1]
    before = threading.enumerate()
    pool.close()
    assert threading.enumerate() == before
    pool.join()


def test_a_pool_is_not_over_between_two_workers(
    make_pool: Callable[..., Any], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    engine = pool._engine
    wait, worker_exited = engine.lead.wait, Arrivals.worker_exited
    over: list[Callable[[], bool]] = []
    seen: list[bool] = []

    def wait_and_let_go(ready: Callable[[], bool], *args: Any) -> bool:
        over.append(ready)
        os.kill(pid, signal.SIGKILL)
        return bool(wait(ready, *args))

    def look_and_go_on(arrivals: Arrivals, *args: Any) -> None:
        if engine.driver.jobs:
            seen.append(over[0]())  # as a thread does that waits for another one's news
        worker_exited(arrivals, *args)

    pool.apply_async(hold, (gate.path,))
    result = pool.apply_async(abs, (-5,))
    pid = gate.entered()
    monkeypatch.setattr(engine.lead, "wait", wait_and_let_go)
    monkeypatch.setattr(Arrivals, "worker_exited", look_and_go_on)
    pool.close()
    pool.join()
    assert result.get() == 5
    assert set(seen) == {False}


def test_a_call_that_comes_as_the_last_worker_dies_is_not_lost_to_join(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    pool.apply(os.getpid)
    engine = pool._engine
    worker_exited, exiting, go_on = Arrivals.worker_exited, threading.Event(), threading.Event()

    def hold_up(*args: Any) -> None:
        exiting.set()
        assert go_on.wait(PATIENCE)
        worker_exited(*args)

    class Lazy:
        def keep(self, pool: object) -> None:
            """Nothing: this test holds the pool."""

        def lift(self) -> None:
            """Let the other thread go on, now that this one joins."""
            go_on.set()

    lazy = Lazy()
    engine.lazies.add(lazy)
    monkeypatch.setattr(Arrivals, "worker_exited", hold_up)
    driving = threading.Thread(target=engine.wait, args=(exiting.is_set,))
    driving.start()
    pool._pool[0].kill()
    assert exiting.wait(PATIENCE)
    result = pool.apply_async(abs, (-5,))
    pool.close()
    pool.join()
    driving.join()
    assert result.get() == 5


def test_a_call_that_comes_when_its_pool_has_just_been_terminated_fails(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    pool.apply(os.getpid)
    add = CallStream.add

    def add_late(*args: Any) -> None:
        """Let another thread be quicker."""
        pool.terminate()
        add(*args)

    monkeypatch.setattr(CallStream, "add", add_late)
    called: SimpleQueue[BaseException] = SimpleQueue()
    result = pool.apply_async(os.getpid, error_callback=called.put)
    assert isinstance(called.get(timeout=PATIENCE), PoolTerminated)
    assert result.ready()


def test_a_call_that_comes_when_its_driver_has_just_been_given_up_fails(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    pool.apply(os.getpid)
    engine = pool._engine

    def no_memory(*args: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        # The worker is noted neither as idle nor as one with room: it will be sent nothing more.
        patched.setattr(Roster, "file", no_memory)
        with pytest.raises(MemoryError):
            pool.map(abs, [1])
    # As if another thread had got the engine before.
    monkeypatch.setattr(LocalEngines, "current", lambda engines: engine)
    for result in pool.map_async(abs, [2]), pool.apply_async(abs, (3,)):
        with pytest.raises(PoolTerminated, match="MemoryError"):
            result.get(PATIENCE)


def test_a_call_is_cancelled_within_the_lines_of_the_driver(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    # As a finalizer does, or the handler of a signal that is not put off.
    pool = make_pool(1)
    result = pool.apply_async(hold, (gate.path,))
    called: SimpleQueue[BaseException] = SimpleQueue()
    other = pool.apply_async(hold, (gate.path,), error_callback=called.put)
    gate.entered()
    driver = pool._engine.driver

    def cancel() -> None:
        assert result.cancel()
        assert other.cancel()

    driver.locked(cancel)
    with pytest.raises(TaskCancelled):
        result.get()
    with pytest.raises(TaskCancelled):
        other.get()
    assert called.get() is other._value
    assert not result.cancel()


def test_calls_within_the_lines_of_the_driver(make_pool: Callable[..., Any]) -> None:
    # As the pickling of an item makes them, and a finalizer that comes at the wrong moment.
    pool = make_pool(1)
    pool.apply(abs, (1,))
    locked = pool._engine.driver.locked
    # Longer than what is read ahead: so there is something to come back to.
    results = locked(lambda: pool.imap(abs, [*range(100)]))
    assert list(results) == list(range(100))
    with pytest.raises(RuntimeError, match="cannot be waited for"):
        locked(lambda: pool.apply(abs, (1,)))


def test_a_call_does_not_overtake_one_that_another_thread_is_to_take_in(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    assert pool.apply(begin, ("a",)) == "a"
    engine = pool._engine
    # That thread has the lock, has looked a moment ago, and looks again when it has released it.
    with monkeypatch.context() as patch:
        patch.setattr(engine.driver, "pump", lambda: None)
        patch.setattr(engine, "attend", lambda: None)
        earlier = pool.apply_async(begin, ("b",))
    assert pool.apply(begin, ("c",)) == "abc"
    assert earlier.get() == "ab"


@pytest.mark.parametrize("in_task", [False, True])
def test_many_callbacks_that_wait_for_calls_of_their_own(
    make_pool: Callable[..., Any], in_task: bool
) -> None:
    # Each one has others run meanwhile: within one another they would fill the stack.
    pool = make_pool(2)
    values = pool.apply(map_in_callbacks, (pool, 300)) if in_task else map_in_callbacks(pool, 300)
    assert values == [[0, 1, 2]] * 300


def map_in_callbacks(pool: Any, count: int) -> list[list[int]]:
    values: list[list[int]] = []

    def call_back(value: list[int]) -> None:
        values.append(pool.map(abs, value))

    results = [pool.map_async(abs, range(3), 1, call_back) for _ in range(count)]
    for result in results:
        result.wait()
    return values


@pytest.mark.parametrize("method", ["apply", "apply_async"])
def test_what_a_signal_handler_raises_while_a_call_is_pickled_is_not_lost(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    pool = make_pool(1)

    def struck(*args: Any) -> Any:
        monkeypatch.undo()
        raise LookupError("a time limit")

    monkeypatch.setattr(_calls, "dumps_function", struck)
    with pytest.raises(LookupError, match="a time limit"):
        result = getattr(pool, method)(abs, (-1,))
        result.get()
    assert pool.apply(abs, (-1,)) == 1


def signal_and_hold(pid: int, path: str, number: int = signal.SIGTERM) -> int:
    """Send a signal to the program, and wait until it lets go."""
    os.kill(pid, number)
    pass_gate(path)
    return 5


@pytest.mark.parametrize("call", ["apply", "get"])
@pytest.mark.parametrize("ending", ["close", "terminate"])
def test_a_signal_handler_ends_the_pool_that_is_waited_for(
    make_pool: Callable[..., Any], gate: Gate, call: str, ending: str
) -> None:
    pool = make_pool(1)
    # Known to the worker by now, so that `apply` takes its own way.
    gate.release()
    pool.apply(signal_and_hold, (os.getpid(), gate.path, 0))

    def end(number: int, frame: object) -> None:
        if ending == "close":
            gate.release()
        getattr(pool, ending)()
        pool.join()

    arguments = os.getpid(), gate.path
    before = signal.signal(signal.SIGTERM, end)
    try:
        if call == "apply":
            value = pool.apply(signal_and_hold, arguments)
        else:
            value = pool.apply_async(signal_and_hold, arguments).get()
    except PoolTerminated:
        assert ending == "terminate"
    else:
        assert value == 5 and ending == "close"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_pool_that_has_ended_writes_to_no_file_of_the_program(
    make_pool: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thread that reads the input of an `imap` may be in the midst of it.
    pool = make_pool(1)
    driver = pool._engine.driver
    number = driver._alarm.fileno()
    path = tmp_path / "file"
    files: list[Any] = []
    write = os.eventfd_write

    def open_files() -> None:
        while not files or files[-1].fileno() < number:
            files.append(path.open("wb", buffering=0))

    def write_late(fd: int, value: int) -> None:
        """Let another thread be quicker."""
        monkeypatch.setattr(os, "eventfd_write", write)
        pool.terminate()
        pool.join()
        open_files()
        write(fd, value)

    monkeypatch.setattr(os, "eventfd_write", write_late)
    driver.wake()
    open_files()
    driver.wake()
    for file in files:
        file.close()
    assert path.stat().st_size == 0


def test_the_descriptor_that_wakes_a_pool_is_given_back_at_once(
    make_pool: Callable[..., Any],
) -> None:
    pool = make_pool(1)
    number = pool._engine.driver._alarm.fileno()
    pool.terminate()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_the_collector_may_come_to_the_driver_before_it_ends_the_pool(
    make_pool: Callable[..., Any],
) -> None:
    # Both are in one cycle: its finalizers run in any order.
    pool = make_pool(1)
    pool.apply(abs, (1,))
    alarm = pool._engine.driver._alarm
    number = alarm.fileno()
    alarm.__del__()
    own = os.open(os.devnull, os.O_RDONLY)
    os.dup2(own, number)
    pool.terminate()
    pool.join()
    del alarm
    assert os.fstat(number).st_rdev == os.fstat(own).st_rdev
    os.close(number)
    if own != number:
        os.close(own)


def test_a_result_with_a_callback_is_lost_to_a_child_though_another_thread_drives(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    pool = make_pool(1)
    result = pool.apply_async(hold, (gate.path,), callback=id)
    gate.entered()
    leads: SimpleQueue[bool] = SimpleQueue()
    forked = threading.Event()

    def lead() -> None:
        leads.put(True)
        forked.wait()

    leader = threading.Thread(target=pool._engine.lead.exclusively, args=(lead,))
    leader.start()
    leads.get()
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(PATIENCE))  # rather than wait for ever
        try:
            result.get()
        except PoolTerminated as error:
            os._exit(3 if "forked" in str(error) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    forked.set()
    leader.join()
    gate.release()
    result.get()
    assert os.waitstatus_to_exitcode(status) == 3


def test_workers_that_inherit_a_call_go_with_the_next_one(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    number = iter(range(3))
    for _ in range(2):
        assert pool.apply(lambda held: next(held), ((n for n in range(5, 7)),)) == 5
        assert pool.apply(number.__next__) == 0
    (side,) = pool._engines._sides
    assert not side.claims


@pytest.mark.parametrize("method", ["apply_async", "imap", "map"])
def test_what_cannot_be_sent_fails_alone(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    pool = make_pool(2)
    send, sent = Channel.send, itertools.count(1)

    def send_but_the_third(self: Channel, head: Any, blobs: Any = (), *more: Any) -> None:
        if head[0] == RUN and sum(map(len, blobs)) > len(LARGE) // 2 and next(sent) == 3:
            raise OSError(errno.EMFILE, "no descriptor")
        send(self, head, blobs, *more)

    monkeypatch.setattr(Channel, "send", send_but_the_third)
    items = [LARGE] * 6
    if method == "map":
        outcomes = pool.map(len, items, 1, return_exceptions=True)
    elif method == "imap":
        outcomes = list(pool.imap(len, items, return_exceptions=True))
    else:
        calls = [pool.apply_async(len, (item,), return_exceptions=True) for item in items]
        outcomes = [call.get(PATIENCE) for call in calls]
    failed = [outcome for outcome in outcomes if outcome != len(LARGE)]
    assert len(outcomes) == 6 and [error.errno for error in failed] == [errno.EMFILE]
    assert failed[0].__notes__ in (
        ["while sending apply_async(len) to a worker"],
        [f"while sending item 2 of {method}(len) to a worker"],
    )
    assert pool.map(len, items, 1) == [len(LARGE)] * 6


def test_calls_of_a_pool_that_never_worked_fail_though_nobody_waits(
    make_pool: Callable[..., Any],
) -> None:
    pool = make_pool(1, divmod, (1, 0))
    with pytest.raises(ZeroDivisionError):
        pool.apply(abs, (1,))
    told: SimpleQueue[BaseException] = SimpleQueue()
    for number in range(4):
        pool.apply_async(abs, (number,), error_callback=told.put)
    assert [type(told.get(timeout=PATIENCE)) for _ in range(4)] == [ZeroDivisionError] * 4


def test_a_map_of_nothing_ends_while_another_thread_sends(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    pool._engine.driver.limit_memory(None)  # which would look around, now and then
    pool.apply(abs, (1,))
    send, sending, ended = Channel.send, threading.Event(), threading.Event()

    def hold_while_sending(self: Channel, head: Any, *more: Any) -> None:
        if head[0] == RUN and not sending.is_set():
            sending.set()
            # Until that thread has handed in its job, which it cannot deal with itself, and waits.
            while not pool._engine.lead.taken:
                ended.wait(0.001)
        send(self, head, *more)

    monkeypatch.setattr(Channel, "send", hold_while_sending)
    sender = threading.Thread(target=pool.apply_async, args=(signal.pause,))
    sender.start()
    assert sending.wait(PATIENCE)
    assert pool.map(abs, []) == []
    ended.set()
    sender.join()
