"""README's first program, as it stands there after the change."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def first_program() -> str:
    """Return what the diff at the top of README leaves."""
    block = re.search(r"^```diff\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert block is not None
    lines = block[1].splitlines()
    return "\n".join(line[2:] for line in lines if not line.startswith("-")) + "\n"


@pytest.mark.parametrize("options", [[], ["-X", "dev"], ["-X", "dev", "-W", "error"], ["-S"]])
def test_it_prints_its_results_and_nothing_else(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(first_program(), encoding="utf-8")
    # What site would add is needed even with -S: the packages that this Python has.
    path = [str(ROOT), *(entry for entry in sys.path if entry.endswith("-packages"))]
    done = subprocess.run(
        [sys.executable, *options, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{[x * x for x in range(10)]}\n"
