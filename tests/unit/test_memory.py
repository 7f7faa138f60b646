"""Reading how much memory is left: the parsing on sample files, and the figures of this process."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from pool import _memory
from pool._memory import Room

MIB = 1 << 20
GIB = 1 << 30

MEMINFO = """\
MemTotal:       16777216 kB
MemFree:         1000000 kB
MemAvailable:    2097152 kB
SwapTotal:       4194304 kB
SwapFree:        1048576 kB
HugePages_Total:       0
"""


def write(folder: Path, **files: object) -> str:
    """Make a cgroup's folder; `memory__max` is the file "memory.max"."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")
    return str(folder)


def test_machine_counts_what_can_be_had_and_swap() -> None:
    room, swap = _memory.machine_room(MEMINFO)
    assert swap == GIB
    assert room == Room(3 * GIB, 16 * GIB, 16 * GIB // 100, "of the machine")


@pytest.mark.parametrize("text", ["", "garbage", "MemTotal: 5 kB", "MemTotal: x kB\nMemAvailable:"])
def test_machine_that_tells_nothing_sets_no_limit(text: str) -> None:
    assert _memory.machine_room(text) == (None, 0)


def test_version_2_takes_back_cached_files(tmp_path: Path) -> None:
    stat = "anon 900\nfile 500\ninactive_anon 7\ninactive_file 100\nactive_file 20\n"
    folder = write(tmp_path, memory__max=GIB, memory__current=GIB - 1000,
                   memory__stat=stat + "slab_reclaimable 3")  # fmt: skip
    room = _memory.group_room(folder, True, 0)
    assert room == Room(1123, GIB, 32 * MIB, f"of the cgroup {folder}")


def test_version_2_may_swap_as_far_as_both_limits_let_it(tmp_path: Path) -> None:
    folder = write(tmp_path, memory__max=GIB, memory__current=GIB, memory__stat="")
    assert available(folder, True, swap=500) == 500
    write(tmp_path, memory__swap__max="max", memory__swap__current=0)
    assert available(folder, True, swap=500) == 500
    write(tmp_path, memory__swap__max=300, memory__swap__current=200)
    assert available(folder, True, swap=500) == 100
    write(tmp_path, memory__swap__max=0, memory__swap__current=0)
    assert available(folder, True, swap=500) == 0
    assert available(folder, True, swap=0) == 0


def test_version_1_counts_the_groups_below(tmp_path: Path) -> None:
    stat = "inactive_file 1\nactive_file 1\ntotal_inactive_file 100\ntotal_active_file 20\n"
    folder = write(tmp_path, memory__limit_in_bytes=GIB, memory__usage_in_bytes=GIB - 1000,
                   memory__stat=stat)  # fmt: skip
    assert available(folder, False, swap=0) == 1120
    assert available(folder, False, swap=500) == 1620
    # Memory and swap together: 300 more than the memory that is left.
    write(tmp_path, memory__memsw__limit_in_bytes=2 * GIB,
          memory__memsw__usage_in_bytes=2 * GIB - 1300)  # fmt: skip
    assert available(folder, False, swap=500) == 1420


def available(folder: str, version2: bool, swap: int) -> int:
    room = _memory.group_room(folder, version2, swap)
    assert room is not None
    return room.available


@pytest.mark.parametrize("limit", ["max", "", "-1"])
def test_group_without_limit_sets_none(tmp_path: Path, limit: str) -> None:
    folder = write(tmp_path, memory__max=limit, memory__current=5)
    assert _memory.group_room(folder, True, 0) is None
    assert _memory.group_room(str(tmp_path / "missing"), True, 0) is None


def test_only_groups_that_grant_less_than_the_machine_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("inner").mkdir()
    tmp_path.joinpath("outer").mkdir()
    inner = write(tmp_path / "inner", memory__max=100 * MIB, memory__current=99 * MIB)
    # What version 1 says for "no limit".
    outer = write(tmp_path / "outer", memory__limit_in_bytes=(1 << 63) - 4096,
                  memory__usage_in_bytes=5)  # fmt: skip
    monkeypatch.setattr(_memory, "_folders", [(inner, True), (outer, False)])
    machine, *groups = _memory.rooms()
    assert 0 < machine.available
    assert [(room.available, room.limit, room.reserve) for room in groups] == [
        (MIB, 100 * MIB, 10 * MIB)
    ]


@pytest.mark.parametrize(
    ("limit", "reserve"),
    [(100 * MIB, 10 * MIB), (GIB, 32 * MIB), (16 * GIB, 16 * GIB // 100), (512 * GIB, GIB)],
)
def test_little_is_reserved(limit: int, reserve: int) -> None:
    assert _memory.reserve(limit) == reserve


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("1000000", 1_000_000),
        ("512K", 512 << 10),
        ("500M", 500 * MIB),
        (" 500mb ", 500 * MIB),
        ("8G", 8 * GIB),
        ("8GiB", 8 * GIB),
        ("1.5 TB", 3 << 39),
        ("64b", 64),
        ("off", None),
        ("0", None),
        ("0M", None),
    ],
)
def test_limit_of_the_user(text: str, nbytes: int | None) -> None:
    assert _memory.parse_limit(text) == nbytes


@pytest.mark.parametrize("text", ["", "G", "lots", "-5G", "1e30", "nan", "inf", "5 X", "80%"])
def test_malformed_limit_names_the_variable(text: str) -> None:
    with pytest.raises(ValueError, match="POOL_MEMORY_LIMIT is") as caught:
        _memory.parse_limit(text)
    assert repr(text) in str(caught.value)


def test_own_memory_is_measured() -> None:
    before, exact = _memory.resident("self"), _memory.private(os.getpid())
    block = mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(bytes(64 * MIB))
    assert _memory.resident("self") - before > 60 * MIB
    assert _memory.private("self") - exact > 60 * MIB
    block.close()


def test_a_process_that_has_ended_holds_nothing() -> None:
    # 2**22 is the largest number that a process can have.
    assert _memory.resident((1 << 22) + 1) == _memory.private((1 << 22) + 1) == 0


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0.0 KiB"),
        (5 * MIB, "5.0 MiB"),
        (999 * MIB, "999 MiB"),
        (1000 * MIB, "1.0 GiB"),
        (9 * GIB + 200 * MIB, "9.2 GiB"),
        (2048 * GIB, "2048 GiB"),
    ],
)
def test_sizes_are_given_in_powers_of_1024(nbytes: int, text: str) -> None:
    assert _memory.binary_size(nbytes) == text
