"""The same rows under pytest-benchmark: ``python -m pytest bench/test_pools.py --benchmark-only``.

For its statistics, its comparison between commits and its histograms. The ratios in README come
from ``python -m bench``, where contenders take turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench._peers import USUAL, find_peers
from bench._runner import limited
from bench._work import Scale, Unsupported
from bench.suites import NAMES, rows

if TYPE_CHECKING:
    from bench._peers import Peer
    from bench._work import Row

pytest.importorskip("pytest_benchmark")

# A tenth of the items: this is for profiles and comparisons, not for the table.
SCALE = Scale(items=0.1)
TIMED = [row for suite in NAMES for row in rows(suite) if row.unit == "s"]


@pytest.mark.parametrize("peer", find_peers(USUAL), ids=lambda peer: peer.name)
@pytest.mark.parametrize("row", TIMED, ids=lambda row: row.key)
def test_row(row: Row, peer: Peer, benchmark: Any) -> None:
    if row.peers and peer.name not in row.peers:
        pytest.skip("not among this row's contenders")
    benchmark.group = row.key
    with limited(60):
        try:
            with row.work(peer, SCALE) as work:
                outcome = benchmark.pedantic(work.run, rounds=3, warmup_rounds=1)
                if work.check is not None:
                    work.check(outcome)
        except Unsupported as reason:
            pytest.skip(str(reason) or "has no such method")
