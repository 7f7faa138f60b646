"""The engines of one pool: which are kept, which go, and when no more are made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pool import CannotSend
from pool._faces._engines import LocalEngines

REASON = CannotSend("call", "generator", "it can only be inherited")


class Engine:
    """What `Engines` know of an engine."""

    usable = True
    foreign = False

    def __init__(self, happening: Callable[[], object]) -> None:
        self.driver = SimpleNamespace(outstanding=False, ended=False)
        self.lazies: list[object] = []
        self.claims: set[int] = set()
        self.inherited = 1
        self.ends: list[str] = []
        self._happening = happening

    def dispose(self) -> None:
        self._happening()
        self.ends.append("disposed")

    def close(self) -> None:
        self.ends.append("closed")


class Table:
    """Engines that are made of nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LocalEngines, "_new", lambda engines, method: self._new())
        #: What happens while an engine is made, and while one is disposed of.
        self.making: Callable[[], object] = lambda: None
        self.disposing: Callable[[], object] = lambda: None
        self.made: list[Engine] = []
        self.engines = LocalEngines(1, None, (), None, None, None, 0)
        self.engines.start()

    def _new(self) -> Engine:
        self.making()
        self.made.append(Engine(lambda: self.disposing()))
        return self.made[-1]

    def inheriting(self) -> Any:
        return self.engines.inheriting(REASON)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    return Table(monkeypatch)


def in_thread(action: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(action()))
    thread.start()
    thread.join()
    return found[0]


def test_an_engine_is_kept_for_the_thread_that_is_about_to_use_it(table: Table) -> None:
    first = in_thread(table.inheriting)
    second = table.inheriting()
    assert first.ends == []
    first.claims.clear()  # by its job, which is over
    in_thread(table.inheriting)
    assert first.ends == ["disposed"]
    assert second.ends == []


def test_an_engine_goes_whose_thread_did_not_use_it(table: Table) -> None:
    first = table.inheriting()
    table.inheriting()
    assert first.ends == ["disposed"]


def test_an_engine_on_shared_memory_is_kept_for_the_thread_that_is_about_to_use_it(
    table: Table,
) -> None:
    main: Any = table.engines.main
    first = in_thread(lambda: table.engines.sharing(main, 2))
    first.inherited = 2
    assert in_thread(lambda: table.engines.sharing(main, 2)) is first
    assert first.ends == []
    assert table.engines.sharing(main, 3) is not first  # in this thread: numbers of others recur
    table.inheriting()
    assert first.ends == []


def test_an_engine_on_shared_memory_goes_when_another_has_more(table: Table) -> None:
    main: Any = table.engines.main
    for number in range(2, 5):
        found: Any = table.engines.sharing(main, number)
        found.inherited = number
        found.claims.clear()  # by its job, which is over
    *before, last = table.made[1:]
    assert [engine.ends for engine in before] == [["disposed"]] * 2
    assert last.ends == []
    assert table.engines.all() == [last, main]


def test_an_engine_is_replaced_while_its_callback_makes_a_call(table: Table) -> None:
    main: Any = table.engines.main
    main.usable = False
    callback = threading.Thread(target=table.engines.current, daemon=True)

    def wait_for_who_drives() -> None:
        table.disposing = lambda: None
        callback.start()
        callback.join(60)
        assert not callback.is_alive()

    table.disposing = wait_for_who_drives
    assert table.engines.current() is table.made[-1]
    assert len(table.made) == 2
    assert main.ends == ["disposed", "disposed"]  # by both, which does no harm


def test_an_engine_that_has_nothing_to_do_goes_once(table: Table) -> None:
    first = table.inheriting()
    first.claims.clear()

    def at_the_same_time() -> None:
        table.disposing = lambda: None
        in_thread(table.inheriting)

    table.disposing = at_the_same_time
    table.inheriting()
    assert first.ends == ["disposed"]


@pytest.mark.parametrize("ending", ["close", "finish"])
def test_no_engine_is_made_for_a_pool_that_has_ended(table: Table, ending: str) -> None:
    main: Any = table.engines.main
    getattr(table.engines, ending)()
    with pytest.raises(ValueError, match="not running"):
        table.inheriting()
    with pytest.raises(ValueError, match="not running"):
        table.engines.sharing(main, 2)
    main.usable = False
    with pytest.raises(ValueError, match="not running"):
        table.engines.current()
    assert len(table.made) == 1
    assert main.ends == (["closed"] if ending == "close" else [])


@pytest.mark.parametrize("ending", ["close", "finish"])
def test_a_signal_handler_ends_a_pool_that_makes_an_engine(table: Table, ending: str) -> None:
    table.making = getattr(table.engines, ending)
    with pytest.raises(ValueError, match="not running"):
        table.inheriting()
    _, made = table.made
    assert made.ends == ["disposed"]
    assert made not in table.engines.all()
