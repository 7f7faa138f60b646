"""From figures to medians, ratios and verdicts; and to JSON and back between processes."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from bench._work import OURS, Bound, Result

if TYPE_CHECKING:
    from collections.abc import Iterable


def to_plain(result: Result) -> dict[str, Any]:
    """Return a result as JSON can hold it."""
    return asdict(result)


def from_plain(plain: dict[str, Any]) -> Result:
    """Rebuild what `to_plain` was given."""
    return Result(**{**plain, "bounds": [Bound(**bound) for bound in plain["bounds"]]})


def middle(result: Result, name: str) -> float | None:
    """Return the median figure of a contender, None if it has none."""
    figures = result.figures.get(name)
    return median(figures) if figures else None


def ratio(result: Result, name: str, against: str) -> float | None:
    """Return the median over the rounds of one contender's figure by another's.

    Within a round both had the same machine; the medians of each alone need not.
    """
    mine, theirs = result.figures.get(name), result.figures.get(against)
    if not mine or not theirs:
        return None
    pairs = zip(mine, theirs, strict=False)
    return median(a / b if b else (1.0 if not a else float("inf")) for a, b in pairs)


def measured(result: Result, bound: Bound) -> float | None:
    """Return what a bound is about: a ratio, or the figure itself."""
    return ratio(result, OURS, bound.against) if bound.against else middle(result, OURS)


def missed(results: Iterable[Result]) -> list[str]:
    """Return one line for each bound that was missed, or could not be checked."""
    lines = []
    for result in results:
        for bound in result.bounds:
            value = measured(result, bound)
            if value is None:
                why = result.left_out.get(OURS) or result.left_out.get(bound.against)
                lines.append(f"{result.key}: not measured ({why or 'no figures'})")
            elif value > bound.limit:
                what = f"{value:.3g} x {bound.against}" if bound.against else f"{value:.3g}"
                lines.append(f"{result.key}: {what}, which must be at most {bound.limit:g}")
    return lines


def number(value: float) -> str:
    """Return a figure with three digits, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.4f}"


def amount(value: float, unit: str) -> str:
    """Return a figure with its unit, seconds in a unit that suits them."""
    if unit != "s":
        return f"{number(value)} {unit}".rstrip()
    if value >= 1:
        return f"{number(value)} s"
    return f"{number(value * 1e3)} ms" if value >= 1e-3 else f"{number(value * 1e6)} µs"
