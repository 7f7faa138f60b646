"""What `store.stats` shows in a notebook."""

from __future__ import annotations


class Stats(dict[str, object]):
    """A dict that notebooks show as a table."""

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:right'>{escape(_readable(name, value))}</td></tr>"
            for name, value in self.items()
        )
        return f"<table>{rows}</table>"


_SIZES = {"live", "free", "peak", "resident", "spilled", "budget", "copied", "referred"}


def _readable(name: str, value: object) -> str:
    if name in _SIZES and isinstance(value, int):
        return f"{value / 1e6:,.1f} MB"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {count}" for key, count in value.items()) or "-"
    return str(value)
