"""The preludes that a worker has entered, and for how long it remembers them."""

from __future__ import annotations

from ._kept import LARGE, LARGE_KEPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How many small preludes are remembered, and how many bytes of their pickles.
REMEMBERED = 4096
SMALL_REMEMBERED = 16 << 20


class Entered:
    """The preludes that a process has entered, with their objects, which it keeps alive.

    The objects may hold data: attributes of classes, defaults of functions. So they are bounded by
    their bytes, too, as they are where they come from: what is not used there any more is told of
    with later preludes, but small ones are not, and those may go to other workers.
    """

    def __init__(self) -> None:
        self._small: dict[bytes, tuple[int, list[Any]]] = {}
        self._large: dict[bytes, tuple[int, list[Any]]] = {}
        self._small_nbytes = 0

    def __len__(self) -> int:
        return len(self._small) + len(self._large)

    def get(self, identity: bytes) -> list[Any] | None:
        """Return the objects of a prelude, which is then the youngest; None if it is unknown."""
        table = self._small if identity in self._small else self._large
        known = table.pop(identity, None)
        if known is None:
            return None
        table[identity] = known
        return known[1]

    def put(self, identity: bytes, nbytes: int, objects: list[Any]) -> None:
        """Remember a prelude, and forget those that were not used for longest."""
        if nbytes >= LARGE:
            self._large[identity] = nbytes, objects
            total = sum(each for each, _ in list(self._large.values()))
            while total > LARGE_KEPT and len(self._large) > 1:
                total -= self._drop_first(self._large)
        else:
            before, _ = self._small.pop(identity, (0, None))  # entered by two threads at once
            self._small[identity] = nbytes, objects
            self._small_nbytes += nbytes - before
            while len(self._small) > 1 and (
                self._small_nbytes > SMALL_REMEMBERED or len(self._small) > REMEMBERED
            ):
                self._small_nbytes -= self._drop_first(self._small)

    def drop(self, identity: bytes) -> None:
        """Forget a prelude, a large one, if it is known."""
        self._large.pop(identity, None)

    def drop_of(self, names: dict[str, Any]) -> None:
        """Forget the preludes that have functions with these globals."""
        for table in (self._small, self._large):
            for identity, (_, objects) in list(table.items()):
                parts = (part for some in objects if type(some) is list for part in some)
                if any(getattr(part, "__globals__", None) is names for part in parts):
                    nbytes, _ = table.pop(identity, (0, None))
                    if table is self._small:
                        self._small_nbytes -= nbytes

    @staticmethod
    def _drop_first(table: dict[bytes, tuple[int, list[Any]]]) -> int:
        # Another thread may be doing the same.
        return table.pop(next(iter(list(table)), b""), (0, []))[0]
