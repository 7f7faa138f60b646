"""Keep signal handlers that raise out of the few lines that must run as a whole.

A thread that puts an object changes the records of the store, and a thread that waits for a result
drives the engine of its pool. If that is the main thread, a signal handler could raise
(KeyboardInterrupt, SystemExit, a program's own time limit) between any two instructions and leave
records half written. So while such lines run the signal is only noted, and the handler, Python's
own or the program's, is called when they are over, some microseconds later.
"""

from __future__ import annotations

import _signal
import _thread
import os
from time import sleep

from store._handlers import may_hide, set_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, TypeVar

    T = TypeVar("T")

_get_ident = _thread.get_ident

#: Signals whose handlers are known to raise: Ctrl-C, requests to end, what schedulers of jobs send
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
    # Without `threading` there is one thread, unless C code made others, which cannot be the first
    # to import this module.
    return _get_ident()


_main = _main_thread()

#: Seconds until a signal is sent again: what came with a finalizer may free more.
PAUSE = 1e-3


class Shield:
    """Defers signals of the main thread while it is raised, except where it is opened.

    The main thread raises it for as long as it waits or changes records, and opens it where it
    sleeps and where it calls the user's code. There is one for the whole process, since there is
    one main thread; in other threads it does nothing.
    """

    __slots__ = ("_handlers", "_hooks", "_open", "_pending", "finalizes")

    def __init__(self) -> None:
        #: Whether signals are let through, although it is raised.
        self._open = False
        #: Whether the main thread is in a finalizer, which no handler may interrupt.
        self.finalizes = False
        #: Signals that came while it was closed, each once.
        self._pending: list[int] = []
        #: What stands for the program's handlers, by signal, while it is raised.
        self._handlers: list[tuple[int, _Hook]] = []
        #: The same for the last time that each signal was deferred: to be used again.
        self._hooks: dict[int, _Hook] = {}

    def raised(self) -> bool:
        """Raise the shield, unless it is raised already; return whether `lower` must be called."""
        if self._handlers or _get_ident() != _main:
            return False
        try:
            looks = may_hide()
            for number in _SIGNALS:
                handler = _signal.getsignal(number)
                if handler.__class__ is _Hook:
                    handler = handler.handler  # see `_Hook`
                # Otherwise no Python code runs: the default action, ignored, or a handler of C.
                # And asyncio's handler does nothing: its loop learns of signals from a socket, and
                # would be told twice of one that is sent anew.
                if callable(handler) and getattr(handler, "__name__", "") != "_sighandler_noop":
                    hook = self._hooks.get(number)
                    if hook is None or hook.handler is not handler:
                        hook = self._hooks[number] = _Hook(self, handler)
                    # Noted before it is replaced: `drop` finds it wherever an interrupt strikes.
                    self._handlers.append((number, hook))
                    set_handler(number, hook, looks)
        except ValueError:
            return False  # a sub-interpreter, or a thread that became the main one by fork
        except BaseException:
            self.drop()  # raised by the handler of a signal that was not deferred yet
            raise
        return bool(self._handlers)

    def lower(self) -> None:
        """Restore the program's handlers, and call those whose signals came in between."""
        self.drop()
        if self._pending:
            try:
                _signal.raise_signal(self._pending.pop(0))
            finally:
                self.lower()  # if that handler raises, the others must still be called

    def drop(self) -> None:
        """Restore the program's handlers."""
        handlers = self._handlers
        try:
            while handlers:
                number, hook = handlers[-1]
                # Unless a callback, or a handler, has set another handler meanwhile.
                if _signal.getsignal(number) is hook:
                    set_handler(number, hook.handler)
                handlers.pop()
        except BaseException as error:
            # Raised by a handler that was just restored: the others must be restored as well. A
            # ValueError means that this is not the main thread any more.
            handlers.clear() if isinstance(error, ValueError) else self.drop()
            raise

    def abandon(self) -> None:
        """Restore the program's handlers, in a fork that never returns to where it was raised."""
        self.drop()
        self._open = self.finalizes = False
        self._pending.clear()

    def opened(self, action: Callable[..., T], *args: Any) -> T:
        """Return ``action(*args)``, letting signals through, whose handlers may raise in it.

        Except in a finalizer: what they raise would be lost, and what is freed half done.
        """
        if _get_ident() != _main or self.finalizes:
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
        """Return ``action(*args)``, deferring signals again, inside of `opened`."""
        if _get_ident() != _main:
            return action(*args)
        before = self._open
        self._open = False
        try:
            return action(*args)
        finally:
            self._open = before

    def whole(self, action: Callable[[], object]) -> None:
        """Call ``action()``, deferring signals until it is over, but where it opens this."""
        token = self.enter()
        try:
            action()
        finally:
            self.leave(token)

    def enter(self) -> int:
        """Defer signals from here on; return a token for `leave`, which must be called."""
        if _get_ident() != _main:
            return 0
        if self._open:
            self._open = False
            return 2
        return 1 if self.raised() else 0

    def leave(self, token: int) -> None:
        """Let signals through again as before `enter`, and call the handlers of deferred ones."""
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

    def finalize(self, action: Callable[[], object]) -> None:
        """Call ``action()`` in a finalizer, and have what comes meanwhile sent again after it."""
        if _get_ident() != _main:
            action()
            return
        token = self.enter()
        within, self.finalizes = self.finalizes, True  # one may free what has one, too
        try:
            action()
        finally:
            self.finalizes = within
            self.leave_finalizer(token)

    def note(self, hook: _Hook, signum: int, frame: FrameType | None) -> None:
        """Defer a signal, or call its handler if this is open, or was raised without this hook."""
        if not any(known is hook for _, known in self._handlers):
            hook.handler(signum, frame)
        elif self._open:
            self._call(signum, frame)
        elif signum not in self._pending:
            self._pending.append(signum)

    def _call(self, signum: int, frame: FrameType | None) -> None:
        """Call the program's handler of a signal; if it raises, the shield is left closed."""
        self._open = False
        for number, hook in self._handlers:
            if number == signum:
                hook.handler(signum, frame)
        self._open = True


class _Hook:
    """Stands for a handler of the program's while a shield is raised.

    The program may take it for its handler, by `signal.getsignal` in a callback or in another
    thread, and restore or call it later. So it goes on doing what that handler does.
    """

    __slots__ = ("_shield", "handler")

    def __init__(self, shield: Shield, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._shield = shield
        self.handler = handler

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._shield.note(self, signum, frame)


def _send_again(numbers: list[int]) -> None:
    sleep(PAUSE)
    for number in numbers:
        # By the default action, which the program may have gone back to since, it would be ended.
        if callable(_signal.getsignal(number)):
            _signal.pthread_kill(_main, number)


def handler_of(number: int) -> Any:
    """Return the handler of a signal that the program has set, also while a shield is raised."""
    handler = _signal.getsignal(number)
    return handler.handler if type(handler) is _Hook else handler


#: The shield of this process.
shield = Shield()


def struck(error: BaseException) -> bool:
    """Return whether `error` is of a signal handler, not of the lines that it has interrupted."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code is Shield._call.__code__:
            return True
        traceback = traceback.tb_next
    return False


class ShieldedLock:
    """A reentrant lock around changes of records, whose holder no signal handler interrupts."""

    __slots__ = ("_lock", "_tokens")

    def __init__(self) -> None:
        self._lock = _thread.RLock()
        #: The holder's tokens for `Shield.leave`, one for each time that it took the lock.
        self._tokens: list[int] = []

    def __enter__(self) -> None:
        token = shield.enter()
        self._lock.acquire()
        self._tokens.append(token)

    def __exit__(self, *exc_info: object) -> None:
        token = self._tokens.pop()
        self._lock.release()
        shield.leave(token)

    # For threads that have raised the shield themselves, as hooks of `fork` do.

    def acquire(self, waits: bool = True) -> bool:
        """Take the lock without shielding its holder; return whether it was taken."""
        return self._lock.acquire(waits)

    def release(self) -> None:
        """Release the lock after `acquire`."""
        self._lock.release()

    @property
    def held_here(self) -> bool:
        """Whether this very thread holds it, further up its stack."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # as `threading.Condition` uses it


def _after_fork() -> None:
    global _main
    if _main != _get_ident():
        # The main thread had raised the shield, and does not exist here to lower it.
        shield.abandon()
    # These signals were sent to the parent.
    shield._pending.clear()
    _main = _get_ident()


os.register_at_fork(after_in_child=_after_fork)
