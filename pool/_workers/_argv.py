"""The command line by which this interpreter is started again."""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: How much of the environment a command gets where the kernel refuses all of it. By itself it takes
#: a quarter of the stack's limit, 2 MiB mostly, and no variable of more than 128 KiB.
_LEAST_ENVIRON = 1 << 14


def interpreter_argv() -> list[str]:
    """Return this interpreter and the options it was started with."""
    # Most programs run without options; do not import subprocess (10 ms) to learn that.
    first = sys.orig_argv[1] if len(sys.orig_argv) > 1 else ""
    if first.startswith("-") and first not in ("-", "-c", "-m"):
        from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # as `multiprocessing` does

        return [interpreter(), *_args_from_interpreter_flags()]
    return [interpreter()]


def search_path() -> list[str]:
    """Return `sys.path` for a process whose working directory is another one.

    A relative entry (``sys.path.insert(0, "src")``) is the folder in which this process looks: the
    one that was there at its first import, wherever the program has gone since.
    """
    return [_searched(str(entry)) for entry in sys.path]


def _searched(entry: str) -> str:
    if not entry or os.path.isabs(entry):
        return entry  # "" is wherever a process is at that moment
    found = getattr(sys.path_importer_cache.get(entry), "path", None)
    return found if type(found) is str else entry


def forkserver_argv(
    fds: tuple[int, ...], preload: Sequence[str], without: Sequence[str] = ()
) -> list[str]:
    """Return the command line of a forkserver; for its parts see `_forkserver.main`."""
    code = (
        # A tenth of loading modules would be looking for garbage, and there is none.
        "import gc, sys; gc.disable(); "
        f"sys.path[:] = {search_path()!r}; "
        "from pool._workers._forkserver import main; "
        f"main({fds!r}, {list(preload)!r}, {list(without)!r})"
    )
    return [*interpreter_argv(), "-c", code]


def spawn(executable: str, argv: list[str], environ: Mapping[str, str], **options: Any) -> int:
    """Start a process of which the environment is set anew later, and return its pid.

    A program may have put more into its environment than a command can be given. Nothing keeps it
    from forking; so then the command gets only the short variables.
    """
    try:
        return os.posix_spawn(executable, argv, environ, **options)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
    left = _LEAST_ENVIRON
    short: dict[str, str] = {}
    for name, value in sorted(environ.items(), key=lambda item: len(item[1])):
        left -= len(os.fsencode(name)) + len(os.fsencode(value)) + 2
        if left < 0:
            break
        short[name] = value
    return os.posix_spawn(executable, argv, short, **options)


def is_frozen() -> bool:
    """Return whether the interpreter's command runs this program, whatever its arguments.

    So it is where a program and its interpreter were packed into one file, or where a program that
    runs Python in itself came without an interpreter.
    """
    alone = getattr(sys, "frozen", False) or (sys.executable and _is_embedded())
    return bool(alone) and interpreter() == sys.executable


def check_not_frozen() -> None:
    """Refuse to start an interpreter where that would start this program, and so on without end.

    Raises
    ------
    StartError
        If this program is frozen.
    """
    if is_frozen():
        from pool._errors import StartError

        raise StartError(
            f"{sys.executable!r} starts this program and no interpreter, since it is frozen or "
            "embeds Python; use "
            'get_context("fork"), as a Pool does by itself where no start method is chosen, or '
            "name an interpreter by `multiprocessing.set_executable`"
        )


def interpreter() -> str:
    """Return the path of this interpreter, or of the one that the user named."""
    spawn = sys.modules.get("multiprocessing.spawn")
    named = os.fsdecode((None if spawn is None else spawn.get_executable()) or "")
    ours = sys.executable or ""
    if named not in ("", ours):
        return named
    return _beside() or ours if _is_embedded() else ours


def _is_embedded() -> bool:
    """Return whether another program, such as uWSGI, runs this interpreter.

    It may be the file that `sys.executable` names, and knows nothing of an interpreter's options.
    """
    return not (sys.orig_argv or os.path.basename(sys.executable or "").startswith("python"))


def _beside() -> str:
    """Return the path of an interpreter of the same version and installation; "" without one."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for prefix in (sys.exec_prefix, sys.base_exec_prefix):
        path = os.path.join(prefix, "bin", name)
        if os.access(path, os.X_OK):
            return path
    return ""
