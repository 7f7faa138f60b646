"""Our errors: what they are to callers of the standard module, what they say, and pickling."""

from __future__ import annotations

import concurrent.futures
import copy
import multiprocessing
import pickle

import pytest

from pool._errors import (
    InvalidTransition,
    OutOfMemory,
    PoolError,
    PoolTerminated,
    StartError,
    TaskCancelled,
    TaskTimeout,
    WorkerDied,
)

DOING = "while running task 17 (render.tile)"

EXAMPLES = [
    PoolError("something"),
    StartError("cannot start workers: no"),
    WorkerDied(3, 4121, -9, DOING),
    WorkerDied(3, 4121, None),
    OutOfMemory(
        3,
        4121,
        -9,
        DOING,
        ((4121, "task 17 (render.tile) (ended)", 9 << 30), (4100, "this program", 300 << 20)),
        400 << 20,
        16 << 30,
        "of the machine",
    ),
    TaskTimeout("task 17 did not end within 2.5 s", seconds=2.5, task="task 17 (render.tile)"),
    TaskTimeout(),
    TaskCancelled("task 17 was cancelled while it ran", task="task 17 (render.tile)"),
    TaskCancelled(),
    PoolTerminated("the pool was terminated before this job had finished"),
    InvalidTransition("TaskStarted cannot be handled in state DONE"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_survives_pickling_with_fields_and_notes(error: PoolError, protocol: int) -> None:
    original = copy.copy(error)
    original.add_note("while mapping item 4")
    rebuilt = pickle.loads(pickle.dumps(original, protocol))
    assert type(rebuilt) is type(original)
    assert str(rebuilt) == str(original)
    assert rebuilt.args == original.args
    assert vars(rebuilt) == vars(original)
    assert rebuilt.__notes__ == ["while mapping item 4"]


def test_is_what_callers_of_the_standard_classes_catch() -> None:
    assert issubclass(PoolError, multiprocessing.ProcessError)
    assert issubclass(TaskTimeout, multiprocessing.TimeoutError)
    assert issubclass(TaskCancelled, concurrent.futures.CancelledError)
    for error in EXAMPLES:
        assert isinstance(error, PoolError)


def test_worker_died_tells_all() -> None:
    error = WorkerDied(3, 4121, -9, DOING)
    assert str(error) == (
        "worker 3 (pid 4121) was killed by SIGKILL while running task 17 (render.tile); "
        "out of memory is the usual cause; "
        "lower `processes` or `chunksize`, or give `retries` if such a task may run again"
    )
    assert (error.worker_id, error.pid, error.exitcode, error.signal) == (3, 4121, -9, "SIGKILL")
    assert (error.task, error.doing) == ("task 17 (render.tile)", DOING)


@pytest.mark.parametrize(
    ("exitcode", "name", "words"),
    [
        (-11, "SIGSEGV", "compiled code"),
        (-15, "SIGTERM", "stopped it"),
        (-12, "SIGUSR2", "somebody sent"),
        (-40, "signal 40", "killed by signal 40"),
        (0, None, "exited with code 0"),
        (3, None, "os._exit"),
        (None, None, "exit code is not known"),
    ],
)
def test_worker_died_explains_each_end(exitcode: int | None, name: str | None, words: str) -> None:
    error = WorkerDied(1, 2, exitcode)
    assert error.signal == name
    assert words in str(error)
    assert "while running" not in str(error)


def test_out_of_memory_tells_who_had_it() -> None:
    error = next(error for error in EXAMPLES if isinstance(error, OutOfMemory))
    assert isinstance(error, MemoryError)
    assert isinstance(error, WorkerDied)
    assert str(error) == (
        "worker 3 (pid 4121) was ended while running task 17 (render.tile), because memory ran out "
        "(400 MiB left of the 16.0 GiB of the machine); lower `processes` or `chunksize`, send "
        "each task less, or give `retries` if it may run again beside others\n"
        "      pid        USS  task\n"
        "     4121    9.0 GiB  task 17 (render.tile) (ended)\n"
        "     4100    300 MiB  this program"
    )
    assert error.task == "task 17 (render.tile)"
    beyond = OutOfMemory(1, 2, -9, None, (), -(5 << 20), 1 << 30, "that POOL_MEMORY_LIMIT sets")
    assert "(5.0 MiB held beyond the 1.0 GiB that POOL_MEMORY_LIMIT sets)" in str(beyond)


def test_worker_died_before_it_ran_a_task() -> None:
    error = WorkerDied(1, 2, 3, "while starting (or in its initializer)")
    assert error.task is None
    assert str(error).startswith(
        "worker 1 (pid 2) exited with code 3 while starting (or in its initializer); "
    )


def test_fields_of_the_others() -> None:
    timeout = TaskTimeout("late", seconds=2.5, task="task 1 (f)")
    assert (str(timeout), timeout.seconds, timeout.task) == ("late", 2.5, "task 1 (f)")
    cancelled = TaskCancelled("gone", task="task 1 (f)")
    assert (str(cancelled), cancelled.task) == ("gone", "task 1 (f)")
