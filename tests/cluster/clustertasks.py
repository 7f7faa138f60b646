"""Functions that the tests of clusters send to workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from pooltasks import hold

STATE: dict[str, Any] = {}


def square(x: int) -> int:
    return x * x


def fail_at_three(x: int) -> int:
    if x == 3:
        raise ValueError(f"it is {x}")
    return x


def hold_at_three(item: tuple[str, int]) -> int:
    path, x = item
    if x == 3:
        hold(path)
    return x


def die_at_three(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def exit_at_three(x: int) -> int:
    if x == 3:
        sys.exit(5)
    return x


def remember(key: str, value: Any) -> None:
    STATE[key] = value


def recall(key: str) -> Any:
    return STATE.get(key)


def refuse(reason: str) -> None:
    raise LookupError(reason)


def only_once(path: str) -> None:
    try:
        open(path, "x").close()
    except FileExistsError:
        raise LookupError("no second licence") from None


def pid(_: object = None) -> int:
    return os.getpid()


def parent_pid(_given: object = None) -> int:
    """Return the pid of the process that has the agent: of a forkserver, that is its parent."""
    pid = "self"
    for _ in range(2):
        with open(f"/proc/{pid}/stat") as stat:
            pid = stat.read().rpartition(")")[2].split()[1]
    return int(pid)


def address_of_ray() -> str:
    import ray

    ray.init(log_to_driver=False)
    address: str = ray.get_runtime_context().gcs_address
    return address


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def touch_and_sleep(path: str, seconds: float) -> None:
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(seconds)


def add_in_place(array: Any) -> Any:
    array += 1
    return array


def add_a_day(days: Any) -> Any:
    import numpy as np

    days += np.timedelta64(1, "D")
    return days


def once(path: str) -> bool:
    """Succeed the second time only."""
    try:
        with open(path, "x"):
            raise RuntimeError("the first time")
    except FileExistsError:
        return True


def note(folder: str, number: int) -> int:
    """Leave a line for each time that this is run."""
    with open(os.path.join(folder, str(number)), "a") as file:
        file.write(f"{os.getpid()}\n")
    return number
