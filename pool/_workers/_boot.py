"""Make a worker of a process that was just forked or started, and end it in good order."""

from __future__ import annotations

import _signal
import atexit
import builtins
import os
import sys

# Imported before the fork, once for all workers.
from pool._pickling import flush_files, install_main, look_up_with, notice_imports
from pool._transport._channel import Channel
from pool._transport._journal import attach
from pool._transport._sockets import socket_from
from pool._unraisable import report
from pool._workers import _carried
from pool._workers._identity import be_child_of, introduce
from pool._workers._imports import when_imported
from pool._workers._lookups import Lookups
from pool._workers._lost_interrupts import raise_again
from pool._workers._outcomes import flush_streams
from pool._workers._settings import apply, apply_place
from pool._workers._worker import Worker
from store._children import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

#: Whether this process is a worker, or forks workers and nothing else.
serves = False

#: Whether forked workers run what they have registered with `atexit`, see `_farewell`.
FORKS_EXIT = sys.version_info >= (3, 13)


def become_worker(
    number: int,
    slot: int,
    fd: int,
    fds: Sequence[int],
    settings: dict[str, Any],
    prefix: str,
    payload: Any,
    buffer: bytearray | None = None,
) -> NoReturn:
    """Turn this process into a worker; never return.

    Parameters
    ----------
    number : int
        Its number among the workers of the program.
    slot : int
        The number of its page in the journal.
    fd : int
        Descriptor of the socket to the parent.
    fds : sequence of int
        Descriptors of the journal, and of stdout and stderr of the parent (-1: as they are here).
    settings : dict
        From `pool._workers._settings.capture`.
    prefix : str
        ``"Fork"``, ``"Spawn"`` or ``"ForkServer"``.
    payload : (data, buffers), callable, None or AWAITED
        The initializer and its arguments, pickled; or, in a process that inherited them, a callable
        that runs them; AWAITED if the parent sends it.
    buffer : bytearray, optional
        To receive into.
    """
    inherited = prefix == "Fork"
    exits = prefix == "Spawn" or FORKS_EXIT
    if exits and prefix != "Spawn":
        atexit._clear()  # of the process that was forked
    journal, *streams = fds
    if inherited:
        _read_nothing()
    _streams(streams)
    if inherited:
        _after_fork()
    else:
        apply_place(settings) if prefix == "ForkServer" else apply(settings)
        install_main(settings["main"])
    introduce(number, settings, prefix)
    if settings["pool"]:
        be_child_of(settings["parent_pid"])
    _take_over(settings)
    channel = Channel(socket_from(fd), buffer, linked=True)
    worker = Worker(channel, attach(journal, slot), settings["parent_pid"], settings["pool"])
    worker.tells = prefix == "ForkServer"
    worker.carries = bool(settings["carried"])
    for owned in fds:
        if owned > 2:
            os.close(owned)
    Worker.current = worker
    if not inherited:
        look_up_with(Lookups(channel).ask)
        notice_imports(when_imported)
    _signal.signal(_signal.SIGINT, worker.on_interrupt)
    raise_again(worker.strike_again)
    _work(worker, payload, exits)


def _take_over(settings: dict[str, Any]) -> None:
    """Have what the program has set in the interpreter, its own modules and others' modules."""
    if settings["carried"]:
        _carried.take_over(settings["carried"])
    if settings["variables"]:
        from pool._workers._variables._restored import take_over

        take_over(settings["variables"])
    if settings["patches"]:
        from pool._workers._patches import _applied

        _applied.take_over(settings["patches"])


def _work(worker: Worker, payload: Any, exits: bool) -> NoReturn:
    """Run tasks until there are no more to come, and end this process."""
    status = 1
    try:
        if worker.initialize(payload):
            worker.serve()
            status = 0
    except ConnectionError:
        pass  # the parent is gone
    except Exception as error:
        report(error, "ended this worker")  # a mistake of this package, which must not be silent
    finally:
        _farewell(exits)
        os._exit(status)


def _read_nothing() -> None:
    """Make standard input empty, as in `multiprocessing`."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # stays open
    except OSError:
        sys.stdin = None
    kernel: Any = getattr(builtins.input, "__self__", None)
    if hasattr(kernel, "_allow_stdin"):
        kernel._allow_stdin = False  # of a notebook: it would wait for what its parent is told


def _streams(streams: Sequence[int]) -> None:
    """Have standard output and standard error go where the parent's go."""
    for target, fd in zip((1, 2), streams, strict=False):
        if fd >= 0 and fd != target:
            os.dup2(fd, target)


def _after_fork() -> None:
    """Do in a fork of the user's process what `multiprocessing` does there."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()
    if "coverage" in sys.modules:
        from pool._workers._carried._coverage import measure_fork

        measure_fork()


def _farewell(exits: bool) -> None:
    """Do what an interpreter does at its end: for threads, `multiprocessing`'s children, streams.

    A process of `multiprocessing` waits for its children before its threads. Here threads come
    first: an executor ends its processes only when its thread is waited for, so that in the other
    order the worker would wait for them for ever.

    Parameters
    ----------
    exits : bool
        Whether to run what was registered with `atexit` as well: as in the processes that
        `multiprocessing` starts, spawned ones do, and from Python 3.13 on forked ones, too.
    """
    try:
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util._exit_function()
        if exits:
            atexit._run_exitfuncs()
    finally:
        flush_streams()
        flush_files()
        depot = sys.modules.get("store._depot")
        if depot is not None:
            depot.retire()  # the parent may keep blocks of this worker: unused memory is freed


def _forked() -> None:
    """Tell the worker, in a fork that a task has made, that it is that fork."""
    if Worker.current is not None:
        Worker.current.forked()


in_child(_forked)
