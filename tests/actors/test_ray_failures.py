"""Kill whatever there is, at every step: each call has an outcome, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from rayprograms import ended
from raytasks import (
    Counter,
    Shaky,
    die,
    die_first,
    double,
    hold,
    pid_of_worker,
    tell_and_wait,
)

import pool
from pool import exceptions

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gate(tmp_path: Path) -> Any:
    """Return a fifo on which tasks wait, and a function that lets them go."""
    path = tmp_path / "gate"
    os.mkfifo(path)

    class Gate:
        name = str(path)

        @staticmethod
        def entered() -> Any:
            # Opening for writing waits until a task reads.
            return open(path, "w")

    return Gate()


def die_first_time(folder: str) -> bool:
    """Return whether nobody else has asked before, in this folder."""
    try:
        os.close(os.open(os.path.join(folder, "died"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@pool.remote
def hold_or_die(gate: str) -> str:
    """Tell the pid, and wait."""
    Path(gate + ".pid").write_text(str(os.getpid()))
    with open(gate) as file:
        return file.read()


# ---------------------------------------------------------------------- tasks


def test_task_is_retried_when_its_worker_dies(ray: Any, tmp_path: Path) -> None:
    assert ray.get(die_first.remote(str(tmp_path), 2)) == 3


def test_task_that_dies_too_often(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(exceptions.WorkerCrashedError, match="SIGKILL"):
        ray.get(die_first.options(max_retries=1).remote(str(tmp_path), 5))
    assert len(list(tmp_path.iterdir())) == 2
    assert ray.get(double.remote(1)) == 2


def test_death_of_a_worker_fails_no_other_task(ray: Any) -> None:
    refs = [double.remote(i) for i in range(50)]
    refs.insert(20, die.options(max_retries=0).remote())
    refs += [double.remote(i) for i in range(50)]
    ready, rest = ray.wait(refs, num_returns=len(refs))
    assert not rest
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(refs.pop(20))
    assert ray.get(refs) == [2 * i for i in range(50)] * 2


def test_dependents_of_a_crash_get_its_error(ray: Any) -> None:
    crash = die.options(max_retries=0).remote()
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(double.remote(crash))


def test_worker_killed_while_it_waits_for_a_nested_task(
    ray: Any, gate: Any, tmp_path: Path
) -> None:
    inner = hold.remote(gate.name)
    told = str(tmp_path / "told")
    os.mkfifo(told)
    outer = tell_and_wait.options(max_retries=0).remote(told, [inner])
    with gate.entered() as writer:
        os.kill(int(Path(told).read_text()), signal.SIGKILL)
        with pytest.raises(exceptions.WorkerCrashedError, match="tell_and_wait"):
            ray.get(outer)
        writer.write("through")
    assert ray.get(inner) == "through"


def test_worker_killed_with_resolved_and_unresolved_dependencies(
    ray: Any, gate: Any, tmp_path: Path
) -> None:
    @ray.remote
    def die_once(value: Any, refs: list[Any], folder: str) -> Any:
        if die_first_time(folder):
            os.kill(os.getpid(), signal.SIGKILL)
        return value, pool.get(refs)

    resolved, unresolved = double.remote(2), hold.remote(gate.name)
    given = ray.put([1, 2])
    task = die_once.remote(resolved, [given, double.remote(5)], str(tmp_path))
    waiting = die_once.remote(unresolved, [given], str(tmp_path))
    also = double.remote(task)
    del resolved, given  # the tasks hold what they need
    with gate.entered() as writer:
        assert ray.get(task) == (4, [[1, 2], 10])
        writer.write("late")
    assert ray.get(waiting) == ("late", [[1, 2]])
    assert ray.get(also) == (4, [[1, 2], 10]) * 2


def test_worker_killed_while_its_task_waits_for_a_dependency(ray: Any, gate: Any) -> None:
    """What kills the worker that runs a dependency does not touch what depends on it."""
    first = hold_or_die.remote(gate.name)
    second = double.remote(first)
    with gate.entered():
        process = psutil.Process(int(Path(gate.name + ".pid").read_text()))
        process.kill()
        psutil.wait_procs([process], timeout=20)
    with gate.entered() as writer:
        writer.write("again")
    assert ray.get([first, second]) == ["again", "againagain"]


def test_object_outlives_the_worker_that_made_it(ray: Any) -> None:
    @ray.remote
    def make() -> Any:
        return os.getpid(), pool.put([1, 2]), double.remote(3)

    pid, put, task = ray.get(make.remote())
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert ray.get([put, task]) == [[1, 2], 6]
    assert ray.get(double.remote(put)) == [1, 2, 1, 2]


def test_reference_whose_owner_has_died(ray: Any, tmp_path: Path) -> None:
    """A child of a fork has the references of its parent, and not what they stand for."""
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    os.mkfifo(gate + "2")
    pending, called = hold.remote(gate), Counter.remote().hold.remote(gate + "2")
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            found = []
            for ref in (pending, called):
                try:
                    ray.get(ref, timeout=30)
                except BaseException as error:
                    found.append(type(error).__name__)
            os.write(write, " ".join(found).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as file:
        assert file.read() == "OwnerDiedError OwnerDiedError"
    os.waitpid(pid, 0)
    Path(gate).write_text("x")
    assert ray.get(pending) == "x"


def test_retry_of_errors(ray: Any, tmp_path: Path) -> None:
    @ray.remote
    def shaky(folder: str) -> int:
        tries = len(list(Path(folder).iterdir()))
        (Path(folder) / str(tries)).touch()
        if tries < 2:
            raise KeyError(tries)
        return tries

    assert ray.get(shaky.options(retry_exceptions=[KeyError]).remote(str(tmp_path))) == 2
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(KeyError):
        ray.get(shaky.options(retry_exceptions=[ValueError]).remote(str(tmp_path)))


def test_cancel_what_runs_what_waits_and_what_depends(ray: Any, gate: Any) -> None:
    running = [hold.remote(gate.name), hold.remote(gate.name)]
    with gate.entered():
        waiting = double.remote(1)
        dependent = double.remote(running[0])
        for ref in (dependent, waiting, *running):
            ray.cancel(ref)
        for ref in (dependent, waiting, *running):
            with pytest.raises(exceptions.TaskCancelledError):
                ray.get(ref)
    assert ray.get(double.remote(3)) == 6


# ---------------------------------------------------------------------- actors


def test_death_answers_every_call(ray: Any) -> None:
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    refs = [counter.add.remote() for _ in range(100)]
    refs.append(counter.die.remote())
    refs += [counter.add.remote() for _ in range(300)]
    assert ray.get(refs[:100]) == list(range(1, 101))
    for ref in refs[100:]:
        with pytest.raises(exceptions.ActorDiedError) as caught:
            ray.get(ref)
        assert f"Counter (pid {pid})" in str(caught.value)
        assert "SIGKILL" in str(caught.value)
    assert caught.value.method == "add"


def test_kill_from_outside_while_a_call_runs(ray: Any, gate: Any) -> None:
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    ref = counter.hold.remote(gate.name)
    later = [counter.add.remote() for _ in range(50)]
    with gate.entered():
        os.kill(pid, signal.SIGKILL)
        for each in (ref, *later):
            with pytest.raises(exceptions.ActorDiedError, match="SIGKILL"):
                ray.get(each)


def test_restart_keeps_calls_that_were_not_begun(ray: Any) -> None:
    counter = Counter.options(max_restarts=1).remote(10)
    first = ray.get(counter.pid.remote())
    ref = counter.die.remote()
    with pytest.raises(exceptions.ActorUnavailableError, match="started again"):
        ray.get(ref)
    assert ray.get(counter.add.remote()) == 11
    assert ray.get(counter.pid.remote()) != first
    ray.get(counter.add.remote())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(counter.die.remote())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(counter.add.remote())


def test_calls_that_may_be_tried_again_are(ray: Any, tmp_path: Path) -> None:
    actor = Shaky.options(max_restarts=-1, max_task_retries=-1).remote()
    assert ray.get(actor.work.remote(str(tmp_path))) == 2


def test_calls_of_a_method_that_may_be_tried_again_after_errors(ray: Any) -> None:
    class Trying:
        tries = 0

        def _try(self, needed: int, kind: type[Exception]) -> int:
            self.tries += 1
            if self.tries < needed:
                raise kind(self.tries)
            return self.tries

        @pool.method(max_task_retries=2, retry_exceptions=True)
        def any_error(self, needed: int, kind: type[Exception] = KeyError) -> int:
            return self._try(needed, kind)

        @pool.method(retry_exceptions=[KeyError])
        def as_the_actor(self, needed: int, kind: type[Exception] = KeyError) -> int:
            return self._try(needed, kind)

        @pool.method(num_returns="streaming", max_task_retries=-1, retry_exceptions=[KeyError])
        def stream(self, needed: int) -> Any:
            yield 5
            yield self._try(needed, KeyError)

    kind = ray.remote(Trying)
    assert ray.get(kind.remote().any_error.remote(ray.put(3))) == 3
    with pytest.raises(KeyError, match="3"):
        ray.get(kind.remote().any_error.remote(4))
    with pytest.raises(KeyError, match="1"):
        ray.get(kind.remote().as_the_actor.remote(2))
    four = kind.options(max_task_retries=4)
    assert ray.get(four.remote().as_the_actor.remote(5)) == 5
    with pytest.raises(ValueError, match="1"):
        ray.get(four.remote().as_the_actor.remote(2, ValueError))
    assert [ray.get(ref) for ref in kind.remote().stream.remote(7)] == [5, 7]
    often = kind.remote().any_error.options(max_task_retries=4)
    assert ray.get(often.remote(5)) == 5
    always = kind.remote().as_the_actor.options(max_task_retries=-1)
    assert ray.get(always.remote(9)) == 9
    with pytest.raises(ValueError, match="10"):
        ray.get(always.remote(11, ValueError))
    assert ray.get(always.options(retry_exceptions=True).remote(12, ValueError)) == 12

    @ray.remote
    def by_a_task(actor: Any) -> Any:
        value = pool.get(actor.any_error.remote(3))
        more = actor.as_the_actor.options(max_task_retries=2, retry_exceptions=[ValueError])
        return value, pool.get(more.remote(5, ValueError))

    assert ray.get(by_a_task.remote(kind.remote())) == (3, 5)


def test_a_method_may_say_how_often_its_calls_survive_a_death(ray: Any, tmp_path: Path) -> None:
    class Dying(Shaky.__ray_actor_class__):  # type: ignore[misc]  # a class, which mypy cannot know
        @pool.method(max_task_retries=2)
        def again(self, folder: str) -> Any:
            return self.work(folder)

    actor = ray.remote(Dying).options(max_restarts=-1).remote()
    assert ray.get(actor.again.remote(str(tmp_path))) == 2


def test_forkserver_killed_under_tasks_and_actors(ray: Any) -> None:
    counter = Counter.options(max_restarts=1).remote(1)
    pid = ray.get(counter.pid.remote())
    psutil.Process(pid).parent().kill()
    assert ended(pid)
    assert ray.get(double.remote(2)) == 4
    refs = [counter.add.remote() for _ in range(3)]
    values = []
    for ref in refs:
        try:
            values.append(ray.get(ref))
        except exceptions.ActorUnavailableError:
            values.append(None)
    # What was posted to the dead process is lost, the rest reaches the new one.
    assert ray.get(counter.add.remote()) == 2 + sum(value is not None for value in values)


def test_cycle_of_handles_ends_with_the_runtime(ray: Any) -> None:
    one, other = Counter.remote(), Counter.remote()
    ray.get([one.keep.remote([other]), other.keep.remote([one])])
    pids = ray.get([one.pid.remote(), other.pid.remote()])
    del one, other
    ray.shutdown()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_references_in_results_that_a_dead_worker_had_not_sent(start: Any) -> None:
    ray = start(num_cpus=1)

    @ray.remote(max_retries=0)
    def make(index: int) -> Any:
        if index == 150:
            os._exit(1)
        return [ray.put(index)]

    refs = [make.remote(index) for index in range(300)]
    found = ray.wait(refs, num_returns=len(refs))[0]
    values = []
    for ref in found:
        try:
            values.append(ray.get(ray.get(ref)[0]))
        except exceptions.WorkerCrashedError:
            values.append(-1)
    assert values == [index if index != 150 else -1 for index in range(300)]


def test_reference_that_nobody_knows_is_lost(ray: Any) -> None:
    from pool._objects._refs import arrive, new_name

    with pytest.raises(exceptions.ObjectLostError):
        ray.get(arrive("o", new_name()))


def test_task_that_dies_with_references_does_not_keep_them(ray: Any) -> None:
    counter = Counter.remote()
    process = psutil.Process(ray.get(counter.pid.remote()))
    ray.get(counter.keep.remote([ray.put(b"x" * 1_000_000)]))
    process.kill()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(counter.add.remote())


def test_ten_thousand_calls_in_flight(ray: Any) -> None:
    counter = Counter.remote()
    assert ray.get([counter.add.remote() for _ in range(10_000)])[-1] == 10_000


@pytest.mark.watchdog(360)
def test_many_actors_on_two_cpus(ray: Any) -> None:
    counters = [Counter.remote(i) for i in range(200)]
    assert ray.get([c.add.remote() for c in counters]) == list(range(1, 201))


# ---------------------------------------------------------------------- messages


def test_what_cannot_be_sent_is_an_error_of_the_call_that_needs_it(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pool._objects._protocol import ANSWER, CALL
    from pool._transport._channel import Channel
    from pool._transport._messages import HOST

    counter, keeper = Counter.remote(), Counter.remote()
    ray.get([counter.add.remote(), keeper.keep.remote([ray.put(bytes(200_000))])])
    send = Channel.send

    def send_small_ones(
        self: Any, head: Any, blobs: Any = (), fds: Any = (), flags: int = 0
    ) -> None:
        if head[0] in (ANSWER, CALL, HOST) and sum(map(len, blobs)) > 100_000:
            raise OSError(28, "No space left on device")
        send(self, head, blobs, fds, flags)

    monkeypatch.setattr(Channel, "send", send_small_ones)
    for ref in (
        counter.keep.remote(bytes(200_000)),
        keeper.kept.remote(),
        Counter.remote(bytes(200_000)).add.remote(),
    ):
        with pytest.raises((OSError, exceptions.ActorDiedError), match="No space"):
            ray.get(ref)
    assert ray.get([counter.add.remote(), keeper.add.remote()]) == [2, 1]


def test_a_task_without_memory_for_its_arguments_fails_alone(
    ray: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pool._runtime import _tasks

    @ray.remote
    def late(gate: str) -> bytes:
        with open(gate) as file:
            file.read()
        return bytes(20_000)

    def refuse(order: object) -> None:
        raise MemoryError("none left")

    counter = Counter.remote()
    assert ray.get([counter.add.remote(), double.remote(1)]) == [1, 2]
    doubled = double.remote(late.remote(gate.name))
    with gate.entered():
        monkeypatch.setattr(_tasks, "encode", refuse)
    with pytest.raises(MemoryError, match="none left"):
        ray.get(doubled)
    assert ray.get(counter.add.remote()) == 2


# ---------------------------------------------------------------------- the program

PROGRAM = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import pool as ray
from raytasks import Counter, hold, double
counters = [Counter.remote() for _ in range(3)]
print(*ray.get([c.pid.remote() for c in counters]), flush=True)
ref = hold.remote({gate!r})
{end}
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(3)", "raise SystemExit", ""])
def test_nothing_is_left_of_a_program(tmp_path: Path, end: str) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = PROGRAM.format(tests=str(Path(__file__).parent), gate=str(gate), end=end)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 3, done.stderr
    assert ended(*pids)
    assert "Traceback" not in done.stderr


def test_child_of_a_fork_starts_its_own(ray: Any) -> None:
    counter = Counter.remote()
    assert ray.get(counter.add.remote()) == 1
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, str(ray.get(double.remote(4))).encode())
            ray.shutdown()
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as file:
        assert file.read() == "8"
    os.waitpid(pid, 0)
    assert ray.get(counter.add.remote()) == 2


def test_get_is_interrupted_and_the_runtime_goes_on(
    ray: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    ref = hold.remote(gate.name)
    main = threading.main_thread().ident
    assert main is not None
    ray.get(pid_of_worker.remote())
    engine = ref._home.engine
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))

    def begin_to_wait(*given: Any) -> Any:
        patch.undo()
        timer.start()
        return engine.wait(*given)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "wait", begin_to_wait)
        with pytest.raises(KeyboardInterrupt):
            ray.get(ref)
    timer.join()
    ray.cancel(ref)
    assert ray.get(double.remote(1)) == 2


def test_runtime_that_is_given_up_answers_everything_and_is_replaced(ray: Any, gate: Any) -> None:
    from pool._objects import _home

    runtime: Any = _home.found()
    counter = Counter.remote()
    ray.get(counter.add.remote())
    held = [hold.remote(gate.name), counter.hold.remote(gate.name)]
    refs = [*held, counter.add.remote(), double.remote(held[0])]
    with gate.entered():

        def signalled() -> None:
            raise ZeroDivisionError("a signal handler raised")

        with pytest.raises(ZeroDivisionError):
            runtime.locked(signalled)
        for ref in refs:
            with pytest.raises((exceptions.RayError, pool.PoolTerminated), match="signal handler"):
                ray.get(ref)
    assert ray.get(double.remote(2)) == 4
    assert _home.found() is not runtime


def test_what_is_left_of_a_runtime_that_was_shut_down(ray: Any, gate: Any) -> None:
    counter = Counter.remote()
    ready = double.remote(4)
    assert ray.get([ready, counter.add.remote()]) == [8, 1]
    pending = [hold.remote(gate.name), counter.hold.remote(gate.name)]
    dependent = double.remote(pending[0])
    with gate.entered():
        ray.shutdown()
    for ref in (*pending, dependent, counter.add.remote()):
        with pytest.raises((exceptions.RayError, pool.PoolError)):
            ray.get(ref)
    # What has its value keeps it, also for the next runtime.
    assert ray.get(ready) == 8
    assert ray.get(double.remote(ready)) == 16
