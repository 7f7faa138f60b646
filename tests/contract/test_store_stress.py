"""Random deaths, forks, threads and changes; and that the test sees what it is there to see."""

from __future__ import annotations

from typing import Any

import pytest
import storestress
from storestress import Corruption, stress

import store
from store import _copying, _forks, _mappings, _readers


@pytest.mark.watchdog(360)
def test_random_work_with_deaths_forks_and_threads() -> None:
    tasks = sum(stress(120, seed) for seed in range(1, 6))
    assert tasks > 10_000


def test_in_every_mode(mode: str) -> None:
    stress(40, seed=9)
    assert store.stats()["held"] == {}


@pytest.fixture
def several_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have several threads copy, of arrays that are a little larger than the usual ones here."""
    monkeypatch.setattr(storestress, "COUNTS", [400_000, 700_000])
    monkeypatch.setattr(_copying, "PART_NBYTES", 1 << 20)
    monkeypatch.setattr(_copying, "threads", lambda: 3)


@pytest.mark.usefixtures("several_copy")
def test_what_several_threads_have_copied(shared: str) -> None:
    stress(16, seed=3)
    assert store.stats()["held"] == {}


# Negative controls: one rule switched off, which the same work must notice.


def until_noticed(**options: Any) -> None:
    for seed in range(20):
        stress(60, 100 + seed, threads=1, kills=False, **options)


def test_it_notices_views_that_are_not_reset(monkeypatch: pytest.MonkeyPatch, shared: str) -> None:
    def without_reset(self: Any) -> None:
        if self._ticket:
            self.block.reader.leased.pop(self.block.start, None)

    monkeypatch.setattr(_mappings.Lease, "__del__", without_reset)
    monkeypatch.setattr(_mappings, "reset", lambda address, nbytes: True)
    with pytest.raises(Corruption):
        until_noticed(forks=False)


def test_it_notices_views_that_share_their_pages(
    monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    class Careless(dict[int, int]):
        def setdefault(self, key: int, default: int = 0) -> int:
            return default

    make = _readers.Reader.__init__

    def careless(self: Any, *args: Any) -> None:
        make(self, *args)
        self.leased = Careless()

    monkeypatch.setattr(_readers.Reader, "__init__", careless)
    with pytest.raises(Corruption):
        until_noticed(forks=False)


def test_it_notices_forked_children_that_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    monkeypatch.setattr(_forks, "_pin", lambda: None)
    with pytest.raises(Corruption):
        until_noticed(forks=True)


def test_it_notices_arrays_that_are_sent_and_still_written_to(
    monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    monkeypatch.setattr(_mappings.Canvas, "seal", lambda self: True)
    with pytest.raises(Corruption):
        until_noticed(forks=False)


@pytest.mark.usefixtures("several_copy")
def test_it_notices_copies_that_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    monkeypatch.setattr(_copying._Copying, "wait", lambda self: self._parts.clear())
    with pytest.raises(Corruption):
        until_noticed(forks=False)
