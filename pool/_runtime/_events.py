"""What has run, for `timeline`: the latest tasks and calls, with their times."""

from __future__ import annotations

import os
from collections import deque
from time import perf_counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Events that are kept.
KEPT = 100_000


class Events:
    """Note when calls were made and when they had their outcomes."""

    def __init__(self) -> None:
        self._ended: deque[tuple[str, float, float, int, bool]] = deque(maxlen=KEPT)

    def ended(self, name: str, begun: float, pid: int, failed: bool) -> None:
        """Note the end of a call; `pid` is that of its actor, 0 for a task."""
        self._ended.append((name, begun, perf_counter(), pid, failed))

    def as_trace(self) -> list[dict[str, Any]]:
        """Return events of Chrome's tracing: from the call to its outcome, in microseconds."""
        return [
            {
                "name": name,
                "cat": "actor" if pid else "task",
                "ph": "X",
                "ts": begun * 1e6,
                "dur": (end - begun) * 1e6,
                "pid": os.getpid(),
                "tid": pid,
                "args": {"failed": failed},
            }
            for name, begun, end, pid, failed in list(self._ended)
        ]
