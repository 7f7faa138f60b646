"""Calls that cannot be pickled: workers forked from this process inherit their parts.

The parent puts the objects in a table under a number and forks; in the workers the same
table holds the same objects. Only the number is sent.
"""

from __future__ import annotations

from itertools import count

from pool._transport._messages import STAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_held: dict[int, Any] = {}
_numbers = count(1)


class Held:
    """A callable whose parts are inherited; sent as a number.

    The parts stay in the parent's table as long as this object lives there.
    """

    def __init__(self, parts: tuple[Any, ...], run: Callable[..., Any]) -> None:
        self._number = next(_numbers)
        self._run = run
        self.__qualname__ = _name(parts[0])
        _held[self._number] = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return _Inherited, (self._number, self._run)

    def __del__(self) -> None:
        _held.pop(self._number, None)


class _Inherited:
    """A `Held` as it arrives in a worker: calls with the parts that the worker has inherited."""

    def __init__(self, number: int, run: Callable[..., Any]) -> None:
        self._parts = _held[number]
        self._run = run

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return self._run(*self._parts, *args, **kwds)


def hold_call(func: Callable[..., Any], args: tuple[Any, ...], kwds: Mapping[str, Any]) -> Any:
    """Return a callable without arguments that calls ``func(*args, **kwds)``."""
    return Held((func, args, kwds), _run_call)


def hold_map(func: Callable[..., Any], items: Sequence[Any], mode: int) -> Any:
    """Return a callable that takes the index of an item and calls `func` with the item."""
    return Held((func, items), _run_star if mode == STAR else _run_item)


def hold_function(func: Callable[..., Any]) -> Any:
    """Return a callable that takes the arguments of the function and calls it."""
    return Held((func,), _run_function)


def _run_call(func: Callable[..., Any], args: Any, kwds: Any) -> Any:
    return func(*args, **kwds)


def _run_item(func: Callable[..., Any], items: Sequence[Any], index: int) -> Any:
    return func(items[index])


def _run_star(func: Callable[..., Any], items: Sequence[Any], index: int) -> Any:
    return func(*items[index])


def _run_function(func: Callable[..., Any], *args: Any, **kwds: Any) -> Any:
    return func(*args, **kwds)


def _name(func: object) -> str:
    from pool._faces._options import name_of

    return name_of(func)
