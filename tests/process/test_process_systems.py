"""Run pools on systems that lack what newer Linux has: a filter of the kernel plays them.

seccomp lets a process refuse itself, and all that it starts, chosen system calls. So an old kernel,
or a sandbox that forbids calls it does not know, is played to the very end: for the program, its
forkservers and its workers.
"""

from __future__ import annotations

import errno
import platform
import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import finish, orphans_come_here, python, read_line, run_program, start

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = {
    "x86_64": {"memfd_create": 319, "openat": 257, "fcntl": 72, "madvise": 28},
    "aarch64": {"memfd_create": 279, "openat": 56, "fcntl": 25, "madvise": 233},
}.get(platform.machine())

pytestmark = pytest.mark.skipif(NUMBERS is None, reason="numbers of system calls are not known")

COLLAPSE, SETSIG = 25, 10

#: What came with Linux 5 and 6; the numbers are the same everywhere.
PIDFDS = [(424, None, 0), (434, None, 0)]
NEW = [*PIDFDS, (435, None, 0), (436, None, 0), ("madvise", 2, COLLAPSE)]  # clone3, close_range

#: By name: the error, and what it meets: a call, or those calls with a value as one argument.
SYSTEMS = {
    "linux-4.18": (errno.ENOSYS, NEW),
    "linux-3.10": (errno.ENOSYS, [*NEW, ("memfd_create", None, 0)]),
    "forbidding": (errno.EPERM, [*PIDFDS, ("memfd_create", None, 0)]),
    "no-signals-of-files": (errno.EINVAL, [("fcntl", 1, SETSIG)]),
}

HEAD = """
import ctypes, errno, os, signal, struct, sys, threading

def refuse(error, calls):
    # Instructions of the filter: load a word of the call, jump unless it is this, return.
    def step(code, unless, value):
        return struct.pack("HBBI", code, 0, unless, value)
    load, equal, answer = 0x20, 0x15, 0x06
    steps = []
    for number, argument, value in calls:
        steps += [step(load, 0, 0), step(equal, 1 if argument is None else 3, number)]
        if argument is not None:
            steps += [step(load, 0, 16 + 8 * argument), step(equal, 1, value)]
        steps.append(step(answer, 0, 0x50000 | error))
    steps.append(step(answer, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(steps))
    program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    if libc.prctl(22, 2, ctypes.byref(program), 0, 0):
        sys.exit(77)

def refused(action):
    try:
        os.close(action())
    except OSError as error:
        return errno.errorcode[error.errno]
"""


def program(system: str, body: str) -> str:
    assert NUMBERS is not None
    error, calls = SYSTEMS[system]
    known = [(NUMBERS.get(str(call), call), argument, value) for call, argument, value in calls]
    return HEAD + f"refuse({error}, {known})\n" + textwrap.dedent(body)


def run(system: str, body: str, folder: Path) -> str:
    outcome = run_program(program(system, body), folder)
    if outcome.returncode == 77:
        pytest.skip("this system has no such filters")
    return outcome.succeeded()


@pytest.mark.parametrize("system", SYSTEMS)
def test_pools(system: str, tmp_path: Path) -> None:
    body = """
    import numpy
    from pool import Pool, WorkerDied, get_context

    class Model:
        def __init__(self):
            self.lock = threading.Lock()
            self.weights = numpy.ones(100_000)

        def score(self, x):
            return float(self.weights.sum()) + x

    def probe(_):
        return refused(lambda: os.pidfd_open(os.getpid())), refused(lambda: os.memfd_create("x"))

    with Pool(2) as p:
        print(probe(0) == p.apply(probe, (0,)), *probe(0))
        print(p.map(lambda x: x * x, range(5)), p.map(Model().score, range(3)))
        print([float(made.sum()) for made in p.starmap(numpy.full, [(100_000, 1.0)] * 2)])
        try:
            p.apply(os._exit, (3,))
        except WorkerDied as error:
            print(error.exitcode)
        print(p.apply(abs, (-2,)))
    for method in ("fork", "spawn", "forkserver"):
        with get_context(method).Pool(2) as p:
            print(p.map(abs, [-1, 2]))
    """
    probed = {
        "linux-4.18": "ENOSYS None",
        "linux-3.10": "ENOSYS ENOSYS",
        "forbidding": "EPERM EPERM",
        "no-signals-of-files": "None None",
    }[system]
    assert run(system, body, tmp_path) == (
        f"True {probed}\n[0, 1, 4, 9, 16] [100000.0, 100001.0, 100002.0]\n[100000.0, 100000.0]\n"
        "3\n2\n[1, 2]\n[1, 2]\n[1, 2]\n"
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_actors_and_objects(system: str, tmp_path: Path) -> None:
    body = """
    import numpy, pool as ray

    @ray.remote
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self, n):
            self.count += n
            return self.count

    ray.init(namespace=f"systems-{os.getpid()}")
    counter = Counter.remote()
    print(ray.get([counter.add.remote(1) for _ in range(3)]))
    # Its name is free again as soon as its process, which is no child, has ended.
    for n in (5, 6):
        stays = Counter.options(name="stays", lifetime="detached").remote()
        print(ray.get(stays.add.remote(n)))
        ray.kill(stays)
    print(ray.get(ray.put(numpy.arange(100_000)))[-1])
    ray.shutdown()
    """
    assert run(system, body, tmp_path) == "[1, 2, 3]\n5\n6\n99999\n"


@pytest.mark.parametrize("system", SYSTEMS)
def test_nothing_is_left_of_a_program_that_is_killed(system: str, tmp_path: Path) -> None:
    """Also where the kernel does not kill the workers: they see their sockets close."""
    body = """
    from pool import Pool
    with Pool(2) as p:
        p.map(abs, range(4))
        print("there")
        signal.pause()
    """
    with orphans_come_here():
        running = start(python("-c", program(system, body)), tmp_path)
        if read_line(running) == "":
            pytest.skip("this system has no such filters")
        running.kill()
        finish(running)
