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
        "        config.pluginmanager.register(First(config))\n"
        "class First:\n"
        "    def __init__(self, config):\n"
        "        self.config = config\n"
        "    def pytest_runtest_logreport(self, report):\n"
        "        if not self.config.pluginmanager.has_plugin('quiet'):\n"
        "            # From now on: to start the process may take long.\n"
        "            self.config.pluginmanager.register(Quiet(5.0, 2), 'quiet')\n"
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
    assert "No test has ended for 5 s" in done.err
    assert "in test_that_does_not" in done.err, done
