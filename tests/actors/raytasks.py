"""Functions and classes that the tests of Ray's words run in workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pool


@pool.remote
def double(x: Any) -> Any:
    return x * 2


@pool.remote
def total(*parts: Any, start: Any = 0) -> Any:
    return sum(parts, start)


@pool.remote
def fail(message: str) -> None:
    raise ValueError(message)


@pool.remote(num_returns=2)
def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


@pool.remote
def hold(gate: str) -> str:
    """Wait until somebody writes to the fifo `gate`."""
    with open(gate) as file:
        return file.read()


@pool.remote
def pid_of_worker() -> int:
    return os.getpid()


@pool.remote
def die(code: int = 9) -> None:
    os.kill(os.getpid(), code)


@pool.remote
def die_first(folder: str, times: int = 1) -> int:
    """Die as often as that, then return how often it was tried."""
    tries = len(list(Path(folder).iterdir()))
    (Path(folder) / str(tries)).touch()
    if tries < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries + 1


@pool.remote
def kind_of(x: Any) -> str:
    return type(x).__name__


@pool.remote
def fib(n: int) -> int:
    if n < 2:
        return n
    return sum(pool.get([fib.remote(n - 1), fib.remote(n - 2)]))


@pool.remote
def get_inner(refs: list[Any]) -> Any:
    return pool.get(refs)


@pool.remote
def make_refs(n: int) -> list[Any]:
    return [pool.put(i) for i in range(n)] + [double.remote(n)]


@pool.remote
def count_to(n: int) -> Any:
    yield from range(n)


@pool.remote
def count_then_fail(n: int) -> Any:
    yield from range(n)
    raise ValueError("enough")


@pool.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self, number: int = 1) -> int:
        self.count += number
        return self.count

    def pid(self) -> int:
        return os.getpid()

    def fail(self, message: str) -> None:
        raise KeyError(message)

    def die(self, code: int = 9) -> None:
        os.kill(os.getpid(), code)

    def exit(self) -> None:
        pool.actor.exit_actor()

    def hold(self, gate: str) -> str:
        with open(gate) as file:
            return file.read()

    def keep(self, refs: list[Any]) -> None:
        self.refs = refs

    def count_kept(self) -> int:
        return len(self.refs)

    def first_of_kept(self, number: int) -> list[Any]:
        return list(self.refs[:number])

    def kept(self) -> Any:
        return pool.get(self.refs)

    def call_other(self, other: Any) -> Any:
        return pool.get(other.add.remote(10))

    @pool.method(num_returns=2)
    def both(self) -> tuple[int, int]:
        return self.count, -self.count

    def count_to(self, n: int) -> Any:
        yield from range(n)


@pool.remote
class Refusing:
    def __init__(self, message: str) -> None:
        raise RuntimeError(message)

    def add(self) -> None:
        """Never called."""


@pool.remote
def add_to(counter: Any, number: int) -> int:
    return pool.get(counter.add.remote(number))


@pool.remote
def tell_and_wait(fifo: str, refs: list[Any]) -> Any:
    """Write this worker's pid to a fifo, and wait for other tasks."""
    Path(fifo).write_text(str(os.getpid()))
    return pool.get(refs)


@pool.remote
class AsyncCounter:
    def __init__(self, start: int = 0) -> None:
        self.count = start

    async def add(self, number: int = 1) -> int:
        self.count += number
        return self.count

    def pid(self) -> int:
        return os.getpid()


@pool.remote
class Meeting:
    """Answer `meet` when as many as are expected have called it."""

    def __init__(self, size: int) -> None:
        import asyncio

        self.size = size
        self.met = 0
        self.full = asyncio.Event()

    async def meet(self) -> int:
        self.met += 1
        if self.met == self.size:
            self.full.set()
        await self.full.wait()
        return self.met


@pool.remote
def meet(name: str) -> Any:
    """Wait for the others, or do nothing without a name."""
    return pool.get(pool.get_actor(name).meet.remote()) if name else 0


@pool.remote
def meet_in_words(name: str) -> Any:
    return str(pool.get(pool.get_actor(name).meet.remote())) if name else "none"


@pool.remote
class Reader:
    def __init__(self, path: str) -> None:
        with open(path) as file:
            self._text = file.read()

    def text(self) -> str:
        return self._text


@pool.remote
class Shaky:
    """Die twice in its only method, which notes each try in a folder."""

    def work(self, folder: str) -> int:
        tries = len(list(Path(folder).iterdir()))
        (Path(folder) / str(tries)).touch()
        if tries < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return tries


@pool.remote
class Limits:
    """Use its own name, as classes do."""

    SIZE = 3
    total = 0

    @staticmethod
    def helper(x: int) -> int:
        return x + Limits.SIZE

    @classmethod
    def title(cls) -> str:
        return cls.__name__

    def count(self) -> Any:
        Limits.total += 1
        return Limits.total, self.total, type(self).total, self.helper(3)

    def is_one_of_its_own(self) -> bool:
        return isinstance(self, Limits)

    def itself(self) -> Any:
        return self
