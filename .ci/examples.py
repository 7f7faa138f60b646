"""Run every ``python`` block of the documents named on the command line, each as its own script.

A block is run as a reader would: saved to a file in an empty folder and started, without a main
guard and with nothing added. Blocks of another kind (``pycon``, ``console``, ``text``) are left.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

TIMEOUT = 120
BLOCK = re.compile(r"^```python[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[tuple[int, str]]:
    """Return the first line's number and the text of each block."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start(1)) + 1, m.group(1)) for m in BLOCK.finditer(text)]


def run(source: str) -> str | None:
    """Run one block; return what it printed if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "example.py")
        script.write_text(source, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-X", "faulthandler", script.name],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT,
                text=True,
            )
        except subprocess.TimeoutExpired as late:
            return f"{late.stdout!r}\nstill running after {TIMEOUT} s"
        return None if done.returncode == 0 else f"{done.stdout}\nexit status {done.returncode}"


def main(paths: list[str]) -> int:
    """Run all blocks; return how many failed."""
    failed = count = 0
    for path in map(Path, paths):
        for line, source in blocks(path):
            count += 1
            trouble = run(source)
            if trouble is not None:
                failed += 1
                print(f"--- {path}, line {line}:\n{source}\n--- gave:\n{trouble}")
    print(f"examples: {count - failed} of {count} run")
    return failed if count else 1


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
