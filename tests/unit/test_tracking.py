"""Check that one process reads what all have to say to the resource tracker."""

from __future__ import annotations

import multiprocessing.resource_tracker as standard
import os
import select
import signal
import threading
import warnings
from multiprocessing.resource_tracker import ResourceTracker
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pool._workers import _forking, _tracking

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0


class Tracking:
    """A tracker that has our pipe, and what is known of the process that reads it."""

    def __init__(self) -> None:
        self.tracker: Any = ResourceTracker()
        # What the module offers at its top.
        self.module: Any = SimpleNamespace(
            _resource_tracker=self.tracker, ensure_running=self.tracker.ensure_running
        )
        read, self.write = os.pipe()
        os.close(read)
        _tracking._prepare(self.module)
        _tracking._seen.clear()  # of descriptors that tests have closed
        _tracking._pipe = self.write

    def end(self) -> None:
        """Close the pipe, and wait for the process that reads it."""
        os.close(self.write)
        if self.tracker._pid is not None:
            os.waitpid(self.tracker._pid, 0)
        self.tracker._fd = self.tracker._pid = None  # or its finalizer would do so again


@pytest.fixture
def tracking() -> Iterator[Tracking]:
    before = _tracking._pipe
    made = Tracking()
    yield made
    made.end()
    _tracking._pipe = before


def test_nothing_runs_before_it_is_needed(tracking: Tracking) -> None:
    assert tracking.tracker._fd is None
    assert not _tracking._has_reader(tracking.write)


@pytest.mark.parametrize("first", ["ensure_running", "getfd", "register"])
def test_whatever_is_asked_first_takes_the_pipe(tracking: Tracking, first: str) -> None:
    if first == "register":
        tracking.tracker.register("/actorpool-test", "semaphore")
        tracking.tracker.unregister("/actorpool-test", "semaphore")
    else:
        getattr(tracking.tracker, first)()
    assert tracking.tracker._fd == tracking.write
    assert tracking.tracker._pid is not None
    assert _tracking._has_reader(tracking.write)
    assert _tracking._pipe == -1  # it belongs to the standard's object


def test_the_function_of_the_module_takes_the_pipe(tracking: Tracking) -> None:
    tracking.module.ensure_running()
    assert tracking.tracker._fd == tracking.write


def test_a_second_process_starts_no_second_reader(tracking: Tracking) -> None:
    tracking.tracker.ensure_running()
    assert _tracking._start_reader(tracking.write) is None


def test_of_many_processes_one_starts_the_reader(tracking: Tracking) -> None:
    answers, answer = os.pipe()
    go, let_go = os.pipe()
    children = []
    for _ in range(4):
        pid = os.fork()
        if not pid:
            try:
                os.read(go, 1)
                started = _tracking._start_reader(tracking.write)
                os.write(answer, b"none " if started is None else b"%d " % started)
            finally:
                os._exit(0)
        children.append(pid)
    os.write(let_go, b"." * len(children))
    for pid in children:
        os.waitpid(pid, 0)
    said = sorted(os.read(answers, 100).split())
    for fd in (answers, answer, go, let_go):
        os.close(fd)
    assert said[1:] == [b"none"] * 3
    reader = os.pidfd_open(int(said[0]))
    # It ends with the last descriptor of the pipe.
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nothing, tracking.write, inheritable=False)
    os.close(nothing)
    assert select.select([reader], [], [], PATIENCE)[0]
    os.close(reader)


def test_a_reader_that_was_killed_is_replaced_on_the_same_pipe(tracking: Tracking) -> None:
    tracking.tracker.ensure_running()
    os.kill(tracking.tracker._pid, signal.SIGKILL)
    os.waitpid(tracking.tracker._pid, 0)
    tracking.tracker._pid = _tracking._start_reader(tracking.write)
    assert tracking.tracker._pid is not None


def test_who_cannot_open_the_pipe_has_a_tracker_of_its_own(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(write: int) -> int:
        raise PermissionError(write)

    monkeypatch.setattr(_tracking, "_start_reader", refuse)
    tracking.tracker.ensure_running()
    assert tracking.tracker._fd not in (None, tracking.write)
    tracking.tracker._stop()


def test_forks_keep_the_tracker_where_python_would_close_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    intent = SimpleNamespace(preserve_fd=False)
    monkeypatch.setattr(standard, "_fork_intent", intent, raising=False)
    monkeypatch.setattr(os, "fork", lambda: int(intent.preserve_fd))
    assert _forking.fork() == 1
    assert not intent.preserve_fd  # forks of tasks' own are not meant


def test_forks_are_not_warned_of() -> None:
    """Nobody has asked for most of them; as an error it would come when the child is there."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            before = list(warnings.filters)
            pid = _forking.fork()
            if not pid:
                os._exit(list(warnings.filters) != before)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert list(warnings.filters) == before
    finally:
        ended.set()
        thread.join()


def test_a_tracker_that_runs_is_the_one_that_is_shared() -> None:
    assert _tracking.shared() == standard.getfd()


def test_a_descriptor_that_the_program_has_closed_is_replaced(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard._resource_tracker, "_fd", None)
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    _tracking._pipe = nothing
    made = _tracking.shared()
    assert made not in (-1, nothing)
    os.close(nothing)
    os.close(made)


@pytest.mark.parametrize("needed", [False, True])
def test_a_pipe_that_the_program_has_in_its_place_is_not_taken_for_it(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, needed: bool
) -> None:
    monkeypatch.setattr(standard, "_resource_tracker", tracking.tracker)
    if needed:
        tracking.tracker.ensure_running()
    assert _tracking.shared() == tracking.write
    read, write = os.pipe()
    os.dup2(write, tracking.write, inheritable=False)
    made = _tracking.shared()
    assert made != tracking.write
    assert _tracking.shared() == made
    for fd in (read, write, made):
        os.close(fd)


def test_a_pipe_of_the_program_is_not_taken_when_a_tracker_is_needed(tracking: Tracking) -> None:
    assert _tracking._is_same_pipe(tracking.write)
    read, write = os.pipe()
    os.dup2(write, tracking.write, inheritable=False)
    tracking.tracker.ensure_running()
    assert tracking.tracker._fd != tracking.write
    tracking.tracker._stop()
    os.close(read)
    os.close(write)
