"""The references of a generator, one after the other, while it runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Any

    from pool._objects._refs import ObjectRef


class ObjectRefGenerator:
    """Iterate over the references to what a task or a method yields.

    An exception in the generator is raised by `get` of the last reference.
    """

    __module__ = "pool"

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._index = 0

    def __iter__(self) -> Iterator[ObjectRef]:
        return self

    def __next__(self) -> ObjectRef:
        ref: ObjectRef | None = self._stream.take(self._index)
        if ref is None:
            raise StopIteration
        self._took()
        return ref

    def _took(self) -> None:
        let_go = getattr(self._stream, "let_go", None)
        if let_go is not None:
            let_go(self._index)
        self._index += 1

    def __aiter__(self) -> AsyncIterator[ObjectRef]:
        return self

    async def __anext__(self) -> ObjectRef:
        import asyncio

        ref: ObjectRef | None = await asyncio.to_thread(self._stream.take, self._index)
        if ref is None:
            raise StopAsyncIteration
        self._took()
        return ref

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._stream.name.hex()})"
