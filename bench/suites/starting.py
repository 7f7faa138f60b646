"""How long it takes until something happens: whole programs, and pools that live shortly."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent, indent
from typing import TYPE_CHECKING

import psutil

from bench import tasks
from bench._system import interpreter
from bench._work import OURS, STANDARD, Bound, Row, Unsupported, Work, expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench._peers import Peer
    from bench._work import Scale

GIGABYTE = 1 << 30
LARGE = 4 * GIGABYTE

# The guard is for the peers that need one; ours does not.
PROGRAM = """\
def work(x):
    return x * x

if __name__ == "__main__":
"""


# Of a data scientist: what the tasks use takes long to import.
PANDAS_PROGRAM = """\
import pandas

def work(x):
    return int(pandas.Series([x, x]).prod())

if __name__ == "__main__":
"""

# What the tasks use is a global that takes long to make; forked workers would have it.
TABLE_PROGRAM = """\
table = {f"key {n}": n * n for n in range(500_000)}

def work(x):
    return table[f"key {x}"]

if __name__ == "__main__":
"""


@contextmanager
def whole_program(begin: str, pools: int, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Start an interpreter, map over eight items with so many pools in turn, exit."""
    if peer.program is None:
        raise Unsupported
    if "pandas" in begin and find_spec("pandas") is None:
        raise Unsupported("pandas is not installed")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "program.py")
        text = f"for _ in range({pools}):\n" + indent(dedent(peer.program), "    ")
        script.write_text(begin + indent(text, "    "), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())}

        def run() -> str:
            done = subprocess.run(
                [interpreter(), "program.py"],
                cwd=folder,
                env=environment,
                capture_output=True,
                check=True,
                text=True,
                timeout=60,
            )
            return done.stdout

        yield Work(run, lambda printed: expect(printed.split()[-1:], ["140"]))


def _import_path() -> list[str]:
    """Where `pool` comes from, in case it is a checkout that is not installed."""
    import pool

    return [str(Path(pool.__file__).parent.parent)]


def _pool_and_map(peer: Peer) -> list[int]:
    with peer.open(2) as session:
        return session.map(tasks.increment, range(8))


@contextmanager
def short_pool(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Make a pool, map over eight items, end it: what a function that is called often does."""
    _pool_and_map(peer)  # the first one of a process may start what stays
    yield Work(lambda: _pool_and_map(peer), lambda result: expect(result, list(range(1, 9))))


@contextmanager
def short_pool_with_modules(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Do that with tasks that use modules of Python's own, which the program has loaded."""
    addresses = [f"http://localhost/{number}/{number + 1}" for number in range(8)]
    expected = [tasks.parse(address) for address in addresses]

    def run() -> list[str]:
        with peer.open(2) as session:
            return session.map(tasks.parse, addresses)

    run()  # by then it is known that tasks use them
    yield Work(run, lambda result: expect(result, expected))


@contextmanager
def short_pool_with_package(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Do that with tasks that use an installed package, which the program has loaded."""
    try:
        expect(tasks.render(0), "1")
    except ImportError:
        raise Unsupported("Flask is not installed") from None

    def run() -> list[str]:
        with peer.open(2) as session:
            return session.map(tasks.render, range(8))

    for _ in range(3):
        run()  # by then it is known that tasks use it
    yield Work(run, lambda result: expect(result, list(map(str, range(1, 9)))))


@cache
def _ballast(nbytes: int) -> bytes:
    """Return so many bytes, which this process holds from then on.

    Not in a variable of this module: with large data there, which tasks may use, a pool forks.
    """
    if psutil.virtual_memory().available < nbytes + 2 * GIGABYTE:
        raise Unsupported("this machine has not enough free memory")
    # Written to, or it would be no more than a promise of memory.
    return b"\1" * nbytes


@contextmanager
def short_pool_in_large_parent(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Do the same in a process that holds 4 GB."""
    _ballast(int(LARGE * min(1.0, scale.items * 2)))
    with short_pool(peer, scale) as work:
        yield work


@contextmanager
def many_workers(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Start 64 workers, do 10 000 tiny tasks, end them."""
    count = scale.count(10_000)

    def run() -> list[int]:
        with peer.open(64) as session:
            return session.map_single(tasks.increment, range(count))

    yield Work(run, lambda result: expect(result, list(range(1, count + 1))))


ROWS = (
    Row(
        "program",
        "whole program: start, map of 8, exit",
        partial(whole_program, PROGRAM, 1),
        (Bound(1.0),),
        headline=True,
    ),
    Row(
        "program-pandas",
        "the same of a program that has imported pandas, which the tasks use",
        partial(whole_program, PANDAS_PROGRAM, 1),
        headline=True,
    ),
    Row(
        "program-pandas-pools",
        "the same with three pools in turn",
        partial(whole_program, PANDAS_PROGRAM, 3),
        headline=True,
    ),
    Row(
        "program-table",
        "the same of a program whose tasks look into a global `dict` of 500 000 texts",
        partial(whole_program, TABLE_PROGRAM, 1),
        headline=True,
    ),
    Row(
        "short-pool",
        "`with Pool(2) as p: p.map(f, range(8))`, repeated",
        short_pool,
        (Bound(0.25),),
        headline=True,
    ),
    Row(
        "short-pool-modules",
        "the same, with tasks that use `json`, `logging` and `urllib`",
        short_pool_with_modules,
        headline=True,
    ),
    Row(
        "short-pool-package",
        "the same, with tasks that use Flask",
        short_pool_with_package,
        headline=True,
    ),
    Row(
        "64-workers",
        "64 workers: start, 10 000 tiny tasks",
        many_workers,
        (Bound(0.2),),
        headline=True,
        peers=(OURS, STANDARD, "multiprocessing forkserver", "concurrent.futures"),
        long=True,
    ),
    # Last: the ballast stays, and would slow down whatever forks after it.
    Row(
        "large-parent",
        "the same two workers in a parent holding 4 GB",
        short_pool_in_large_parent,
        (Bound(0.1),),
        headline=True,
        long=True,
    ),
)
