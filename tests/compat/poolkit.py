"""Name the pools that the suites run on, make them, and hold tasks without sleeping.

A `Flavour` is a library (the standard one or ours) and a start method. The suites ask for the
`flavour` or `make_pool` fixture and make no difference between the two: what passes on the
standard class is what "drop-in" means. Where the standard is known to hang or to fail, the test
module says so in its table `STANDARD_FAILS`, and only ours is run.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import select
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from agentcluster import AgentCluster, agents_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

# Long enough for two cores that thirty processes want, short enough to be told from the watchdog's.
PATIENCE = 120.0


class Flavour:
    """Say which library and start method a test runs on.

    Parameters
    ----------
    library : str
        "multiprocessing" or "pool", the module that the program would import.
    method : str or None
        A start method; None is what a program gets that names none. "agents" stands for workers
        of a cluster, see agentcluster.
    """

    def __init__(self, library: str, method: str | None) -> None:
        self.library = library
        self.method = method

    def __repr__(self) -> str:
        return f"{self.library}-{self.method or 'default'}"

    @property
    def standard(self) -> bool:
        """Tell whether this is the standard library's pool."""
        return self.library == "multiprocessing"

    @property
    def module(self) -> ModuleType:
        """Import the library."""
        return importlib.import_module(self.library)

    @property
    def namespace(self) -> Any:
        """Return what holds `Pool`, `Lock` and the like: the module, or one of its contexts."""
        named = self.method and self.method != "agents"
        return self.module.get_context(self.method) if named else self.module

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """Make a pool, exactly as a program would."""
        if self.method == "agents":
            kwargs["engine"] = "here"
        return self.namespace.Pool(*args, **kwargs)


USUAL = [Flavour("multiprocessing", "fork"), Flavour("pool", None)]
OTHERS = [
    Flavour("multiprocessing", "spawn"),
    Flavour("pool", "fork"),
    Flavour("pool", "spawn"),
    Flavour("pool", "forkserver"),
]
FAR = [Flavour("pool", "agents")]
# What the standard does with its forkserver is what it does with spawn, in twice the time.
SLOW = [Flavour("multiprocessing", "forkserver")]
# Set for a long run: every test on every start method.
EVERYTHING = bool(os.environ.get("ACTORPOOL_EVERY_METHOD"))


def flavours_of(every_method: bool, ours_only: bool, this_machine: bool) -> list[Flavour]:
    """List the flavours that a test with these markers runs on."""
    chosen = USUAL + OTHERS if every_method or EVERYTHING else USUAL
    if every_method and not this_machine:
        chosen = chosen + FAR
    if EVERYTHING:
        chosen = chosen + SLOW
    return [flavour for flavour in chosen if not (ours_only and flavour.standard)]


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers that choose flavours."""
    config.addinivalue_line("markers", "every_method: run on every start method")
    config.addinivalue_line("markers", "ours_only: the standard offers nothing to compare with")
    config.addinivalue_line("markers", "this_machine: about what no worker of a cluster has")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for a flavour on all that its markers name."""
    if "flavour" in metafunc.fixturenames:
        has = metafunc.definition.get_closest_marker
        markers = ("every_method", "ours_only", "this_machine")
        chosen = flavours_of(*(has(marker) is not None for marker in markers))
        parameters = [
            pytest.param(each, marks=[pytest.mark.reference] if each.standard else [])
            for each in chosen
        ]
        metafunc.parametrize("flavour", parameters, ids=repr, indirect=True)


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process runs no more; whoever started it may not have reaped it yet."""
    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def check_tables(items: list[pytest.Item]) -> None:
    """Refuse a table that names a test which does not exist: its reason would go stale."""
    modules: set[Any] = {getattr(item, "module", None) for item in items}
    for module in modules:
        table = getattr(module, "STANDARD_FAILS", {})
        stale = [name for name in table if not hasattr(module, name)]
        if stale:
            raise pytest.UsageError(f"{module.__file__}: STANDARD_FAILS names no test: {stale}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check the tables of known failures."""
    check_tables(items)


@pytest.fixture(scope="session", autouse=True)
def shared_heap() -> None:
    """Make the standard library map its heap once: it keeps the file open for good."""
    multiprocessing.RawArray("b", 1 << 16)


@pytest.fixture
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """Give the library and start method of this run; skip what the standard cannot do."""
    chosen: Flavour = request.param
    table: dict[str, str] = getattr(request.module, "STANDARD_FAILS", {})
    reason = table.get(request.node.originalname)
    if chosen.standard and reason:
        pytest.skip(f"multiprocessing: {reason}")
    if chosen.method == "agents":
        request.getfixturevalue("agents")
    return chosen


@pytest.fixture
def agents() -> Iterator[list[AgentCluster]]:
    """Have a cluster whose agents are in this process; give those that were asked for."""
    with agents_here() as made:
        yield made


@pytest.fixture
def make_pool(flavour: Flavour) -> Iterator[Callable[..., Any]]:
    """Give a function that makes pools; they are terminated and joined after the test."""
    made: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        made.append(flavour.make(*args, **kwargs))
        return made[-1]

    yield make
    # Popped: the standard's pool closes its pipes only when the last reference has gone.
    while made:
        end(made.pop())
    if flavour.method in ("spawn", "forkserver"):
        # What is left in cycles (of an exception's traceback, of a queue) still has semaphores
        # with names. They must be freed before the tracker ends, which would free them first.
        gc.collect()


def end(pool: Any) -> None:
    """Terminate a pool and wait for its end."""
    if type(pool).__module__.startswith("multiprocessing."):
        _end_standard(pool)
    else:
        pool.terminate()
    pool.join()


def _end_standard(pool: Any) -> None:
    """Terminate a pool of the standard, which may end a worker in the midst of sending a result.

    That worker then has the lock of the queue for ever, which `terminate` waits for.
    """
    ending = threading.Thread(target=pool.terminate)
    ending.start()
    ending.join(PATIENCE / 4)
    if ending.is_alive():
        pool._outqueue._wlock.release()
        ending.join()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Give a gate on which tasks wait until the test lets them go."""
    made = Gate(tmp_path)
    yield made
    made.close()


class Gate:
    """Hold tasks in workers until the test lets them go, and tell that they have begun.

    Two named pipes: they work under every start method and need no object that must be
    inherited. Both ends that the test holds are opened at once, so a task never waits for the
    test in `open`, and the test sees its pid only when it is truly running.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder)
        entered, leave = os.path.join(self.path, "entered"), os.path.join(self.path, "leave")
        os.mkfifo(entered)
        os.mkfifo(leave)
        self._entered = os.open(entered, os.O_RDWR)
        self._leave = os.open(leave, os.O_RDWR)
        self._unread = b""

    def entered(self, timeout: float = PATIENCE) -> int:
        """Wait until one more task is held, and return the pid of its worker."""
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._entered], [], [], timeout)
            assert ready, "no task has begun"
            self._unread += os.read(self._entered, 4096)
        line, self._unread = self._unread.split(b"\n", 1)
        return int(line)

    def release(self, count: int = 1) -> None:
        """Let this many held tasks go."""
        os.write(self._leave, b"." * count)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._entered)
        os.close(self._leave)
