"""Errors that no caller can catch: they are reported, and the program goes on."""

from __future__ import annotations


def report(error: BaseException, message: str) -> None:
    """Hand an error to `sys.unraisablehook`, with `message` as a note."""
    error.add_note(message)
    _Unraisable(error)


class _Unraisable:
    """Raises an error from its finalizer, so that Python passes it to `sys.unraisablehook`.

    The hook cannot be called directly: the standard one insists on an argument of a class
    that Python code cannot reach.
    """

    def __init__(self, error: BaseException) -> None:
        self._errors = [error]

    def __del__(self) -> None:
        error = self._errors.pop()
        try:
            raise error
        finally:
            # The traceback holds this frame; it must not hold the error in turn.
            del error
