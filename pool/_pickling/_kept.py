"""Pickles that are kept to be used again, each for as long as it is worth its memory.

A pickle of a function holds the globals that the function uses, and these may be all the
data of a program. The program frees them by binding the name anew, by deleting the
function, by ending its pools; what is kept here must not hold on to them then. So what is
large goes when something that it was made of dies, when another pickle is about to be
kept, when garbage is collected, and with the last pool. What is small may wait until it
is pushed out by others.
"""

from __future__ import annotations

import gc

from store._codec import OUT_OF_BAND_MIN

from ._namespaces import let_go_of_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

#: From this size on, a pickle is let go of as soon as it is of no more use.
LARGE = OUT_OF_BAND_MIN

#: Bytes of large pickles in one table. The last one is kept whatever its size: a program
#: that calls one function over and over would have to pickle its data each time.
LARGE_KEPT = 64 << 20


class Kept:
    """Pickles by what they were made of; they have ``nbytes``, ``is_current()``, ``let_go()``.

    Parameters
    ----------
    number : int, optional
        How many there may be; the oldest go first.
    """

    def __init__(self, number: int | None = None) -> None:
        self._number = number
        self._items: dict[Hashable, Any] = {}
        self._large: dict[Hashable, Any] = {}
        #: Returns what is kept under a key, current or not, or None; on the way of every call.
        self.get: Callable[[Hashable], Any] = self._items.get
        _tables.append(self)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Hashable, item: Any) -> None:
        """Keep an item, the youngest of all from now on."""
        self.drop(key)
        self._items[key] = item
        if item.nbytes >= LARGE:
            self._large[key] = item
            self._bound()
        if self._number is not None and len(self._items) > self._number:
            self.drop(next(iter(list(self._items))))
        _listen()

    def _bound(self) -> None:
        large = list(self._large.items())
        nbytes = sum(item.nbytes for _, item in large)
        for key, item in large[:-1]:
            if nbytes <= LARGE_KEPT:
                return
            nbytes -= item.nbytes
            self.drop(key)

    def drop(self, key: Hashable, item: object = None) -> None:
        """Let go of what is kept under a key; of nothing else than `item`, if that is given."""
        if item is None or self._items.get(key) is item:
            self._items.pop(key, None)
            self._large.pop(key, None)

    @property
    def holds_large(self) -> bool:
        """Whether anything large is among it."""
        return bool(self._large)

    def sweep(self) -> None:
        """Let go of what is large and no longer current."""
        for key, item in list(self._large.items()):
            if not item.is_current():
                self.drop(key, item)

    def drop_large(self) -> None:
        """Let go of all that is large, and of what it was made of."""
        for key, item in list(self._large.items()):
            self.drop(key, item)
            item.let_go()

    def clear(self) -> None:
        """Let go of everything."""
        self._items.clear()
        self._large.clear()


_tables: list[Kept] = []


def sweep() -> None:
    """Let go of large pickles that are no longer current, and of values that no name has."""
    _sweep()
    _listen()


def _sweep() -> None:
    for table in _tables:
        table.sweep()
    let_go_of_values()


def drop_large() -> None:
    """Let go of all large pickles: no pool is left that might use them again."""
    for table in _tables:
        table.drop_large()
    sweep()


def clear() -> None:
    """Let go of everything.

    Since the program ends, and its objects with it; or since workers start. What is kept is known
    to be of the very objects that the program has, but they may have other contents by now, and
    new workers are to have those: forked ones would.
    """
    for table in _tables:
        table.clear()
    _listen()


def _listen() -> None:
    """Hear of collections as long as there is something large to let go of.

    Nobody tells when a name is bound anew. A collection is a moment at which memory is
    looked for. While nothing large is kept, that is not to cost anything.
    """
    wanted = any(table.holds_large for table in _tables)
    if wanted != (_collected in gc.callbacks):
        try:
            (gc.callbacks.append if wanted else gc.callbacks.remove)(_collected)
        except ValueError:
            return  # another thread was quicker


def _collected(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] > 0:
        _sweep()  # and stay: the collector would pass over whoever comes next in its list
