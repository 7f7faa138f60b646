"""Functions for workers."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from typing import Any

import numpy as np

import store
from pool import get_context


def identity(value: Any) -> Any:
    return value


def total(*values: Any) -> float:
    return float(sum(value.sum() for value in values))


def type_name(value: Any) -> str:
    return type(value).__name__


def overwrite(value: Any) -> int:
    """Write everywhere, and say what was there."""
    before = int(value[0])
    assert (value == before).all()
    value[:] = -1
    return before


def add_in_place(value: Any) -> Any:
    value += 1
    return value


def slice_of(value: Any) -> Any:
    return value[1000:-1000]


def deep_copy(value: Any) -> Any:
    """Return it as an object of this process, built anew."""
    return pickle.loads(pickle.dumps(value))


def full(count: int, value: float) -> Any:
    return np.full(count, value)


def filled(count: int, value: float) -> Any:
    """Build the result in the store."""
    out = store.empty(count)
    out[:] = value
    return out


def divide(value: Any, divisor: int) -> Any:
    return len(value) // divisor


def stay(value: Any, begun: str, item: int) -> None:
    """Tell that this has begun, and do not end unless interrupted."""
    open(begun, "w").close()
    threading.Event().wait()


def put_full(count: int, value: float) -> store.ObjectRef:
    return store.put(np.full(count, value))


kept: list[Any] = []


def keep(value: Any) -> int:
    kept.append(value)
    return os.getpid()


_freed: list[Any] = []


def free(refs: Any) -> None:
    """Free what the references name, and keep them."""
    _freed.extend(refs)
    store.free(refs)


def total_of(refs: Any) -> tuple[float, str]:
    """Read what references name that arrive; say also what those are that were freed."""
    return total(*map(store.get, refs)), " ".join(map(repr, _freed))


def what_was_kept() -> list[Any]:
    return kept


def keep_and_meet(value: Any, fifo: str, mode: str) -> int:
    """Read all of a value and keep it; return the pid when another process has done so."""
    kept[:] = [value]
    assert value.sum() == len(value)
    return meet(fifo, mode)


def meet_if_kept(fifo: str, mode: str, wanted: float) -> int:
    assert check_kept(wanted)
    return meet(fifo, mode)


def get_as(refs: list[store.ObjectRef], copy: str) -> tuple[bool, float, int]:
    """Say what came of a request: writable or not, its sum, and memory of this process's own."""
    before = anonymous_nbytes()
    array = store.get(refs[0], copy=copy)
    total = float(array.sum())
    return array.flags.writeable, total, anonymous_nbytes() - before


def check_kept(wanted: float) -> bool:
    return all((value == wanted).all() for value in kept)


def pid_if_kept(wanted: float) -> int:
    assert check_kept(wanted)
    return os.getpid()


def kept_value() -> Any:
    return kept[0]


def mark_kept(wanted: float) -> bool:
    """Write to what was kept, and say whether it was as it was, or as this process left it."""
    (value,) = kept
    good = value[0] in (wanted, os.getpid()) and bool((value[1:] == wanted).all())
    value[0] = os.getpid()
    return good


def anonymous_nbytes_with_kept() -> int:
    return anonymous_nbytes(*kept)


def refuse(value: Any) -> None:
    value[0] = 1 // int(value[0] - 1)


def die(value: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_leave(value: Any, path: str, closes: bool = False) -> int:
    """Leave a child behind that looks at the argument when the named pipe is opened.

    If it `closes`, it closes what it has inherited before, as daemons do.
    """
    child = os.fork()
    if child:
        return child
    if closes:
        os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    wanted = value.copy()
    with open(path) as gate:
        gate.read()
    with open(path + ".result", "w") as result:
        result.write(str(bool((value == wanted).all())))
    os._exit(0)


def leave_in_a_pool_and_die(value: Any, path: str) -> None:
    """Have a worker of a pool of its own leave such a child, tell its pid, and end by a signal."""
    with get_context("forkserver").Pool(1) as p:
        child = p.apply(fork_and_leave, (value, path, True))
        with open(path + ".pid", "w") as told:
            told.write(str(child))
        die(0)


def numbers(count: int) -> list[float]:
    return [float(number) for number in range(count)]


def hold(gate: str, value: Any) -> None:
    """Wait until somebody writes to the fifo `gate`."""
    with open(gate) as opened:
        opened.read()


class Scorer:
    """An object with data and state, whose method is mapped."""

    def __init__(self, count: int) -> None:
        self.weights = np.ones(count)
        self.calls = 0

    def score(self, item: int) -> tuple[float, int]:
        self.calls += 1
        self.weights[item] = 100.0
        return float(self.weights.sum()), self.calls

    def weight(self, item: int) -> float:
        return float(self.weights[item])


class Framed:
    """An object with a frame, whose method is mapped."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def rows(self, part: Any) -> int:
        return len(self.frame) // len(part)


def anonymous_nbytes(*arrays: Any) -> int:
    """Read all of the arguments; return the bytes of memory that are this process's own."""
    for array in arrays:
        array.sum()
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no such line")


def meet(fifo: str, mode: str) -> int:
    """Return the pid when another process is here too, with the other mode of "r" and "w"."""
    with open(fifo, mode):
        return os.getpid()


def exit_unless(ref: store.ObjectRef, wanted: float) -> None:
    """End with status 0 if the object is an array of that value."""
    array = store.get(ref)
    good = bool((array == wanted).all())
    array[:] = -1
    raise SystemExit(0 if good and (store.get(ref) == wanted).all() else 1)


def tell_of_refs(refs: list[store.ObjectRef], connection: Any) -> None:
    """Send how much memory of its own it takes to read the objects, and their sums."""
    before = anonymous_nbytes()
    arrays = [store.get(ref) for ref in refs]
    sums = [float(array.sum()) for array in arrays]
    connection.send((anonymous_nbytes() - before, sums))


def look_twice(refs: list[store.ObjectRef], connection: Any) -> None:
    """Say whether an object is what it was, now and when told."""
    array = store.get(refs[0])
    wanted = array.copy()
    connection.send(True)
    connection.recv()
    connection.send(bool((array == wanted).all() and (store.get(refs[0]) == wanted).all()))


def fork_with_ref(refs: list[store.ObjectRef], gate: str, connection: Any) -> None:
    connection.send(fork_and_leave(store.get(refs[0]), gate))


def exit_unless_sent_on(ref: store.ObjectRef, wanted: float, method: str) -> None:
    """End with status 0 if the object arrives in the workers of a pool of this process."""
    view = store.get(ref)
    with get_context(method).Pool(1) as p:
        sums = p.map(total, [ref, view, store.share(view)], 1)
        (back,) = p.apply(identity, ([ref],))
    p.join()
    good = sums == [wanted * len(view)] * 3 and bool((store.get(back) == wanted).all())
    raise SystemExit(0 if good else 1)


def exit_unless_received(connection: Any, wanted: float) -> None:
    exit_unless(connection.recv(), wanted)


def look_without_descriptors(ref: store.ObjectRef, connection: Any) -> None:
    """Close all but the connection, as daemons do; say then whether the object is as it was."""
    array = store.get(ref)
    fd = connection.fileno()
    os.closerange(3, fd)
    os.closerange(fd + 1, 256)
    connection.send("ready")
    connection.recv()
    connection.send(bool((array == 3).all()))
