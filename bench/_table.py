"""The table of all rows, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench._figures import amount, measured, middle, number, ratio
from bench._runner import PATIENCE, SLOW
from bench._work import OURS, STANDARD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench._work import Result


def markdown(results: Sequence[Result], machine: Mapping[str, str]) -> str:
    """Return the whole report."""
    parts = [
        "# Benchmarks",
        "",
        "Two workers unless the row says otherwise. Contenders take turns in one process, round",
        "by round, and every result is compared with a plain loop's. Times are medians; a ratio is",
        "the median over the rounds of ours by `multiprocessing.Pool` (fork), so smaller is",
        "better and 1 is equal; where a bound names another contender, it is of ours by that one.",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()) + ".",
        "",
        f"Who needs more than {SLOW} s for a round does one, unless a bound is about them. Who is",
        f"not done after {PATIENCE} s is left out, see the end. Dask and Ray leave threads, beside",
        "which forks may hang: they have turns after the others, but for rows that are about one",
        "of them.",
        "",
        "| work | ours | multiprocessing fork | ratio | rounds | bound | |",
        "|---|---|---|---|---|---|---|",
        *(line for result in results for line in _lines(result)),
        "",
        "## All contenders",
        "",
        *_all(results),
    ]
    reasons = _left_out(results)
    if reasons:
        parts += ["", "## Left out", "", *reasons]
    return "\n".join(parts) + "\n"


def _lines(result: Result) -> list[str]:
    ours, standard = middle(result, OURS), middle(result, STANDARD)
    cells = [
        result.title,
        "" if ours is None else amount(ours, result.unit),
        "" if standard is None else amount(standard, result.unit),
    ]
    rounds = str(len(result.figures.get(OURS, ())))
    usual = _share(result, STANDARD)
    if not result.bounds:
        return [_row([*cells, usual, rounds, "", ""])]
    lines = []
    for bound in result.bounds:
        value = measured(result, bound)
        of = "" if bound.against in ("", STANDARD) else f" x {bound.against}"
        limit = f"<= {bound.limit:.3g}{of}" + ("" if bound.against else f" {result.unit}")
        verdict = "not measured" if value is None else "met" if value <= bound.limit else "missed"
        share = _share(result, bound.against) + of if of and value is not None else usual
        lines.append(_row([*cells, share, rounds, limit, verdict]))
    return lines


def _share(result: Result, against: str) -> str:
    share = ratio(result, OURS, against)
    return "" if share is None else number(share)


def _all(results: Sequence[Result]) -> list[str]:
    names = list(dict.fromkeys(name for result in results for name in result.figures))
    lines = [_row(["work", *names]), _row(["---"] * (len(names) + 1))]
    for result in results:
        cells = [middle(result, name) for name in names]
        lines.append(
            _row(
                [result.title]
                + ["" if cell is None else amount(cell, result.unit) for cell in cells]
            )
        )
    return lines


def _left_out(results: Sequence[Result]) -> list[str]:
    lines = []
    for result in results:
        for name, reason in result.left_out.items():
            if reason != "has no such method":
                lines.append(f"- {name}, {result.key}: {reason.splitlines()[0]}")
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
