"""Measuring by coverage.py: workers measure if it is to measure processes of `multiprocessing`.

With ``concurrency = multiprocessing`` coverage.py replaces what such a process runs at its start.
These workers do not start there, so lines that only tasks run would be reported as never run.
"""

from __future__ import annotations

import os
import sys

from ._setting import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Of coverage.py, and loaded with it.
MODULE = "coverage.multiproc"


def _read(module: Any) -> str | None:
    if not hasattr(sys.modules["multiprocessing"], module.PATCHED_MARKER):
        return None
    return os.environ.get("COVERAGE_RCFILE", "")  # has just been set by coverage.py


def _write(module: Any, rcfile: str) -> None:
    from multiprocessing.util import Finalize

    module.patch_multiprocessing(rcfile)  # for processes that tasks start
    measuring = sys.modules["coverage"].Coverage(data_suffix=True, auto_data=True)
    # What the program had imported when the workers were made may have been imported before.
    measuring._warn_preimported_source = False
    measuring.start()

    def save() -> None:
        measuring.stop()
        measuring.save()

    # The last of all finalizers: others run lines of the program.
    Finalize(None, save, exitpriority=-sys.maxsize)


def measure_fork() -> None:
    """Measure in a worker that was forked from the program, if processes are to be measured."""
    module = sys.modules.get(MODULE)
    if module is not None and (rcfile := _read(module)) is not None:
        _write(module, rcfile)


SETTINGS = {MODULE: Setting(MODULE, _read, _write)}
