"""How this interpreter is started again."""

from __future__ import annotations

import os
import sys


def interpreter_argv() -> list[str]:
    """Return this interpreter and the options it was started with."""
    # Most programs run without options; do not import subprocess (10 ms) to learn that.
    if len(sys.orig_argv) > 1 and sys.orig_argv[1].startswith("-") and sys.orig_argv[1] != "-c":
        from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # as `multiprocessing` does

        return [interpreter(), *_args_from_interpreter_flags()]
    return [interpreter()]


def interpreter() -> str:
    """Return the path of this interpreter, or of the one that the user named."""
    spawn = sys.modules.get("multiprocessing.spawn")
    named = None if spawn is None else spawn.get_executable()
    return os.fsdecode(named or sys.executable or "")
