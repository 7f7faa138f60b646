"""The clocks by which pools wait, whatever a test has put in their place.

Tools that freeze or travel in time for tests replace `time.monotonic` and its like in each module
that has imported them. By a clock that stands, or differs from the one by which a deadline was
reckoned, no time limit would ever be over. These are other objects than those in `time`, so they
are not found; and where this module is imported when the clocks have been replaced already, it asks
the system.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _real(clock: Callable[[], float]) -> Callable[[], float]:
    if type(clock).__name__ == "builtin_function_or_method":
        # The same function in another object: 10 ns slower, half as much as the call below.
        call: Callable[[], float] = clock.__call__  # type: ignore[operator]  # mypy knows none
        return call
    return lambda: time.clock_gettime(time.CLOCK_MONOTONIC)


#: On Linux both read the same clock, which all processes have in common.
monotonic = _real(time.monotonic)
perf_counter = _real(time.perf_counter)
