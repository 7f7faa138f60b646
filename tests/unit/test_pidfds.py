"""Processes that are no children, on a system that has no descriptors of them."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pool._transport import _pidfds


@pytest.fixture(params=[errno.ENOSYS, errno.EPERM], autouse=True)
def no_pidfds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(request.param, "no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Run until its input is closed."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process


def collectable(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has ended, and leave its exit status to be collected."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_the_end_is_waited_for(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that nobody has collected yet has ended, too."""
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        assert process.stdin is not None
        process.stdin.close()
        collectable(process)

    monkeypatch.setattr(_pidfds, "sleep", sleep)
    _pidfds.wait_for_end(process.pid, 3600.0)
    assert looks == [_pidfds.LOOK]


def test_one_that_does_not_end_is_waited_for_no_longer_than_that(
    process: subprocess.Popen[bytes],
) -> None:
    _pidfds.wait_for_end(process.pid, 0.0)
    assert process.poll() is None


def test_one_that_runs_is_waited_for_without_room_for_a_descriptor(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    def sleep(seconds: float) -> None:
        assert process.stdin is not None
        process.stdin.close()
        collectable(process)

    monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setattr(_pidfds, "sleep", sleep)
    _pidfds.wait_for_end(process.pid, 3600.0)
    assert not _pidfds._runs(process.pid)


def test_a_wait_that_is_interrupted_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def register(self, fd: int, events: int) -> None:
            pass

        def poll(self, patience: float) -> None:
            raise KeyboardInterrupt

    fd = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(os, "pidfd_open", lambda pid: fd)
    monkeypatch.setattr(select, "poll", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        _pidfds.wait_for_end(os.getpid(), 3600.0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_one_that_has_gone_is_not_waited_for(process: subprocess.Popen[bytes]) -> None:
    process.communicate()
    _pidfds.wait_for_end(process.pid, 3600.0)


def test_it_is_killed_while_it_is_there(process: subprocess.Popen[bytes]) -> None:
    ours, theirs = os.pipe()
    try:
        _pidfds.kill(process.pid, ours)
    finally:
        os.close(theirs)
    assert process.wait() == -signal.SIGKILL
    _pidfds.kill(process.pid, ours)  # the other end is closed: it might be another process by now
    os.close(ours)


def test_it_is_killed_without_room_for_a_descriptor(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    ours, theirs = os.pipe()
    _pidfds.kill(process.pid, ours)
    os.close(theirs)
    os.close(ours)
    assert process.wait() == -signal.SIGKILL


def test_it_is_not_killed_when_its_connection_is_closed(process: subprocess.Popen[bytes]) -> None:
    ours, theirs = os.pipe()
    os.close(theirs)
    _pidfds.kill(process.pid, ours)
    os.close(ours)
    process.communicate()
    assert process.returncode == 0


def test_that_there_are_none_is_no_error() -> None:
    assert _pidfds.pidfd_of_this() == -1
