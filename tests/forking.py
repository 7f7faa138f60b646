"""Run functions in children of a fork, out of which nothing of the test run comes back."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def fork(action: Callable[[], object]) -> int:
    """Start a child that runs a function, which raises if something is wrong; return its pid."""
    child = os.fork()
    if not child:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Whatever happens: else the child would go on with the tests.
            os._exit(status)
    return child


def ended_well(child: int) -> bool:
    """Wait for a child; tell whether what it ran raised nothing."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run_in_fork(action: Callable[[], object]) -> None:
    """Run a function in a child, and fail if it fails there."""
    assert ended_well(fork(action))
