"""Variables of the environment: what they may be, and what is said of the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pool import Pool
from store import _budget, _cgroups
from store._settings import nbytes_of, spill_folder, wanted_mode

MIB = 1 << 20
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
     ("25%", 250), (" 1M ", 1 << 20), ("8GiB", 8 << 30), ("1.5 tb", 3 << 39)],
)  # fmt: skip
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, nbytes: int | None) -> None:
    monkeypatch.setenv("POOL_STORE_KEEP", text)
    assert nbytes_of("POOL_STORE_KEEP", 1000) == nbytes


def test_nothing_need_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STORE_KEEP", "0")
    monkeypatch.setenv("POOL_STORE_MAX", "8M")
    budget = _budget.Budget()
    assert budget.kept(1 << 30) == 0 and budget.nbytes == 8 << 20


def test_what_a_control_group_grants_is_the_bound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `systemd-run` or a job scheduler sets it, for a group below the top."""
    groups = tmp_path / "unified", tmp_path / "unified" / "job"
    for folder, limit in zip(groups, ("max", 1000 * MIB), strict=True):
        folder.mkdir()
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {100 * MIB}\n")
    files = {
        "/proc/meminfo": f"MemTotal: {1 << 30} kB\nMemAvailable: {1 << 30} kB\n",
        "/proc/self/cgroup": "0::/job\n",
        "/proc/self/mountinfo": f"29 22 0:26 / {groups[0]} rw - cgroup2 cgroup2 rw\n",
    }
    folders = _cgroups.cgroup_folders(
        files["/proc/self/cgroup"], files["/proc/self/mountinfo"], "memory"
    )
    monkeypatch.setattr(_budget, "read", files.__getitem__)
    monkeypatch.setattr(_budget, "own_folders", {"memory": folders}.__getitem__)

    def use(nbytes: int) -> None:
        (groups[1] / "memory.current").write_text(f"{nbytes}\n")

    use(0)
    budget = _budget.Budget()
    assert budget.nbytes == 500 * MIB
    assert budget.allows(0, 400 * MIB)
    # A tenth of it stays free, besides what the system can take back.
    use(890 * MIB)
    assert budget.allows(0, 100 * MIB)
    use(910 * MIB)
    assert not budget.allows(0, 100 * MIB)
    # Small ones are not asked about each time, but together.
    use(995 * MIB)
    allowed = [budget.allows(0, 10 * MIB) for _ in range(4)]
    assert allowed == [False] * 4
    use(0)
    assert budget.allows(0, 10 * MIB)
    use(995 * MIB)
    allowed = [budget.allows(0, 10 * MIB) for _ in range(4)]
    assert allowed == [True, False, False, False]


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text, folder in (("off", None), ("OFF", None), (str(tmp_path), str(tmp_path))):
        monkeypatch.setenv("POOL_STORE_SPILL", text)
        wanted_mode()
        assert spill_folder() == folder
