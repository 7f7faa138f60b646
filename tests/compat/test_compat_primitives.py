"""Check the standard library's shared objects in `initargs`, under every start method."""

from __future__ import annotations

import os
import queue
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import PATIENCE, Flavour
from pooltasks import STATE, set_state_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 60


def add_under(lock_name: str) -> None:
    """Do an unprotected read and write of shared memory under a lock."""
    with STATE[lock_name]:
        STATE["raw"].value += 1


def add_to_value(_: object) -> None:
    """Count in a synchronised value."""
    with STATE["value"].get_lock():
        STATE["value"].value += 1


def fill_array(index: int) -> None:
    """Write where no other task writes."""
    STATE["array"][index] = index * index


def read_array(index: int) -> int:
    """Read from the shared array."""
    return int(STATE["array"][index])


def put_in(name: str, value: Any) -> None:
    """Put the pid and a value into a queue."""
    STATE[name].put((os.getpid(), value))


def take_from(name: str) -> Any:
    """Take a value out of a queue, and say so if it counts."""
    value = STATE[name].get()
    if hasattr(STATE[name], "task_done"):
        STATE[name].task_done()
    return value


def wait_for_event(_: object) -> bool:
    """Set one event and wait for another."""
    STATE["begun"].set()
    return bool(STATE["event"].wait(PATIENCE))


def wait_at_barrier(_: object) -> int:
    """Meet the other task."""
    return int(STATE["barrier"].wait(PATIENCE))


def wait_for_condition(_: object) -> int:
    """Wait until somebody sets the value, and say so first."""
    with STATE["condition"]:
        STATE["begun"].set()
        STATE["condition"].wait_for(lambda: STATE["raw"].value == 5, PATIENCE)
        return int(STATE["raw"].value)


def send_through(text: str) -> None:
    """Write to the inherited end of a pipe."""
    STATE["connection"].send((os.getpid(), text))


def count_in_dict(key: str) -> None:
    """Count in a manager's dict under its lock."""
    with STATE["lock"]:
        STATE["dict"][key] = STATE["dict"].get(key, 0) + 1
        STATE["list"].append(key)


@pytest.mark.this_machine
@pytest.mark.every_method
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_locks_exclude(flavour: Flavour, make_pool: Callable[..., Any], kind: str) -> None:
    space = flavour.namespace
    raw = space.RawValue("i", 0)
    pool = make_pool(2, set_state_pairs, (("lock", getattr(space, kind)()), ("raw", raw)))
    pool.map(add_under, ["lock"] * ROUNDS, 1)
    assert raw.value == ROUNDS


@pytest.mark.this_machine
@pytest.mark.every_method
def test_value_and_array(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    value, array = flavour.namespace.Value("i", 5), flavour.namespace.Array("l", ROUNDS)
    pool = make_pool(2, set_state_pairs, (("value", value), ("array", array)))
    pool.map(add_to_value, range(ROUNDS), 1)
    list(pool.imap(fill_array, range(ROUNDS)))
    assert value.value == 5 + ROUNDS
    assert list(array) == [n * n for n in range(ROUNDS)]
    array[0] = 77
    # Written here, read there: it is one memory.
    assert pool.apply(read_array, (0,)) == 77


@pytest.mark.this_machine
@pytest.mark.every_method
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_queues_carry_both_ways(flavour: Flavour, make_pool: Callable[..., Any], kind: str) -> None:
    there, back = getattr(flavour.namespace, kind)(), getattr(flavour.namespace, kind)()
    pool = make_pool(2, set_state_pairs, (("there", there), ("back", back)))
    for n in range(10):
        there.put(n)
    assert sorted(pool.map(take_from, ["there"] * 10, 1)) == list(range(10))
    pool.starmap(put_in, [("back", n) for n in range(10)], 1)
    got = [back.get() for _ in range(10)]
    assert sorted(value for _, value in got) == list(range(10))
    assert os.getpid() not in {sender for sender, _ in got}
    if kind == "JoinableQueue":
        there.join()
    for made in (there, back):
        made.close()
        if kind != "SimpleQueue":
            made.join_thread()


@pytest.mark.this_machine
@pytest.mark.every_method
def test_events(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    begun, event = flavour.namespace.Event(), flavour.namespace.Event()
    pool = make_pool(1, set_state_pairs, (("begun", begun), ("event", event)))
    result = pool.map_async(wait_for_event, [0])
    assert begun.wait(PATIENCE)
    assert not result.ready()
    event.set()
    assert result.get(PATIENCE) == [True]


@pytest.mark.this_machine
@pytest.mark.every_method
def test_condition_and_barrier(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    space = flavour.namespace
    objects = {
        "condition": space.Condition(),
        "begun": space.Event(),
        "raw": space.RawValue("i", 0),
        "barrier": space.Barrier(2),
    }
    pool = make_pool(2, set_state_pairs, tuple(objects.items()))
    result = pool.apply_async(wait_for_condition, (0,))
    assert objects["begun"].wait(PATIENCE)
    with objects["condition"]:
        objects["raw"].value = 5
        objects["condition"].notify_all()
    assert result.get(PATIENCE) == 5
    assert sorted(pool.map(wait_at_barrier, range(2), 1)) == [0, 1]


@pytest.mark.this_machine
@pytest.mark.every_method
def test_pipe_connections(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    ours, theirs = flavour.namespace.Pipe()
    pool = make_pool(1, set_state_pairs, (("connection", theirs),))
    with ours, theirs:
        pool.apply(send_through, ("hello",))
        assert ours.poll(PATIENCE)
        sender, text = ours.recv()
        assert text == "hello"
        assert sender != os.getpid()


@pytest.mark.every_method
def test_manager_objects(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    with flavour.namespace.Manager() as manager:
        table, items, lock = manager.dict(), manager.list(), manager.Lock()
        pool = make_pool(2, set_state_pairs, (("dict", table), ("list", items), ("lock", lock)))
        pool.map(count_in_dict, list("abab"), 1)
        assert dict(table) == {"a": 2, "b": 2}
        assert sorted(items) == list("aabb")
        pool.terminate()
        pool.join()


def test_manager_objects_as_arguments(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    with flavour.namespace.Manager() as manager:
        channel, table = manager.Queue(), manager.dict()
        pool = make_pool(2)
        pool.starmap(put_item, [(channel, table, n) for n in range(6)], 1)
        assert sorted(channel.get(timeout=PATIENCE) for _ in range(6)) == list(range(6))
        assert dict(table) == {n: n * n for n in range(6)}
        with pytest.raises(queue.Empty):
            channel.get(block=False)
        pool.terminate()
        pool.join()


def put_item(channel: Any, table: Any, n: int) -> None:
    """Use proxies that arrived as arguments."""
    channel.put(n)
    table[n] = n * n


def test_replacement_workers_get_them_too(flavour: Flavour, make_pool: Callable[..., Any]) -> None:
    raw = flavour.namespace.RawValue("i", 0)
    pairs = (("lock", flavour.namespace.Lock()), ("raw", raw))
    pool = make_pool(2, set_state_pairs, pairs, 1)
    pool.map(add_under, ["lock"] * 6, 1)
    assert raw.value == 6
