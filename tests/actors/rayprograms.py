"""Programs that use the runtime, run as their users run them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil

import pool


def run_program(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program, without a main guard, in a folder."""
    (folder / "program.py").write_text(textwrap.dedent(source))
    return subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(pool.__file__).parents[1])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def ended(*pids: int) -> bool:
    """Wait until processes have ended, no matter whose children they are."""
    running = []
    for pid in pids:
        try:
            running.append(psutil.Process(pid))
        except psutil.NoSuchProcess:  # ended and reaped a moment ago, or long before
            continue
    return not psutil.wait_procs(running, timeout=30)[1]
