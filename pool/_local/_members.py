"""Look through weak sets and dicts that other threads add to and take from meanwhile."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from typing import Any, TypeVar

    T = TypeVar("T")


def members(weak: weakref.WeakSet[T]) -> list[T]:
    """Return what is in a set at one moment."""
    while True:
        try:
            return list(weak)
        except RuntimeError:
            continue  # the set changed meanwhile; with a lock, a finalizer could deadlock


def items(shared: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Return the items of a dict at one moment."""
    return list(shared.copy().items())
