"""Two rules for every test: it ends, and it leaves nothing behind."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
from distribution import QUIET_SECONDS, Quiet, pytest_xdist_make_scheduler
from forking import forks_as_before

# What pytest looks for here.
__all__ = ["pytest_xdist_make_scheduler"]

# More than a program may take (`TIME_LIMIT` of poolscripts) and then needs to dump its stacks.
WATCHDOG_SECONDS = 300.0
# How long what a test has ended may take to be gone. Only a failing test waits that long.
GRACE_SECONDS = 30.0
# Signals whose handlers a pool, a test or a library might leave changed.
HANDLED = [
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGALRM,
    signal.SIGUSR1, signal.SIGUSR2,
]  # fmt: skip

_real_stderr: int | None = None


def pytest_configure(config: pytest.Config) -> None:
    forks_as_before()
    # Now, while output is not captured: a dump into a captured stream is never seen, because the
    # watchdog ends the process without flushing.
    global _real_stderr
    _real_stderr = os.dup(2)
    os.set_inheritable(_real_stderr, False)
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Quiet(QUIET_SECONDS, _real_stderr))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell starts what it runs in the background; the tests, and the programs that
        # they start, are about Ctrl-C as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as `nohup` does


def pytest_unconfigure(config: pytest.Config) -> None:
    global _real_stderr
    faulthandler.cancel_dump_traceback_later()
    if _real_stderr is not None:
        os.close(_real_stderr)
        _real_stderr = None


def pytest_collection_finish(session: pytest.Session) -> None:
    # What the tests import is there to stay: looking through it takes 0.2 s each time that a test,
    # or this file, has to know that nothing is left in cycles.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Dump all stacks and end the run if a test, its fixtures included, takes too long."""
    marker = item.get_closest_marker("watchdog")
    seconds = float(marker.args[0]) if marker else WATCHDOG_SECONDS
    assert _real_stderr is not None
    faulthandler.dump_traceback_later(seconds, exit=True, file=_real_stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module", autouse=True)
def shared_servers() -> Iterator[None]:
    """End the processes that outlive a Pool once the tests of a module are over.

    Not after each test: programs keep theirs from one Pool to the next, and each one started
    imports pandas and numpy anew.
    """
    environ = kept_environ()
    yield
    end_shared_servers()
    # Dask's nannies set variables of this process for the workers that they start.
    for name in kept_environ().keys() - environ.keys():
        del os.environ[name]


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest, shared_servers: None) -> Iterator[None]:
    """Fail a test after which a child process, a thread, a descriptor or a setting is left.

    What the standard's own pool leaves is ended as well, but is no failure of ours.
    """
    if request.node.get_closest_marker("elsewhere") is not None:
        yield
        return
    settings = settings_now()
    children = descendants()
    threads = set(threading.enumerate())
    descriptors = open_descriptors()
    yield
    end_servers_of_the_standard()
    left = [
        *left_children(children),
        *left_threads(threads),
        *left_objects(),
        *left_descriptors(descriptors),
    ]
    changed = {what: now for what, now in settings_now().items() if now != settings[what]}
    assert not changed, f"this test leaves changed, from {settings} to {changed}"
    if request.node.get_closest_marker("reference") is None:
        assert not left, "this test leaves behind: " + "; ".join(left)


def settings_now() -> dict[str, object]:
    """Return what belongs to the whole process, and so to the next test as well."""
    with open("/proc/self/status") as status:  # `os.umask` would change it for a moment
        umask = next(line for line in status if line.startswith("Umask:"))
    return {
        "the working directory": os.getcwd(),
        "the umask": umask,
        "the environment": kept_environ(),
        "sys.path": [*sys.path],
        "handlers of signals": [signal.getsignal(number) for number in HANDLED],
    }


def kept_environ() -> dict[str, str]:
    """Return the environment, without what is set for good.

    By pytest, and by libraries when they are imported (scikit-learn: KMP_...).
    """
    others = ("PYTEST_", "KMP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


def shared() -> Iterator[tuple[int, int]]:
    """Give pid and descriptor of each process that is meant to outlive a Pool.

    The resource tracker may be nobody's child here, or not have been needed yet.
    """
    servers = sys.modules.get("pool._workers._servers")
    if servers is not None:
        for server in servers._servers:
            yield server.pid, server.channel.fileno()
        for server in (*servers._servers, *filter(None, servers._unreaped.values())):
            if server.life >= 0:
                yield server.pid, server.life
    tracking = sys.modules.get("multiprocessing.resource_tracker")
    if tracking is not None and tracking._resource_tracker._fd is not None:
        yield tracking._resource_tracker._pid or 0, tracking._resource_tracker._fd
    ours = sys.modules.get("pool._workers._tracking")
    if ours is not None and ours._pipe >= 0:
        yield 0, ours._pipe


def end_servers_of_the_standard() -> None:
    """End what keeps the settings of the moment when it was first needed.

    The standard module's forkserver has the environment and the folder of that moment; the other
    one is a thread that hands out the descriptors of connections sent to workers.
    """
    forkserver = sys.modules.get("multiprocessing.forkserver")
    if forkserver is not None:
        forkserver._forkserver._stop()
    sharer = sys.modules.get("multiprocessing.resource_sharer")
    if sharer is not None:
        sharer.stop(timeout=GRACE_SECONDS)


def end_shared_servers() -> None:
    """End the processes that live as long as this one, ours and the standard module's."""
    servers = sys.modules.get("pool._workers._servers")
    if servers is not None:
        servers.shutdown_forkservers()
    tracking = sys.modules.get("multiprocessing.resource_tracker")
    if tracking is not None:
        tracker = tracking._resource_tracker
        if tracker._pid is not None:
            tracker._stop()
        elif tracker._fd is not None:
            # A worker has started it. What has a descriptor of it has ended, and so does it.
            os.close(tracker._fd)
            tracker._fd = None


def descendants() -> set[psutil.Process]:
    """Return the child processes, theirs, and so on, but for those that outlive a Pool."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # reading all of /proc takes some milliseconds
    kept = {pid for pid, _ in shared()}
    found = psutil.Process().children(recursive=True)
    return {process for process in found if process.pid not in kept}


def left_children(before: set[psutil.Process]) -> list[str]:
    """Describe the child processes that do not end by themselves, and kill them."""
    new = descendants() - before
    if not new:
        return []
    if "multiprocessing.process" in sys.modules:
        # Reaps those whose Process object was dropped before they ended.
        sys.modules["multiprocessing.process"].active_children()
    _, alive = psutil.wait_procs(new, timeout=GRACE_SECONDS)
    described = [f"process {_command(process)}" for process in alive]
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=GRACE_SECONDS)
    return described


def _command(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)


def left_threads(before: set[threading.Thread]) -> list[str]:
    """Describe the threads that do not end by themselves."""
    new = {
        thread
        for thread in set(threading.enumerate()) - before
        if not _is_kept_by_a_library(thread)
    }
    for thread in new:
        thread.join(GRACE_SECONDS)
    return [f"thread {thread.name}" for thread in new if thread.is_alive()]


def _is_kept_by_a_library(thread: threading.Thread) -> bool:
    # tqdm starts one monitor with its first bar and keeps it.
    return type(thread).__module__.startswith("tqdm.")


def left_objects() -> list[str]:
    """Describe what is still held in the store of this process, and let its memory go."""
    depot = sys.modules.get("store._depot")
    if depot is None:
        return []
    if depot.shutdown():
        gc.collect()
    held = depot.shutdown()
    if held:
        depot._depot = None  # not the next test's fault
    return [f"stored objects {description}" for description in held]


def left_descriptors(before: Counter[str]) -> list[str]:
    """Describe the descriptors that are open now and were not before."""
    new = open_descriptors() - before - shared_descriptors()
    if new:
        # Slow with large libraries loaded, so only where something seems to be left: an object
        # in a cycle that would have been collected later is no leak.
        gc.collect()
        new = open_descriptors() - before - shared_descriptors()
    return [f"{count} open {target}" for target, count in new.items()]


def shared_descriptors() -> Counter[str]:
    """Count what leads to the processes that outlive a Pool."""
    return Counter(os.readlink(f"/proc/self/fd/{descriptor}") for _, descriptor in shared())


def open_descriptors() -> Counter[str]:
    """Count what the descriptors of this process point to."""
    targets: Counter[str] = Counter()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            targets[os.readlink(f"/proc/self/fd/{descriptor}")] += 1
        except FileNotFoundError:
            # The one that listed the folder.
            continue
    return targets
