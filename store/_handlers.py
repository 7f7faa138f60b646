"""Set Python's handlers of signals, and leave those that others have put over them in C.

A program in which Python is embedded (uWSGI), and libraries that let computations in C be
interrupted (cysignals, for PARI and Sage), set handlers of which Python does not know.
`signal.signal` replaces them by Python's own, and restoring the handler that Python knows does not
bring them back.
"""

from __future__ import annotations

import _signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: More than the C library's ``struct sigaction``, which begins with the address of the handler.
_NBYTES = 256
_ADDRESS = 8

#: The signals for which somebody else's handler in C was found.
_hidden: set[int] = set()
#: The C library, when it was first needed. Not by `functools.cache`: importing that takes longer
#: than all that is imported with this before the forkserver is started.
_library: Any = None
#: How many modules had been imported when that was looked for; compiled ones may set handlers.
_imported = 0


def may_hide() -> bool:
    """Return whether there may be handlers in C by now that were not found yet."""
    global _imported
    if not sys.orig_argv:
        return True  # a program that runs Python in itself can set them at any time
    before, _imported = _imported, len(sys.modules)
    # Looking takes `ctypes`, 5 ms to import. Programs with compiled libraries have mostly done so.
    return before != _imported and "ctypes" in sys.modules


def set_handler(number: int, handler: Any, looks: bool = False) -> None:
    """Set the handler of a signal that Python calls.

    Parameters
    ----------
    number : int
    handler : callable
    looks : bool
        Find out whether there is a handler in C, which stays. False: only one that is known.
    """
    if not (looks or number in _hidden):
        _signal.signal(number, handler)
        return
    before = _action(number)
    _signal.signal(number, handler)
    if before[:_ADDRESS] == _action(number)[:_ADDRESS]:
        _hidden.discard(number)
    else:
        _c_library().sigaction(number, before, None)
        _hidden.add(number)


def _action(number: int) -> bytes:
    """Return what the kernel is to do at a signal."""
    import ctypes

    action = ctypes.create_string_buffer(_NBYTES)
    _c_library().sigaction(number, None, action)
    return action.raw


def _c_library() -> Any:
    global _library
    if _library is None:
        import ctypes

        _library = ctypes.CDLL(None)
    return _library
