"""What tasks and calls raise is reported once if nobody ever asks for it, and never otherwise."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from typing import Any

import pytest
from raytasks import Counter, Refusing, count_then_fail, die, double, fail, hold

import pool
from pool import Pool, exceptions

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def reported(ray: Any, capsys: Captured) -> Callable[[], list[str]]:
    """Return a function that returns the errors reported since it was last called."""

    def errors() -> list[str]:
        gc.collect()
        # Finalizers hand in what is reported; the thread that drives prints that, then calls back.
        # A future of its own makes sure that it came so far.
        for _ in range(2):
            double.remote(1).future().result()
        text = capsys.readouterr().err
        return [line for line in text.splitlines() if "Unhandled error" in line]

    return errors


@pool.remote
def start_and_forget(message: str) -> None:
    fail.remote(message)


@pool.remote
def start_and_ask(message: str) -> None:
    pool.wait([fail.remote(message)])
    assert fail.remote(message).future().exception() is not None


@pool.remote(num_returns=2)
def fail_twice() -> None:
    raise ValueError("two")


@pool.remote(num_cpus=2)
def fail_alone() -> None:
    raise ValueError("alone")


def reported_once(reported: Callable[[], list[str]]) -> str:
    """Wait until an error is reported, and return its line: another thread may be printing it."""
    lines: list[str] = []
    while not lines:
        lines = reported()
    (line,) = lines
    return line


def ended(ref: Any) -> Any:
    """Return a reference when its object is there, without looking at it."""
    while not ref._state:
        double.remote(1).future().result()
    return ref


def test_a_reference_that_is_dropped(ray: Any, reported: Callable[[], list[str]]) -> None:
    ref = ended(fail.remote("dropped late"))
    assert reported() == []
    del ref
    line = reported_once(reported)
    assert "suppress with 'RAY_IGNORE_UNHANDLED_ERRORS=1'" in line
    assert "fail() raised ValueError: dropped late" in line


@pytest.mark.parametrize(
    ("begin", "title"),
    [
        (lambda: ended(fail.remote("x")), "fail"),
        (lambda: ended(fail_twice.remote()[0]), "fail_twice"),
        (lambda: ended(fail_alone.remote()), "fail_alone"),
        (lambda: ended(double.remote(fail.remote("x"))), "fail"),
        (lambda: ended(Counter.remote().fail.remote("x")), "Counter.fail"),
        (lambda: ended(die.options(max_retries=0).remote()), "die"),
        (lambda: [ended(ref) for ref in count_then_fail.remote(1)], "count_then_fail"),
    ],
)
def test_everything_that_can_fail(
    reported: Callable[[], list[str]], begin: Callable[[], Any], title: str
) -> None:
    begin()
    line = reported_once(reported)
    assert title in line


def test_what_a_task_forgets(ray: Any, reported: Callable[[], list[str]]) -> None:
    ray.get(start_and_ask.remote("asked for"))
    ray.get(start_and_forget.remote("forgotten"))
    assert "forgotten" in reported_once(reported)


def test_what_was_asked_for_is_not_reported(ray: Any, reported: Callable[[], list[str]]) -> None:
    with pytest.raises(ValueError, match="got"):
        ray.get(fail.remote("got"))
    with pytest.raises(ValueError, match="one"):
        ray.get([fail.remote("one"), ended(fail.remote("another"))])
    ready, _ = ray.wait([fail.remote("waited")])
    del ready
    assert isinstance(fail.remote("future").future().exception(), ValueError)
    with pytest.raises(ValueError, match="passed"):
        ray.get(double.remote(fail.remote("passed")))

    async def main() -> None:
        with pytest.raises(ValueError, match="awaited"):
            await fail.remote("awaited")

    asyncio.run(main())
    first, _ = fail_twice.remote()
    with pytest.raises(ValueError, match="two"):
        ray.get(first)
    with Pool(1) as workers, pytest.raises(ValueError, match="to a Pool"):
        workers.apply(abs, (fail.remote("to a Pool"),))
    with pytest.raises(exceptions.ActorDiedError, match="to a constructor"):
        ray.get(Counter.remote(fail.remote("to a constructor")).add.remote())
    del first, _
    assert reported() == []


@pool.remote(retry_exceptions=True)
def fail_first(path: str) -> None:
    if not os.path.exists(path):
        open(path, "w").close()
        raise ValueError("not the last try")


@pytest.mark.parametrize("num_cpus", [1, 2])
def test_what_is_not_the_outcome_is_not_reported(
    ray: Any, reported: Callable[[], list[str]], tmp_path: Any, num_cpus: int
) -> None:
    assert ray.get(fail_first.options(num_cpus=num_cpus).remote(str(tmp_path / "seen"))) is None
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    held = hold.options(num_cpus=num_cpus).remote(gate)
    with open(gate, "w"):  # it runs
        ray.cancel(held)
        ended(held)
    del held
    assert reported() == []


def test_what_the_user_ended_is_not_reported(
    ray: Any, reported: Callable[[], list[str]], tmp_path: Any
) -> None:
    os.mkfifo(tmp_path / "gate")
    counter = Counter.remote()
    held = [counter.hold.remote(str(tmp_path / "gate")), counter.add.remote()]
    ray.cancel(held[1])
    ray.kill(counter)
    for ref in held:
        ended(ref)
    left = Counter.remote()
    ended(left.exit.remote())
    held.clear()
    del ref, counter
    assert reported() == []


def test_nothing_is_reported_at_the_end(ray: Any, capsys: Captured) -> None:
    refs = [ended(fail.remote("kept"))]
    ray.shutdown()
    refs.clear()
    gc.collect()
    assert capsys.readouterr().err == ""


def test_a_constructor_that_raises(ray: Any, capsys: Captured) -> None:
    refusing = Refusing.remote("not today")
    ended(refusing.add.remote())
    seen = capsys.readouterr().err.splitlines()
    assert seen[0].startswith("(Refusing pid=")
    assert seen[0].endswith("Exception raised in creation task: Refusing.__init__()")
    assert seen[1].endswith("Traceback (most recent call last):")
    assert "raytasks.py" in seen[2]
    assert seen[-1].endswith("RuntimeError: not today")


@pytest.mark.parametrize("how", ["init", "environment"])
def test_it_can_be_turned_off(
    start: Any, capsys: Captured, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    ray = start(num_cpus=1, log_to_driver=how != "init")
    ended(fail.remote("x"))
    ended(Refusing.remote("not today").add.remote())
    for _ in range(2):
        double.remote(1).future().result()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(Refusing.remote("not today").add.remote())
    assert capsys.readouterr().err == ""


def test_an_error_with_an_odd_class(ray: Any, reported: Callable[[], list[str]]) -> None:
    @ray.remote
    def odd() -> None:
        class OddError(Exception):
            def __str__(self) -> str:
                raise TypeError("even its text")

        raise OddError

    ended(odd.remote())
    line = reported_once(reported)
    assert "RayTaskError" in line
