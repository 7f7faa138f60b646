"""A run of tests in which nothing ends any more says where it hangs, and ends."""

from __future__ import annotations

from pathlib import Path

import distribution
from poolscripts import python, run_command


def test_a_run_in_which_nothing_ends_is_ended(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from distribution import Quiet\n"
        "def pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'):\n"
        "        config.pluginmanager.register(Quiet(3.0, 2))\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import time\n"
        "def test_that_ends(): pass\n"
        "def test_that_does_not(): time.sleep(1000)\n"
        "def test_that_never_begins(): pass\n"
    )
    folder = str(Path(distribution.__file__).parent)
    command = python("-X", "faulthandler", "-m", "pytest", "-n", "1", str(tmp_path))
    done = run_command(command, tmp_path, {"PYTHONPATH": folder})
    assert done.returncode == 1
    assert "No test has ended for 3 s" in done.err
    assert "in test_that_does_not" in done.err, done
