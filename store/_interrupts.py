"""Keep signal handlers that raise out of the few lines that must run as a whole.

Whoever puts an object keeps the books of the store, and the thread that waits for a result
drives the engine of its pool itself; when that is the main thread, a handler could raise
(KeyboardInterrupt, SystemExit, a program's own time limit) between any two instructions and
leave the books half written. While such lines run, the signal is noted instead, and the
handler, Python's own or the program's, is called when they are over, some microseconds later.
"""

from __future__ import annotations

import _signal
import _thread
import os
from time import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, TypeVar

    T = TypeVar("T")

_get_ident = _thread.get_ident

#: Those whose handlers are known to raise: Ctrl-C, requests to end, what schedulers of jobs send
#: before they end one, and time limits. Each one costs every wait some 30 ns.
_SIGNALS = (
    _signal.SIGINT,
    _signal.SIGTERM,
    _signal.SIGHUP,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGALRM,
    _signal.SIGVTALRM,
)


def _main_thread() -> int:
    import sys

    threading = sys.modules.get("threading")
    if threading is not None:
        return threading.main_thread().ident or 0
    # Without threading there is one thread, unless C code made others; those cannot
    # have imported us first.
    return _get_ident()


_main = _main_thread()

#: Seconds until a signal is sent again: what came with a finalizer may free more.
PAUSE = 1e-3


class Shield:
    """Signals deferred, if this is the main thread, but where they are let through.

    The main thread raises it for as long as it waits, and opens it where it sleeps and
    where it calls the user's code. One for the whole process, since there is one main
    thread; in other threads it does nothing.
    """

    __slots__ = ("_handlers", "_hook", "_open", "_pending")

    def __init__(self) -> None:
        self._open = False
        #: Signals that came while it was closed, each once.
        self._pending: list[int] = []
        #: What to restore: signals and the handlers of the program.
        self._handlers: list[tuple[int, Any]] = []
        self._hook = self._note

    def raised(self) -> bool:
        """Install the shield; return whether `lower` must be called."""
        if self._handlers or _get_ident() != _main:
            return False
        try:
            for number in _SIGNALS:
                handler = _signal.getsignal(number)
                # Otherwise nothing of Python's runs: the default, ignored, or set by C code. And
                # asyncio's does nothing: of what is sent anew its loop would be told twice.
                if callable(handler) and getattr(handler, "__name__", "") != "_sighandler_noop":
                    # Noted first: whatever strikes in between, `drop` finds it.
                    self._handlers.append((number, handler))
                    _signal.signal(number, self._hook)
        except ValueError:
            return False  # a sub-interpreter, or a thread that became the main one by fork
        except BaseException:
            self.drop()  # raised by the handler of one whose turn had not come
            raise
        return bool(self._handlers)

    def lower(self) -> None:
        """Restore the program's handlers, and call those whose signals came in between."""
        self.drop()
        pending = self._pending
        while pending:
            # Anew: its handler may raise, and those of the others are due as well.
            _signal.raise_signal(pending.pop(0))

    def drop(self) -> None:
        """Restore the program's handlers."""
        handlers = self._handlers
        try:
            while handlers:
                number, handler = handlers[-1]
                # Unless a callback, or a handler, has set another one meanwhile.
                if _signal.getsignal(number) is self._hook:
                    _signal.signal(number, handler)
                handlers.pop()
        except BaseException as error:
            # Raised by a handler that was restored a moment ago: the others must be as well. A
            # ValueError means that this is not the main thread any more.
            handlers.clear() if isinstance(error, ValueError) else self.drop()
            raise

    def abandon(self) -> None:
        """Restore the program's handlers in a fork that never returns to who raised the shield."""
        self.drop()
        self._open = False
        self._pending.clear()

    def opened(self, action: Callable[..., T], *args: Any) -> T:
        """Return ``action(*args)``, which a handler may end at any point by raising."""
        if _get_ident() != _main:
            return action(*args)
        before = self._open
        self._open = True
        try:
            while self._pending:
                self._call(self._pending.pop(0), None)
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
        """Let interrupts through again as before `enter`, and heed those that came."""
        if token == 1:
            self.lower()
        elif token == 2:
            self._open = True
            while self._pending:
                self._call(self._pending.pop(0), None)

    def leave_finalizer(self, token: int) -> None:
        """Do as `leave`, but have what came sent again in a moment.

        For finalizers and hooks of fork, in which Python drops what a handler raises.
        """
        if token == 1:
            self.drop()
        elif token == 2:
            self._open = True
        else:
            return
        pending = self._pending[:]
        if pending:
            self._pending.clear()
            try:
                _thread.start_new_thread(_send_again, (pending,))
            except RuntimeError:  # no room for a thread: it may strike what is freed next
                for number in pending:
                    _signal.raise_signal(number)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._open:
            self._call(signum, frame)
        elif signum not in self._pending:
            self._pending.append(signum)

    def _call(self, signum: int, frame: FrameType | None) -> None:
        """Call the program's handler; should it raise, what follows is closed again."""
        self._open = False
        for number, handler in self._handlers:
            if number == signum:
                handler(signum, frame)
        self._open = True


def _send_again(numbers: list[int]) -> None:
    sleep(PAUSE)
    for number in numbers:
        # By the default, which the program may have gone back to since, it would be ended.
        if callable(_signal.getsignal(number)):
            _signal.pthread_kill(_main, number)


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

    # For who has raised the shield, as hooks of `fork` do.

    def acquire(self, waits: bool = True) -> bool:
        """Take the lock without shielding its holder; return whether it was taken."""
        return self._lock.acquire(waits)

    def release(self) -> None:
        """Let it go after `acquire`."""
        self._lock.release()

    @property
    def held_here(self) -> bool:
        """Whether this very thread holds it, further up its stack."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # as `threading.Condition` uses it


def _after_fork() -> None:
    global _main
    if _main != _get_ident():
        # The main thread waited, and does not exist here: nobody will lower its shield.
        shield.abandon()
    # What was sent to the parent is not this process's concern.
    shield._pending.clear()
    _main = _get_ident()


os.register_at_fork(after_in_child=_after_fork)
