"""The chart that README shows, drawn as SVG by hand: no plotting library has to be there."""

from __future__ import annotations

from html import escape
from math import floor, log10
from typing import TYPE_CHECKING

from bench._figures import number, ratio
from bench._work import OURS, STANDARD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench._work import Result

WIDTH, LEFT, RIGHT, TOP, STEP = 900, 340, 80, 122, 34
MARGIN = 10
#: Where a contender is not called as its distribution is.
DISTRIBUTIONS = {"dask": "distributed"}
INK, FAINT, BAR, LINE = "#1f2430", "#7a8394", "#2f6fde", "#c23b3b"
COLOURS = (
    "#e08a1e", "#3a9d5d", "#8a5cc2", "#c2477f", "#4aa3b8", "#8b6b3f", "#6b7a2f", "#555f70",
    "#b05a3c", "#3f4fa0",
)  # fmt: skip


def svg(results: Sequence[Result], machine: Mapping[str, str]) -> str:
    """Return a chart of the headline rows: time as a multiple of the standard pool's."""
    rows = [result for result in results if result.headline and _shares(result).get(OURS)]
    peers = list(dict.fromkeys(name for row in rows for name in _shares(row) if name != OURS))
    peers = [name for name in peers if name != STANDARD]
    about = _about(machine)
    colours = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(peers)}
    legend_height = 22 * ((len(peers) + 3) // 4)
    height = TOP + legend_height + STEP * len(rows) + 56
    scale = _Scale([share for row in rows for share in _shares(row).values()])
    top = TOP + legend_height
    return "\n".join(
        [
            _opening(height),
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            _text(
                20, 30, "Time relative to multiprocessing.Pool (fork): further left is faster", 17
            ),
            *(_text(20, 52 + 17 * at, line, 12, FAINT) for at, line in enumerate(about)),
            *_legend(colours, machine),
            *_grid(scale, top, STEP * len(rows)),
            *(line for at, row in enumerate(rows) for line in _bar(row, at, top, scale, colours)),
            "</svg>",
            "",
        ]
    )


def _opening(height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">'
    )


class _Scale:
    """A logarithmic axis that holds all values."""

    def __init__(self, values: Sequence[float]) -> None:
        positive = [value for value in values if value > 0] or [1.0]
        self.low = min(-1, floor(log10(min(positive))))
        self.high = max(0.3, log10(max(positive)) + 0.1)

    def x(self, value: float) -> float:
        """Return where a value is."""
        share = (log10(max(value, 10**self.low)) - self.low) / (self.high - self.low)
        return LEFT + MARGIN + share * (WIDTH - LEFT - MARGIN - RIGHT)

    def ticks(self) -> list[float]:
        """Return the powers of ten on the axis."""
        return [10.0**power for power in range(self.low, floor(self.high) + 1)]


def _shares(result: Result) -> dict[str, float]:
    found = {name: ratio(result, name, STANDARD) for name in result.figures}
    return {name: share for name, share in found.items() if share}


def _about(machine: Mapping[str, str]) -> list[str]:
    """Return how and where it was measured, in two lines."""
    known = [machine[key] for key in ("processor", "memory", "system") if key in machine]
    where = ", ".join([f"{machine.get('cores', '?')} cores", *known])
    return [
        "2 workers unless named otherwise; medians of interleaved rounds; logarithmic",
        f"{where}, {machine.get('python', '')}",
    ]


def _legend(colours: Mapping[str, str], machine: Mapping[str, str]) -> list[str]:
    """Return who is shown, each with its version."""
    lines = [
        f'<rect x="20" y="86" width="14" height="12" fill="{BAR}"/>',
        _text(40, 97, f"actorpool {machine.get('actorpool', '')}", 13),
        f'<line x1="160" y1="84" x2="160" y2="100" stroke="{LINE}" stroke-width="2"/>',
        _text(168, 97, "multiprocessing.Pool, fork = 1", 13),
    ]
    for at, (name, colour) in enumerate(colours.items()):
        x, y = 20 + 215 * (at % 4), 118 + 22 * (at // 4)
        lines.append(f'<circle cx="{x + 7}" cy="{y}" r="5" fill="{colour}"/>')
        version = machine.get(DISTRIBUTIONS.get(name, name), "")
        lines.append(_text(x + 20, y + 4, f"{name} {version}".strip(), 13))
    return lines


def _grid(scale: _Scale, top: int, height: int) -> list[str]:
    lines = []
    for tick in scale.ticks():
        x, bottom = scale.x(tick), top + height + 6
        lines.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#dde1e8"/>')
        lines.append(_text(x, bottom + 16, f"{number(tick)}", 12, FAINT, "middle"))
    one = scale.x(1)
    lines.append(
        f'<line x1="{one:.1f}" y1="{top}" x2="{one:.1f}" y2="{top + height + 6}" '
        f'stroke="{LINE}" stroke-width="2"/>'
    )
    return lines


def _bar(row: Result, at: int, top: int, scale: _Scale, colours: Mapping[str, str]) -> list[str]:
    shares = _shares(row)
    y = top + STEP * at
    end, one = scale.x(shares[OURS]), scale.x(1)
    # From 1 and not from the edge: on a logarithmic axis there is no zero to measure from.
    begin, width = min(end, one), max(1.0, abs(end - one))
    lines = [
        _text(LEFT - 10, y + 21, _plain(row.title), 13, INK, "end"),
        f'<rect x="{begin:.1f}" y="{y + 8}" width="{width:.1f}" height="18" rx="2" fill="{BAR}"/>',
        # In a column of their own: beside the bar they would be under the dots of others.
        _text(WIDTH - 16, y + 21, number(shares[OURS]), 13, BAR, "end"),
    ]
    for name, share in shares.items():
        if name in colours:
            lines.append(
                f'<circle cx="{scale.x(share):.1f}" cy="{y + 17}" r="5" fill="{colours[name]}" '
                f'stroke="white"><title>{escape(name)}: {number(share)}</title></circle>'
            )
    return lines


def _plain(title: str) -> str:
    title = title.replace("`", "")
    return title if len(title) <= 48 else title[:47] + "…"


def _text(
    x: float, y: float, text: str, size: int, colour: str = INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
