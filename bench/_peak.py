"""One round of the row `broadcast-memory`: ``python -m bench._peak PEER COUNT``."""

from __future__ import annotations

import sys


def main(name: str, count: str) -> None:
    """Print the peak of memory that one contender needs for an array of so many numbers."""
    import numpy  # noqa: F401  # before the pool is made, as in programs that have arrays

    from bench._peers import find_peers
    from bench.suites.store import broadcast_peak

    peer = next(peer for peer in find_peers([name]) if peer.name == name)
    with peer.open(2) as session:
        print(broadcast_peak(session, int(count)))


if __name__ == "__main__":
    main(*sys.argv[1:])
