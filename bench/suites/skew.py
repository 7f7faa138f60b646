"""Whether anything waits behind a straggler: makespan against the best that is possible."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bench import tasks
from bench._work import OURS, STANDARD, Bound, Row, Work, expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench._peers import Peer
    from bench._work import Scale

LONG, SHORT = 50e-3, 0.1e-3
COUNT, LONG_COUNT = 1000, 10


def orders() -> dict[str, list[float]]:
    """Return the orders that hurt: where the long tasks stand among the short ones."""
    long, short = [LONG] * LONG_COUNT, [SHORT] * (COUNT - LONG_COUNT)
    half = len(short) // 2
    every = COUNT // LONG_COUNT
    return {
        "first": long + short,
        "last": short + long,
        "in the middle": short[:half] + long + short[half:],
        "spread": [LONG if number % every == 0 else SHORT for number in range(COUNT)],
    }


def ideal(seconds: list[float], workers: int) -> float:
    """Return a makespan that no order and no pool can be below."""
    return max(max(seconds), sum(seconds) / workers)


@contextmanager
def _makespan(method: str, peer: Peer, scale: Scale) -> Iterator[Work]:
    """Give the makespan in the worst of the orders, as a multiple of the ideal."""
    with peer.open(2) as session:
        call: Any = getattr(session, method)
        list(call(tasks.spin, [SHORT] * 100))

        def run() -> float:
            worst = 0.0
            for seconds in orders().values():
                begun = perf_counter()
                result = list(call(tasks.spin, seconds))
                worst = max(worst, (perf_counter() - begun) / ideal(seconds, 2))
                expect(sorted(result), sorted(seconds))
            return worst

        yield Work(run)


ROWS = (
    Row(
        "skew-map",
        "1000 tasks, 1 % of 50 ms among 0.1 ms, worst order: makespan / ideal (`map`)",
        partial(_makespan, "map_single"),
        (Bound(1.1, ""),),
        unit="x",
        peers=(OURS, STANDARD, "concurrent.futures", "loky", "joblib", "mpire"),
        long=True,
    ),
    Row(
        "skew-imap",
        "the same by `imap_unordered`",
        partial(_makespan, "imap_unordered"),
        (Bound(1.1, ""),),
        unit="x",
        peers=(OURS, STANDARD, "mpire"),
        long=True,
    ),
)
