"""Describe a Pool in one line of text, and in a small table for notebooks.

Both are made from the dictionary that ``Pool.stats()`` returns, and from nothing else: showing a
Pool must never wait for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

# What the heading shows, in this order; a count of zero is left out.
_COUNTS = (
    ("jobs", "call outstanding", "calls outstanding"),
    ("queued", "task queued", "tasks queued"),
    ("tasks_done", "task done", "tasks done"),
    ("tasks_failed", "failed", "failed"),
    ("restarts", "worker restarted", "workers restarted"),
)

_COLUMNS = (
    ("worker_id", "worker"),
    ("host", "machine"),
    ("pid", "pid"),
    ("state", "state"),
    ("tasks_done", "tasks done"),
    ("nbytes", "memory"),
)

# A table of many hundred workers makes a notebook slow, and nobody reads it.
MAX_ROWS = 32


def pool_html(stats: Mapping[str, Any]) -> str:
    """Return an HTML fragment: what the pool does, and a table with one row a worker.

    Parameters
    ----------
    stats : mapping
        From ``Pool.stats()``; what is missing there is left out here. Every text is escaped.
    """
    heading = f"<b>pool.Pool</b> {_escape(', '.join(_summary(stats)))}"
    workers = list(stats.get("workers", ()))
    if not workers:
        return f"<div>{heading}</div>"
    columns = [
        (key, title)
        for key, title in _COLUMNS
        if any(worker.get(key) is not None for worker in workers)
    ]
    lines = [
        f"<div>{heading}",
        "<table>",
        _row("th", [title for _, title in columns]),
        *(_row("td", [_cell(key, worker) for key, _ in columns]) for worker in workers[:MAX_ROWS]),
        "</table>",
    ]
    if len(workers) > MAX_ROWS:
        lines.append(f"and {len(workers) - MAX_ROWS} more workers")
    return "\n".join(lines) + "</div>"


def _summary(stats: Mapping[str, Any]) -> list[str]:
    parts = [str(stats.get("state", "unknown"))]
    processes = stats.get("processes")
    if processes is not None:
        method = stats.get("start_method")
        parts.append(
            f"{processes} worker{'' if processes == 1 else 's'}"
            + (f" ({method})" if method else "")
        )
    for key, one, many in _COUNTS:
        count = stats.get(key, 0)
        if count:
            parts.append(f"{count} {one if count == 1 else many}")
    return parts


def _cell(key: str, worker: Mapping[str, Any]) -> str:
    value = worker.get(key)
    if value is None:
        return ""
    return format_nbytes(value) if key == "nbytes" else str(value)


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _escape(text: str) -> str:
    from html import escape

    return escape(text)


def format_nbytes(nbytes: float) -> str:
    """Return a size as people read it, such as "5.3 MB" (powers of 1000)."""
    size = float(nbytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
