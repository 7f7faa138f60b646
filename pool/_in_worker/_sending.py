"""Functions and classes on their way from a worker to the runtime."""

from __future__ import annotations

from weakref import WeakKeyDictionary, finalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._objects._codes import Code


class SentCodes:
    """What the runtime has of the codes of this process.

    Parameters
    ----------
    gone : callable
        Told the number of a code that is gone: each call of a function that defines a remote one
        makes another. Called by any thread, at any time.
    """

    __slots__ = ("_gone", "_known")

    def __init__(self, gone: Callable[[int], None]) -> None:
        self._gone = gone
        self._known: WeakKeyDictionary[Code, Any] = WeakKeyDictionary()

    def payload(self, code: Code) -> Any:
        """Return the pickle that the runtime has; None: it does not know that code."""
        return self._known.get(code)

    def has_left(self, code: Code, payload: Any) -> None:
        """Note that the runtime has been sent a code."""
        if code not in self._known:
            finalize(code, self._gone, code.number).atexit = False
        self._known[code] = payload


class Sending:
    """A code on its way: the runtime knows it as soon as it has left, not before."""

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
