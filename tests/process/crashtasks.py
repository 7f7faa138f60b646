"""Hold what fails: objects, functions, results and exceptions that break in each way there is.

The ways: "pickle" (it cannot be sent), "unpickle" (it cannot be received), and, for what runs in
the worker: "raises", "exit", "segfault", "sigkill".
"""

from __future__ import annotations

import ctypes
import functools
import os
import pickle
import signal
import threading
from typing import Any

from pooltasks import hold, log_line, pid_and_value

DEADLY = ("exit", "segfault", "sigkill")
WAYS = ("pickle", "unpickle", "raises", *DEADLY)


class Broken(Exception):
    """What a breaking object raises where raising is its way to break."""


def detonate(how: str) -> Any:
    """Break this process, or raise, in the named way."""
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        # pytest's and the interpreter's own handler would write pages about an expected crash.
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        ctypes.string_at(0)
    if how == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how in ("pickle", "unpickle"):
        raise pickle.PicklingError(f"broken: {how}")
    raise Broken(f"broken: {how}")


class Arriving:
    """An object that breaks where it arrives, or cannot be sent at all."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        if self.how == "pickle":
            detonate(self.how)
        return detonate, (self.how,)

    def __call__(self, *_: Any) -> str:
        return "called"


class Leaving:
    """An object that breaks the worker in which it is pickled, or whoever receives it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        if self.how == "unpickle":
            return detonate, (self.how,)
        return detonate(self.how)


class LeavingException(Exception):
    """An exception that does the same."""

    def __init__(self, how: str) -> None:
        super().__init__(f"leaving: {how}")
        self.how = how

    def __reduce__(self) -> Any:
        if self.how == "unpickle":
            return detonate, (self.how,)
        return detonate(self.how)


class Calling:
    """A function that arrives well and breaks when it is called with the marked item."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, item: Any) -> Any:
        return detonate(self.how) if item == "break" else item


def accept(item: Any) -> Any:
    """Return a plain item; an object that arrived is a surprise, and says so."""
    return item if isinstance(item, int) else "arrived"


def leave(item: Any) -> Any:
    """Return an item, or an object that breaks on its way back."""
    return Leaving(item) if isinstance(item, str) else item


def leave_by_raising(item: Any) -> Any:
    """Return an item, or raise an exception that breaks on its way back."""
    if isinstance(item, str):
        raise LeavingException(item)
    return item


def plan(part: str, how: str) -> tuple[Any, Any]:
    """Return the function and the item that break a given part in a given way."""
    if part == "argument":
        return accept, Arriving(how)
    if part == "function":
        return (Arriving(how) if how in ("pickle", "unpickle") else Calling(how)), "break"
    return (leave if part == "result" else leave_by_raising), how


def initialize(log: str, how: str) -> None:
    """Note that a worker starts, then break."""
    log_line(log, os.getpid())
    detonate(how)


def initialize_and_accept(log: str, _: Any) -> None:
    """Note that a worker starts; the other argument may not have arrived."""
    log_line(log, os.getpid())


def initialize_by_raising(log: str, how: str) -> None:
    """Note that a worker starts, then raise an exception that breaks on its way back."""
    log_line(log, os.getpid())
    raise LeavingException(how)


def initializer_plan(part: str, how: str, log: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the initializer and the arguments that break a given part in a given way."""
    if part == "argument":
        return initialize_and_accept, (log, Arriving(how))
    if part == "function":
        if how in ("pickle", "unpickle"):
            return Arriving(how), ()
        return functools.partial(initialize, log, how), ()
    return initialize_by_raising, (log, how)


def log_and_square(log: str, n: int) -> int:
    """Note that the item ran."""
    log_line(log, n)
    return n * n


def ignore_signals_and_hold(path: str) -> None:
    """Refuse to end politely."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hold(path)


class KillsWhenPickled:
    """A part of a result whose pickling kills the worker, after other parts were written."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def large_then_killed(nbytes: int) -> object:
    """Return much, the last part of which kills."""
    return [bytes(nbytes), [bytearray(nbytes)], KillsWhenPickled()]


def large_with_a_fuse(nbytes: int, delay: float) -> bytes:
    """Return much, and be killed somewhere on the way: while making, sending, or after that."""
    fuse = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
    fuse.daemon = True
    fuse.start()
    return b"x" * nbytes


def kill_at_five(n: int) -> int:
    """Die with the process at one item."""
    if n == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def die_until(log: str, calls: int) -> int:
    """Die at each call before a given one."""
    log_line(log, os.getpid())
    with open(log) as file:
        done = len(file.read().split())
    if done < calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return done


def fail_until(log: str, calls: int) -> int:
    """Raise until it has been called so often."""
    log_line(log, 0)
    with open(log) as lines:
        count = len(lines.read().split())
    if count < calls:
        raise ValueError(f"call {count}")
    return count


def hold_first(log: str) -> str:
    """Hang when it is called for the first time."""
    log_line(log, os.getpid())
    with open(log) as lines:
        if len(lines.read().split()) == 1:
            signal.pause()
    return "done"


def hold_marked(job: tuple[str, int]) -> int:
    """Hang at one item."""
    path, n = job
    return int(hold(path, n)) if n == 2 else n


def log_and_return(job: tuple[str, int]) -> tuple[int, tuple[int, int]]:
    """Note the execution, then compute."""
    log, n = job
    log_line(log, n)
    return pid_and_value((n, 3 * n))


def log_and_perhaps_die(job: tuple[str, int]) -> int:
    """Note the execution; some items kill their worker."""
    log, n = job
    log_line(log, n)
    if n % 97 == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return 3 * n


def log_and_die_at_odd(job: tuple[str, int]) -> int:
    """Note the execution; every second item kills its worker."""
    log_line(*job)
    if job[1] % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return job[1]
