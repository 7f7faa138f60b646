"""Data of an initializer: copied once for a pool, seen by each of its workers, gone with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import storetasks as tasks

import store
from pool import Pool, WorkerDied, get_context
from pool._local._peers import Peer

NBYTES = 16 << 20
COUNT = NBYTES // 8

METHODS = ["forkserver", "spawn"]


def copied_since(before: int) -> int:
    now: int = store.stats()["copied"]
    return now - before


@pytest.mark.parametrize("method", METHODS)
def test_copied_once_whoever_starts_later(shared: str, method: str) -> None:
    before = store.stats()["copied"]
    data = np.full(COUNT, 3.0)
    with get_context(method).Pool(2, tasks.keep, (data,), maxtasksperchild=1) as p:
        data[:] = 4  # not seen: the arguments are as they were when the pool was made
        pids = p.map(tasks.pid_if_kept, [3.0] * 5, 1)
        assert len(set(pids)) == 5
        assert copied_since(before) == NBYTES
        assert store.stats()["objects"] == 1
    p.join()
    assert store.stats()["held"] == {}
    assert store.stats()["live"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_workers_have_no_copy_of_their_own(shared: str, method: str) -> None:
    small = np.ones(1)
    with get_context(method).Pool(1, tasks.keep, (small,)) as p:
        own = p.apply(tasks.anonymous_nbytes_with_kept)
    p.join()
    with get_context(method).Pool(1, tasks.keep, (np.ones(COUNT),)) as p:
        assert p.apply(tasks.anonymous_nbytes_with_kept) < own + NBYTES // 4
    p.join()


def test_what_is_in_the_store_is_not_copied(shared: str) -> None:
    data = store.share(np.full(COUNT, 3.0))
    ref = store.put(data)
    before = store.stats()["copied"]
    for sent in (data, data[5:], [data, ref]):
        with Pool(2, tasks.keep, (sent,)) as p:
            p.map(abs, range(4), 1)
        p.join()
    assert copied_since(before) == 0


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_each_worker_may_write_to_its_own(mode: str, method: str) -> None:
    data = np.full(COUNT, 3.0)
    with get_context(method).Pool(2, tasks.keep, (data,), maxtasksperchild=2) as p:
        # Each looks that the data is as it was, or as it has left it itself.
        assert all(p.map(tasks.mark_kept, [3.0] * 12, 1))
    p.join()
    assert (data == 3).all()


def test_frames_and_what_holds_arrays(mode: str) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": np.arange(100_000.0), "s": pd.array(["one", "two"] * 50_000, "str")})
    given = {"frame": frame, "dates": np.arange(100_000).view("M8[s]"), "text": "a" * 3_000_000}
    with Pool(2, tasks.keep, (given,)) as p:
        kept = p.apply(tasks.kept_value)
    p.join()
    pd.testing.assert_frame_equal(kept["frame"], frame)
    assert (kept["dates"] == given["dates"]).all() and kept["dates"].dtype == "M8[s]"
    assert kept["text"] == given["text"]


def test_workers_that_take_the_place_of_killed_ones(mode: str) -> None:
    with Pool(2, tasks.keep, (np.full(COUNT, 3.0),)) as p:
        for _ in range(3):
            with pytest.raises(WorkerDied):
                p.apply(tasks.die, (0,))
            assert all(p.map(tasks.check_kept, [3.0] * 4, 1))
        # The forkserver as well, and all workers with it.
        server = psutil.Process(p.apply(os.getpid)).parent()
        assert server is not None
        everybody = [server, *server.children()]
        server.kill()
        psutil.wait_procs(everybody, timeout=30)
        assert all(p.map(tasks.check_kept, [3.0] * 4, 1))
    p.join()
    assert store.stats()["held"] == {}


def test_initializer_that_raises(mode: str) -> None:
    with Pool(2, tasks.refuse, (np.ones(COUNT),)) as p, pytest.raises(ZeroDivisionError):
        p.map(abs, range(4))
    p.join()
    assert store.stats()["held"] == {}


def test_pool_that_ends_before_its_workers_have_started(mode: str) -> None:
    for end in ("close", "terminate"):
        p = Pool(3, tasks.keep, (np.ones(COUNT),))
        getattr(p, end)()
        p.join()
    assert store.stats()["held"] == {}


BLOCKING = """
import os, sys
if "_spawned" in sys.orig_argv[-1]:
    try:
        os.close(os.open({marker!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        open({gate!r}).close()
"""


def test_worker_that_starts_so_late_that_its_messages_were_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker to start does all of the work while the other one is not up yet."""
    gate, marker = str(tmp_path / "gate"), str(tmp_path / "first")
    meeting = str(tmp_path / "meeting")
    os.mkfifo(gate)
    os.mkfifo(meeting)
    (tmp_path / "sitecustomize.py").write_text(BLOCKING.format(gate=gate, marker=marker))
    taken_back = []
    reclaim = Peer.reclaim

    def noting(self: Any) -> Any:
        numbers = reclaim(self)
        if not self.initialized:
            taken_back.append(self.worker_id)
        return numbers

    monkeypatch.setattr(Peer, "reclaim", noting)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with get_context("spawn").Pool(2, tasks.keep, (np.full(COUNT, 3.0),)) as p:
        assert len(set(p.map(tasks.pid_if_kept, [3.0] * 20, 1))) == 1
        assert taken_back
        open(gate, "w").close()
        both = [(meeting, "r", 3.0), (meeting, "w", 3.0)]
        assert len(set(p.starmap(tasks.meet_if_kept, both, 1))) == 2
    p.join()
