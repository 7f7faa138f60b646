"""Programs that gevent has patched: what waits there for a pool waits with all greenlets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("gevent")


def test_a_pool_beside_greenlets(tmp_path: Path) -> None:
    program = """
    from gevent import monkey
    monkey.patch_all()

    import gevent
    from pool import Pool

    def square(x):
        return x * x

    large = bytes(3_000_000)  # more than a socket takes at once
    with Pool(2) as p:
        print(p.map(square, range(5)), list(p.imap(square, range(5))))
        print(p.map(len, [large] * 4, chunksize=1))
        greenlets = [gevent.spawn(p.apply, square, (n,)) for n in range(5)]
        gevent.joinall(greenlets)
        print([greenlet.value for greenlet in greenlets])
        handles = [p.apply_async(square, (n,)) for n in range(5)]
        gevent.sleep(0.01)
        print([handle.get() for handle in handles])
        print(gevent.get_hub().threadpool.apply(p.map, (square, range(5))))
    """
    squares = "[0, 1, 4, 9, 16]"
    expected = [f"{squares} {squares}", "[3000000, 3000000, 3000000, 3000000]", *[squares] * 3]
    assert run_program(program, tmp_path).succeeded().splitlines() == expected
