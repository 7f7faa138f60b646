"""The messages that README's troubleshooting quotes: each is what a program really gets to see."""

from __future__ import annotations

import gc
import importlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pool import Pool, _memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
HEADING = re.compile(r"^## (?:Troubleshooting|문제 해결).*$", re.MULTILINE)


def quotes(document: str) -> list[str]:
    """Return the first column of the table, without its backticks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    heading = HEADING.search(text)
    assert heading is not None
    rows = text[heading.end() :].split("\n## ")[0].strip().splitlines()[2:]
    return [row.split("|")[1].strip().replace("`", "") for row in rows]


@pytest.fixture
def pool() -> Iterator[Any]:
    with Pool(2) as made:
        yield made
    made.join()


class Model:
    def __init__(self) -> None:
        self.handle = sqlite3.connect(":memory:")


class Analyzer:
    def __init__(self) -> None:
        self.model = Model()


def send_a_handle(pool: Any, folder: Path) -> None:
    analyzer = Analyzer()
    try:
        pool.map(str, [1, analyzer], 1)
    finally:
        analyzer.model.handle.close()


class Asks:
    """Uses the pool while it is pickled."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.pool.map(abs, [-1]),)


def take_memory(nbytes: int) -> None:
    block = bytearray(b"x") * nbytes
    signal.pause()
    del block


def run_out_of_memory(pool: Any, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOL_MEMORY_LIMIT", str(_memory.resident("self") + (128 << 20)))
        with Pool(1) as limited:
            try:
                limited.apply(take_memory, (256 << 20,))
            finally:
                limited.terminate()
                limited.join()


def use_after_end(pool: Any, folder: Path) -> None:
    pool.terminate()
    pool.map(abs, [1])


def forget(pool: Any, folder: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Pool(1)
        gc.collect()
    raise next(each.message for each in caught if each.category is ResourceWarning)  # type: ignore[misc]  # a message, shown as an error


def shadow_store(pool: Any, folder: Path) -> None:
    shadow("store", folder)


def shadow_pool(pool: Any, folder: Path) -> None:
    shadow("pool", folder)


def shadow(name: str, folder: Path) -> None:
    (folder / f"{name}.py").write_text("", encoding="utf-8")
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", "from pool import Pool"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=150,
    )
    name, _, message = done.stderr.strip().splitlines()[-1].partition(": ")
    assert name == "ImportError"
    raise ImportError(message)


def import_late(pool: Any, folder: Path) -> None:
    (folder / "found_too_late.py").write_text("def f(x):\n    return x\n", encoding="utf-8")
    sys.path.append(str(folder))
    try:
        pool.map(importlib.import_module("found_too_late").f, [1])
    finally:
        sys.path.remove(str(folder))
        del sys.modules["found_too_late"]


#: In the order of the table.
CAUSES: list[Callable[[Any, Path], object]] = [
    run_out_of_memory,
    lambda pool, _: pool.apply(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    lambda pool, _: pool.apply(lambda: os.kill(os.getpid(), signal.SIGSEGV)),
    lambda pool, _: pool.apply(os._exit, (3,)),
    send_a_handle,
    lambda pool, _: pool.apply(lambda: (number for number in range(3))),
    lambda pool, _: pool.map(time.sleep, [60], timeout=0.1),
    lambda pool, _: pool.apply_async(time.sleep, (60,)).get(timeout=0.01),
    use_after_end,
    lambda pool, _: pool.map(str, [Asks(pool)]),
    lambda pool, _: pool.map(abs, [1], chunk_size=2),
    shadow_store,
    shadow_pool,
    forget,
    import_late,
]


def pattern(quote: str) -> str:
    """Return what matches a quote: "..." stands for anything, and so do numbers."""
    parts = [re.escape(part) for part in quote.partition(" in a worker")[0].split("...")]
    return re.sub(r"\d+", r"[\\d.]+", ".*".join(parts))


@pytest.mark.parametrize("number", range(len(CAUSES)))
def test_each_message_is_what_one_gets(number: int, pool: Any, tmp_path: Path) -> None:
    name, _, message = quotes("README.md")[number].partition(": ")
    with pytest.raises(Exception) as caught:  # which one it is, README says
        CAUSES[number](pool, tmp_path)
    assert caught.type.__name__ == name.split()[0]
    assert re.search(pattern(message), str(caught.value))


def test_there_is_a_cause_for_each_quote() -> None:
    assert len(quotes("README.md")) == len(CAUSES)
