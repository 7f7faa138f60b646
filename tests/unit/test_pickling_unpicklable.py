"""What no pickler can carry is found at once, however much the object holds beside it."""

from __future__ import annotations

import io
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import Any

import pytest

from pool._pickling import CannotSend, dumps_to_parent, dumps_to_worker
from pool._pickling._unpicklable import unpicklable_part


class Table:
    """Counts how often it is pickled."""

    def __init__(self) -> None:
        self.pickled = 0

    def __reduce__(self) -> tuple[Any, ...]:
        self.pickled += 1
        return Table, ()


class Analyzer:
    def __init__(self, connection: object) -> None:
        self.table = Table()
        self.connection = connection

    def count(self, number: int) -> int:
        return number


class Discreet(Analyzer):
    def __getstate__(self) -> dict[str, Any]:
        return {"table": self.table}


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:")
    yield made
    made.close()


def as_of_main(names: dict[str, Any]) -> Callable[[int], int]:
    """Return a function that uses a global of a module which no worker can import."""
    code = compile("def work(x): return analyzer.count(x)", "<cell>", "exec")
    scope: dict[str, Any] = {"__name__": "of_no_file", **names}
    exec(code, scope)
    made = scope["work"]
    assert type(made) is FunctionType
    return made


@pytest.mark.parametrize("dumps", [dumps_to_worker, dumps_to_parent])
def test_a_table_before_a_connection_is_pickled_once(
    connection: sqlite3.Connection, dumps: Callable[[object], object]
) -> None:
    analyzer = Analyzer({"main": [connection]})
    with pytest.raises(CannotSend, match=r"Analyzer.connection\['main'\]\[0\]: cannot pickle"):
        dumps(analyzer.count)
    assert analyzer.table.pickled == 1


def test_so_it_is_where_a_function_uses_the_object(connection: sqlite3.Connection) -> None:
    analyzer = Analyzer(connection)
    with pytest.raises(CannotSend, match=r"work.<global analyzer>.connection: cannot pickle"):
        dumps_to_worker(as_of_main({"analyzer": analyzer}))
    assert analyzer.table.pickled == 1


def test_what_a_function_may_use_without_naming_it_is_left_out(
    connection: sqlite3.Connection,
) -> None:
    code = "def work(x): return globals()['analyzer'].count(x)"
    scope = {"__name__": "of_no_file_either", "analyzer": Analyzer(None), "other": connection}
    exec(code, scope)
    assert dumps_to_worker(scope["work"]).data


def test_a_connection_in_a_table_is_found_by_pickling_it(connection: sqlite3.Connection) -> None:
    rows = [*range(1000), connection]
    assert unpicklable_part(rows, False) is None
    with pytest.raises(CannotSend, match=r"\[1000\]: Connection: cannot pickle"):
        dumps_to_worker(rows)


def test_the_shortest_way_is_told(connection: sqlite3.Connection) -> None:
    steps = unpicklable_part([[[connection]], {"it": connection}], False)
    assert steps is not None
    assert [name for name, _ in steps] == ["", "[1]", "['it']"]


def test_objects_that_hold_each_other_are_looked_at_once() -> None:
    first, second = Analyzer(None), Analyzer(None)
    first.connection, second.connection = second, first
    assert unpicklable_part([first, second], False) is None


@pytest.mark.parametrize(
    "part", [threading.Lock(), io.StringIO(), print, Analyzer, Table(), ThreadPoolExecutor(1)]
)
def test_what_can_be_sent_is_none(part: object) -> None:
    assert unpicklable_part(Analyzer(part), False) is None


def test_what_a_package_has_is_sent_by_its_name(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Settings", (), {"__module__": "json.decoder"})
    one: Any = kind()
    one.connection = connection
    assert unpicklable_part(one, False) is not None
    monkeypatch.setattr("json.decoder.Settings", kind, raising=False)
    monkeypatch.setattr("json.decoder.settings", one, raising=False)
    assert unpicklable_part(one, False) is None


def test_objects_that_say_what_is_pickled_of_them_are_not_looked_into(
    connection: sqlite3.Connection,
) -> None:
    assert unpicklable_part(Discreet(connection), False) is None
    assert dumps_to_worker(Discreet(connection)).data
