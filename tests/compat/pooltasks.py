"""Hold the functions that tasks run: at the top of a module, so that every start method finds them.

Nothing here imports pytest or the pool under test: a spawned worker pays for each import.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from multiprocessing import current_process
from pathlib import Path
from typing import Any, ClassVar

STATE: dict[str, Any] = {}


def leave_note(path: str) -> None:
    """Write to a file when the interpreter ends."""
    atexit.register(Path(path).write_text, "left")


def identity(value: Any) -> Any:
    """Return the argument."""
    return value


def print_to_what_cannot_be_flushed() -> None:
    """Put an object in place of standard output of which a method was never written."""

    class Unfinished:
        write = sys.stdout.write

        def flush(self) -> None:
            raise NotImplementedError

    sys.stdout = Unfinished()  # type: ignore[assignment]  # it is no file


def begin(name: str) -> str:
    """Return the names of the tasks that have begun in this worker, with this one."""
    STATE["begun"] = begun = STATE.get("begun", "") + name
    return str(begun)


def square(x: Any = 3) -> Any:
    """Return the square of a number."""
    return x * x


def add(a: Any, b: Any = 10) -> Any:
    """Return the sum of two values."""
    return a + b


def describe(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments as they arrived."""
    return args, kwargs


def divide(a: float, b: float) -> float:
    """Return the quotient; dividing by zero raises."""
    return a / b


def odd_fails(x: int) -> int:
    """Return the argument if it is even."""
    if x % 2:
        raise ValueError(f"odd: {x}")
    return x


def fail_at_three(x: int) -> int:
    """Return the argument, unless it is 3."""
    if x == 3:
        raise KeyError("three")
    return x


def fail_with(exception: BaseException) -> None:
    """Raise what is given."""
    raise exception


def system_exit(code: object) -> None:
    """Leave the task as `sys.exit` does."""
    raise SystemExit(code)


def keyboard_interrupt(text: str) -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt(text)


class HereOnly:
    """An object of which a pickle can be made where it was made; elsewhere that ends a program."""

    def __init__(self, here: int = 0) -> None:
        self.here = here or os.getpid()

    def __reduce__(self) -> Any:
        if os.getpid() != self.here:
            sys.exit("not here")
        return HereOnly, (self.here,)


class Unshown:
    """An object that cannot be shown."""

    def __str__(self) -> str:
        raise LookupError("no text")

    __repr__ = __str__


class Proxy:
    """A function whose attributes, whatever their names are, are no texts."""

    def __call__(self, value: Any) -> None:
        raise ValueError(value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__reduce") or name in ("__getstate__", "__setstate__"):
            raise AttributeError(name)
        return Unshown()


class Rebuilt(Exception):
    """An exception whose constructor takes other arguments than it stores."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


def fail_rebuilt(code: int) -> None:
    """Raise an exception that plain pickle cannot rebuild."""
    raise Rebuilt(code, "lost")


class Settings:
    """A callable that looks all attributes up in a dict, and says so if they are not there."""

    values: ClassVar[dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.values[name]

    def __reduce__(self) -> Any:
        return Settings, ()

    def __call__(self, number: int) -> float:
        return 1 / number


def unpicklable(_: object = None) -> object:
    """Return what nothing can pickle."""
    return threading.Lock(), (n for n in range(3))


class Unsendable(Exception):
    """An exception that nothing can pickle."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.held = (n for n in range(3))

    def __reduce__(self) -> Any:
        raise TypeError("this exception stays here")


def fail_unsendable(_: object = None) -> None:
    """Raise an exception that cannot leave the worker."""
    raise Unsendable("kept")


#: What tasks of this worker had, see `have_and_fail`.
had: list[Any] = []


def have_and_fail(how: str) -> Any:
    """Have an object, and fail in one of these ways: "error", "error with a part" or "result"."""
    gc.disable()
    mine = Large()
    had.append(weakref.ref(mine))
    unsendable = (number for number in [1])
    if how == "result":
        return unsendable
    raise ValueError(*[unsendable] if "part" in how else [])


def number_left(_: object = None) -> int:
    """Return how many of the objects are still there."""
    return sum(reference() is not None for reference in had)


class Large:
    """Takes much memory, let us say."""


def pid(_: object = None) -> int:
    """Return the number of the process that runs this."""
    return os.getpid()


def pid_and_value(value: Any) -> tuple[int, Any]:
    """Return the number of the process and the argument."""
    return os.getpid(), value


def process_of(_: object = None) -> tuple[str, tuple[int, ...], int]:
    """Return what `multiprocessing` says about the process that runs this."""
    process = current_process()
    return process.name, tuple(process._identity), os.getpid()


def parents() -> tuple[int, int]:
    """Return what `os.getppid` says here, and in a fork of this process."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        os.write(writable, str(os.getppid()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writable)
    with open(readable) as pipe:
        return os.getppid(), int(pipe.read())


def end_without(parent: int) -> None:
    """End this worker if the program is not its parent."""
    if os.getppid() != parent:
        os._exit(1)


def parent_of(_: object = None) -> int | None:
    """Return the pid of the process which made the pool, as `multiprocessing` names it."""
    parent = multiprocessing.parent_process()
    return None if parent is None else parent.pid


def divide_by(number: int) -> float:
    """Fail at zero."""
    return 1 / number


def number_or_all(number: int) -> Any:
    """Return small numbers as they are, and for others one list of those that came so far."""
    if number < 25_000:
        return number
    numbers: list[int] = STATE.setdefault("numbers", [])
    numbers.append(number)
    return numbers


def append_length(values: list[int]) -> int:
    """Grow the list that arrived, and return its length."""
    values.append(0)
    return len(values)


def append_length_star(values: list[int], _: object) -> int:
    """Grow the list that arrived first, and return its length."""
    return append_length(values)


def log_line(path: str, text: object) -> None:
    """Append one line in one write, which no other process can split."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def log_then_fail_at_zero(path: str, x: int) -> int:
    """Note that the item ran, then fail if it is 0."""
    log_line(path, x)
    if x == 0:
        raise ValueError("zero")
    return x


def hold(path: str, value: Any = None) -> Any:
    """Tell the gate at this path that the task runs, wait to be let go, return the value."""
    pass_gate(path)
    return value


def pass_gate(path: str) -> None:
    """Tell the gate at this path that somebody is here, and wait to be let go."""
    fd = os.open(os.path.join(path, "entered"), os.O_WRONLY)
    os.write(fd, b"%d\n" % os.getpid())
    os.close(fd)
    fd = os.open(os.path.join(path, "leave"), os.O_RDONLY)
    try:
        os.read(fd, 1)
    finally:
        os.close(fd)


def hold_negative(path: str, kind: Any, number: int) -> Any:
    """Return the number as this kind of value; wait to be let go if it is negative."""
    if number < 0:
        pass_gate(path)
    return kind(number)


def pair_of(value: Any) -> tuple[Any, Any]:
    """Return a value twice."""
    return value, value


def set_state(**values: Any) -> None:
    """Keep values in this module's state: what an initializer does."""
    STATE.update(values)


def set_state_pairs(*pairs: tuple[str, Any]) -> None:
    """Keep pairs in this module's state, and count the calls."""
    STATE.update(pairs)
    STATE["calls"] = STATE.get("calls", 0) + 1


def get_state(name: str) -> Any:
    """Return what an initializer kept."""
    return STATE.get(name)


def get_state_and_pid(name: str) -> tuple[Any, int]:
    """Return what an initializer kept, and where."""
    return STATE.get(name), os.getpid()


def log_start(path: str) -> None:
    """Note the pid of a worker that starts."""
    log_line(path, os.getpid())


def failing_initializer(path: str) -> None:
    """Note the attempt, then raise."""
    log_line(path, os.getpid())
    raise LookupError("no such table")


def die(how: str) -> None:
    """End this process in the named way, or raise."""
    if how == "exit":
        os._exit(7)
    elif how == "segfault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(f"task {how}")


def layouts(arrays: list[Any]) -> list[Any]:
    """Return how arrays lie in memory."""
    return [(a.dtype.str, a.strides, a.flags.c_contiguous, a.flags.writeable) for a in arrays]


def same(values: list[Any]) -> list[bool]:
    """Return of each value whether it is the very first one, or the list itself."""
    return [value is values[0] or value is values for value in values]
