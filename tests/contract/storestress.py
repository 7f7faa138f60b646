"""Random work on a pool and its store, with every byte looked at.

What is held here is looked at again and again; what is sent is looked at where it
arrives; everything that arrives is overwritten there or here at random. So memory that is
used again too early, or seen by two, shows.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import zlib
from typing import Any

import numpy as np
import psutil
from forking import ended_well, fork

import store
from pool import Pool, WorkerDied

#: More deaths than one task can meet.
RETRIES = 50

#: Lengths of what is put and sent.
COUNTS = [9_000, 16_384, 40_000]


class Corruption(AssertionError):
    """Say that bytes are not what they were."""


def pattern(tag: int, count: int) -> Any:
    """Make contents that differ in every page from those of every other tag."""
    return np.arange(tag * 1_000_003, tag * 1_000_003 + count, dtype=np.int64)


def checksum(array: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8))


def take(value: Any) -> int:
    """Say what arrived, and spoil it."""
    seen = checksum(value)
    value[:] = -1
    return seen


def look(value: Any) -> int:
    return checksum(value)


def add(value: Any) -> Any:
    value += 1
    return value


def same(value: Any) -> Any:
    return value


def made(tag: int, count: int) -> Any:
    array = store.empty(count, np.int64)
    array[:] = pattern(tag, count)
    return array


def build(tag: int, count: int) -> Any:
    """Return what is made in the store; write to it after some later ones were sent."""
    built.append(made(tag, count))
    if len(built) > 3:
        built.pop(0)[:] = -3
    return built[-1]


built: list[Any] = []


class Held:
    """A view and what it must look like."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.wanted = checksum(array)

    def check(self, where: str) -> None:
        if checksum(self.array) != self.wanted:
            raise Corruption(f"{where}: a view of {self.array.nbytes} bytes has changed")

    def spoil(self, value: int) -> None:
        self.array[:: max(1, len(self.array) // 50)] = value
        self.wanted = checksum(self.array)


class Stress:
    """One thread's part of the work.

    Parameters
    ----------
    pool : Pool
    seed : int
    """

    def __init__(self, pool: Any, seed: int) -> None:
        self.pool = pool
        self.random = random.Random(seed)
        self.tag = seed * 1_000_000
        self.refs: dict[int, Any] = {}
        self.held: list[Held] = []
        self.children: list[tuple[int, int]] = []
        self.tasks = 0

    def new(self) -> tuple[int, Any]:
        self.tag += 1
        return self.tag, pattern(self.tag, self.random.choice(COUNTS))

    def keep(self, array: Any, wanted: int) -> None:
        if checksum(array) != wanted:
            raise Corruption(f"an array of {array.nbytes} bytes arrived changed")
        self.held.append(Held(array))

    def map(self, task: Any, values: list[Any], chunksize: int | None = 1) -> list[Any]:
        """Map in spite of the deaths that another thread causes."""
        results: list[Any] = self.pool.map(task, values, chunksize, retries=RETRIES)
        return results

    # ------------------------------------------------------------------ steps

    def put(self) -> None:
        tag, array = self.new()
        self.refs[tag] = store.put(array), checksum(array)
        array[:] = -2

    def get(self) -> None:
        if self.refs:
            ref, wanted = self.random.choice(list(self.refs.values()))
            for _ in range(2):
                self.keep(store.get(ref), wanted)
            if self.random.random() < 0.7:
                self.held[-1].spoil(7)

    def send(self) -> None:
        """Send what is held, shared, referred to and new, all at once."""
        values: list[Any] = [held.array for held in self.held[-6:]]
        wanted = [held.wanted for held in self.held[-6:]]
        for ref, total in list(self.refs.values())[-6:]:
            values.append(ref)
            wanted.append(total)
        for _ in range(12):
            _, array = self.new()
            values.append(array)
            wanted.append(checksum(array))
        for task, chunksize in ((take, 1), (look, None)):
            if self.map(task, values, chunksize) != wanted:
                raise Corruption("an argument arrived changed")
        self.tasks += 2 * len(values)

    def receive(self) -> None:
        arrays = [self.new()[1] for _ in range(10)]
        for array, result in zip(arrays, self.map(add, arrays), strict=True):
            self.keep(result, checksum(array + 1))
            self.held[-1].spoil(9)
        self.tasks += 10

    def echo(self) -> None:
        """Get back what was sent, and what was received before."""
        arrays = [self.new()[1] for _ in range(6)] + [held.array for held in self.held[-4:]]
        wanted = [checksum(array) for array in arrays]
        for total, result in zip(wanted, self.map(same, arrays), strict=True):
            self.keep(result, total)
        self.tasks += len(arrays)

    def build(self) -> None:
        """Have results made in the store there, and make and send some here."""
        sizes = [(self.new()[0], self.random.choice([9_000, 40_000])) for _ in range(6)]
        for (tag, count), result in zip(
            sizes, self.pool.starmap(build, sizes, 1, retries=RETRIES), strict=True
        ):
            self.keep(result, checksum(pattern(tag, count)))
        own = [made(tag, count) for tag, count in sizes]
        wanted = [checksum(array) for array in own]
        handle = self.pool.map_async(look, own, 1, retries=RETRIES)
        self.refs[sizes[0][0]] = store.put(own[0]), wanted[0]
        arrived = handle.get()
        for array in own:
            array[:] = -4
        if arrived != wanted or self.map(look, own) != [checksum(array) for array in own]:
            raise Corruption("what was made here arrived changed")
        self.tasks += 3 * len(sizes)

    def forget(self) -> None:
        self.random.shuffle(self.held)
        del self.held[self.random.randrange(len(self.held) + 1) :]
        for tag in list(self.refs):
            if self.random.random() < 0.4:
                del self.refs[tag]

    def check(self) -> None:
        for held in self.held:
            held.check("here")

    def kill(self) -> None:
        """Kill a worker from inside of a task, and one from outside whatever it does."""
        handle = self.pool.map_async(look, [self.new()[1] for _ in range(8)], 1)
        target = self.pool.apply_async(os.getpid, retries=RETRIES).get()
        try:
            psutil.Process(target).kill()
        except psutil.NoSuchProcess:
            pass  # the other thread has killed it
        victim = self.pool.apply_async(die, (self.new()[1],))
        try:
            victim.get()
        except WorkerDied:
            pass
        else:
            raise AssertionError("it lives")
        try:
            handle.get()
        except WorkerDied:
            pass  # one of its tasks ran there
        self.tasks += 10

    def fork(self) -> None:
        """Leave a child behind that looks at everything when it is told to."""
        reading, writing = os.pipe()

        def look() -> None:
            os.close(writing)
            os.read(reading, 1)
            assert all(checksum(held.array) == held.wanted for held in self.held)

        self.children.append((fork(look), writing))
        os.close(reading)

    def wait_children(self) -> None:
        while self.children:
            child, writing = self.children.pop()
            os.close(writing)
            if not ended_well(child):
                raise Corruption("a forked child saw changes")

    # ------------------------------------------------------------------ all of it

    def run(self, rounds: int, forks: bool, kills: bool) -> None:
        steps = [
            self.put, self.get, self.send, self.receive, self.echo, self.build, self.forget,
            self.check,
        ]  # fmt: skip
        weights = [3, 3, 3, 3, 2, 2, 2, 2]
        try:
            for number in range(rounds):
                self.random.choices(steps, weights)[0]()
                if forks and number % 15 == 5 and self.held:
                    self.fork()
                if forks and number % 15 == 14:
                    self.wait_children()
                if kills and number % 20 == 10:
                    self.kill()
            self.check()
        finally:
            self.wait_children()
            self.held.clear()
            self.refs.clear()


def die(value: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stress(rounds: int, seed: int, threads: int = 2, forks: bool = True, kills: bool = True) -> int:
    """Run it all; return how many tasks ran.

    Raises
    ------
    Corruption
    """
    failures: list[BaseException] = []
    with Pool(3) as pool:
        pool.map(abs, range(8))
        parts = [Stress(pool, seed * 10 + number) for number in range(1, threads + 1)]

        def run(part: Stress, forking: bool) -> None:
            try:
                part.run(rounds, forking, kills)
            except BaseException as error:
                failures.append(error)

        others = [
            threading.Thread(target=run, args=(part, False), daemon=True) for part in parts[1:]
        ]
        for thread in others:
            thread.start()
        run(parts[0], forks)
        for thread in others:
            thread.join()
    pool.join()
    if failures:
        raise failures[0]
    return sum(part.tasks for part in parts)
