"""What `remote` returns: references; for a generator an iterator over references while it runs."""

from __future__ import annotations

import _thread

from pool._objects._protocol import DYNAMIC, STREAM

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
        #: Held to take a value, which several threads, coroutines or signal handlers may want.
        self._turn = _thread.RLock()
        #: The number of the next value, and the object of `_next_known` for it.
        self._next: tuple[int, ObjectRef | None] = (0, None)

    def __iter__(self) -> Iterator[ObjectRef]:
        return self

    def __next__(self) -> ObjectRef:
        while True:
            index = self._index
            ref: ObjectRef | None = self._stream.take(index)
            if self._takes(index, ref):
                if ref is None:
                    raise StopIteration
                return ref

    def _takes(self, index: int, ref: ObjectRef | None) -> bool:
        """Return whether value number `index` is this reader's: no other one was quicker."""
        with self._turn:
            if index != self._index:
                return False
            if ref is not None:
                # First: who finds that the value was let go of looks for the next one.
                self._index += 1
                let_go = getattr(self._stream, "let_go", None)
                if let_go is not None:
                    let_go(index)
            return True

    def completed(self) -> ObjectRef:
        """Return a reference to None, which gets its value when nothing more will be yielded."""
        ref: ObjectRef = self._stream.when_known(None)
        return ref

    def is_finished(self) -> bool:
        """Return whether all references have been taken, and no more will come."""
        return bool(self._stream.is_over(self._index))

    def next_ready(self) -> bool:
        """Return whether `next` would give a reference at once."""
        ref = self._next_known()
        home: Any = ref._home
        home.wait([ref], 1, 0)
        return bool(home.are_ready([ref])[0]) and not self.is_finished()

    def _next_known(self) -> ObjectRef:
        """Return an object that gets its value as soon as `next` need not wait."""
        index, ref = self._next
        # Kept: otherwise a program that polls would add an object to the stream each time.
        if index != self._index or ref is None:
            ref = self._stream.when_known(self._index)
            self._next = self._index, ref
        return ref

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be sent or stored: values are read where they were asked for; send "
            'its references, or use num_returns="dynamic"'
        )

    def __aiter__(self) -> AsyncIterator[ObjectRef]:
        return self

    async def __anext__(self) -> ObjectRef:
        while True:
            index = self._index
            # Without a waiting thread: it could not be cancelled, and would delay the loop's end.
            await self._next_known()
            if index != self._index:
                continue  # another coroutine has it; to take the next one would stop the loop
            ref: ObjectRef | None = self._stream.take(index)
            if self._takes(index, ref):
                if ref is None:
                    raise StopAsyncIteration
                return ref

    def __del__(self) -> None:
        abandon = getattr(self._stream, "abandon", None)
        if abandon is not None:
            abandon()

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._stream.name.hex()})"


def as_returned(promised: Any, returns: int) -> Any:
    """Return what `remote` returns to users, from what the home has returned.

    Parameters
    ----------
    promised : list of ObjectRef, or stream
    returns : int
        The number of values that were asked for, see `pool._objects._protocol`.
    """
    if returns in (1, DYNAMIC):
        return promised[0]
    if returns == STREAM:
        return ObjectRefGenerator(promised)
    return promised or None
