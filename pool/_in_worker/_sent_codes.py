"""Functions and classes on their way from a worker to the runtime."""

from __future__ import annotations

from weakref import WeakKeyDictionary, finalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._objects._codes import Code


class SentCodes:
    """The codes of this process that the runtime knows, and the pickles that it has of them.

    Parameters
    ----------
    gone : callable
        Called with the number of a code that was freed, by any thread and at any time. Codes
        come and go: each call of a function that defines a remote function makes a new one.
    """

    __slots__ = ("_gone", "_known")

    def __init__(self, gone: Callable[[int], None]) -> None:
        self._gone = gone
        self._known: WeakKeyDictionary[Code, Any] = WeakKeyDictionary()

    def payload(self, code: Code) -> Any:
        """Return the pickle of a code that the runtime has; None if it does not know the code."""
        return self._known.get(code)

    def has_left(self, code: Code, payload: Any) -> None:
        """Note that the runtime has been sent a code."""
        if code not in self._known:
            finalize(code, self._gone, code.number).atexit = False
        self._known[code] = payload


class Sending:
    """A ``with`` block that sends a code: if it succeeds, the runtime knows the code.

    Its target is the number of the code if the runtime knows that already, else the whole code.
    """

    __slots__ = ("_code", "_payload", "_sent")

    def __init__(self, sent: SentCodes, code: Code) -> None:
        self._sent = sent
        self._code = code

    def __enter__(self) -> Any:
        code = self._code
        self._payload = payload = code.payload()
        return code.number if self._sent.payload(code) is payload else code.in_full()

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._sent.has_left(self._code, self._payload)
