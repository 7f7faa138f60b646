"""Workers of the ``spawn`` start method: a fresh interpreter each.

The forkserver forks, and the fork executes Python anew. So everything else (reaping, death
with the forkserver, messages) is the same as for forked workers.
"""

from __future__ import annotations

import marshal
import os
import sys

import store._anonymous as anonymous
from pool._workers._settings import enter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def exec_worker(
    number: int,
    slot: int,
    fd: int,
    fds: Sequence[int],
    settings: dict[str, Any],
    payload: Any,
    lifeline: int,
    tracked: int,
    seed: bytes,
) -> NoReturn:
    """Replace this process, a fork of the forkserver, by a new interpreter that becomes a worker.

    Parameters
    ----------
    number, slot, fd, fds, settings, payload
        As for `pool._workers._boot.become_worker`.
    lifeline : int
        Descriptor that ties its life to the forkserver's; -1 without /proc.
    tracked : int
        Descriptor of the pipe to the program's resource tracker, or -1.
    seed : bytes
        The seed of `hash`, unless the program's environment has one.
    """
    handover = (number, slot, fd, list(fds), settings, payload)
    file = anonymous.create("actorpool-spawn")
    anonymous.write_all(file, [marshal.dumps(handover, 2)])
    for inherited in (file, fd, lifeline, tracked, *fds):
        if inherited >= 0:
            os.set_inheritable(inherited, True)
    # Entries of `sys.path` may be relative to the program's working directory.
    enter(settings["cwd"])
    code = (
        f"import sys; sys.path[:] = {[*settings['path'], _ROOT]!r}; "
        f"from pool._workers._spawned import main; main({file}, {lifeline}, {tracked})"
    )
    from pool._workers._argv import interpreter_argv

    environ = settings["environ"]
    if environ.get(b"PYTHONHASHSEED", b"random") in (b"", b"random"):
        environ = {**environ, b"PYTHONHASHSEED": seed}  # taken back by `apply`
    os.execve(sys.executable, [*interpreter_argv(), "-c", code], environ)


def main(file: int, lifeline: int, tracked: int) -> NoReturn:
    """Become the worker described in the anonymous file `file`."""
    from pool._workers import _boot
    from pool._workers._heap import keep_freed
    from pool._workers._lifeline import tie
    from pool._workers._tracking import adopt

    _boot.serves = True
    if tracked >= 0:
        os.set_inheritable(tracked, False)
        adopt(tracked)
    if lifeline >= 0:
        tie(lifeline)
        os.close(lifeline)
    contents = bytearray(os.fstat(file).st_size)
    anonymous.read_into(file, contents, 0)
    os.close(file)
    number, slot, fd, fds, settings, payload = marshal.loads(contents)
    for inherited in (fd, *fds):
        if inherited > 2:
            os.set_inheritable(inherited, False)
    if type(payload) is tuple:
        data, buffers = payload
        payload = data, [bytearray(buffer) for buffer in buffers]
    keep_freed()
    _boot.become_worker(number, slot, fd, fds, settings, "Spawn", payload)
