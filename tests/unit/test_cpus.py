"""Counting CPUs: the parsing on sample files, and the limits that hold for real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pool import _cpus
from store._cgroups import cgroup_folders

# A machine with version 2 only; a container whose mount shows its own branch only; a machine
# with both versions mounted.
UNIFIED = "29 22 0:26 / {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
CONTAINER = (
    "700 690 0:30 /docker/abc {mount} ro,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct\n"
    "701 690 0:31 /docker/abc {mount}-memory ro - cgroup cgroup rw,memory\n"
)
HYBRID = (
    "30 29 0:26 / {mount}/unified rw shared:9 - cgroup2 cgroup2 rw\n"
    "32 29 0:29 / {mount}/cpu rw shared:10 - cgroup cgroup rw,cpu\n"
)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("-1\n 100000\n", None),
        ("400000\n 100000\n", 4),
        ("0 100000", None),
        ("100000 0", None),
        ("", None),
        ("garbage", None),
    ],
)
def test_quota_is_rounded_up(text: str, cpus: int | None) -> None:
    assert _cpus.parse_cpu_max(text) == cpus


@pytest.mark.parametrize(
    ("option", "cpus"),
    [
        (None, None),
        ("3", 3),
        ("default", None),
        ("0", None),
        ("-2", None),
        ("", None),
        (True, None),
        ("²", None),
    ],
)
def test_override(option: str | bool | None, cpus: int | None) -> None:
    assert _cpus.parse_override(option) == cpus


def put(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_version_2_takes_the_least_of_all_ancestors(tmp_path: Path) -> None:
    put(tmp_path / "user" / "job", cpu__max="max 100000")
    put(tmp_path / "user", cpu__max="300000 100000")
    folders = cgroup_folders("0::/user/job\n", UNIFIED.format(mount=tmp_path), "cpu")
    assert folders == [
        (f"{tmp_path}/user/job", True),
        (f"{tmp_path}/user", True),
        (str(tmp_path), True),
    ]
    assert _cpus.least_quota(folders) == 3
    put(tmp_path / "user" / "job", cpu__max="150000 100000")
    assert _cpus.least_quota(folders) == 2


def test_version_2_without_limits(tmp_path: Path) -> None:
    put(tmp_path / "job", cpu__max="max 100000")
    folders = cgroup_folders("0::/job\n", UNIFIED.format(mount=tmp_path), "cpu")
    assert _cpus.least_quota(folders) is None


def test_version_1_in_a_container_that_sees_the_outer_path(tmp_path: Path) -> None:
    # Without a cgroup namespace the path is the host's, and the mount shows the branch below it.
    put(tmp_path, cpu__cfs_quota_us="250000\n", cpu__cfs_period_us="100000\n")
    cgroup = "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"
    folders = cgroup_folders(cgroup, CONTAINER.format(mount=tmp_path), "cpu")
    assert folders == [(str(tmp_path), False)]
    assert _cpus.least_quota(folders) == 3


def test_version_1_nested_below_the_mounted_branch(tmp_path: Path) -> None:
    put(tmp_path / "inner", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    put(tmp_path, cpu__cfs_quota_us="100000\n", cpu__cfs_period_us="50000\n")
    cgroup = "4:cpu,cpuacct:/docker/abc/inner\n"
    folders = cgroup_folders(cgroup, CONTAINER.format(mount=tmp_path), "cpu")
    assert folders == [(f"{tmp_path}/inner", False), (str(tmp_path), False)]
    assert _cpus.least_quota(folders) == 2


def test_path_outside_the_mounted_branch_stands_for_the_mount_point(tmp_path: Path) -> None:
    for path in ("/docker/abcdef", "/../other", "/"):
        folders = cgroup_folders(f"4:cpu:{path}\n", CONTAINER.format(mount=tmp_path), "cpu")
        assert folders == [(str(tmp_path), False)], path


def test_both_versions_mounted(tmp_path: Path) -> None:
    put(tmp_path / "cpu" / "job", cpu__cfs_quota_us="500000", cpu__cfs_period_us="100000")
    put(tmp_path / "unified" / "job", cpu__max="400000 100000")
    cgroup = "2:cpuacct:/elsewhere\n1:cpu:/job\n0::/job\n"
    folders = cgroup_folders(cgroup, HYBRID.format(mount=tmp_path), "cpu")
    assert (f"{tmp_path}/cpu/job", False) in folders
    assert (f"{tmp_path}/unified/job", True) in folders
    assert not any("elsewhere" in folder for folder, _ in folders)
    assert _cpus.least_quota(folders) == 4


def test_mount_point_with_a_blank(tmp_path: Path) -> None:
    put(tmp_path / "a b", cpu__max="100000 100000")
    folders = cgroup_folders("0::/\n", UNIFIED.format(mount=rf"{tmp_path}/a\040b"), "cpu")
    assert _cpus.least_quota(folders) == 1


def test_colon_in_a_cgroup_name(tmp_path: Path) -> None:
    folders = cgroup_folders("0::/a:b\n", UNIFIED.format(mount=tmp_path), "cpu")
    assert folders[0] == (f"{tmp_path}/a:b", True)


@pytest.mark.parametrize("text", ["", "nonsense\n", "1:2\n", " - \n", "a b c d e - cgroup2\n"])
def test_files_of_an_unknown_form_set_no_limit(text: str) -> None:
    assert cgroup_folders(text, text, "cpu") == []


def test_files_that_cannot_be_read_set_no_limit(tmp_path: Path) -> None:
    assert _cpus.read(str(tmp_path / "missing")) == ""
    assert _cpus.read(str(tmp_path)) == ""
    assert _cpus.least_quota([(str(tmp_path), True), (str(tmp_path), False)]) is None


def test_quota_below_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    put(tmp_path, cpu__max="300000 100000")
    monkeypatch.setattr(_cpus, "_folders", [(str(tmp_path), True)])
    assert _cpus.usable_cpus() == 3
    put(tmp_path, cpu__max="9900000 100000")
    assert _cpus.usable_cpus() == 8


def counted(expression: str, *options: str, **environment: str) -> int:
    script = f"import os\nfrom pool import _cpus, cpu_count\nprint({expression})"
    root = str(Path(_cpus.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, *options, "-c", script],
        env={**os.environ, "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_affinity_of_a_real_process_counts() -> None:
    pinned = "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]) or _cpus.usable_cpus()"
    assert counted(pinned, PYTHON_CPU_COUNT="default") == 1


def test_environment_and_option_set_the_number() -> None:
    assert counted("_cpus.usable_cpus()", PYTHON_CPU_COUNT="7") == 7
    assert counted("cpu_count()", PYTHON_CPU_COUNT="7") == 7
    assert counted("_cpus.usable_cpus()", "-X", "cpu_count=5", PYTHON_CPU_COUNT="7") == 5


def test_counts_of_this_process() -> None:
    import multiprocessing

    import pool

    assert pool.cpu_count() == multiprocessing.cpu_count()
    assert 1 <= _cpus.usable_cpus() <= pool.cpu_count()
