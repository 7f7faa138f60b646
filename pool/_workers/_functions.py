"""The functions that a worker was sent, and how they are called.

A stateless function is unpickled once and shared by all its tasks. Any other is kept as its pickle:
each task gets a copy, as with `multiprocessing`, so that no task sees what another one did to it.
"""

from __future__ import annotations

import sys

from pool._pickling import Together, loads
from pool._transport._messages import INLINE, MAP, STAR
from pool._workers._payloads import taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Function = Callable[..., Any]


class Functions:
    """Functions by the numbers that the parent gave them."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        #: By number, ``(True, function)``, or ``(False, (pickle, buffers))`` if it has state or
        #: could not be unpickled.
        self._held: dict[int, tuple[bool, Any]] = {}

    def define(self, defines: Sequence[Any], blobs: list[Any]) -> int:
        """Take functions out of a message; return how many of its blobs they took."""
        position = 0
        for function_id, stateless, buffers in defines:
            end = position + 1 + buffers
            self._held[function_id] = (False, taken(blobs, position, end))
            if stateless:
                self._load(function_id)
            position = end
        return position

    def forget(self, function_ids: Sequence[int]) -> None:
        """Drop functions, with all that they hold."""
        for function_id in function_ids:
            self._held.pop(function_id, None)

    def _load(self, function_id: int) -> None:
        """Unpickle a function that all its tasks share."""
        try:
            self._held[function_id] = (True, loads(*self._held[function_id][1]))
        except BaseException:
            # It stays pickled: each task that needs it tries again, and reports the failure.
            return

    def for_items(self, function_id: int, mode: int) -> Function:
        """Return a function that takes one item of a map, for chunks of one item each."""
        stateless, _ = self._held[function_id]
        if stateless:
            function = self.get(function_id)
            return function if mode == MAP else lambda item: function(*item)
        # A copy for each chunk, as in `get`.
        if mode == MAP:
            return lambda item: self.get(function_id)(item)
        return lambda item: self.get(function_id)(*item)

    def call(self, function_id: int, payload: tuple[Any, list[Any]]) -> Any:
        """Call a function with the arguments in a payload, which also holds it if it is INLINE."""
        if function_id == INLINE:
            function, args, kwargs = loads(*payload)
        else:
            args, kwargs = loads(*payload)
            function = self.get(function_id)
        if "store._refs" in sys.modules:
            (args,) = with_values([args], STAR)
            kwargs = dict(zip(kwargs, with_values(kwargs.values(), MAP), strict=True))
        return function(*args, **kwargs)

    def with_items(self, function_id: int, mode: int, items: Any) -> tuple[Function, Any]:
        """Return the function for a chunk of a map, and the items, which may be in a payload."""
        function = None
        if items.__class__ is tuple:
            items = loads(*items)
            if items.__class__ is Together:
                function, items = items.function, items.items
            if "store._refs" in sys.modules:
                items = with_values(items, mode)
        return self.get(function_id) if function is None else function, items

    def get(self, function_id: int) -> Function:
        """Return the function for one task."""
        stateless, function = self._held[function_id]
        if stateless:
            return function  # type: ignore[no-any-return]  # else it is pickled
        # It has state: each chunk gets a copy of it, as with `multiprocessing`, and of the buffers
        # under its arrays. Blocks need no copy: each unpickling maps them anew.
        data, buffers = function
        copy: Function = loads(data, [_unshared(buffer) for buffer in buffers])
        return copy


def _unshared(buffer: Any) -> Any:
    """Return a copy of a buffer in this process's memory; a block as it is."""
    return bytearray(buffer) if type(buffer) in (bytes, bytearray) else buffer


def with_values(items: Any, mode: int) -> list[Any]:
    """Return items with objects in place of references that are arguments themselves.

    Parameters
    ----------
    items : iterable
    mode : int
        MAP: each item is an argument; STAR: each is a tuple of arguments.
    """
    from store._refs import resolved

    if mode == MAP:
        return [resolved(item) for item in items]
    return [
        # Anything else is left as it is: the call with it raises the error that the user expects.
        tuple(map(resolved, item)) if isinstance(item, tuple | list) else item
        for item in items
    ]
