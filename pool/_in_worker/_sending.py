"""Functions and classes on their way from a worker to the runtime."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Sending:
    """A code on its way: the runtime knows it as soon as it has left, not before."""

    __slots__ = ("_code", "_known", "_payload")

    def __init__(self, known: dict[int, Any], code: Any) -> None:
        self._known = known
        self._code = code

    def __enter__(self) -> Any:
        code = self._code
        self._payload = payload = code.payload()
        return code.number if self._known.get(code.number) is payload else code.in_full()

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._known[self._code.number] = self._payload
