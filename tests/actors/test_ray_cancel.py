"""Cancel tasks, calls of actors and generators, with and without force and what they submitted."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from raytasks import Counter, double, hold

import pool
from pool import exceptions


@pytest.fixture
def fifo(tmp_path: Path) -> Any:
    """Return a function that makes a fifo and returns its path."""

    def make(name: str) -> str:
        path = str(tmp_path / name)
        os.mkfifo(path)
        return path

    return make


@pool.remote
def tidy_up(entered: str, note: str) -> None:
    """Wait for a cancellation, take long to tidy up, and note that it was done."""
    try:
        with open(entered) as gate:
            gate.read()
    finally:
        with open(entered) as gate:  # until the test opens it once more
            gate.read()
        Path(note).write_text("tidy")


@pool.remote
def undaunted(entered: str) -> str:
    try:
        with open(entered) as gate:
            return gate.read()
    except KeyboardInterrupt:
        return "interrupted"


@pool.remote
def deaf(entered: str) -> None:
    """Hold on to the process, whatever is raised in it."""
    while True:
        try:
            with open(entered) as gate:
                gate.read()
        except KeyboardInterrupt:
            continue


@pool.remote
def ask(name: str, entered: str, told: str) -> Any:
    """Submit a task and wait for it; tell when that is under way."""
    ref = {"hold": hold, "undaunted": undaunted}[name].remote(entered)
    Path(told).write_text("asked")
    return pool.get(ref)


@pool.remote
def endless(entered: str) -> Any:
    yield 0
    with open(entered) as gate:
        gate.read()


@pool.remote
class Listener:
    def __init__(self) -> None:
        self.calls = 0

    def listen(self, entered: str) -> bool:
        """Return whether it was cancelled, once somebody lets it."""
        with open(entered) as gate:
            gate.read()
        self.seen = pool.get_runtime_context().is_canceled()
        return self.seen

    def note(self) -> int:
        self.calls += 1
        return self.calls

    def heard(self) -> bool:
        return self.seen

    def endless(self) -> Any:
        while True:
            yield self.note()

    def ask(self, entered: str, told: str) -> Any:
        return pool.get(ask.remote("hold", entered, told))


@pool.remote
class AsyncListener:
    async def swallow(self) -> str:
        self.entered = asyncio.Event()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "swallowed"
        return "never"

    async def canceled(self) -> bool:
        return pool.get_runtime_context().is_canceled()


def cancelled(ref: Any) -> bool:
    with pytest.raises(exceptions.TaskCancelledError):
        pool.get(ref)
    return True


# ---------------------------------------------------------------------- tasks


def test_task_may_take_its_time_to_tidy_up(ray: Any, fifo: Any, tmp_path: Path) -> None:
    gate, note = fifo("gate"), tmp_path / "note"
    ref = tidy_up.remote(gate, str(note))
    with open(gate, "w"):
        ray.cancel(ref)
        assert ray.wait([ref], timeout=1.5) == ([], [ref])
    assert cancelled(ref)
    assert note.read_text() == "tidy"


def test_task_that_returns_a_value_all_the_same_has_it(ray: Any, fifo: Any) -> None:
    gate = fifo("gate")
    ref = undaunted.remote(gate)
    with open(gate, "w"):
        ray.cancel(ref)
        assert ray.get(ref) == "interrupted"


def test_task_that_waits_never_runs(ray: Any, fifo: Any, tmp_path: Path) -> None:
    @ray.remote
    def touch(path: str) -> None:
        Path(path).touch()

    gates = [fifo("one"), fifo("other")]
    held = [hold.remote(gate) for gate in gates]
    with open(gates[0], "w"), open(gates[1], "w"):
        paths = [str(tmp_path / str(number)) for number in range(20)]
        refs = [touch.remote(path) for path in paths]
        for ref in refs[::2]:
            ray.cancel(ref)
            assert cancelled(ref)
    ray.get([*held, *refs[1::2]])
    assert [Path(path).exists() for path in paths] == [False, True] * 10


def test_finished_task_and_what_was_put_stay(ray: Any) -> None:
    done, put = double.remote(1), ray.put(3)
    assert ray.get(done) == 2
    for force in (False, True):
        ray.cancel(done, force=force)
        ray.cancel(put, force=force)
    assert ray.get([done, put]) == [2, 3]
    with pytest.raises(TypeError, match="ObjectRef"):
        ray.cancel(3)


def test_force_ends_a_task_that_does_not_listen_and_no_other(start: Any, fifo: Any) -> None:
    ray = start(num_cpus=1)
    gate = fifo("gate")
    ray.get([double.remote(n) for n in range(50)])
    ref = deaf.remote(gate)
    refs = [double.options(max_retries=0).remote(n) for n in range(100)]
    with open(gate, "w"):
        ray.cancel(ref, force=True)
        assert cancelled(ref)
    assert ray.get(refs) == [2 * n for n in range(100)]


def test_force_ends_what_hangs_outside_of_python(ray: Any, fifo: Any) -> None:
    gate = fifo("gate")

    @ray.remote
    def stuck(gate: str) -> None:
        import signal

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with open(gate) as file:
            file.read()

    ref = stuck.remote(gate)
    with open(gate, "w"):
        ray.cancel(ref, force=True)
        assert cancelled(ref)


def test_task_with_a_process_of_its_own(ray: Any, fifo: Any) -> None:
    gate = fifo("gate")
    ref = undaunted.options(num_cpus=2).remote(gate)
    behind = double.options(num_cpus=2).remote(1)
    with open(gate, "w"):
        ray.cancel(behind)
        ray.cancel(ref)
        assert ray.get(ref) == "interrupted"
        assert cancelled(behind)
    refs = [task.options(num_cpus=2, max_retries=3).remote(gate) for task in (hold, deaf)]
    for force, ref in zip((False, True), refs, strict=True):
        with open(gate, "w"):
            ray.cancel(ref, force=force)
            assert cancelled(ref)
    assert ray.get(double.options(num_cpus=2).remote(1)) == 2


@pytest.mark.parametrize("cpus", [1, 2])
def test_what_it_submitted_goes_along(start: Any, fifo: Any, cpus: int) -> None:
    ray = start(num_cpus=3)
    gate, told = fifo("gate"), fifo("told")
    ref = ask.options(num_cpus=cpus).remote("hold", gate, told)
    Path(told).read_text()
    with open(gate, "w"):
        ray.cancel(ref)
        assert cancelled(ref)
    # A task that was left alone would wait there for ever.
    assert ray.get(double.remote(1)) == 2


def test_what_it_submitted_goes_on_if_that_is_wanted(ray: Any, fifo: Any) -> None:
    gate, told, note = fifo("gate"), fifo("told"), fifo("note")

    @ray.remote
    def write(gate: str, note: str) -> None:
        with open(gate) as file:
            Path(note).write_text(file.read())

    @ray.remote
    def submit(gate: str, note: str, told: str) -> None:
        ref = write.remote(gate, note)
        Path(told).write_text("asked")
        pool.get(ref)

    ref = submit.remote(gate, note, told)
    Path(told).read_text()
    with open(gate, "w") as writer:
        ray.cancel(ref, recursive=False)
        assert cancelled(ref)
        writer.write("went on")
    assert Path(note).read_text() == "went on"


def test_cancel_by_a_task(ray: Any, fifo: Any) -> None:
    gate = fifo("gate")

    @ray.remote
    def cancel(refs: list[Any], force: bool) -> None:
        pool.cancel(refs[0], force=force)

    ref = hold.remote(gate)
    with open(gate, "w"):
        ray.get(cancel.remote([ref], False))
        assert cancelled(ref)
    counter = Counter.remote()
    held = counter.hold.remote(gate)
    with open(gate, "w") as writer:
        with pytest.raises(ValueError, match="kill"):
            ray.get(cancel.remote([held], True))
        writer.write("x")
    assert ray.get(held) == "x"


# ---------------------------------------------------------------------- generators


def test_generator_ends(ray: Any, fifo: Any) -> None:
    gate = fifo("gate")
    refs = endless.remote(gate)
    assert ray.get(next(refs)) == 0
    with open(gate, "w"):
        ray.cancel(refs)
        assert cancelled(next(refs))
    with pytest.raises(StopIteration):
        next(refs)
    ray.cancel(refs)


def test_generator_of_an_actor_ends(ray: Any) -> None:
    listener = Listener.remote()
    refs = listener.endless.remote()
    assert ray.get(next(refs)) == 1
    ray.cancel(refs)
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in refs:
            ray.get(ref)
    assert ray.get(listener.note.remote()) > 1


# ---------------------------------------------------------------------- actors


def test_method_that_runs_is_told_and_its_call_cancelled(ray: Any, fifo: Any) -> None:
    gate = fifo("gate")
    listener = Listener.remote()
    ref = listener.listen.remote(gate)
    with open(gate, "w"):
        with pytest.raises(ValueError, match="kill"):
            ray.cancel(ref, force=True)
        ray.cancel(ref)
    assert cancelled(ref)
    assert ray.get(listener.heard.remote()) is True
    ref = listener.listen.remote(gate)
    Path(gate).write_text("x")
    assert ray.get(ref) is False


def test_calls_in_the_actor_that_have_not_begun_never_run(ray: Any, fifo: Any) -> None:
    gate = fifo("gate")
    listener = Listener.remote()
    held = listener.listen.remote(gate)
    refs = [listener.note.remote() for _ in range(100)]
    with open(gate, "w"):
        for ref in refs[::2]:
            ray.cancel(ref)
    assert ray.get(held) is False
    assert ray.get(refs[1::2]) == list(range(1, 51))
    assert all(map(cancelled, refs[::2]))


def test_method_on_a_thread_is_told(ray: Any, fifo: Any) -> None:
    gate = fifo("gate")
    listener = Listener.options(max_concurrency=2).remote()
    ref = listener.listen.remote(gate)
    with open(gate, "w"):
        ray.cancel(ref)
        # Taken in after the cancellation, by the same thread.
        assert ray.get(listener.note.remote()) == 1
    assert cancelled(ref)
    assert ray.get(listener.heard.remote()) is True


def test_async_method_is_cancelled_as_asyncio_does(ray: Any) -> None:
    listener = AsyncListener.remote()
    ref = listener.swallow.remote()
    with pytest.raises(RuntimeError, match="async"):
        ray.get(listener.canceled.remote())
    ray.cancel(ref)
    assert ray.get(ref) == "swallowed"


def test_what_a_method_submitted_goes_along(ray: Any, fifo: Any) -> None:
    gate, told = fifo("gate"), fifo("told")
    listener = Listener.remote()
    ref = listener.ask.remote(gate, told)
    Path(told).read_text()
    with open(gate, "w"):
        ray.cancel(ref)
        assert cancelled(ref)
    assert ray.get(listener.note.remote()) == 1


@pool.remote
def tidy_and_hold(told: str, gate: str, second: str) -> str:
    """Be in a finalizer, and then somewhere else."""

    class Tidy:
        def __del__(self) -> None:
            Path(told).write_text("in")
            with open(gate) as file:
                file.read()

    try:
        Tidy()
        with open(second) as file:
            return file.read()
    except KeyboardInterrupt:
        return "interrupted"


@pytest.mark.parametrize("cpus", [1, 2])
def test_interrupt_that_is_dropped_in_a_finalizer(ray: Any, fifo: Any, cpus: int) -> None:
    """There Python reports it, and goes on with the task."""
    told, gate, second = fifo("told"), fifo("gate"), fifo("second")
    ref = tidy_and_hold.options(num_cpus=cpus).remote(told, gate, second)
    Path(told).read_text()
    # Opened for both, which waits for nobody: the task may be interrupted there, too, before.
    with open(gate, "w"), open(second, "r+b", 0):
        ray.cancel(ref)
        # Of itself it would never leave the finalizer, where the gate is open.
        assert ray.get(ref) == "interrupted"
