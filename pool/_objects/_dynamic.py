"""The value of a task that yields and is asked for all at once: ``num_returns="dynamic"``."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from pool._objects._refs import ObjectRef


class DynamicObjectRefGenerator:
    """Iterate over the references to what a task or a method has yielded, once.

    An exception in the generator is raised by `get` of the last one.
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
