"""Finalizers that use the runtime: in the middle of a program, and when it is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from rayprograms import run_program

PROGRAM = """
import sys, types
import pool as ray

@ray.remote
class Counter:
    def add(self):
        return 1

@ray.remote
def double(x):
    return 2 * x

counter = Counter.remote()
ready = ray.put(5)
assert ray.get([counter.add.remote(), double.remote(4)]) == [1, 8]

class Late:
    def __init__(self):
        self.counter = counter
        {cycle}

    def __del__(self):
        try:
            print({use}, flush=True)
        except Exception as error:
            print(type(error).__name__, str(error)[:21], flush=True)

# In a module of its own: those are taken apart when everything else is over.
sys.modules["late"] = types.ModuleType("late")
sys.modules["late"].late = Late()
"""

ENDED = "RuntimeError the program is ending\n"
LATE = {
    "get of a call": ("ray.get(self.counter.add.remote())", ENDED),
    "get with a timeout": ("ray.get(self.counter.add.remote(), timeout=30)", ENDED),
    "wait": ("ray.wait([self.counter.add.remote()])", ENDED),
    "task": ("ray.get(double.remote(3))", ENDED),
    "put": ("ray.put(3)", ENDED),
    "actor": ("Counter.remote()", ENDED),
    "name": ("ray.get_actor('counter')", ENDED),
    "cancel": ("ray.cancel(self.counter.add.remote())", ENDED),
    "get of what is there": ("ray.get(ready)", "5\n"),
    "call that nobody waits for": ("self.counter.add.remote() is not None", "True\n"),
    "kill": ("ray.kill(self.counter)", "None\n"),
    "shutdown": ("ray.shutdown()", "None\n"),
    "question": ("ray.is_initialized()", "False\n"),
}


@pytest.mark.parametrize("cycle", ["", "self.me = self"], ids=["plain", "in a cycle"])
@pytest.mark.parametrize("what", LATE)
def test_finalizer_that_comes_too_late(tmp_path: Path, what: str, cycle: str) -> None:
    use, expected = LATE[what]
    done = run_program(PROGRAM.format(use=use, cycle=cycle), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, ""), done


DAEMON = """
import sys, threading, types
import pool as ray

@ray.remote
def double(x):
    return 2 * x

def use_for_ever():
    while True:
        ray.get(double.remote(1))
        begun.set()

begun = threading.Event()
for _ in range(3):
    threading.Thread(target=use_for_ever, daemon=True).start()
begun.wait()

class Late:
    def __del__(self):
        try:
            ray.get(double.remote(1))
        except RuntimeError as error:
            print(str(error)[:21], flush=True)

sys.modules["late"] = types.ModuleType("late")
sys.modules["late"].late = Late()
"""


def test_threads_that_go_on_until_the_end_say_nothing(tmp_path: Path) -> None:
    done = run_program(DAEMON, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the program is ending\n", "")


FUNCTIONS = """
import atexit
import pool as ray

@ray.remote
def double(x):
    return 2 * x

def late():
    try:
        double.remote(1)
    except RuntimeError as error:
        print(str(error)[:21])

atexit.register(late)
ray.get(double.remote(1))
atexit.register(lambda: print(ray.get(double.remote(2))))
"""


def test_functions_of_atexit_run_before_the_end_or_after_it(tmp_path: Path) -> None:
    done = run_program(FUNCTIONS, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\nthe program is ending\n", "")


COLLECTED = """
import gc
import pool as ray
from pool._objects import _home

@ray.remote
class Counter:
    def add(self):
        return 1

class InCycle:
    def __init__(self):
        self.counter, self.me = Counter.remote(), self
        ray.get(self.counter.add.remote())

    def __del__(self):
        try:
            found.append(ray.get(self.counter.add.remote()))
        except RuntimeError as error:
            found.append(str(error))

found = []
gc.disable()
InCycle()
gc.collect()
InCycle()
_home.current().locked(gc.collect)
print(found[0], "finalizer" in found[1], ray.get(Counter.remote().add.remote()))
"""


def test_finalizer_that_the_collector_runs(tmp_path: Path) -> None:
    """Its handle is good still; where it interrupts the runtime it is told that."""
    done = run_program(COLLECTED, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 True 1\n", ""), done
