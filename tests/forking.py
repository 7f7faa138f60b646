"""Run functions in children of a fork; have the standard library fork as it used to."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable


def fork(action: Callable[[], object]) -> int:
    """Start a child that runs a function, which raises if something is wrong; return its pid."""
    child = os.fork()
    if not child:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Whatever happens: else the child would go on with the tests.
            os._exit(status)
    return child


def ended_well(child: int) -> bool:
    """Wait for a child; tell whether what it ran raised nothing."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run_in_fork(action: Callable[[], object]) -> None:
    """Run a function in a child, and fail if it fails there."""
    assert ended_well(fork(action))


#: Has the standard library fork where nobody has chosen a start method, as it did before Python
#: 3.14: it is that with which ours is compared. No choice either, which ours would honour.
FORKS = (
    "import multiprocessing.context as context; "
    "context._default_context._default_context = context._concrete_contexts['fork']; del context"
)


def forks_as_before() -> None:
    """Have the standard library in this process fork by default."""
    if sys.version_info >= (3, 14):
        exec(FORKS, {})


def forking_as_before(program: str) -> str:
    """Return a program in which it does so, if it uses the standard library at all."""
    if sys.version_info < (3, 14) or not any(word in program for word in _OF_STANDARD):
        return program
    blank = program[: len(program) - len(program.lstrip("\n"))]
    first, end, rest = program.removeprefix(blank).partition("\n")
    if first.startswith(("import ", "from ")):
        return f"{blank}{first}; {FORKS}{end}{rest}"  # so that lines keep their numbers
    return f"{FORKS}\n{program.removeprefix(chr(10))}"


_OF_STANDARD = ("multiprocessing", "Manager", "Process")
