"""Connections, sockets, locks and tensors that functions hold: every worker has them.

What `multiprocessing` registers for some of these hands a descriptor over once, so each program has
two workers, of which both take part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from poolscripts import run_with as run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize(
    ("library", "method"),
    [("multiprocessing", "fork"), ("pool", ""), ("pool", "fork"), ("pool", "spawn")],
)

#: `meet` returns when one task with an even number and one with an odd number have called it.
MEETING = """
    import functools, os, socket
    import multiprocessing as standard

    os.mkfifo("meeting")
    place = os.path.abspath("meeting")

    def meet(n):
        with open(place, "rw"[n % 2]):
            pass
"""


def test_connection_of_the_main_module(library: str, method: str, tmp_path: Path) -> None:
    body = f"""{MEETING}
    ours, theirs = standard.Pipe()
    near, far = socket.socketpair()

    def tell(n):
        meet(n)
        theirs.send(n)
        far.send(b"%d" % n)

    with Pool(2) as p:
        p.map(tell, [1, 2], 1)
        print(sorted(ours.recv() for _ in range(2)))
        print(sorted(near.recv(1) for _ in range(2)))
    """
    assert run(library, method, body, tmp_path) == "[1, 2]\n[b'1', b'2']\n"


def test_connection_of_a_function(library: str, method: str, tmp_path: Path) -> None:
    body = f"""{MEETING}
    ours, theirs = standard.Pipe()

    class Teller:
        def __init__(self, connection):
            self.connection = connection

        def tell(self, n):
            meet(n)
            self.connection.send(n)

    def tell(connection, n):
        meet(n)
        connection.send(n)

    with Pool(2) as p:
        p.map(functools.partial(tell, theirs), [1, 2], 1)
        p.map(Teller(theirs).tell, [3, 4], 1)
        print(sorted(ours.recv() for _ in range(4)))
    """
    assert run(library, method, body, tmp_path) == "[1, 2, 3, 4]\n"


def test_connection_for_the_initializer(library: str, method: str, tmp_path: Path) -> None:
    body = f"""{MEETING}
    ours, theirs = standard.Pipe()

    def start(connection):
        global kept
        kept = connection

    def tell(n):
        meet(n)
        kept.send(n)

    with Pool(2, start, (theirs,)) as p:
        p.map(tell, [1, 2], 1)
        print(sorted(ours.recv() for _ in range(2)))
    """
    assert run(library, method, body, tmp_path) == "[1, 2]\n"


def test_calls_with_connections_leave_no_descriptors(
    library: str, method: str, tmp_path: Path
) -> None:
    body = """
    import os
    import multiprocessing as standard

    ours, theirs = standard.Pipe()

    def fileno(connection, *_):
        return connection.fileno() > 2

    def opened():
        return len(os.listdir("/proc/self/fd"))

    with Pool(1) as p:
        before = opened()
        for _ in range(50):
            assert p.map(fileno, [theirs]) == p.starmap(fileno, [(theirs, 0)]) == [True]
            assert p.apply(fileno, (theirs,)) and p.apply_async(fileno, (theirs,)).get()
        # The thread that hands them over closes the latest just now.
        print(opened() - before < 10)
    """
    assert run(library, method, body, tmp_path) == "True\n"


def test_locks_and_values_of_the_main_module(library: str, method: str, tmp_path: Path) -> None:
    """Their workers are forked once, not for each call."""
    body = f"""{MEETING}
    lock, counter, raw = standard.Lock(), standard.Value("i", 0), standard.RawArray("i", 1)
    queue = standard.SimpleQueue()

    def count(n):
        meet(n)
        with lock:
            counter.value += 1
            raw[0] += n
            queue.put(n)
        return os.getpid()

    with Pool(2) as p:
        pids = p.map(count, [1, 2], 1)
        for _ in range(3):
            pids += [each.get() for each in [p.apply_async(count, (n,)) for n in range(2)]]
            pids += p.map(lambda n: count(n), [1, 2], 1)
        print(counter.value, raw[0], len([queue.get() for _ in range(14)]), len(set(pids)))
    """
    if library == "multiprocessing":
        body = body.replace("lambda n: count(n)", "count")
    assert run(library, method, body, tmp_path) == "14 15 14 2\n"


def test_lock_of_a_closure(library: str, method: str, tmp_path: Path) -> None:
    if library == "multiprocessing":
        pytest.skip("cannot send closures")
    body = f"""{MEETING}
    def counted(p):
        lock, counter = standard.Lock(), standard.Value("i", 0)

        def count(n):
            meet(n)
            with lock:
                counter.value += n
            return os.getpid()

        pids = [pid for _ in range(3) for pid in p.map(count, [1, 2], 1)]
        return counter.value, len(set(pids))

    with Pool(2) as p:
        value, workers = counted(p)
        print(value, {method!r} == "fork" or workers)
    """
    assert run(library, method, body, tmp_path) in ("9 2\n", "9 True\n")


def test_tensors_of_a_function(library: str, method: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    body = f"""{MEETING}
    import torch

    model = torch.nn.Linear(3, 1)
    ones = torch.ones(3)

    class Weighing:
        def __init__(self):
            self.weights = torch.arange(3.0)

        def weigh(self, n):
            meet(n)
            return float(self.weights.sum()) + n

    def run(n):
        meet(n)
        with torch.no_grad():
            return float(model(ones)) == expected

    def add(weights, n):
        meet(n)
        return float(weights.sum()) + n

    def start(weights):
        global given
        given = weights

    def use_given(n):
        return add(given, n)

    with torch.no_grad():
        expected = float(model(ones))
    with Pool(2, start, (torch.zeros(3),)) as p:
        print(p.map(run, [0, 1], 1))
        print(p.map(Weighing().weigh, [0, 1], 1))
        print(p.map(functools.partial(add, ones), [0, 1], 1))
        print(p.map(use_given, [0, 1], 1))
        print([type(each).__name__ for each in p.map(torch.nn.Parameter, [ones, ones], 1)])
    """
    expected = "[True, True]\n[3.0, 4.0]\n[3.0, 4.0]\n[0.0, 1.0]\n['Parameter', 'Parameter']\n"
    assert run(library, method, body, tmp_path) == expected


def test_model_that_the_program_shares(library: str, method: str, tmp_path: Path) -> None:
    """What tasks write there, the program sees, and each other task."""
    pytest.importorskip("torch")
    body = f"""{MEETING}
    import torch

    shared = torch.zeros(2).share_memory_()
    model = torch.nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.zero_()
    model.share_memory()
    lock = standard.Lock()

    def train(n):
        meet(n)
        shared[n] += 1
        with torch.no_grad(), lock:
            model.weight.add_(1)
        meet(n)
        return model.weight.item()

    with Pool(2) as p:
        print(p.map(train, [0, 1], 1), p.map(train, [0, 1], 1))
    print(shared.tolist(), model.weight.item())
    """
    expected = "[2.0, 2.0] [4.0, 4.0]\n[2.0, 2.0] 4.0\n"
    assert run(library, method, body, tmp_path) == expected
