"""Keep Ctrl-C out of the few lines that must run as a whole.

Whoever puts an object keeps the books of the store, and the thread that waits for a
result drives the engine of its pool itself; when that is the main thread, a
KeyboardInterrupt could be raised between any two instructions and leave the books half
written. While such lines run, SIGINT is noted instead and raised
when they are over, some microseconds later. Only Python's own handler is replaced: a
program that installed another one decides itself what happens.
"""

from __future__ import annotations

import _signal
import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, TypeVar

    T = TypeVar("T")

_get_ident = _thread.get_ident
_default = _signal.default_int_handler
_SIGINT = _signal.SIGINT


def _main_thread() -> int:
    import sys

    threading = sys.modules.get("threading")
    if threading is not None:
        return threading.main_thread().ident or 0
    # Without threading there is one thread, unless C code made others; those cannot
    # have imported us first.
    return _get_ident()


_main = _main_thread()


class Shield:
    """SIGINT deferred, if this is the main thread, but where it is let through.

    The main thread raises it for as long as it waits, and opens it where it sleeps and
    where it calls the user's code. One for the whole process, since there is one main
    thread; in other threads it does nothing.
    """

    __slots__ = ("_open", "_pending")

    def __init__(self) -> None:
        self._open = False
        self._pending = False

    def raised(self) -> bool:
        """Install the shield; return whether `lower` must be called."""
        if _get_ident() != _main or _signal.getsignal(_SIGINT) is not _default:
            return False
        try:
            _signal.signal(_SIGINT, self._note)
        except ValueError:
            return False  # a sub-interpreter, or a thread that became the main one by fork
        return True

    def lower(self) -> None:
        """Restore Python's handler, and raise what came in between."""
        _signal.signal(_SIGINT, _default)
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def opened(self, action: Callable[..., T], *args: Any) -> T:
        """Return ``action(*args)``, which an interrupt may end at any point."""
        if _get_ident() != _main:
            return action(*args)
        before = self._open
        self._open = True
        try:
            if self._pending:
                self._pending = False
                raise KeyboardInterrupt
            return action(*args)
        finally:
            self._open = before

    def closed(self, action: Callable[..., T], *args: Any) -> T:
        """Return ``action(*args)`` with interrupts kept out, inside of `opened`."""
        if _get_ident() != _main:
            return action(*args)
        before = self._open
        self._open = False
        try:
            return action(*args)
        finally:
            self._open = before

    def enter(self) -> int:
        """Keep interrupts out from here on; return what `leave` must be told."""
        if _get_ident() != _main:
            return 0
        if self._open:
            self._open = False
            return 2
        return 1 if self.raised() else 0

    def leave(self, token: int) -> None:
        """Let interrupts through again as before `enter`, and raise what came in between."""
        if token == 1:
            self.lower()
        elif token == 2:
            self._open = True
            if self._pending:
                self._pending = False
                raise KeyboardInterrupt

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._open:
            self._open = False
            raise KeyboardInterrupt
        self._pending = True


#: The one of this process.
shield = Shield()


class ShieldedLock:
    """A lock for books: its holder is not interrupted. The same thread may take it again."""

    __slots__ = ("_lock", "_tokens")

    def __init__(self) -> None:
        self._lock = _thread.RLock()
        #: Of the holder, one for each time that it took the lock.
        self._tokens: list[int] = []

    def __enter__(self) -> None:
        token = shield.enter()
        self._lock.acquire()
        self._tokens.append(token)

    def __exit__(self, *exc_info: object) -> None:
        token = self._tokens.pop()
        self._lock.release()
        shield.leave(token)

    # For hooks of `fork`, in which no exception could be raised afterwards.

    def acquire(self) -> None:
        """Take the lock without shielding its holder."""
        self._lock.acquire()

    def release(self) -> None:
        """Let it go after `acquire`."""
        self._lock.release()

    @property
    def held_here(self) -> bool:
        """Whether this very thread holds it, further up its stack."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # as `threading.Condition` uses it


def _after_fork() -> None:
    global _main
    _main = _get_ident()


import os  # noqa: E402 - os is loaded anyway; kept beside its only use

os.register_at_fork(after_in_child=_after_fork)
