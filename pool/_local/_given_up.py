"""Why a driver gives up its jobs: an error that can be made whatever state the process is in."""

from __future__ import annotations


def given_up(kind: str, text: str) -> BaseException:
    """Return an error of a class of `pool._errors`; a RuntimeError if that cannot be had.

    No descriptor may be left to import the module with, or this may be a finalizer in the midst of
    importing it.
    """
    try:
        from pool import _errors

        error: BaseException = getattr(_errors, kind)(text)
    except (OSError, ImportError, AttributeError):
        return RuntimeError(text)
    return error
