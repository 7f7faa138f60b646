"""Tell kinds of functions apart without `inspect`, which takes 10 ms to import."""

from __future__ import annotations

from functools import partialmethod
from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Of `code.co_flags`; the same in every version, see the documentation of `inspect`.
_GENERATOR = 0x20
_COROUTINE = 0x80
_ASYNC_GENERATOR = 0x200


def yields(function: Any) -> bool:
    """Return whether a call gives a generator, async or not."""
    return bool(_flags(function) & (_GENERATOR | _ASYNC_GENERATOR))


def is_async(function: Any) -> bool:
    """Return whether it was defined by ``async def``."""
    return bool(_flags(function) & (_COROUTINE | _ASYNC_GENERATOR))


def _flags(function: Any) -> int:
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return function.__code__.co_flags if isinstance(function, FunctionType) else 0


def methods_of(kind: type) -> Iterator[tuple[str, FunctionType, Any]]:
    """Yield the name of each method of a class, its function, and the attribute that has it."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        found.update(vars(base))
    for name, definition in found.items():
        value = definition
        if isinstance(value, partialmethod):
            value = value.func
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        if isinstance(value, FunctionType):
            yield name, value, definition
