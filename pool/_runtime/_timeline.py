"""What has run and when, for `timeline`: as the workers saw it.

Workers of tasks note it in the journal, each in its trace (`pool._in_worker._trace`), which is read
when the timeline is asked for, and when the worker has ended. Actors tell it with each result.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque

from pool._clock import perf_counter
from pool._in_worker import _trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._peers import Peer

#: Events of actors, and of workers that have ended, that are kept.
KEPT = 100_000
#: Difference between the numbers of two lanes of one process; larger than any pid.
LANE = 1 << 22


class Timeline:
    """Collect what has run, and show it.

    Parameters
    ----------
    peers : dict
        The workers of tasks that live, by number.
    """

    def __init__(self, peers: dict[int, Peer]) -> None:
        self._peers = peers
        #: ``(pid, category, (name, submitted, begun, finished, failed))``
        self._seen: deque[tuple[int, str, _trace.Entry]] = deque(maxlen=KEPT)

    def called(self, pid: int, entry: _trace.Entry) -> None:
        """Note a call that an actor has answered."""
        self._seen.append((pid, "actor", entry))

    def bury(self, peer: Peer) -> None:
        """Keep what a worker did that has ended, for its page will be another worker's."""
        now = perf_counter()
        for name, submitted, begun, finished, failed in _entries(peer):
            # What it had not finished counts as failed now.
            entry = (name, submitted, begun, finished or now, failed or not finished)
            self._seen.append((peer.pid or 0, "task", entry))

    def as_trace(self) -> list[dict[str, Any]]:
        """Return events of Chrome's tracing, in microseconds; a lane for each worker."""
        seen = list(self._seen)
        for peer in list(self._peers.values()):
            seen += [(peer.pid or 0, "task", entry) for entry in _entries(peer)]
        seen.sort(key=lambda event: event[2][2])
        lanes: defaultdict[int, list[float]] = defaultdict(list)
        now = perf_counter()
        events = [_event(pid, kind, entry, now, lanes[pid]) for pid, kind, entry in seen]
        return [*_titles(lanes), *events]


def _entries(peer: Peer) -> list[_trace.Entry]:
    return [] if peer.slot.trace is None else _trace.entries(peer.slot.trace)


def _event(
    pid: int, kind: str, entry: _trace.Entry, now: float, lanes: list[float]
) -> dict[str, Any]:
    name, submitted, begun, finished, failed = entry
    end = finished or now
    # Calls that an actor runs at the same time are shown in different lanes.
    lane = next((number for number, free in enumerate(lanes) if free <= begun), len(lanes))
    lanes[lane : lane + 1] = [end]
    args = {"submitted": submitted * 1e6, "failed": failed}
    if not finished:
        args["running"] = True
    return {
        "name": name,
        "cat": kind,
        "ph": "X",
        "ts": begun * 1e6,
        "dur": (end - begun) * 1e6,
        "pid": 0,
        "tid": pid + lane * LANE,
        "args": args,
    }


def _titles(lanes: dict[int, list[float]]) -> list[dict[str, Any]]:
    """Return events that name the lanes; the machine is shown in place of a process."""
    node = {"name": f"Node {os.uname().nodename}"}
    titles = [{"name": "process_name", "ph": "M", "pid": 0, "tid": 0, "args": node}]
    for pid, ends in lanes.items():
        for lane in range(len(ends)):
            title = f"worker:{pid}" if not lane else f"worker:{pid} ({lane + 1})"
            tid = pid + lane * LANE
            titles.append(
                {"name": "thread_name", "ph": "M", "pid": 0, "tid": tid, "args": {"name": title}}
            )
    return titles
