"""Give tests a runtime on two CPUs, which is gone after each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pool

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Return a function that starts the runtime with arguments of `init`."""

    def init(**given: Any) -> Any:
        pool.init(**given)
        return pool

    yield init
    pool.shutdown()


@pytest.fixture
def ray(start: Callable[..., Any]) -> Any:
    return start(num_cpus=2)
