"""Objects that a function holds and that are among the items it is mapped over, too.

``pool.map(self.force, self.bodies)`` may ask in each call which of ``self.bodies`` the item *is*.
The function and the items are pickled apart, since the function is sent once for all chunks. So a
chunk that has an object in common with its function is pickled together with it, as
`multiprocessing` pickles every chunk.
"""

from __future__ import annotations

from types import ModuleType

from ._functions import ATOMS
from ._slots import HEAPTYPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: Types of which it makes no difference whether two objects are one.
_VALUES = ATOMS | {tuple, frozenset, slice, range, ModuleType}

#: Modules whose types are such, too.
_VALUE_MODULES = frozenset(
    {"datetime", "decimal", "logging", "numpy.dtypes", "pathlib", "re", "uuid"}
)

#: Packages whose objects share parts that nobody tells apart: all slices of a frame have the
#: same labels.
_LIBRARIES = frozenset({"numpy", "pandas", "pyarrow"})


class Captured:
    """A function, and the objects that its pickle consists of.

    Parameters
    ----------
    function : callable
    met : dict
        As `dumps_to_worker` fills it.
    """

    __slots__ = ("_instances", "_met", "_objects", "function")

    def __init__(self, function: Callable[..., Any], met: dict[int, Any]) -> None:
        self.function = function
        # With those that were made only to be pickled: so no id is used again.
        self._met = met
        self._objects: set[int] | None = None  # looked for only if there are items to compare
        self._instances: set[int] = set()

    def meets(self, items: Iterable[Any], met: dict[int, Any]) -> bool:
        """Return whether items have an object in common with it.

        Instances of the program's classes count wherever they are, arrays, lists and the like where
        they are items or arguments themselves.

        Parameters
        ----------
        items : iterable
        met : dict
            What these consist of, as `dumps_to_worker` fills it.
        """
        objects = self._sort() if self._objects is None else self._objects
        return not self._instances.isdisjoint(met) or any(
            not objects.isdisjoint(map(id, item if type(item) is tuple else (item,)))
            for item in items
        )

    def _sort(self) -> set[int]:
        """Find what counts of the objects that were met; return the ids."""
        kinds = {type(obj) for _, obj in self._met.values()}
        counted = {kind for kind in kinds if not _is_value(kind)}
        made = {kind for kind in counted if _is_of_the_program(kind)}
        self._instances = {key for key, (_, obj) in self._met.items() if type(obj) in made}
        self._objects = {key for key, (_, obj) in self._met.items() if type(obj) in counted}
        return self._objects


def _is_value(kind: Any) -> bool:
    return (
        kind in _VALUES
        or issubclass(kind, type)
        or "__qualname__" in vars(kind)  # a function of some kind
        or kind.__module__ in _VALUE_MODULES
        or hasattr(kind, "__members__")  # an enumeration, which has one object for each value
    )


def _is_of_the_program(kind: type) -> bool:
    heap = bool(kind.__flags__ & HEAPTYPE)
    return heap and kind.__module__.partition(".")[0] not in _LIBRARIES


class Together:
    """A chunk that brings its function with it."""

    __slots__ = ("function", "items")

    def __init__(self, function: Callable[..., Any], items: Any) -> None:
        self.function = function
        self.items = items

    def __reduce__(self) -> tuple[Any, ...]:
        return Together, (self.function, self.items)
