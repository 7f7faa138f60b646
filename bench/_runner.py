"""Run rows: contenders in turns, round by round, each result verified."""

from __future__ import annotations

import gc
import signal
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from bench._work import OURS, STANDARD, Result, Unsupported, WrongResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench._peers import Peer
    from bench._work import Row, Scale

#: Seconds for one piece of work. Only something that hangs needs them; the row goes on without it.
PATIENCE = 60

#: Rounds that every row gets, however slow, unless fewer were asked for.
LEAST_ROUNDS = 3

#: Seconds, set-up included, after which one round of a contender must do, unless a bound is a
#: multiple of it. (One row of all contenders could take ten minutes.)
SLOW = 5


class TookTooLong(Exception):
    """Say that a contender was given up."""


def run_row(row: Row, peers: Sequence[Peer], scale: Scale) -> Result:
    """Measure one row.

    Returns
    -------
    Result
        With one figure a round for each contender that can do the work.
    """
    result = Result(row.key, row.title, row.unit, row.headline, list(row.bounds))
    running = [peer for peer in peers if not row.peers or peer.name in row.peers]
    needed = {OURS, STANDARD, *(bound.against for bound in row.bounds)}
    started = perf_counter()
    rounds = scale.rounds
    if row.long:
        rounds = max(rounds // 3, min(rounds, LEAST_ROUNDS))
    for number in range(rounds):
        if number >= LEAST_ROUNDS and perf_counter() - started > scale.seconds:
            break
        # Another one begins each round, so that nobody always follows the same neighbour.
        shift = number % max(1, len(running))
        for peer in running[shift:] + running[:shift]:
            if peer.rounds is not None and number >= peer.rounds:
                continue
            began = perf_counter()
            try:
                figure = measure(row, peer, scale)
            except Unsupported as reason:
                result.left_out[peer.name] = str(reason) or "has no such method"
            except (WrongResult, TookTooLong) as reason:
                result.left_out[peer.name] = str(reason)
            except Exception as error:
                result.left_out[peer.name] = f"{type(error).__name__}: {error}"[:200]
            else:
                result.figures.setdefault(peer.name, []).append(figure)
                if perf_counter() - began > SLOW and peer.name not in needed:
                    running = [other for other in running if other is not peer]
        running = [peer for peer in running if peer.name not in result.left_out]
    for name in result.left_out:
        result.figures.pop(name, None)
    return result


def measure(row: Row, peer: Peer, scale: Scale) -> float:
    """Let one contender do a row's work once and return its figure."""
    with limited(PATIENCE), row.work(peer, scale) as work:
        gc.collect()
        began = perf_counter()
        outcome = work.run()
        seconds = perf_counter() - began
        if work.check is not None:
            work.check(outcome)
        return seconds if row.unit == "s" else float(outcome)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise `TookTooLong` in this block after so many seconds (main thread only)."""

    def give_up(signum: int, frame: object) -> None:
        raise TookTooLong(f"not done after {seconds} s")

    earlier = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
