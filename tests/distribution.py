"""A run of the tests in several processes ends, whatever happens to one of them.

Files are handed out after a crash as well, and a run in which nothing ends any more is ended.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time

import psutil
import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

# Nothing has ended for so long: more than the longest test may take (`watchdog`).
QUIET_SECONDS = 1500.0
# How long processes may take to write their stacks.
DUMP_SECONDS = 5.0


class Files(LoadFileScheduling):
    """Hand out files, and what is left of one after a crash.

    After a crash, pytest-xdist hands out the files of the process that is gone as they are. One
    that was done already has nothing in it to run; so the process that gets it never reports
    anything, is handed nothing more, and is waited for without end. So is one that gets a single
    test then: it runs a test once it knows which is the next. And the test that crashed is run
    again, where the next process crashes.
    """

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back the files of a process; return the test in which it has crashed, if any."""
        files = self.assigned_work.pop(node)
        left = {
            file: {test: False for test, done in tests.items() if not done}
            for file, tests in files.items()
            if not all(tests.values())
        }
        if not left:
            return None
        first = next(iter(left))
        crashed = next(iter(left[first]))
        del left[first][crashed]
        self.workqueue.update((file, tests) for file, tests in left.items() if tests)
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        super()._reschedule(node)
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)  # or tells it that there is no more


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Files | None:
    """Replace the scheduler of ``--dist loadfile``."""
    return Files(config, log) if config.getoption("dist") == "loadfile" else None


class Quiet:
    """End a run in several processes in which nothing ends any more, with the stacks of all.

    What watches over a test in its process does not see a process that waits for the next one.

    Parameters
    ----------
    seconds : float
    stderr : int
        Descriptor.
    """

    def __init__(self, seconds: float, stderr: int) -> None:
        self._seconds = seconds
        self._stderr = stderr
        self._last = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="quiet", daemon=True)
        self._thread.start()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a part of a test has ended."""
        self._last = time.monotonic()

    def pytest_unconfigure(self) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while (left := self._last + self._seconds - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        said = f"\nNo test has ended for {self._seconds:.0f} s, so this run is ended.\n"
        os.write(self._stderr, said.encode())
        processes = psutil.Process().children(recursive=True)
        for process in processes:
            try:
                os.write(self._stderr, f"{process}\n".encode())
                process.send_signal(signal.SIGABRT)  # at which Python writes its stacks
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=DUMP_SECONDS)
        faulthandler.dump_traceback(self._stderr)
        os._exit(1)
