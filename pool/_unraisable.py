"""Errors that no caller can catch: they are reported, and the program goes on."""

from __future__ import annotations


def report(error: BaseException, message: str) -> None:
    """Hand an error to `sys.unraisablehook`, with `message` as a note, and as what it is about.

    The standard hook prints ``Exception ignored in:`` and what it is about; it prints no notes.
    """
    error.add_note(message)
    _Unraisable(_Raise(error, message))


class _Raise:
    """Raise an error when called; what Python shows as the place where it was ignored."""

    def __init__(self, error: BaseException, message: str) -> None:
        self._errors = [error]
        self._message = message

    def __call__(self) -> None:
        error = self._errors.pop()
        try:
            raise error
        finally:
            # The traceback holds this frame; it must not hold the error in turn.
            del error

    def __repr__(self) -> str:
        return f"actorpool ({self._message})"


class _Unraisable:
    """Raises an error from its finalizer, so that Python passes it to `sys.unraisablehook`.

    The hook cannot be called directly: the standard one insists on an argument of a class
    that Python code cannot reach.
    """

    def __init__(self, finalizer: _Raise) -> None:
        self._finalizer = finalizer

    @property
    def __del__(self) -> _Raise:
        return self._finalizer
