"""Why an actor has ended, in words."""

from __future__ import annotations


def said(error: BaseException) -> str:
    """Return the text of an error, which may be of a class of the user's."""
    try:
        return str(error)
    except Exception as failure:
        return f"<its text raised {type(failure).__name__}>"


def how_ended(exitcode: int | None, left: bool) -> str:
    """Say how a process has ended.

    Parameters
    ----------
    exitcode : int or None
        Negative: the signal that killed it. None: there was no process, it could not be forked.
    left : bool
        It had announced that it would.
    """
    if left:
        return "it left by exit_actor()"
    if exitcode is None:
        return "its process could not be forked: no room for one more, or too little memory"
    if exitcode >= 0:
        return f"its process exited with code {exitcode}"
    import signal

    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    cause = "; out of memory is the usual cause" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{cause}"
