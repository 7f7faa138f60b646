"""What a task costs: round trips, and many tiny tasks by every method."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bench import tasks
from bench._work import OURS, STANDARD, Bound, Row, Unsupported, Work, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench._peers import Peer
    from bench._work import Scale

TRIPS = 1000


@contextmanager
def round_trip(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Call, wait, call again."""
    trips = scale.count(TRIPS)
    with peer.open(2) as session:
        for number in range(20):
            session.apply(tasks.increment, number)

        def run() -> int:
            result = 0
            for _ in range(trips):
                result = session.apply(tasks.increment, result)
            return result

        yield Work(run, lambda result: expect(result, trips))


@contextmanager
def ping_pong(trips: int) -> Iterator[Callable[[], None]]:
    """Send a byte to a forked process and wait for it: what any round trip costs at least."""
    there_read, there_write = os.pipe()
    back_read, back_write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(there_write)
            while os.read(there_read, 1):
                os.write(back_write, b"x")
        finally:
            os._exit(0)
    os.close(there_read)
    os.close(back_write)

    def run() -> None:
        for _ in range(trips):
            os.write(there_write, b"x")
            os.read(back_read, 1)

    try:
        yield run
    finally:
        os.close(there_write)
        os.close(back_read)
        os.waitpid(pid, 0)


def _echo(connection: Any) -> None:
    try:
        while True:
            connection.send(connection.recv())
    except EOFError:
        return


@contextmanager
def pickled_ping_pong(trips: int) -> Iterator[Callable[[], None]]:
    """Do the same with a number over `multiprocessing.Pipe`, pickled as in any pool."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_echo, args=(there,), daemon=True)
    process.start()
    there.close()

    def run() -> None:
        for number in range(trips):
            here.send(number)
            here.recv()

    try:
        yield run
    finally:
        # The child has a copy of this end, so closing it would not end the child.
        process.kill()
        process.join()
        here.close()


@contextmanager
def _to_ping_pong(floor: Any, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Measure round trips as a multiple of ping-pongs made a moment before and after."""
    with round_trip(peer, scale) as work, floor(scale.count(TRIPS)) as play:
        play()

        def run() -> float:
            begun = perf_counter()
            play()
            middle = perf_counter()
            work.run()
            end = perf_counter()
            play()
            return (end - middle) / ((middle - begun + perf_counter() - end) / 2)

        yield Work(run)


@contextmanager
def _tiny(count: int, method: str, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Run `count` tiny tasks by one method of a session."""
    count = scale.count(count)
    with peer.open(2) as session:
        call: Callable[..., Any] = getattr(session, method)
        list(call(tasks.increment, range(100)))

        def run() -> list[int]:
            results = call(tasks.increment, range(count))
            # Users do not copy the list that `map` gives them.
            return results if isinstance(results, list) else list(results)

        def check(result: list[int]) -> None:
            expect(
                sorted(result) if method == "imap_unordered" else result,
                list(range(1, count + 1)),
            )

        yield Work(run, check)


def tiny(count: int, method: str) -> Any:
    """Return the work of a row."""
    return partial(_tiny, count, method)


@contextmanager
def from_threads(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Let eight threads share one pool, each one calling and waiting."""
    from concurrent.futures import ThreadPoolExecutor

    if peer.name == "mpire":
        raise Unsupported("not for several threads: its workers end, and callers wait for ever")
    trips = scale.count(100)
    with peer.open(2) as session, ThreadPoolExecutor(8) as threads:
        session.apply(tasks.increment, 0)

        def call_often(start: int) -> int:
            for _ in range(trips):
                start = session.apply(tasks.increment, start)
            return start

        def run() -> list[int]:
            return list(threads.map(call_often, range(8)))

        yield Work(run, lambda result: expect(result, [trips + start for start in range(8)]))


ROWS = (
    Row(
        "apply",
        "`apply` round trip, 1000 times",
        round_trip,
        (Bound(0.2),),
        headline=True,
    ),
    Row(
        "apply-floor",
        "`apply` round trip, as a multiple of a ping-pong over `multiprocessing.Pipe`",
        partial(_to_ping_pong, pickled_ping_pong),
        (Bound(2.5, ""),),
        unit="x",
        peers=(OURS, STANDARD),
    ),
    Row(
        "apply-bare-floor",
        "the same, of a ping-pong of one byte over `os.pipe`",
        partial(_to_ping_pong, ping_pong),
        unit="x",
        peers=(OURS, STANDARD),
    ),
    Row(
        "map-single",
        "`map`, 20 000 tiny tasks, chunksize=1",
        tiny(20_000, "map_single"),
        (Bound(0.03),),
        headline=True,
    ),
    Row(
        "map-million",
        "`map`, 1 000 000 tiny tasks, default chunksize",
        tiny(1_000_000, "map"),
        (Bound(0.5),),
        headline=True,
        # For the others a million tasks of one item each are minutes.
        peers=(OURS, STANDARD, "multiprocessing forkserver", "multiprocess", "mpire"),
        long=True,
    ),
    Row(
        "imap",
        "`imap`, 20 000 tiny tasks",
        tiny(20_000, "imap"),
        (Bound(0.06),),
        headline=True,
    ),
    Row(
        "imap-unordered",
        "`imap_unordered`, 20 000 tiny tasks",
        tiny(20_000, "imap_unordered"),
        (Bound(0.06),),
        headline=True,
    ),
    Row(
        "apply-async",
        "`apply_async` x 10 000, then all `get`",
        tiny(10_000, "submit_all"),
        (Bound(0.15),),
        headline=True,
    ),
    Row("threads", "8 threads share a pool, 100 `apply` each", from_threads),
)
