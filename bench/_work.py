"""What a suite consists of: rows, their bounds, and one piece of work for each contender."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench._peers import Peer

#: What all ratios are to, where a row names nothing else.
STANDARD = "multiprocessing fork"
OURS = "pool"


class Unsupported(Exception):
    """Say that a peer has no such method, or cannot do this work at all."""


class WrongResult(Exception):
    """Say that a peer gave another result than a plain loop."""


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes
    ----------
    rounds : int
        Times that each contender does the work.
    items : float
        Part of the full number of items.
    seconds : float
        After so long a row stops, if each contender had its turn three times.
    long : bool
        Whether rows that take long are measured as well.
    """

    rounds: int = 15
    items: float = 1.0
    seconds: float = 25.0
    long: bool = True

    def has(self, row: Row, only: Sequence[str]) -> bool:
        """Return whether a row is to be measured; `only`: those that were asked for, if any."""
        return row.key in only if only else self.long or not row.long

    def count(self, full: int) -> int:
        """Return the number of items that stands for `full` of them."""
        return max(1, int(full * self.items))


FULL = Scale()
QUICK = Scale(rounds=3, items=1.0, seconds=10.0, long=False)
ONCE = Scale(rounds=1, items=0.05, seconds=0.0)


@dataclass(frozen=True)
class Work:
    """One contender's share of a row, set up and warm.

    Attributes
    ----------
    run : callable
        What is timed; or, in rows of another unit, what returns the figure.
    check : callable, optional
        Called with what `run` returned, outside the timing; raises `WrongResult`.
    """

    run: Callable[[], Any]
    check: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class Bound:
    """What ours must not exceed.

    Attributes
    ----------
    limit : float
    against : str
        The contender that the limit is a multiple of; empty for the bare figure.
    """

    limit: float
    against: str = STANDARD


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    key : str
        Short name, for ``--only``.
    title : str
    work : callable
        ``work(peer, scale)`` is a context that sets up, gives `Work` and clears up.
    bounds : tuple of Bound
    unit : str
        "s" is timed by the runner; anything else is returned by the work itself.
    headline : bool
        Whether the chart shows it.
    peers : tuple of str
        Only these contenders; empty for all.
    long : bool
        Takes seconds a round: then a third of the rounds must do.
    """

    key: str
    title: str
    work: Callable[[Peer, Scale], AbstractContextManager[Work]]
    bounds: tuple[Bound, ...] = ()
    unit: str = "s"
    headline: bool = False
    peers: tuple[str, ...] = ()
    long: bool = False


@dataclass
class Result:
    """What came out of one row: for each contender its figures, round by round."""

    key: str
    title: str
    unit: str
    headline: bool
    bounds: list[Bound]
    figures: dict[str, list[float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def expect(result: object, wanted: object) -> None:
    """Raise `WrongResult` unless both are equal."""
    if result != wanted:
        raise WrongResult(f"got {result!r:.80}, wanted {wanted!r:.80}")
