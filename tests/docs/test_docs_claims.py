"""What README says works here and not elsewhere, where no other suite shows it already."""

from __future__ import annotations

import logging
import random
import sqlite3
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pool import CannotSend, Pool, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pool() -> Iterator[Any]:
    with Pool(2) as made:
        yield made
    made.join()


def test_lambdas_and_closures(pool: Any) -> None:
    offset = 7
    assert pool.map(lambda x: x * x + offset, range(4)) == [7, 8, 11, 16]


class Analyzer:
    """Holds what programs hold."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.condition = threading.Condition()
        self.local = threading.local()
        self.log = logging.getLogger("analyzer")
        self.file = path.open(encoding="utf-8")

    def line(self, number: int) -> str:
        with self.lock, self.condition:
            self.log.debug("line %d", number)
            self.file.seek(0)
            return self.file.readlines()[number]


def test_methods_of_objects_with_locks_loggers_and_open_files(pool: Any, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a\nb\nc\n", encoding="utf-8")
    analyzer = Analyzer(path)
    with analyzer.file:
        assert pool.map(analyzer.line, [2, 0, 1]) == ["c\n", "a\n", "b\n"]


class Service:
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def work(self, x: int) -> int:
        return x * 3

    def run(self) -> list[int]:
        return self.pool.map(self.work, range(4))  # type: ignore[no-any-return]  # `pool` is Any

    def nested(self, depth: int) -> int:
        if depth == 0:
            return 1
        return sum(self.pool.map(self.nested, [depth - 1] * 2))


def test_self_pool_map_self_work(pool: Any) -> None:
    assert Service(pool).run() == [0, 3, 6, 9]


def test_tasks_use_the_pool_they_run_in(pool: Any) -> None:
    assert Service(pool).nested(3) == 8


class Database:
    """Cannot be pickled by any means."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)
        self.connection.execute("create table t (x)")
        self.connection.execute("insert into t values (42)")

    def first(self, _: object) -> Any:
        return self.connection.execute("select x from t").fetchone()[0]


def test_what_cannot_be_pickled_is_inherited(pool: Any) -> None:
    database = Database()
    assert pool.map(database.first, range(3)) == [42] * 3
    assert pool.map(type(database).first.__get__(database), [0]) == [42]
    assert pool.apply(lambda held: held.first(None), (database,)) == 42
    assert pool.map(lambda held: held.first(None), [database]) == [42]
    database.connection.close()


class Holder:
    def __init__(self) -> None:
        self.model = type("Model", (), {})()
        self.model.handle = sqlite3.connect(":memory:")


def test_the_error_names_the_way_to_the_culprit(pool: Any) -> None:
    holder = Holder()
    with pytest.raises(CannotSend, match=r"Holder\.model\.handle: cannot pickle .*Connection"):
        pool.map(str, [1, holder], 1)
    holder.model.handle.close()


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("chunksize", [1, 4])
def test_seed_gives_each_item_its_numbers(processes: int, chunksize: int) -> None:
    wanted = [0.37568004997496873, 0.9943242670978414]
    with Pool(processes) as pool:
        drawn = pool.map(lambda _: random.random(), range(8), chunksize, seed=7)
        again = list(pool.imap(lambda _: random.random(), range(8), chunksize, seed=7))
    pool.join()
    assert drawn[:2] == wanted
    assert again == drawn
    assert len(set(drawn)) == 8


def test_notes_name_call_and_item(pool: Any) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(lambda x: 1 / x, [1, 2, 0], 1)
    (note,) = caught.value.__notes__
    assert note.startswith("raised by item 2 of map(")


def test_messages_that_troubleshooting_quotes(pool: Any) -> None:
    with pytest.raises(
        TypeError, match="unexpected keyword argument 'chunk_size'; did you mean 'chunksize'"
    ):
        pool.map(abs, [1], chunk_size=2)
    with pytest.raises(ValueError, match="Chunksize must be 1"):
        pool.map(abs, [1], 0)
    with pytest.raises(WorkerDied, match="exited with code 3"):
        pool.apply(__import__("os")._exit, (3,))
    pool.terminate()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(abs, [1])


def test_an_interpreter_s_own_exit_in_a_task_is_an_error(pool: Any) -> None:
    with pytest.raises(SystemExit):
        pool.map(sys.exit, [3])
    assert pool.map(abs, [-1]) == [1]
