"""Start processes in tasks: they end with the worker, and nothing waits for them in vain.

The standard's workers are daemons, which may not have such children; libraries that look at that do
without them. What they can start, by `subprocess` or `os.fork`, outlives a worker on both.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

import psutil
import pytest
from poolkit import PATIENCE
from poolscripts import command_for, finish, orphans_come_here, read_line, run_program, start

from pool import Pool

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["", "fork", "spawn"]

HEAD = """
import os, signal, subprocess, sys, time
import {library} as multiprocessing
import multiprocessing as standard
from concurrent.futures import ProcessPoolExecutor

context = multiprocessing.get_context({method!r} or None)
kept = []

def daemon(by):
    kept.append(standard.get_context(by).Process(target=signal.pause, daemon=True))
    kept[-1].start()
    return kept[-1].pid

def process(by):
    kept.append(standard.get_context(by).Process(target=signal.pause))
    kept[-1].start()
    return kept[-1].pid

def executor(by):
    kept.append(ProcessPoolExecutor(1, standard.get_context(by)))
    return kept[-1].submit(os.getpid).result()

def pool(by):
    kept.append(standard.get_context(by).Pool(1))
    return kept[-1].apply(os.getpid)

def manager(by):
    kept.append(standard.get_context(by).Manager())
    return kept[-1]._process.pid

def loky(by):
    from joblib.externals.loky import get_reusable_executor
    kept.append(get_reusable_executor(1))
    return kept[-1].submit(os.getpid).result()

def popen(by):
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], **streams).pid

def fork(by):
    pid = os.fork()
    if not pid:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        signal.pause()
    return pid

"""
KINDS = ["daemon", "process", "executor", "pool", "manager"]
#: By `multiprocessing`, and how it starts the process.
OWNED = [
    *((kind, by) for kind in KINDS for by in ("fork", "spawn")),
    ("executor", "forkserver"),
    ("loky", ""),
]
FREE = ["popen", "fork"]


def program(body: str, library: str = "pool", method: str = "") -> str:
    """Put a body under a main guard: what `multiprocessing` spawns runs the main module again."""
    return HEAD.format(library=library, method=method) + "if __name__ == '__main__':\n" + body


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["daemon", "executor", "pool", "manager", "loky"])
def test_a_closed_pool_does_not_wait_for_what_tasks_keep(
    tmp_path: Path, kind: str, method: str
) -> None:
    body = f"""
    p = context.Pool(1)
    p.apply({kind}, ("fork",))
    p.close()
    p.join()
    print("joined")
    """
    assert run_program(program(body, method=method), tmp_path).succeeded() == "joined\n"


def test_a_closed_pool_waits_for_processes_that_are_no_daemons(tmp_path: Path) -> None:
    body = """
    def work(by):
        kept.append(standard.Process(target=print, args=("done",)))
        kept[-1].start()

    p = context.Pool(1)
    p.apply(work, (0,))
    p.close()
    p.join()
    print("joined")
    """
    assert run_program(program(body), tmp_path).succeeded() == "done\njoined\n"


def check_ends_with_the_worker(folder: Path, kind: str, by: str, method: str, body: str) -> None:
    """Run a program whose task starts a process and prints its pid; wait for the end of all."""
    source = program(body.format(kind=kind, by=by), method=method)
    command, _ = command_for(source, "file", folder)
    with orphans_come_here():
        process = start(command, folder)
        ended = has_ended(int(read_line(process)))
        # Ends when the last process that holds the program's output has ended.
        finish(process)
        assert ended


def has_ended(pid: int) -> bool:
    """Wait until a process has ended; tell whether it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([descriptor], [], [], PATIENCE)
    os.close(descriptor)
    return bool(ended)


@pytest.mark.parametrize(("kind", "by"), OWNED)
def test_they_end_with_a_pool_that_is_terminated(tmp_path: Path, kind: str, by: str) -> None:
    body = """
    with context.Pool(1) as p:
        pid = p.apply({kind}, ({by!r},))
    print(pid, flush=True)
    sys.stdin.read()  # the program itself goes on
    """
    check_ends_with_the_worker(tmp_path, kind, by, "", body)


@pytest.mark.parametrize(("kind", "by"), OWNED)
def test_they_end_with_a_program_that_is_killed(tmp_path: Path, kind: str, by: str) -> None:
    body = """
    p = context.Pool(1)
    print(p.apply({kind}, ({by!r},)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    check_ends_with_the_worker(tmp_path, kind, by, "", body)


@pytest.mark.parametrize("method", METHODS)
def test_they_end_under_each_start_method(tmp_path: Path, method: str) -> None:
    body = """
    p = context.Pool(1)
    print(p.apply({kind}, ({by!r},)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    check_ends_with_the_worker(tmp_path, "executor", "fork", method, body)


def test_children_of_children_end_too(tmp_path: Path) -> None:
    # The executor's process has a child of its own, and waits for it when the program is gone.
    body = """
    p = context.Pool(1)
    print(p.apply(in_executor, ("fork",)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    nested = """
def in_executor(by):
    kept.append(ProcessPoolExecutor(1, standard.get_context("fork")))
    return kept[-1].submit(process, by).result()

"""
    source = program(body).replace("if __name__", nested + "if __name__")
    command, _ = command_for(source, "file", tmp_path)
    with orphans_come_here():
        process = start(command, tmp_path)
        int(read_line(process))
        finish(process)


@pytest.mark.parametrize("kind", FREE)
@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_what_a_task_starts_otherwise_lives_on(tmp_path: Path, library: str, kind: str) -> None:
    body = f"""
    with context.Pool(1) as p:
        print(p.apply({kind}, (0,)))
        p.terminate()
        p.join()
    """
    with orphans_come_here():
        method = "fork" if library == "multiprocessing" else ""
        command, _ = command_for(program(body, library, method), "file", tmp_path)
        process = start(command, tmp_path)
        pid = int(read_line(process))
        finish(process)
        left = psutil.Process(pid)
        assert left.status() != psutil.STATUS_ZOMBIE
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_joblib_runs_in_the_worker_itself(tmp_path: Path, library: str, backend: str) -> None:
    body = f"""
    with context.Pool(2) as p:
        print(p.map(parallel, [{backend!r}] * 4, 1))
    """
    task = """
def parallel(backend):
    import warnings
    import joblib
    with warnings.catch_warnings(), joblib.parallel_config(backend=backend):
        warnings.simplefilter("ignore")  # that it has one process
        pids = joblib.Parallel(2)(joblib.delayed(os.getpid)() for _ in range(4))
    return set(pids) == {os.getpid()}

"""
    method = "fork" if library == "multiprocessing" else ""
    source = program(body, library, method).replace("if __name__", task + "if __name__")
    assert run_program(source, tmp_path).succeeded() == f"{[True] * 4}\n"


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_workers_say_that_they_are_daemons(tmp_path: Path, library: str) -> None:
    body = """
    with context.Pool(1) as p:
        print(p.apply(is_daemon))
    """
    task = """
def is_daemon():
    return standard.current_process().daemon

"""
    method = "fork" if library == "multiprocessing" else ""
    source = program(body, library, method).replace("if __name__", task + "if __name__")
    assert run_program(source, tmp_path).succeeded() == "True\n"


def test_a_child_of_a_task_is_no_daemon_unless_told(tmp_path: Path) -> None:
    body = """
    with context.Pool(1) as p:
        print(p.apply(ask))
    """
    task = """
def ask():
    made = [standard.Process(target=abs, args=(1,), daemon=given) for given in (None, True)]
    for each in made:
        each.start()
        each.join()
    return [(each.daemon, each.exitcode) for each in made]

"""
    source = program(body).replace("if __name__", task + "if __name__")
    assert run_program(source, tmp_path).succeeded() == "[(False, 0), (True, 0)]\n"


def test_tasks_and_actors_of_ray_s_words_are_no_daemons(tmp_path: Path) -> None:
    # As in Ray, where they are given CPUs to use.
    body = """
    class Asked:
        def ask(self):
            return standard.current_process().daemon

    actor = multiprocessing.remote(Asked).remote()
    task = multiprocessing.remote(lambda: standard.current_process().daemon)
    print(multiprocessing.get([actor.ask.remote(), task.remote()]))
    multiprocessing.shutdown()
    """
    assert run_program(program(body), tmp_path).succeeded() == "[False, False]\n"


def ask_twice(asked: Pool) -> tuple[int, int, bool]:
    """Use the pool in this task and in a child of it; say whether by one connection."""
    asked.apply(abs, (0,))
    before = asked._engines.current()
    child = os.fork()
    if not child:
        good = asked.apply(pow, (2, 10)) == 1024 and asked._engines.current() is not before
        os._exit(0 if good else 1)
    answer = asked.apply(pow, (3, 2))
    return os.waitpid(child, 0)[1], answer, asked._engines.current() is before


def test_a_child_of_a_task_has_a_connection_of_its_own_to_the_pool() -> None:
    with Pool(2) as pool:
        assert pool.apply_async(ask_twice, (pool,)).get(PATIENCE) == (0, 9, True)
    pool.join()
