"""Lines that only tasks run are measured by coverage.py, as with the standard's pool."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("coverage")

MODULE = """
def work(n):
    if n > 2:
        return 1
    return 0
"""
PROGRAM = """
import sys
import {library} as multiprocessing
from measured import work

def own(n):
    if n:
        return work(n)
    return 5

if __name__ == "__main__":
    if {method!r}:
        multiprocessing.set_start_method({method!r})
    with multiprocessing.Pool(2) as pool:
        pool.map(own, range(6))
        pool.close()
        pool.join()
"""
MEASURE = """
import json, subprocess, sys

def coverage(*arguments):
    subprocess.run([sys.executable, "-m", "coverage", *arguments], check=True)

coverage("run", "measuring.py")
coverage("combine", "--quiet")
coverage("json", "--quiet", "-o", "found.json")
with open("found.json") as file:
    for name, found in sorted(json.load(file)["files"].items()):
        print(name, found["missing_lines"])
"""


@pytest.mark.parametrize(
    ("library", "method"),
    [
        ("multiprocessing", "fork"),
        ("pool", ""),
        ("pool", "fork"),
        ("pool", "spawn"),
        ("pool", "forkserver"),
    ],
)
@pytest.mark.parametrize("settings", ["", "branch = true"], ids=["lines", "branches"])
def test_lines_of_tasks(library: str, method: str, settings: str, tmp_path: Path) -> None:
    source = PROGRAM.format(library=library, method=method)
    (tmp_path / "measuring.py").write_text(source, encoding="utf-8")
    (tmp_path / "measured.py").write_text(MODULE, encoding="utf-8")
    # Without the warning of a process that ended before it ran a line of the program.
    (tmp_path / ".coveragerc").write_text(
        textwrap.dedent(f"""
        [run]
        concurrency = multiprocessing
        parallel = true
        include = measuring.py, measured.py
        disable_warnings = no-data-collected
        {settings}
        """),
        encoding="utf-8",
    )
    printed = run_program(MEASURE, tmp_path).succeeded()
    assert printed == "measured.py []\nmeasuring.py []\n"
