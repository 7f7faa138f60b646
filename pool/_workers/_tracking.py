"""One resource tracker of `multiprocessing` for a program and all its workers.

A tracker unlinks shared memory and named semaphores that were registered and not unregistered, when
the last process that can write to it has ended. Attaching to shared memory registers it too. So a
worker with a tracker of its own would destroy what belongs to the program. Therefore all processes
of a program write to one tracker, as in the standard library.

The standard library starts the tracker before the first worker. That takes an interpreter and an
import of `multiprocessing`, which few programs that use pools need. So here only its pipe is made,
which all processes get; the process that reads it is started by the first one that has something to
register. That there is no reader yet can be seen at the pipe itself. So if a process is killed
while it starts one, the next process sees the same.
"""

from __future__ import annotations

import _thread
import os
import stat
import sys

from pool._transport._descriptors import above_streams, without_sockets
from pool._workers._argv import interpreter, interpreter_argv
from pool._workers._imports import when_imported
from store._children import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_MODULE = "multiprocessing.resource_tracker"

#: SIGINT, SIGTERM: blocked until the tracker ignores them, as `multiprocessing` does it.
_BLOCKED_SIGNALS = [2, 15]

#: Write end of the pipe. When this process first registers something, the tracker object of
#: `multiprocessing` takes it over, and this is -1.
_pipe = -1
#: The inode of the pipe that a descriptor was when it was first looked at, by descriptor and pid of
#: its reader (None if this process has not started one). A program that becomes a daemon closes all
#: descriptors, and the same number may then be another pipe.
_seen: dict[tuple[int, int | None], int] = {}
_lock = _thread.allocate_lock()


def shared() -> int:
    """Return the descriptor of the pipe that processes which are about to be started are to get.

    Returns
    -------
    int
        -1 without /proc: each process then has a tracker of its own.
    """
    with _lock:
        module = sys.modules.get(_MODULE)
        tracker: Any = getattr(module, "_resource_tracker", None)
        running = getattr(tracker, "_fd", None)
        if running is not None and _is_same_pipe(running, tracker._pid):
            return int(running)
        if not _is_same_pipe(_pipe):
            read, write = os.pipe()
            os.close(read)
            write = above_streams(write)
            if not os.access(f"/proc/self/fd/{write}", os.W_OK):
                os.close(write)
                return -1
            adopt(write)
        return _pipe


def descriptor() -> int:
    """Return the descriptor of that pipe, as long as this process has nothing registered; or -1."""
    return _pipe


def adopt(fd: int) -> None:
    """Have this process and its forks write to the pipe `fd`, should they need a tracker."""
    global _pipe
    if fd >= 0:
        _pipe = fd
        _seen.pop((fd, None), None)
        _is_same_pipe(fd)  # notes which pipe it is
        when_imported(_MODULE, _prepare)


def _prepare(module: ModuleType) -> None:
    """Have the tracker object of `multiprocessing` take the pipe when it is first used."""
    standard: Any = module
    tracker = standard._resource_tracker
    if "_send" in vars(tracker):
        return  # done already
    ensure_running, send = tracker.ensure_running, tracker._send

    def take_and_ensure_running() -> None:
        _take(tracker)
        ensure_running()

    def take_and_send(*message: Any) -> None:
        _take(tracker)
        send(*message)

    # All functions of the module call one of these two.
    tracker.ensure_running = standard.ensure_running = take_and_ensure_running
    tracker._send = take_and_send


def _take(tracker: Any) -> None:
    """Give the pipe to the tracker object, and start its reader unless there is one.

    Does nothing if that fails: `multiprocessing` then starts a tracker for this process alone.
    """
    global _pipe
    if tracker._fd is not None or _pipe < 0:
        return
    with tracker._lock:
        if not _is_same_pipe(_pipe):
            return
        if tracker._fd is None:
            # Set first: a finalizer may come here again while the reader is started.
            tracker._fd, _pipe = _pipe, -1
            try:
                tracker._pid = _start_reader(tracker._fd)
                _is_same_pipe(tracker._fd, tracker._pid)  # notes which pipe it is
            except OSError:
                # A process that has given up privileges cannot open the pipe, for example.
                tracker._fd = None


def _start_reader(write: int) -> int | None:
    """Start the process that reads the pipe, unless there is one.

    Returns
    -------
    int or None
        Its pid, if it is a child of this process.
    """
    import fcntl

    path = f"/proc/self/fd/{write}"
    lock = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _has_reader(write):
            return None
        read = above_streams(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        try:
            return os.posix_spawn(
                interpreter(),
                [*interpreter_argv(), "-c", f"from {_MODULE} import main; main({read})"],
                os.environ,
                file_actions=[*without_sockets(), (os.POSIX_SPAWN_DUP2, read, read)],
                setsigmask=_BLOCKED_SIGNALS,
            )
        finally:
            os.close(read)
    finally:
        # To close it does not suffice: another thread may have forked, and the child has a copy.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _is_same_pipe(fd: int, pid: int | None = None) -> bool:
    """Return whether a descriptor is a pipe, and the same one as when this was first asked."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISFIFO(status.st_mode) and status.st_ino == _seen.setdefault(
        (fd, pid), status.st_ino
    )


def _has_reader(write: int) -> bool:
    import select

    poll = select.poll()
    poll.register(write, 0)
    return not poll.poll(0)  # without a reader it reports POLLERR


def _forked() -> None:
    global _lock
    _lock = _thread.allocate_lock()


in_child(_forked)
