"""How a Pool shows itself: one line of text, and a table for notebooks."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from pool._faces._html import MAX_ROWS, format_nbytes, pool_html


def stats(**changes: Any) -> dict[str, Any]:
    workers = [
        {"worker_id": 1, "pid": 101, "state": "idle", "tasks_done": 9},
        {"worker_id": 3, "pid": 103, "state": "busy", "tasks_done": 8},
    ]
    return {
        "processes": 2,
        "start_method": "default",
        "state": "RUN",
        "workers": workers,
        "jobs": 1,
        "tasks_done": 17,
        "tasks_failed": 0,
        "restarts": 1,
        "queued": 4,
    } | changes


class Cells(HTMLParser):
    """Collect the cells of each row, and see that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def heading(of: dict[str, Any]) -> str:
    return Cells(pool_html({**of, "workers": []})).text


def test_heading() -> None:
    assert heading(stats()) == (
        "pool.Pool RUN, 2 workers (default), 1 call outstanding, 4 tasks queued, 17 tasks done, "
        "1 worker restarted"
    )


def test_heading_leaves_out_what_is_zero_or_missing() -> None:
    quiet = stats(processes=1, jobs=0, tasks_done=0, restarts=0, queued=0)
    assert heading(quiet) == "pool.Pool RUN, 1 worker (default)"
    assert heading({}) == "pool.Pool unknown"
    assert "2 failed" in heading(stats(tasks_failed=2))


def test_table_has_one_row_a_worker() -> None:
    cells = Cells(pool_html(stats()))
    assert cells.rows == [
        ["worker", "pid", "state", "tasks done"],
        ["1", "101", "idle", "9"],
        ["3", "103", "busy", "8"],
    ]
    assert "17 tasks done" in cells.text


def test_table_shows_memory_where_it_is_known() -> None:
    worker = {"worker_id": 1, "pid": 101, "state": "idle", "tasks_done": 9}
    cells = Cells(pool_html(stats(workers=[{**worker, "nbytes": 5_300_000}, worker])))
    assert cells.rows[0][-1] == "memory"
    assert [row[-1] for row in cells.rows[1:]] == ["5.3 MB", ""]


def test_texts_are_escaped() -> None:
    worker = {"worker_id": 1, "pid": 101, "state": "<b>&", "tasks_done": 0}
    html = pool_html(stats(state="<script>", workers=[worker]))
    assert "<script>" not in html
    assert Cells(html).rows[1][2] == "<b>&"


def test_pool_without_workers_has_no_table() -> None:
    cells = Cells(pool_html(stats(workers=[], state="closed")))
    assert cells.rows == []
    assert "closed" in cells.text


def test_long_tables_are_cut() -> None:
    worker = {"pid": 101, "state": "idle", "tasks_done": 0}
    many = [{"worker_id": number, **worker} for number in range(MAX_ROWS + 5)]
    cells = Cells(pool_html(stats(workers=many)))
    assert len(cells.rows) == 1 + MAX_ROWS
    assert "and 5 more workers" in cells.text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (999_600, "1 MB"), (3e13, "30 TB")],
)
def test_sizes(nbytes: float, text: str) -> None:
    assert format_nbytes(nbytes) == text
