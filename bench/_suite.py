"""Run one suite in a process of its own: ``python -m bench._suite NAME OPTIONS-AS-JSON``.

A fresh process for each suite, because what one leaves behind (imported libraries, threads, memory)
would count against whoever forks in the next.
"""

from __future__ import annotations

import json
import sys
import warnings


def main(suite: str, options: str) -> None:
    """Run the rows that were asked for; write one line of JSON for each."""
    from bench import _work
    from bench._figures import to_plain
    from bench._peers import find_peers
    from bench._runner import run_row
    from bench.suites import rows

    # From 3.12 on forking beside threads warns; several peers do it by design.
    warnings.simplefilter("ignore", DeprecationWarning)
    given = json.loads(options)
    peers = find_peers(given["peers"])
    scale = _work.Scale(**given["scale"])
    for row in rows(suite):
        if scale.has(row, given["only"]):
            print(json.dumps(to_plain(run_row(row, peers, scale))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
