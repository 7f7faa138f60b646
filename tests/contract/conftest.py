"""One suite over every way in which memory is shared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import store
import store._depot
from store._settings import MODES

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "compat"))


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Force a mode on this process and, through its environment, on the workers."""
    monkeypatch.setenv("POOL_STORE", request.param)
    assert not store._depot.shutdown()
    assert store.stats()["mode"] == request.param
    yield request.param
    store._depot.shutdown()


@pytest.fixture(params=[mode for mode in MODES if mode != "frames"])
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Force a mode in which memory is shared."""
    monkeypatch.setenv("POOL_STORE", request.param)
    assert not store._depot.shutdown()
    yield request.param
    store._depot.shutdown()
