"""Pickles that are kept to be used again, each for as long as it is worth its memory.

A pickle of a function holds the globals that the function uses, and these may be all the
data of a program. The program frees them by binding the name anew, by deleting the function or
by ending its pools. The pickles kept here must not keep such data then. So a large pickle that is
no longer valid is dropped when an object that it was made of dies, when garbage is collected, and
with the last pool; and the oldest large ones are dropped when there are too many bytes of them.
Small ones stay until they are pushed out by others.
"""

from __future__ import annotations

import gc
import sys

from store._codec import OUT_OF_BAND_MIN

from ._namespaces import let_go_of_values, versions_of
from ._origins import canonical
from ._tables import drop_tables, let_go_of_tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

#: Size in bytes from which a pickle is dropped as soon as it is not valid any more.
LARGE = OUT_OF_BAND_MIN

#: Bytes of large pickles in one table, at most. The latest is kept whatever its size: otherwise a
#: program that calls one function over and over would pickle its data each time.
LARGE_KEPT = 64 << 20


class Kept:
    """A table of pickles, by what they were made of.

    Its items have ``nbytes``, ``is_current()`` and ``let_go()``.

    Parameters
    ----------
    number : int, optional
        How many there may be; the oldest are dropped first.
    """

    def __init__(self, number: int | None = None) -> None:
        self._number = number
        self._items: dict[Hashable, Any] = {}
        self._large: dict[Hashable, Any] = {}
        #: Returns the item under a key, current or not, or None. Each call of a Pool uses it.
        self.get: Callable[[Hashable], Any] = self._items.get
        _tables.append(self)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Hashable, item: Any) -> None:
        """Keep an item, as the youngest of all."""
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
        """Drop the item under a key; if `item` is given, only if it is that one."""
        if item is None or self._items.get(key) is item:
            self._items.pop(key, None)
            self._large.pop(key, None)

    @property
    def holds_large(self) -> bool:
        """Whether any item is large."""
        return bool(self._large)

    def sweep(self) -> None:
        """Drop large items that are no longer current."""
        for key, item in list(self._large.items()):
            if not item.is_current():
                self.drop(key, item)

    def drop_large(self) -> None:
        """Drop all large items, and the values that they were made of."""
        for key, item in list(self._large.items()):
            self.drop(key, item)
            item.let_go()

    def clear(self) -> None:
        """Drop all items."""
        self._items.clear()
        self._large.clear()


_tables: list[Kept] = []

#: Whether values of names are kept that were not even sent.
_inherited = False


def observe_inherited(name: str) -> None:
    """Note the values that the names of a module have, just before the fork of a pool.

    Workers inherit these values, and are to get others as soon as a name is bound anew.
    """
    global _inherited
    names = vars(sys.modules[name])
    versions = versions_of(canonical(name))
    for each in list(names):
        versions.observe(names, each)
    _inherited = True
    _listen()


def sweep() -> None:
    """Drop large pickles that are no longer current, and values that have lost their names."""
    _sweep()
    _listen()


def _sweep() -> None:
    for table in _tables:
        table.sweep()
    let_go_of_values()
    let_go_of_tables()


def drop_large() -> None:
    """Drop all large pickles: no pool is left that might use them again."""
    global _inherited
    _inherited = False
    for table in _tables:
        table.drop_large()
    drop_tables()
    sweep()


def clear() -> None:
    """Drop all pickles: the program ends, or workers start.

    The pickles are of objects that the program still has, but the contents of these may have
    changed. New workers are to have the contents as they are now, as forked ones would.
    """
    for table in _tables:
        table.clear()
    _listen()


def _listen() -> None:
    """Have the garbage collector call `_collected` as long as anything large may be kept.

    Nothing tells this module when a name is bound anew, but at a collection memory is being
    looked for. While nothing large is kept, collections cost nothing.
    """
    wanted = _inherited or any(table.holds_large for table in _tables)
    if wanted != (_collected in gc.callbacks):
        try:
            (gc.callbacks.append if wanted else gc.callbacks.remove)(_collected)
        except ValueError:
            return  # another thread was quicker


def _collected(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] > 0:
        # Without `_listen`: if this removed itself, the collector would skip the next callback.
        _sweep()
