"""Where memory, disk, address space, file sizes or descriptors are short."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAD = """
import os, resource, sys
import numpy as np
import store
from pool import Pool

def limit(name, value):
    which = getattr(resource, name)
    resource.setrlimit(which, (value, value))

def double(array):
    return array * 2

def work(count=400_000, items=6):
    arrays = [np.full(count, float(n)) for n in range(items)]
    with Pool(2) as p:
        for _ in range(3):
            results = p.map(double, arrays, 1)
            for n, result in enumerate(results):
                assert (result == 2 * n).all() and len(result) == count
                result += 1
            assert all((a == n).all() for n, a in enumerate(arrays))
    p.join()
    return "right"
"""


def run(body: str, **environ: str) -> str:
    """Run a program; it must end in good order, SIGBUS being none."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", HEAD + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=150,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


MODES = ["memfd+huge", "memfd", "tmpfile", "frames"]


@pytest.mark.parametrize("mode", MODES)
def test_little_address_space(mode: str) -> None:
    # Enough for numpy and the arrays, not for segments of 64 MB in every process.
    body = """
        have = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit("RLIMIT_AS", have + (260 << 20))
        print(work(100_000))
    """
    assert run(body, POOL_STORE=mode) == "right"


@pytest.mark.parametrize("mode", MODES)
def test_small_files_only(mode: str) -> None:
    body = """
        limit("RLIMIT_FSIZE", 8 << 20)
        print(work())
    """
    assert run(body, POOL_STORE=mode) == "right"


@pytest.mark.parametrize("mode", MODES)
def test_few_descriptors(mode: str) -> None:
    body = """
        limit("RLIMIT_NOFILE", 40)
        print(work())
    """
    assert run(body, POOL_STORE=mode) == "right"


@pytest.mark.parametrize("mode", ["memfd+huge", "tmpfile"])
def test_results_of_many_workers_that_have_ended(mode: str) -> None:
    body = """
        from store import _readers

        limit("RLIMIT_NOFILE", 56)
        with Pool(2, maxtasksperchild=1) as p:
            results = p.map(double, [np.full(25_000, float(n)) for n in range(50)], 1)
            p.close()
            p.join()
        assert all((result == 2 * n).all() for n, result in enumerate(results))
        taken = sum(os.fstat(reader.fd).st_blocks * 512 for reader in _readers.readers.values())
        assert taken < 3 * sum(result.nbytes for result in results), taken
        print(len(_readers.orphans) <= 10, len(os.listdir("/proc/self/fd")) < 45)
    """
    assert run(body, POOL_STORE=mode) == "True True"


def test_over_the_budget_objects_go_to_disk(tmp_path: Path) -> None:
    body = """
        refs = [store.put(np.full(1_000_000, float(n))) for n in range(12)]
        stats = store.stats()
        assert stats["resident"] <= 20 << 20, stats
        assert stats["spilled"] >= 70_000_000, stats
        assert all((store.get(ref) == n).all() for n, ref in enumerate(refs))
        with Pool(2) as p:
            assert p.map(double, refs)[3][0] == 6
        del refs
        assert store.stats()["spilled"] == 0
        print(work(), os.listdir(os.environ["POOL_STORE_SPILL"]))
    """
    spill = {"POOL_STORE_MAX": "20M", "POOL_STORE_SPILL": str(tmp_path)}
    assert run(body, **spill) == "right []"


def test_without_a_place_to_spill_to_it_says_so() -> None:
    body = """
        kept = []
        try:
            for n in range(12):
                kept.append(store.empty(1_000_000))
        except store.StoreFull as error:
            assert isinstance(error, MemoryError)
            print(len(kept), error)
        for put in (store.put, store.share):
            try:
                put(np.zeros(1_000_000))
            except store.StoreFull:
                print("full")
        kept.clear()
        store.empty(1_000_000)
        # Pools go on, without the store.
        print(work())
    """
    text = run(body, POOL_STORE_MAX="20M", POOL_STORE_SPILL="off").splitlines()
    assert text[0].startswith("2 no room for an object of 8 MB: 16 MB of at most")
    assert "POOL_STORE_MAX" in text[0] and "POOL_STORE_SPILL" in text[0]
    assert text[1:] == ["full", "full", "right"]


def test_a_full_disk_is_an_exception(tmp_path: Path) -> None:
    body = """
        limit("RLIMIT_FSIZE", 4 << 20)
        try:
            store.empty(1_000_000)
        except store.StoreFull as error:
            print("full", error.nbytes)
    """
    spill = {"POOL_STORE_MAX": "1M", "POOL_STORE_SPILL": str(tmp_path)}
    assert run(body, **spill) == "full 8000000"


@pytest.mark.parametrize("mode", ["memfd+huge", "tmpfile"])
def test_without_address_space_for_an_array_the_store_is_full(mode: str) -> None:
    body = """
        store.put(np.ones(100_000))
        have = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit("RLIMIT_AS", have + (20 << 20))
        try:
            store.empty(5_000_000)
        except store.StoreFull as error:
            print("full", error.nbytes, type(error.__cause__))
        print(store.stats()["live"])
    """
    assert run(body, POOL_STORE=mode) == "full 40000000 <class 'OSError'>\n0"


def test_wrong_settings_are_explained() -> None:
    body = """
        for name, value in (("POOL_STORE", "plasma"), ("POOL_STORE_MAX", "a lot")):
            os.environ[name] = value
            try:
                store.put(np.zeros(100_000))
            except ValueError as error:
                print(error)
            del os.environ[name]
    """
    text = run(body)
    assert "POOL_STORE='plasma' is not a mode" in text and "POOL_STORE_MAX='a lot'" in text
