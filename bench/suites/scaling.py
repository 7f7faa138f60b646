"""More workers, and work that is nothing but computing."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench import tasks
from bench._work import OURS, STANDARD, Row, Work, expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench._peers import Peer
    from bench._work import Scale

SMALL = (OURS, STANDARD, "concurrent.futures")


@contextmanager
def _throughput(workers: int, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Do 10 000 tiny tasks on workers that are there already."""
    count = scale.count(10_000)
    with peer.open(workers) as session:
        session.map_single(tasks.increment, range(10 * workers))
        yield Work(
            lambda: session.map_single(tasks.increment, range(count)),
            lambda result: expect(result, list(range(1, count + 1))),
        )


@contextmanager
def computing(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Compute: 32 tasks of some twenty milliseconds, where no pool can win much."""
    rounds = [scale.count(150_000)] * 32
    wanted = [tasks.hash_rounds(rounds[0])] * len(rounds)
    with peer.open(2) as session:
        session.map(tasks.increment, range(8))
        yield Work(
            lambda: session.map(tasks.hash_rounds, rounds), lambda result: expect(result, wanted)
        )


ROWS = (
    Row("computing", "32 tasks of 20 ms that only compute", computing, headline=True),
    *(
        Row(
            f"workers-{workers}",
            f"10 000 tiny tasks on {workers} workers, chunksize=1",
            partial(_throughput, workers),
            peers=SMALL,
            long=True,
        )
        for workers in (2, 8, 32, 64)
    ),
)
