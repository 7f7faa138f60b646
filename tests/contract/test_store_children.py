"""References in processes that `multiprocessing` starts: what is copied, and how long it lives."""

from __future__ import annotations

import errno
import multiprocessing
import multiprocessing.context
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import storetasks as tasks
from poolkit import PATIENCE

import store
from store import _handed

NBYTES = 16 << 20
COUNT = NBYTES // 8

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.get_context(request.param)


def started(context: Any, task: Any, *args: Any) -> Any:
    process = context.Process(target=task, args=args)
    process.start()
    return process


def test_arguments_are_not_copied(shared: str, context: Any) -> None:
    refs = [store.put(np.full(COUNT, value)) for value in (1.0, 2.0)]
    copied = store.stats()["copied"]
    ours, theirs = context.Pipe()
    with ours, theirs:
        child = started(context, tasks.tell_of_refs, refs, theirs)
        grown, sums = ours.recv()
        child.join()
    child.close()
    assert sums == [1.0 * COUNT, 2.0 * COUNT]
    assert grown < NBYTES // 4
    assert store.stats()["copied"] == copied


@pytest.mark.parametrize("ending", ["returns", "killed"])
def test_kept_as_long_as_the_child_lives(shared: str, context: Any, ending: str) -> None:
    ours, theirs = context.Pipe()
    with ours, theirs:
        ref = store.put(np.full(COUNT, 3.0))
        child = started(context, tasks.look_twice, [ref], theirs)
        assert ours.recv()
        del ref
        for _ in range(4):
            store.put(np.zeros(COUNT))
        assert store.stats()["live"] >= NBYTES and store.stats()["pinned"]
        if ending == "killed":
            child.kill()
        else:
            ours.send("look")
            assert ours.recv()
        child.join()
    child.close()
    assert store.stats()["live"] == 0 and not store.stats()["pinned"]


def test_kept_as_long_as_a_child_of_the_child_lives(
    shared: str, context: Any, tmp_path: Path
) -> None:
    gate, result = tmp_path / "gate", tmp_path / "gate.result"
    os.mkfifo(gate)
    os.mkfifo(result)
    ours, theirs = context.Pipe()
    with ours, theirs:
        child = started(
            context, tasks.fork_with_ref, [store.put(np.full(COUNT, 3.0))], str(gate), theirs
        )
        grandchild = psutil.Process(ours.recv())
        child.join()
    child.close()
    for _ in range(4):
        store.put(np.zeros(COUNT))
    assert store.stats()["live"] >= NBYTES
    gate.write_text("look")
    assert result.read_text() == "True"
    grandchild.wait(PATIENCE)
    assert store.stats()["live"] == 0


def test_child_that_could_not_be_started(shared: str) -> None:
    context = multiprocessing.get_context("spawn")
    ref = store.put(np.ones(COUNT))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        started(context, tasks.exit_unless, ref, lambda: None)
    del ref
    assert store.stats()["live"] == 0


def test_a_child_hands_on_what_it_was_handed(mode: str, context: Any) -> None:
    ref = store.put(np.full(COUNT, 3.0))
    child = started(context, tasks.exit_unless_sent_on, ref, 3.0, context.get_start_method())
    child.join()
    assert child.exitcode == 0
    child.close()


def test_other_pickles_are_complete_and_copies(mode: str, context: Any) -> None:
    ref = store.put(np.full(COUNT, 3.0))
    data = pickle.dumps(ref)
    assert len(data) > NBYTES
    ours, theirs = context.Pipe()
    with ours, theirs:
        child = started(context, tasks.exit_unless_received, theirs, 3.0)
        ours.send(ref)
        del ref
        child.join()
    assert child.exitcode == 0
    child.close()
    assert (store.get(pickle.loads(data)) == 3).all()


class SomethingElse:
    """What stands for a descriptor where that number is another one."""

    def detach(self) -> int:
        return 0


class Starting:
    """The start of a process, of which descriptors arrive as something else."""

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    def DupFd(self, fd: int) -> SomethingElse:
        return SomethingElse()


def test_without_a_descriptor_for_the_child_none_stay_open(
    shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> Any:
        raise OSError(errno.EMFILE, "no descriptor")

    ref = store.put(np.ones(COUNT))
    files = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(_handed, "_duplicate", fail)
    assert _handed.hand_down(Starting(), ref._object.blobs) is None
    assert len(os.listdir("/proc/self/fd")) == files


def refused(parts: Any) -> None:
    # Not in the test: pytest keeps the variables of the frames that an exception passed.
    with pytest.raises(store.StoreError, match="was read elsewhere"):
        _handed.receive(*parts)


def test_descriptors_of_something_else_are_not_mapped(shared: str) -> None:
    ref = store.put(np.ones(COUNT))
    popen = Starting()
    multiprocessing.context.set_spawning_popen(popen)
    try:
        parts = _handed.hand_down(popen, ref._object.blobs)
    finally:
        multiprocessing.context.set_spawning_popen(None)
    assert parts is not None and store.stats()["pinned"]
    refused(parts)
    del popen, parts, ref
    assert store.stats()["live"] == 0


def without_descriptors() -> None:
    """Close what this process has inherited, as daemons do, and open as many other files."""
    end = max(map(int, os.listdir("/proc/self/fd")))
    os.closerange(3, end)
    while os.open(__file__, os.O_RDONLY) < end:
        pass


def looks_when_told(task: Any) -> tuple[int, int]:
    """Fork a child that closes its descriptors, and calls `task` when told by one; return both."""
    told, telling = os.pipe()
    ready, done = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(told, 0)
            os.dup2(done, 1)
            without_descriptors()
            os.write(1, b"x")
            os.read(0, 1)
            os._exit(0 if task() else 1)
        finally:
            os._exit(2)
    os.read(ready, 1)
    for fd in (told, done, ready):
        os.close(fd)
    return child, telling


def told(child: int, telling: int) -> int:
    os.close(telling)
    return os.waitpid(child, 0)[1]


def test_kept_for_a_child_that_has_closed_its_descriptors(shared: str) -> None:
    views = [store.get(store.put(np.full(COUNT, 3.0)))]
    child = looks_when_told(lambda: (views[0] == 3).all())
    views.clear()
    for _ in range(4):
        store.put(np.zeros(COUNT))
    assert store.stats()["pinned"]
    assert told(*child) == 0
    assert store.stats()["live"] == 0 and not store.stats()["pinned"]


def test_kept_for_a_spawned_child_that_has_closed_its_descriptors(shared: str) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with ours, theirs:
        ref = store.put(np.full(COUNT, 3.0))
        child = started(context, tasks.look_without_descriptors, ref, theirs)
        assert ours.recv()
        del ref
        for _ in range(4):
            store.put(np.zeros(COUNT))
        assert store.stats()["pinned"]
        ours.send("look")
        assert ours.recv()
        child.join()
    child.close()
    assert store.stats()["live"] == 0 and not store.stats()["pinned"]


@pytest.mark.parametrize("copy", ["cow", "readonly", "copy"])
def test_files_of_a_child_are_not_taken_for_what_it_inherited(shared: str, copy: str) -> None:
    ref = store.put(np.full(COUNT, 3.0))

    def is_refused() -> bool:
        files = len(os.listdir("/proc/self/fd"))
        try:
            store.get(ref, copy=copy)
        except store.StoreError:
            ref._object.free()
            return len(os.listdir("/proc/self/fd")) == files
        return False

    assert told(*looks_when_told(is_refused)) == 0
