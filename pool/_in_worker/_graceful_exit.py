"""The end of an actor that ends in good order: as objects end, and as a program ends.

An actor that was killed, or whose program has ended, has no such end; as in Ray.
"""

from __future__ import annotations

import _signal
import atexit
import gc
import io
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pool._in_worker._actor import ActorHost

#: Seconds from the last call to the end of the process. Ray's.
GRACE = 30


class Leave(SystemExit):
    """End this actor; raised by `exit_actor`."""


def end(host: ActorHost) -> None:
    """End an actor that runs no more calls: in good order if it leaves.

    Otherwise its program has ended it. Then nothing is run that it has registered with `atexit`,
    though the worker that it is in ends in good order, and would run it.
    """
    if host.leaves:
        exit_gracefully(host)
    else:
        atexit._clear()


def exit_gracefully(host: ActorHost) -> None:
    """Have the actor close what it has: `__ray_shutdown__`, atexit, and the instance itself.

    In Ray's order, which is that of an interpreter: `__del__` comes last. The main thread runs
    it, when no call runs any more or the actor has left.

    Parameters
    ----------
    host : ActorHost
        Its instance is gone afterwards.
    """
    # The kernel ends this process when the time is over: code of the user's may be stuck, and the
    # program, which could end it, may be gone by then, or never have been, if it is detached.
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    _signal.alarm(GRACE)
    _shut_down(host)
    atexit._run_exitfuncs()  # reports errors, and runs all functions
    # Before the instance goes: if a file is in a cycle, the garbage collector may close its lowest
    # layer first, and lose what is buffered.
    _flush_all_files()
    host.forget_instance()
    gc.collect()
    # Files that modules hold, as at the end of an interpreter.
    _flush_all_files()


def _flush_all_files() -> None:
    """Write out what is buffered for all open files."""
    for file in gc.get_objects():
        # By exact type: proxies lie about their class, and may fail when asked.
        if type(file) in _BUFFERED and not file.closed:
            try:
                file.flush()
            except (OSError, ValueError):
                continue  # not writable, or full


_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def _shut_down(host: ActorHost) -> None:
    shut_down = getattr(host.instance, "__ray_shutdown__", None)
    if shut_down is None:
        return
    try:
        shut_down()
    except BaseException as error:
        error.add_note(f"raised by {host.title}.__ray_shutdown__ as the actor ended")
        # Without this frame, which would keep the instance alive.
        sys.excepthook(type(error), error, error.__traceback__)
