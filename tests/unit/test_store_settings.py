"""Variables of the environment: what they may be, and what is said of the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pool import Pool
from store._budget import Budget
from store._settings import nbytes_of, spill_folder, wanted_mode

SIZE = "write 1000000, 512M, 8G or 40%"


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("POOL_STORE", "plasma", "use auto, off, memfd+huge"),
        ("POOL_STORE", "OFF ", "use auto, off, memfd+huge"),
        *(
            (name, value, SIZE)
            for name in ("POOL_STORE_MAX", "POOL_STORE_KEEP")
            for value in ("-5", "-1%", "inf%", "nan%", "1e999g", "infG", "a lot", "5.5", "%", "1P")
        ),
        ("POOL_STORE_MAX", "0", "POOL_STORE=off to share none"),
        ("POOL_STORE_MAX", "0%", SIZE),
        ("POOL_STORE_SPILL", "no", "name one on a disk, or write off"),
        ("POOL_STORE_SPILL", "/nowhere/at/all", "name one on a disk, or write off"),
        ("POOL_STORE_SPILL", __file__, "name one on a disk, or write off"),
        ("POOL_STORE_HUGE", "no", "auto nor off"),
    ],
)
def test_wrong_values_are_refused_when_a_pool_is_made(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, accepted: str
) -> None:
    monkeypatch.setenv(name, value)
    said = re.escape(name) + ".*" + re.escape(value.strip()) + "(?s:.*)" + re.escape(accepted)
    with pytest.raises(ValueError, match=f"(?i){said}"):
        wanted_mode()
    with pytest.raises(ValueError, match=re.escape(name)):
        Pool(1).apply(abs, (1,))


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("", None), (" ", None), ("0", 0), ("1000", 1000), ("2k", 2048), ("1.5G", 3 << 29),
     ("25%", 250), (" 1M ", 1 << 20)],
)  # fmt: skip
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, nbytes: int | None) -> None:
    monkeypatch.setenv("POOL_STORE_KEEP", text)
    assert nbytes_of("POOL_STORE_KEEP", 1000) == nbytes


def test_nothing_need_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STORE_KEEP", "0")
    monkeypatch.setenv("POOL_STORE_MAX", "8M")
    budget = Budget()
    assert budget.kept(1 << 30) == 0 and budget.nbytes == 8 << 20


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text, folder in (("off", None), ("OFF", None), (str(tmp_path), str(tmp_path))):
        monkeypatch.setenv("POOL_STORE_SPILL", text)
        wanted_mode()
        assert spill_folder() == folder
