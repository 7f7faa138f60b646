"""The sockets of detached actors, where there is no room behind them."""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from pool._in_worker._detached import Detached
from pool._transport import _rendezvous as rendezvous


def test_a_full_queue_is_neither_waited_for_nor_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.01)
    found = rendezvous.listen("here", "it")
    assert found is not None
    listener, path = found
    listener.listen(0)
    first = rendezvous.connect(path)
    assert first is not None
    with pytest.raises(BlockingIOError):
        rendezvous.connect(path)
    assert rendezvous.listen("here", "it") is None
    assert os.path.exists(path)
    first[0].close()
    listener.close()
    rendezvous.leave(path)


@pytest.mark.parametrize("again", [False, True])
def test_a_name_is_taken_though_the_directory_goes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    lock = fcntl.flock
    others = iter([os.rmdir])

    def wait_for_others(fd: int, how: int) -> None:
        for leave in others:
            leave(tmp_path / "actorpool")
            if again:
                os.mkdir(tmp_path / "actorpool", 0o700)
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", wait_for_others)
    found = rendezvous.listen("here", "it")
    assert found is not None
    listener, path = found
    assert os.path.exists(path)
    listener.close()
    rendezvous.leave(path)


def test_a_fork_does_not_keep_the_lock(tmp_path: Path) -> None:
    read, write = os.pipe()
    with rendezvous._locked(str(tmp_path)):
        pid = os.fork()
        if not pid:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for each in (fd, read, write):
            os.close(each)
        os.waitpid(pid, 0)


def test_connections_are_accepted_again_after_descriptors_were_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    welcomed: list[Any] = []
    outcomes = iter([OSError(errno.EMFILE, "none is free"), None, "channel", SystemExit()])

    def accept(listener: Any) -> Any:
        outcome = next(outcomes)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(rendezvous, "accept", accept)
    monkeypatch.setattr("pool._in_worker._detached.sleep", slept.append)
    detached = Detached(None, {})  # type: ignore[arg-type]  # not asked
    monkeypatch.setattr(detached, "_introduce", lambda channel, made: None)
    monkeypatch.setattr(detached, "_welcome", welcomed.append)
    with pytest.raises(SystemExit):
        detached._accept_programs(_socket.socket.__new__(_socket.socket))
    assert welcomed == ["channel"]
    assert len(slept) == 1
