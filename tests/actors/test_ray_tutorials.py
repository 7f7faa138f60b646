"""Programs written for Ray, run here and, where Ray is installed, on Ray itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from tutorials import TUTORIALS, web_service

import bench.tutorials
import pool


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.__name__)
def test_tutorial(
    start: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tutorial: Callable[[Any], Any],
) -> None:
    if tutorial is web_service:
        pytest.importorskip("flask")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    assert tutorial(start(num_cpus=2)) == TUTORIALS[tutorial]


@pytest.mark.watchdog(600)
@pytest.mark.elsewhere
def test_ray_itself_gives_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("flask")
    monkeypatch.setattr(sys, "path", [*sys.path])  # which gets the folder of the programs
    assert bench.tutorials.main([]) == 0


def test_pool_of_ray_is_ours() -> None:
    from pool.util.multiprocessing import Pool

    assert Pool is pool.Pool
    with Pool(1) as workers:
        assert workers.map(abs, [-1, -2]) == [1, 2]
