"""Tasks that use the pool in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pooltasks import square

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.ours_only


def look(pool: Any) -> tuple[Any, list[Any], int]:
    """Look at a pool as a program does that shows what it is doing."""
    return pool.apply(square, (5,)), pool._pool, pool.stats()["jobs"]


def test_a_task_may_look_at_the_pool_that_it_runs_in(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    # Its workers are known in the program only.
    assert pool.apply(look, (pool,)) == (25, [], 0)
