"""Check what workers are: initializers, lifetimes, names, state kept between tasks."""

from __future__ import annotations

import fcntl
import functools
import importlib
import multiprocessing
import os
import re
import textwrap
import time
from itertools import groupby
from multiprocessing import util
from typing import TYPE_CHECKING, Any

import pytest
from poolscripts import run_program
from pooltasks import (
    STATE,
    Rebuilt,
    end_without,
    get_state,
    get_state_and_pid,
    identity,
    log_start,
    parent_of,
    parents,
    pid,
    print_to_what_cannot_be_flushed,
    process_of,
    set_state,
    set_state_pairs,
    square,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.every_method
def test_initializer_s_globals_are_seen_by_tasks(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2, set_state_pairs, (("table", {"a": 1}), ("name", "n")))
    assert pool.map(get_state, ["table", "name", "calls"] * 5, 1) == [{"a": 1}, "n", 1] * 5
    assert list(pool.imap_unordered(get_state, ["name"] * 3)) == ["n"] * 3
    assert pool.apply(get_state, ("absent",)) is None
    assert "table" not in STATE


def test_neither_initializer_nor_arguments(make_pool: Callable[..., Any]) -> None:
    assert make_pool(1, initializer=None, initargs=None).map(square, [3]) == [9]


def test_initializer_by_keyword_and_any_callable(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1, initializer=functools.partial(set_state, x=5))
    assert pool.apply(get_state, ("x",)) == 5
    other = make_pool(processes=1, initializer=set_state_pairs, initargs=[("y", 6)])
    assert other.apply(get_state, ("y",)) == 6
    assert other.apply(get_state, ("x",)) is None


def test_initializer_runs_once_in_each_worker(
    make_pool: Callable[..., Any], tmp_path: Path
) -> None:
    log = tmp_path / "starts"
    pool = make_pool(2, log_start, (str(log),))
    used = set(pool.map(pid, range(40), 1))
    pool.close()
    pool.join()
    started = [int(line) for line in log.read_text().split()]
    assert len(started) == len(set(started)) == 2
    assert used <= set(started)


def test_initargs_are_copies_of_their_own(make_pool: Callable[..., Any]) -> None:
    table = {"a": [1]}
    pool = make_pool(1, set_state_pairs, (("table", table),))
    assert pool.apply(get_state, ("table",)) == {"a": [1]}
    table["a"].append(2)
    assert pool.apply(get_state, ("table",)) == {"a": [1]}


@pytest.mark.every_method
def test_one_task_per_child(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2, maxtasksperchild=1)
    assert len(set(pool.map(pid, range(8), 1))) == 8
    pids = pool.map(pid, range(12), 4)
    assert [len(set(pids[n : n + 4])) for n in (0, 4, 8)] == [1, 1, 1]
    assert len(set(pids)) == 3


def test_several_tasks_per_child(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1, maxtasksperchild=3)
    pids = [pool.apply(pid) for _ in range(9)]
    assert [len(list(run)) for _, run in groupby(pids)] == [3, 3, 3]
    assert len(set(pids)) == 3
    chunked = pool.map(pid, range(12), 2)
    assert [len(list(run)) for _, run in groupby(chunked)] == [6, 6]


@pytest.mark.parametrize("method", ["imap", "imap_unordered", "map"])
def test_children_are_replaced_within_one_job(make_pool: Callable[..., Any], method: str) -> None:
    pool = make_pool(2, maxtasksperchild=2)
    pids = list(getattr(pool, method)(pid, range(12), chunksize=1))
    assert len(pids) == 12
    assert max(pids.count(worker) for worker in pids) <= 2


def test_replacements_are_initialized(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1, set_state_pairs, (("x", 1),), 1)
    seen = [pool.apply(get_state_and_pid, ("x",)) for _ in range(4)]
    assert [value for value, _ in seen] == [1] * 4
    assert len({worker for _, worker in seen}) == 4


def test_failed_tasks_count(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1, maxtasksperchild=2)
    first = pool.apply(pid)
    with pytest.raises(ZeroDivisionError):
        pool.apply(divmod, (1, 0))
    assert pool.apply(pid) != first


@pytest.mark.every_method
def test_workers_have_the_standard_s_names(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(3)
    seen = set(pool.map(process_of, range(60), 1))
    for name, number, worker in seen:
        assert re.fullmatch(r"\w*PoolWorker-\d+(:\d+)*", name)
        assert name.endswith(str(number[-1]))
        assert number[-1] >= 1
        assert worker != os.getpid()
    # A program may use the number to pick a device or a port: no two workers share it.
    assert len({number for _, number, _ in seen}) == len(seen)


@pytest.mark.parametrize(
    ("method", "heavy"),
    [(None, ""), (None, "import numpy"), ("fork", ""), ("spawn", ""), ("forkserver", "")],
)
@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_names_begin_with_the_start_method(
    library: str, method: str | None, heavy: str, tmp_path: Path
) -> None:
    """Programs make a folder for ``ForkPoolWorker-1`` beforehand, or look up a file by it."""
    body = f"""
        import multiprocessing as standard
        import {library} as multiprocessing
        {heavy}

        def name(_):
            return standard.current_process().name

        if __name__ == "__main__":
            chosen = multiprocessing.get_context({method!r})
            for _ in range(2):
                with chosen.Pool(1) as p:
                    print(p.map(name, [0]))
            print(chosen.get_start_method())
    """
    *names, chosen = run_program(textwrap.dedent(body), tmp_path).succeeded().split()
    begins = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[chosen]
    assert names == [f"['{begins}PoolWorker-{number}']" for number in (1, 2)]


def test_workers_of_two_pools_have_different_names(make_pool: Callable[..., Any]) -> None:
    # Programs call files by them.
    one, two = make_pool(2), make_pool(2)
    seen = [
        {name for name, *_ in pool.map(process_of, range(40), 1)}
        for pool in (one, two, make_pool(1))
    ]
    assert len(set.union(*seen)) == sum(map(len, seen))


def test_names_are_not_used_again(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1, maxtasksperchild=1)
    names = [pool.apply(process_of)[0] for _ in range(4)]
    assert len(set(names)) == 4


def test_workers_are_children_of_the_program(make_pool: Callable[..., Any]) -> None:
    """Programs have them end where `os.getppid` is another one than it was."""
    pool = make_pool(1, end_without, (os.getpid(),))
    assert pool.apply(os.getppid) == os.getpid()
    assert pool.apply(parents) == (os.getpid(), pool.apply(pid))


@pytest.mark.every_method
def test_workers_know_who_made_the_pool(make_pool: Callable[..., Any]) -> None:
    assert make_pool(1).apply(parent_of) == os.getpid()


def test_workers_are_not_the_main_process(make_pool: Callable[..., Any]) -> None:
    name, _, worker = make_pool(1).apply(process_of)
    assert name != "MainProcess"
    assert worker != os.getpid()
    assert multiprocessing.current_process().name == "MainProcess"


def test_workers_keep_their_state(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    pool.apply(set_state, (), {"kept": 1})
    assert pool.apply(get_state, ("kept",)) == 1
    assert pool.map(get_state, ["kept"]) == [1]


def test_standard_output_may_be_an_object_that_cannot_be_flushed(
    make_pool: Callable[..., Any],
) -> None:
    pool = make_pool(1, print_to_what_cannot_be_flushed)
    assert pool.map(square, [2, 3], 1) == [4, 9]


def test_all_workers_take_part(make_pool: Callable[..., Any], tmp_path: Path) -> None:
    # Each task waits for the other: it ends only if two workers run at once.
    for name in ("a", "b"):
        os.mkfifo(tmp_path / name)
    pairs = [(tmp_path / "a", tmp_path / "b"), (tmp_path / "b", tmp_path / "a")]
    first, second = make_pool(2).starmap(_meet, pairs, 1)
    assert first != second


@pytest.mark.every_method
@pytest.mark.this_machine
def test_no_worker_holds_anything_when_the_pool_was_terminated(
    make_pool: Callable[..., Any], tmp_path: Path
) -> None:
    # As files of HDF5 are locked by whoever has them open, and cannot be written meanwhile.
    path = tmp_path / "data"
    path.touch()
    pool = make_pool(2, _open_locked, (path,))
    assert pool.map(square, range(4), 1) == [0, 1, 4, 9]
    with pool:
        pass
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open_locked(path: Path) -> None:
    file = path.open()
    fcntl.flock(file, fcntl.LOCK_SH)
    set_state(file=file)
    util.Finalize(None, time.sleep, (0.05,), exitpriority=10)  # longer than to come to the lock


def _meet(mine: Path, other: Path) -> int:
    # Opening one end of a named pipe waits for the other end.
    if mine.name == "a":
        with mine.open("w"), other.open():
            return os.getpid()
    with other.open(), mine.open("w"):
        return os.getpid()


@pytest.mark.every_method
def test_classes_of_modules_keep_their_identity(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(1)
    assert type(pool.apply(identity, (Rebuilt.__mro__[1](1),))) is Exception
    assert pool.apply(identity, (Rebuilt,)) is Rebuilt
    assert pool.apply(identity, (square,)) is square


@pytest.mark.every_method
def test_workers_see_directory_environment_and_path(
    make_pool: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_now.py").write_text("def seven(_): return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MADE_NOW", "yes")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = make_pool(1)
    assert pool.apply(os.getcwd) == str(tmp_path)
    assert pool.apply(os.getenv, ("MADE_NOW",)) == "yes"
    made_now = importlib.import_module("made_now")
    assert pool.map(made_now.seven, [0]) == [7]
