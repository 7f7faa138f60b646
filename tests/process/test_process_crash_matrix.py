"""Break each part of a task in each way, and see that it alone fails.

Nothing may hang, the error must say what broke, the other items must come out right, and the pool
must work afterwards. Run on the standard pool as well, where that does not hang.
"""

from __future__ import annotations

import importlib
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from crashtasks import DEADLY, WAYS, Broken, LeavingException, initializer_plan, plan
from poolkit import PATIENCE, Flavour
from pooltasks import square

import pool as actorpool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Public, but not in the type stubs.
standard_pool: Any = importlib.import_module("multiprocessing.pool")

PARTS = ("argument", "function", "result", "exception")
CALLS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    "apply": lambda pool, function, items: [
        pool.apply_async(function, (item,)).get(PATIENCE) for item in items
    ],
    "map": lambda pool, function, items: pool.map_async(function, items, 1).get(PATIENCE),
    "starmap": lambda pool, function, items: pool.starmap_async(
        function, [(item,) for item in items], 1
    ).get(PATIENCE),
    "imap": lambda pool, function, items: take_all(pool.imap(function, items)),
    "imap_unordered": lambda pool, function, items: take_all(pool.imap_unordered(function, items)),
}
# What hangs there: whatever ends a worker, and whatever cannot be unpickled on either side.
STANDARD_SURVIVES = {
    ("argument", "pickle"),
    ("function", "pickle"),
    ("function", "raises"),
    ("result", "pickle"),
    ("result", "raises"),
    ("exception", "pickle"),
    ("exception", "raises"),
}


def take_all(iterator: Any) -> list[Any]:
    """Take everything from an iterator, with the timeout that a hang needs to be seen."""
    values = []
    while True:
        try:
            values.append(iterator.next(timeout=PATIENCE))
        except StopIteration:
            return values


def skip_what_hangs(flavour: Flavour, part: str, how: str) -> None:
    """Skip what the standard pool cannot do."""
    if flavour.standard and (part, how) not in STANDARD_SURVIVES:
        pytest.skip("multiprocessing: never returns")


def is_expected(error: BaseException, part: str, how: str) -> bool:
    """Tell whether an error says what happened to this part."""
    if how in DEADLY:
        return isinstance(error, actorpool.WorkerDied)
    if part in ("argument", "function"):
        if how == "raises":
            return isinstance(error, Broken)
        return isinstance(error, pickle.PicklingError)
    if part == "result":
        return isinstance(error, standard_pool.MaybeEncodingError | pickle.PicklingError | Broken)
    # An exception that cannot travel may also keep its type, if a way round is found.
    return isinstance(error, standard_pool.MaybeEncodingError | LeavingException)


def arrives_by_inheritance(part: str, how: str) -> bool:
    """Tell whether ours may succeed: what cannot be pickled may be inherited by a fork."""
    return part in ("argument", "function") and how == "pickle"


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("part", PARTS)
def test_one_broken_item(
    flavour: Flavour, make_pool: Callable[..., Any], part: str, how: str, method: str
) -> None:
    skip_what_hangs(flavour, part, how)
    pool = make_pool(2)
    function, item = plan(part, how)
    try:
        result = CALLS[method](pool, function, [item])
    except BaseException as error:
        assert is_expected(error, part, how), repr(error)
        if how not in DEADLY:
            assert "broken" in str(error) or "leaving" in str(error)
    else:
        assert arrives_by_inheritance(part, how)
        assert result in (["arrived"], ["called"])
    assert pool.map(square, range(10)) == [n * n for n in range(10)]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("part", ["argument", "result", "exception"])
def test_the_other_items_come_out_right(
    flavour: Flavour, make_pool: Callable[..., Any], part: str, how: str
) -> None:
    skip_what_hangs(flavour, part, how)
    pool = make_pool(2)
    function, item = plan(part, how)
    iterator = pool.imap(function, [0, 1, item, 3, 4, item, 6])
    outcomes: list[Any] = []
    for _ in range(7):
        try:
            outcomes.append(iterator.next(timeout=PATIENCE))
        except Exception as error:
            outcomes.append(error)
    with pytest.raises(StopIteration):
        iterator.next(timeout=PATIENCE)
    assert [n for n in outcomes if isinstance(n, int)] == [0, 1, 3, 4, 6]
    assert outcomes[:2] == [0, 1]
    for broken in (outcomes[2], outcomes[5]):
        if not (arrives_by_inheritance(part, how) and broken == "arrived"):
            assert is_expected(broken, part, how), repr(broken)


@pytest.mark.ours_only
@pytest.mark.parametrize("how", DEADLY)
@pytest.mark.parametrize("method", ["map", "starmap", "map_async", "starmap_async"])
def test_errors_as_values(make_pool: Callable[..., Any], method: str, how: str) -> None:
    pool = make_pool(2)
    function, item = plan("function", how)
    items = [0, 1, item, 3, 4, 5]
    arguments = [(n,) for n in items] if method.startswith("star") else items
    got = getattr(pool, method)(function, arguments, 1, return_exceptions=True)
    if method.endswith("async"):
        got = got.get(PATIENCE)
    assert isinstance(got[2], actorpool.WorkerDied)
    assert got[:2] + got[3:] == [0, 1, 3, 4, 5]


@pytest.mark.ours_only
@pytest.mark.every_method
@pytest.mark.parametrize("how", [*DEADLY, "raises"])
def test_under_every_start_method(make_pool: Callable[..., Any], how: str) -> None:
    pool = make_pool(2)
    function, item = plan("function", how)
    with pytest.raises(Broken if how == "raises" else actorpool.WorkerDied):
        pool.map_async(function, [1, item, 2], 1).get(PATIENCE)
    assert pool.map(square, range(10)) == [n * n for n in range(10)]


@pytest.mark.ours_only
@pytest.mark.parametrize(
    ("how", "exitcode", "words"),
    [("exit", 7, "7"), ("segfault", -11, "SIGSEGV"), ("sigkill", -9, "SIGKILL")],
)
def test_the_error_says_what_happened(
    make_pool: Callable[..., Any], how: str, exitcode: int, words: str
) -> None:
    function, item = plan("function", how)
    with pytest.raises(actorpool.WorkerDied, match=words) as caught:
        make_pool(1).apply(function, (item,))
    assert caught.value.exitcode == exitcode
    assert str(caught.value.pid) in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.exitcode, again.pid, str(again)) == (
        exitcode,
        caught.value.pid,
        str(caught.value),
    )


@pytest.mark.ours_only
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("part", ["argument", "function", "exception"])
def test_broken_initializers(
    make_pool: Callable[..., Any], tmp_path: Path, part: str, how: str
) -> None:
    log = tmp_path / "starts"
    log.touch()
    function, arguments = initializer_plan(part, how, str(log))
    try:
        pool = make_pool(2, function, arguments)
    except Exception as error:
        # What cannot be sent may be refused at once.
        assert how == "pickle"
        assert "broken" in str(error)
        return
    answers = [
        lambda: pool.apply_async(square, (2,)).get(PATIENCE),
        lambda: pool.map_async(square, range(20), 1).get(PATIENCE),
        lambda: pool.imap(square, range(20)).next(PATIENCE),
        lambda: pool.starmap_async(square, [(1,)]).get(PATIENCE),
    ]
    if arrives_by_inheritance(part, how) and try_one(answers[0]) is None:
        assert [try_one(answer) for answer in answers] == [None] * 4
        return
    for answer in answers:
        raised = try_one(answer)
        assert raised is not None
        assert not isinstance(raised, actorpool.TimeoutError)
        if how not in DEADLY:
            assert "broken" in str(raised) or "leaving" in str(raised), repr(raised)
    # No endless respawning: a few attempts at most, whatever was asked since.
    assert len(log.read_text().split()) <= 16


def try_one(call: Callable[[], Any]) -> BaseException | None:
    """Return what a call raises."""
    try:
        call()
    except BaseException as error:
        return error
    return None


@pytest.mark.ours_only
@pytest.mark.every_method
def test_the_initializer_s_own_exception_reaches_every_caller(
    make_pool: Callable[..., Any], tmp_path: Path
) -> None:
    function, arguments = initializer_plan("function", "raises", str(tmp_path / "starts"))
    pool = make_pool(2, function, arguments)
    for call in (
        lambda: pool.apply(square, (2,)),
        lambda: pool.map(square, range(5)),
        lambda: list(pool.imap(square, range(5))),
        lambda: list(pool.imap_unordered(square, range(5))),
        lambda: pool.starmap(square, [(1,)]),
    ):
        with pytest.raises(Broken, match="broken: raises") as caught:
            call()
        assert caught.value.__notes__ == ["raised by the initializer"]
        # It is one error for all of them, and each shows its own way only.
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names.count("<lambda>") == 1, names
    pool.close()
    pool.join()
