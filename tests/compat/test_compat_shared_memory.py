"""Share `multiprocessing.shared_memory` with tasks: it lasts as long as the program wants it.

Each test is a program, for the process that unlinks what was left belongs to a whole program. What
it writes to standard error is a failure: that is where warnings of leaks appear.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from poolscripts import command_for, finish, orphans_come_here, read_line, run_program, start

if TYPE_CHECKING:
    from pathlib import Path

WAYS = [
    ("multiprocessing", "fork"),
    ("multiprocessing", "spawn"),
    ("multiprocessing", "forkserver"),
    ("pool", ""),
    ("pool", "fork"),
    ("pool", "spawn"),
]
# Where the standard forks, workers and program have one tracker only if it ran before.
LATE = [way for way in WAYS if way != ("multiprocessing", "fork")]
OURS = [way for way in WAYS if way[0] == "pool"]

HEAD = """
import os, signal, sys
import {library} as multiprocessing

context = multiprocessing.get_context({method!r} or None)

def attach(name):
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(name)
    value = memory.buf[0]
    memory.close()
    return value

def make(value):
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = value
    memory.close()
    return memory.name

def free(memory):
    memory.close()
    memory.unlink()

"""


def program(body: str, library: str, method: str) -> str:
    """Put a body under a main guard: the standard's workers may run the main module again."""
    guarded = "if __name__ == '__main__':\n" + body
    return HEAD.format(library=library, method=method) + guarded


@pytest.mark.parametrize(("library", "method"), WAYS)
def test_memory_outlives_the_workers_that_attach_to_it(
    tmp_path: Path, library: str, method: str
) -> None:
    body = """
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = 5
    for _ in range(2):
        with context.Pool(1, maxtasksperchild=1) as p:
            print(p.map(attach, [memory.name] * 3, 1))
            p.close()
            p.join()
    free(memory)
    """
    out = run_program(program(body, library, method), tmp_path).succeeded()
    assert out == "[5, 5, 5]\n" * 2


@pytest.mark.parametrize(("library", "method"), WAYS)
def test_memory_and_lists_as_arguments(tmp_path: Path, library: str, method: str) -> None:
    tasks = """
def first_of(memory):
    value = memory.buf[0]
    memory.close()
    return value

def add_to(numbers):
    numbers[0] += 1
    numbers.shm.close()

"""
    body = """
    from multiprocessing.managers import SharedMemoryManager
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = 5
    with context.Pool(2, maxtasksperchild=1) as p, SharedMemoryManager() as manager:
        print(p.map(first_of, [memory] * 3, 1))
        numbers = manager.ShareableList([1, 2])
        for _ in range(3):
            p.apply(add_to, (numbers,))
        print(list(numbers))
        numbers.shm.close()
    free(memory)
    """
    source = program(body, library, method).replace("def free", tasks + "def free")
    assert run_program(source, tmp_path).succeeded() == "[5, 5, 5]\n[4, 2]\n"


@pytest.mark.parametrize(("library", "method"), LATE)
def test_memory_made_in_a_task_is_there_when_its_worker_is_not(
    tmp_path: Path, library: str, method: str
) -> None:
    body = """
    p = context.Pool(1, maxtasksperchild=1)
    names = p.map(make, [5, 6], 1)
    p.close()
    p.join()
    from multiprocessing.shared_memory import SharedMemory
    for name in names:
        memory = SharedMemory(name)
        print(memory.buf[0])
        free(memory)
    """
    assert run_program(program(body, library, method), tmp_path).succeeded() == "5\n6\n"


@pytest.mark.parametrize(("library", "method"), LATE)
def test_a_program_that_shares_memory_after_its_pool_was_made(
    tmp_path: Path, library: str, method: str
) -> None:
    body = """
    with context.Pool(1, maxtasksperchild=1) as p:
        p.map(abs, [-1])
        from multiprocessing.shared_memory import SharedMemory
        memory = SharedMemory(create=True, size=10)
        memory.buf[0] = 5
        print(p.map(attach, [memory.name] * 3, 1))
        p.close()
        p.join()
    free(memory)
    """
    assert run_program(program(body, library, method), tmp_path).succeeded() == "[5, 5, 5]\n"


@pytest.mark.parametrize(("library", "method"), OURS)
def test_tasks_of_tasks_share_it_too(tmp_path: Path, library: str, method: str) -> None:
    nested = """
def nested(name):
    with context.Pool(1) as p:
        return p.apply(attach, (name,)), p.apply(make, (6,))

"""
    body = """
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = 5
    for _ in range(2):
        with context.Pool(1) as p:
            value, name = p.apply(nested, (memory.name,))
        made = SharedMemory(name)
        print(value, made.buf[0])
        free(made)
    free(memory)
    """
    source = program(body, library, method).replace("def free", nested + "def free")
    assert run_program(source, tmp_path).succeeded() == "5 6\n5 6\n"


def test_actors_share_it_too(tmp_path: Path) -> None:
    body = """
    from multiprocessing.shared_memory import SharedMemory

    class Holder:
        def attach(self, name):
            return attach(name)

    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = 5
    for _ in range(2):
        holder = multiprocessing.remote(Holder).remote()
        print(multiprocessing.get(holder.attach.remote(memory.name)))
        multiprocessing.kill(holder)
    multiprocessing.shutdown()
    free(memory)
    """
    assert run_program(program(body, "pool", ""), tmp_path).succeeded() == "5\n5\n"


@pytest.mark.parametrize(("library", "method"), WAYS)
@pytest.mark.parametrize("maker", ["make(5)", "p.apply(make, (5,))"], ids=["program", "task"])
def test_what_a_killed_program_leaves_is_unlinked(
    tmp_path: Path, library: str, method: str, maker: str
) -> None:
    body = f"""
    with context.Pool(1) as p:
        print({maker}, flush=True)
        signal.pause()
    """
    with orphans_come_here():
        # A file: the standard's spawned workers look there for what tasks run.
        command, _ = command_for(program(body, library, method), "file", tmp_path)
        process = start(command, tmp_path)
        name = read_line(process)
        assert os.path.exists(f"/dev/shm/{name}")
        process.send_signal(signal.SIGKILL)
        finish(process)
    assert not os.path.exists(f"/dev/shm/{name}")


@pytest.mark.parametrize(("library", "method"), OURS)
def test_no_tracker_runs_where_none_is_needed(tmp_path: Path, library: str, method: str) -> None:
    body = """
    from pathlib import Path

    def trackers():
        commands = []
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and os.getsid(int(process.name)) == os.getsid(0):
                    commands.append((process / "cmdline").read_bytes())
            except OSError:
                continue
        return sum(b"resource_tracker import main" in command for command in commands)

    with context.Pool(2) as p:
        print(p.map(abs, [-1, -2]), trackers())
        memory = make(5)
        p.map(attach, [memory] * 4, 1)
        print(trackers())
        from multiprocessing.shared_memory import SharedMemory
        free(SharedMemory(memory))
    """
    assert run_program(program(body, library, method), tmp_path).succeeded() == "[1, 2] 0\n1\n"
