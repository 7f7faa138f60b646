"""The ``fork`` start method, which is also used for objects that no pickle can carry.

The user's process is forked once, into a forkserver that serves one pool; its workers
inherit every object as it was at that moment. As it is forked once, and not for each worker,
the same code keeps track of workers under all start methods, and their lives are tied to a
process with one thread (see `pool._workers._forkserver`).
"""

from __future__ import annotations

import os

# Imported before the fork, what workers need with it: once for all pools of this kind.
from pool._pickling._shared import keep_inherited
from pool._transport._channel import Channel
from pool._transport._descriptors import above_streams
from pool._transport._pidfds import pidfd_of_this
from pool._workers import _boot
from pool._workers._clients import Client
from pool._workers._forking import fork
from pool._workers._forkserver import ForkServer
from pool._workers._loaded_limits import limit_loaded
from pool._workers._outcomes import flush_streams
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any, NoReturn


def fork_template(
    theirs: _socket.socket,
    ours: _socket.socket,
    settings: dict[str, Any],
    run_initializer: Callable[[], object] | None,
    journal: int,
    limits: dict[str, str],
) -> int:
    """Fork this process into a forkserver; return its pid, and never return in the child.

    Parameters
    ----------
    theirs, ours : socket
        The child's and the parent's end of the pool's connection.
    settings : dict
        From `capture`.
    run_initializer : callable, optional
        Inherited by the workers, which call it without arguments.
    journal : int
        Descriptor of the journal file.
    limits : dict
        Environment variables that limit threads.
    """
    flush_streams()  # else the child would write buffered text as well
    _introduce_modules()
    pid = copy = -1
    owner = pidfd_of_this()
    try:
        # In the child, the hooks of os.register_at_fork close the descriptors of all pools of this
        # process, and with them that of the new pool's journal. This copy stays open.
        copy = above_streams(os.dup(journal))
        pid = fork()
    finally:
        if pid:  # in the parent, also if the fork has failed
            for fd in (copy, owner):
                if fd >= 0:
                    os.close(fd)
    if pid:
        return pid
    try:
        _serve(theirs, ours, settings, run_initializer, copy, owner, limits)
    finally:
        os._exit(70)


def _introduce_modules() -> None:
    """See to it that workers know what they inherit of modules that they could not import."""
    from pool._pickling._identity import introduce_all
    from pool._pickling._kept import observe_inherited
    from pool._pickling._origins import modules_by_value

    for name in ("__main__", *modules_by_value()):
        try:
            observe_inherited(name)
            introduce_all(name)
        except Exception:
            continue  # odd objects in it: at worst something gets a twin


def _serve(
    theirs: _socket.socket,
    ours: _socket.socket,
    settings: dict[str, Any],
    run_initializer: Callable[[], object] | None,
    journal: int,
    owner: int,
    limits: dict[str, str],
) -> NoReturn:
    _boot.serves = True
    # The thread that makes the pool has the shield closed. In tasks the program's signal handlers
    # work as in any fork of it.
    shield.abandon()
    os.setpgid(0, 0)
    ours.close()
    _fill_streams()
    keep_inherited()
    os.environ.update(limits)
    limit_loaded(limits)
    server = ForkServer(None, owner)
    client = Client(Channel(theirs), settings, "Fork")
    client.fds = [journal]
    client.payload = run_initializer
    server.add(client)
    server.run()


def _fill_streams() -> None:
    """Open standard streams that are closed, whose numbers, and prints, a socket would get."""
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:
        null = os.dup(null)  # the last one stays, in place of a closed stream
    os.close(null)
