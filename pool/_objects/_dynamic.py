"""The value of a generator task with ``num_returns="dynamic"``."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from pool._objects._refs import ObjectRef


class DynamicObjectRefGenerator:
    """Iterate once over the references to the values that a task or a method has yielded.

    `get` of the last reference raises the exception that ended the generator, if one did.

    Parameters
    ----------
    refs : iterable of ObjectRef
    """

    __module__ = "pool"

    def __init__(self, refs: Iterable[ObjectRef]) -> None:
        self._refs = deque(refs)

    def __iter__(self) -> Iterator[ObjectRef]:
        while self._refs:
            yield self._refs.popleft()

    def __len__(self) -> int:
        return len(self._refs)

    def __reduce__(self) -> tuple[Any, ...]:
        return DynamicObjectRefGenerator, (list(self._refs),)
