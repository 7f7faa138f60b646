"""One module a concern; each has a tuple `ROWS`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench._work import Row

#: In the order of the table.
NAMES = ("starting", "tasks", "skew", "data", "store", "cost", "scaling", "actors", "clusters")


def rows(suite: str) -> tuple[Row, ...]:
    """Return the rows of a suite."""
    found: tuple[Row, ...] = importlib.import_module(f"bench.suites.{suite}").ROWS
    return found
