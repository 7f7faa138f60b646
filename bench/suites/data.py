"""Large arguments and results: arrays, frames, and objects whose methods are mapped."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench import tasks
from bench._work import Row, Unsupported, Work, WrongResult, expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench._peers import Peer
    from bench._work import Scale


@contextmanager
def arrays(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Send sixteen arrays of 8 MB and get as many back."""
    import numpy as np

    items = [np.full(scale.count(1_000_000), number, dtype="f8") for number in range(16)]
    with peer.open(2) as session:
        session.map_single(tasks.double, items[:2])

        def check(result: list[Any]) -> None:
            if not all(np.array_equal(a * 2, b) for a, b in zip(items, result, strict=True)):
                raise WrongResult("an array came back wrong")

        yield Work(lambda: session.map_single(tasks.double, items), check)


@contextmanager
def frames(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Send eight frames of 100 000 rows and get them back with two columns more."""
    try:
        import numpy as np
        import pandas as pd
    except ImportError:
        raise Unsupported("pandas is not installed") from None
    length = scale.count(100_000)
    random = np.random.default_rng(7)
    items = [
        pd.DataFrame(
            {
                "time": pd.date_range("2024-01-01", periods=length, freq="s"),
                "price": np.cumsum(random.normal(0, 1, length)),
                "volume": random.integers(1, 10_000, length),
            }
        )
        for _ in range(8)
    ]
    wanted = [tasks.enrich(item.copy()) for item in items]
    with peer.open(2) as session:
        session.map_single(tasks.enrich, items[:2])

        def check(result: list[Any]) -> None:
            if not all(a.equals(b) for a, b in zip(wanted, result, strict=True)):
                raise WrongResult("a frame came back wrong")

        yield Work(lambda: session.map_single(tasks.enrich, items), check)


@contextmanager
def bound_method(peer: Peer, scale: Scale) -> Iterator[Work]:
    """Map a method of an object that holds 40 MB: `self.pool.map(self.score, ...)`."""
    import numpy as np

    model = tasks.Model(np.ones((scale.count(50_000), 100)))
    wanted = [float(len(model.weights))] * 100
    with peer.open(2) as session:
        session.map(tasks.increment, range(8))
        yield Work(
            lambda: session.map(model.score, range(100)),
            lambda result: expect(result, wanted),
        )


ROWS = (
    Row("arrays", "16 arrays of 8 MB there and back", arrays, headline=True),
    Row("frames", "8 DataFrames of 100 000 rows there and back, wider", frames),
    Row("method", "`map` of a method whose object holds 40 MB, 100 items", bound_method, long=True),
)
