"""Tasks that use the pool in which they run."""

from __future__ import annotations

import _socket
import os
from typing import TYPE_CHECKING, Any

import pytest
from pooltasks import HereOnly, hold, pass_gate, square

from pool import TaskCancelled
from pool._local import _crew
from pool._transport._channel import Channel
from pool._transport._journal import JournalFile
from pool._transport._messages import BLOCKED

if TYPE_CHECKING:
    from collections.abc import Callable

    from poolkit import Gate

pytestmark = pytest.mark.ours_only


def look(pool: Any) -> tuple[Any, list[Any], int]:
    """Look at a pool as a program does that shows what it is doing."""
    return pool.apply(square, (5,)), pool._pool, pool.stats()["jobs"]


def test_a_task_may_look_at_the_pool_that_it_runs_in(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    # Its workers are known in the program only.
    assert pool.apply(look, (pool,)) == (25, [], 0)


def call_inside(pool: Any, path: str) -> Any:
    """Wait for another task of the pool that this one runs in."""
    return pool.apply(hold, (path, 7))


def test_a_fork_of_the_program_leaves_nested_calls_alone(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    pool = make_pool(2)
    result = pool.apply_async(call_inside, (pool, gate.path))
    gate.entered()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    gate.release()
    assert result.get() == 7


def descend(pool: Any, depth: int) -> int:
    """Call itself in the pool that it runs in, so many times."""
    return 1 + pool.apply(descend, (pool, depth - 1)) if depth else 0


def test_nesting_is_deeper_than_there_are_pages_at_first(
    make_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_crew, "JournalFile", lambda slots, traced: JournalFile(2, traced))
    pool = make_pool(1)
    assert pool.apply(descend, (pool, 6)) == 6


def test_a_pool_is_given_more_workers_than_there_are_pages_at_first(
    make_pool: Callable[..., Any], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_crew, "JournalFile", lambda slots, traced: JournalFile(2, traced))
    pool = make_pool(1)
    pool._processes = 5
    pool._repopulate_pool()
    result = pool.map_async(hold, [gate.path] * 5, 1)
    assert len({gate.entered() for _ in range(5)}) == 5
    gate.release(5)
    assert result.get() == [None] * 5


def call_after_gate(pool: Any, path: str) -> Any:
    """Call the pool; pass the gate when the program was told that this task waits."""
    send = Channel.send

    def send_and_pass(channel: Any, head: Any, *more: Any, **options: Any) -> None:
        send(channel, head, *more, **options)
        if head == (BLOCKED,):
            pass_gate(path)

    Channel.send = send_and_pass  # type: ignore[method-assign]  # put back below
    try:
        return pool.apply(square, (5,))
    finally:
        Channel.send = send  # type: ignore[method-assign]  # as above


def test_a_task_that_is_cancelled_as_it_begins_to_wait_goes_on_to_be_used(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    pool = make_pool(1)
    cancelled = pool.apply_async(call_after_gate, (pool, gate.path))
    gate.entered()
    assert cancelled.cancel()
    gate.release()
    with pytest.raises(TaskCancelled):
        cancelled.get()
    while "blocked" in {each.state for each in pool._pool}:
        assert pool.apply(square, (3,)) == 9


def call_for_what_stays(pool: Any) -> str:
    """Call for a result that the program cannot hand on."""
    try:
        pool.apply(HereOnly)
    except SystemExit as error:
        return str(error)
    return "it has come"


def test_a_result_that_ends_who_hands_it_on_fails_alone(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    engine = pool._engine
    assert pool.apply(call_for_what_stays, (pool,)) == "not here"
    assert pool._engine is engine


def call_after_a_loss(pool: Any) -> Any:
    """Call once more when the program has let go of its end of the connection."""
    engine = pool._engine
    engine.driver.channel.socket.shutdown(_socket.SHUT_RDWR)
    with pytest.raises(ConnectionError):
        engine.wait(lambda: False)
    return pool.apply(square, (4,))


def test_a_connection_that_was_lost_in_a_wait_is_made_anew(make_pool: Callable[..., Any]) -> None:
    pool = make_pool(2)
    assert pool.apply(call_after_a_loss, (pool,)) == 16


def cancel_each_kind(pool: Any, path: str) -> list[str]:
    """Cancel calls of the pool that this task runs in; return how each one ended."""
    call = pool.apply_async(hold, (path,))
    mapped = pool.map_async(hold, [path], 1)
    lazy = pool.imap(hold, [path])
    ends = []
    for cancelled, outcome in ((call, call.get), (mapped, mapped.get), (lazy, lazy.next)):
        assert cancelled.cancel()
        assert not cancelled.cancel()
        with pytest.raises(TaskCancelled) as caught:
            outcome()
        ends.append(str(caught.value))
    return ends


def test_a_task_may_cancel_what_it_has_called(make_pool: Callable[..., Any], gate: Gate) -> None:
    pool = make_pool(2)
    ends = pool.apply(cancel_each_kind, (pool, gate.path))
    name = "pooltasks.hold"
    assert ends == [f"{it}({name}) was cancelled" for it in ("apply_async", "map_async", "imap")]
    while pool.stats()["jobs"]:
        assert pool.apply(square, (3,)) == 9


def be_interrupted(pool: Any, path: str) -> int:
    """Be interrupted in a call of this task's pool; return how many calls go on."""
    engine = pool._engine

    def wait(*args: Any) -> bool:
        raise KeyboardInterrupt

    engine.wait = wait
    try:
        pool.map(hold, [path] * 3, 1)
    except KeyboardInterrupt:
        return len(engine.driver.jobs)
    finally:
        del engine.wait
    return -1


def test_what_an_interrupted_task_has_called_is_cancelled(
    make_pool: Callable[..., Any], gate: Gate
) -> None:
    pool = make_pool(2)
    assert pool.apply(be_interrupted, (pool, gate.path)) == 0
    while pool.stats()["jobs"]:
        assert pool.apply(square, (3,)) == 9
