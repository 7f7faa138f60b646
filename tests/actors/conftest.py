"""Give tests a runtime on two CPUs, which is gone after each of them."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pool
import pool.__main__

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the directory of sockets, of this test alone; end what is left there."""
    # Not pytest's, whose names may be too long for sockets.
    with tempfile.TemporaryDirectory(prefix="runtime-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        sockets = Path(folder, "actorpool")
        yield sockets
        pool.__main__.main(["actors", "--end-all"])
        late = time.monotonic() + 30
        # Who is killed by a test removes its socket first, and the directory a moment later.
        while sockets.exists() and time.monotonic() < late:
            time.sleep(0.01)
        assert not sockets.exists()


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Return a function that starts the runtime with arguments of `init`."""

    def init(**given: Any) -> Any:
        pool.init(**given)
        return pool

    yield init
    pool.shutdown()


@pytest.fixture
def ray(start: Callable[..., Any]) -> Any:
    return start(num_cpus=2)
